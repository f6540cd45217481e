"""Log-probabilities under the frozen parent, asked once before training and kept beside the examples.

The reference is the policy before its first step, so no second copy of the model is needed; of a run with a parent it
is the parent's adapter, never the bare base.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from studio import events
from studio.objectives.logps import sequence_logps
from studio.train import layout, trainer
from studio.train.policy import Policy
from studio.train.prepare import Setup

_TOGETHER = 64


def score(made: Setup, policy: Policy, train: Any, held: Any) -> None:
    """Give every example its "ref": the summed log-probability of each of its sequences, in their order."""
    total = len(train) + len(held)
    progress = events.Progress(made.emit, "Scoring the reference", total, "rows")
    policy.model.eval()
    for view in (train, held):
        if len(view):
            view.beside["ref"] = np.array(_scored(made, policy, view, progress), np.float32)
    policy.model.train()


def _scored(made: Setup, policy: Policy, view: Any, progress: events.Progress) -> list[list[float]]:
    method, room = made.method.asking(), trainer.room(made.config, policy)
    found: list[list[float]] = []
    for start in range(0, len(view), _TOGETHER):
        group = view[start : start + _TOGETHER]
        part: list[list[float]] = [[]] * len(group)
        for numbers in layout.passes(method, group, room, policy.packed):
            made.halt()
            rows = method.sequences([group[at] for at in numbers])
            batch = layout.to(layout.lay(rows, made.renderer.pad_id, policy.packed), policy.device)
            with torch.no_grad():
                sums = sequence_logps(*policy.token_logps(batch))
            for at, scores in zip(numbers, sums.view(-1, len(numbers)).T.float().cpu().tolist(), strict=True):
                part[at] = scores
        found += part
        progress.step(len(group))
    return found
