"""A method of another package, whole: the hinge on the length-normalised margin, learned from pairs."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Figure, Method, StepOutput, TrainConfig, pairs, sums


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    learning_rate: float = setting(1e-3, "How far one step moves the adapter.", low=1e-8, high=1.0, advanced=False)
    toy_margin: float = setting(2.0, "How far apart a pair should stand.", low=0.0, high=10.0, advanced=False)


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    from studio.objectives.logps import sequence_logps

    chosen, rejected = sequence_logps(*policy.token_logps(batch), average=True).chunk(2)
    losses = (config.toy_margin - (chosen - rejected)).clamp(min=0)
    count = len(losses) if num_items is None else num_items
    return StepOutput(losses.sum() / count, sums({"loss": losses, "toy/apart": chosen - rejected}))


METHOD = Method(
    name="toy",
    kind="offline",
    title="A toy hinge",
    about="Pushes a pair apart until it stands far enough.",
    paper="none",
    Config=Config,
    kinds=("preference",),
    sequences=pairs,
    step=step,
    figure=Figure("toy/apart", higher=True),
)
