"""Log-probabilities under the frozen parent, asked once before training and kept beside the examples.

The reference is the policy before its first step, so no second copy of the model is needed; of a run with a parent it
is the parent's adapter, never the bare base. A later run with the same sequences and parent finds them on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from studio import events, paths
from studio.methods.base import Row
from studio.objectives.logps import sequence_logps
from studio.train import kept, layout, memory, together
from studio.train.policy import Policy
from studio.train.prepare import Setup

_TOGETHER = 64
_ASKED = 512


def score(made: Setup, policy: Policy, train: Any, held: Any) -> None:
    """Give every example its "ref": the summed log-probability of each of its sequences, in their order."""
    views = [view for view in (train, held) if len(view)]
    name = kept.key(policy, made.folder, _arithmetic(made, policy), _sequences(made, views))
    values = kept.read(name)
    if values is None or len(values) != sum(map(len, views)):
        values = _scored(made, policy, views)
        if together.first():
            kept.write(name, values)
    else:
        made.note("reference", "The reference's log-probabilities of these rows are there already.")
    start = 0
    for view in views:
        view.beside["ref"] = values[start : start + len(view)]
        start += len(view)


def _scored(made: Setup, policy: Policy, views: list[Any]) -> np.ndarray[Any, Any]:
    """Ask the policy as it stands: (n, sides) float32, rows in the order of the views."""
    method, room = made.method.asking(), memory.room(made.config, policy)
    total, how = sum(map(len, views)), (policy.packed, policy.shared)
    progress = events.Progress(made.emit, "Scoring the reference", total, "rows")
    found: list[list[float]] = []
    policy.model.eval()
    for view in views:
        mine: dict[int, list[list[float]]] = {}
        for start in together.share(range(0, len(view), _TOGETHER)):
            group = view[start : start + _TOGETHER]
            part: list[list[float]] = [[]] * len(group)
            for numbers in layout.passes(method, group, room, *how):
                made.halt()
                asked = [group[at] for at in numbers]
                rows = method.sequences(asked)
                sides = len(rows) // len(asked) if policy.shared else 1
                batch = layout.to(layout.lay(rows, made.renderer.pad_id, policy.packed, sides), policy.device)
                with torch.no_grad():
                    sums = sequence_logps(*policy.token_logps(batch))
                for at, scores in zip(numbers, sums.view(-1, len(numbers)).T.float().cpu().tolist(), strict=True):
                    part[at] = scores
            mine[start] = part
            progress.step(len(group) * together.world())
        whole = {start: part for theirs in together.gather(mine) for start, part in theirs.items()}
        found += [scores for start in sorted(whole) for scores in whole[start]]
    policy.model.train()
    return np.array(found, np.float32)


def _sequences(made: Setup, views: list[Any]) -> Iterator[Row]:
    """Give all sequences that are asked for, some at a time: a file may hold more than the memory."""
    method = made.method.asking()
    for view in views:
        for start in range(0, len(view), _ASKED):
            made.halt()
            yield from method.sequences(view[start : start + _ASKED])


def _arithmetic(made: Setup, policy: Policy) -> list[Any]:
    """Name what decides how the base computes."""
    config = made.config
    weight = policy.model.get_input_embeddings().weight
    merged = made.begins.adapter if made.begins and policy.full else None  # else the adapter itself is looked at
    parent = paths.sha256(merged / "adapter_model.safetensors") if merged else ""
    return [policy.device.type, weight.dtype, config.quantize_base, config.dtype, config.tuning, parent]
