"""Supervised fine-tuning with the loss on the assistant's tokens only (QLoRA.

Dettmers et al. 2023, arXiv:2305.14314).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Example, Method, StepOutput, TrainConfig, first_side, learned


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """SFT's settings; the defaults are QLoRA's and the alignment handbook's for adapters."""

    learning_rate: float = setting(
        2e-4,
        "How far one step moves the adapter. Too high forgets, too low changes nothing.",
        low=1e-8,
        high=1.0,
        source="QLoRA, Zephyr SFT-QLoRA",
        advanced=False,
    )


def count(examples: Sequence[Example]) -> int:
    """Count the learned tokens."""
    return learned(first_side(examples))


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One SFT step: the mean negative log-likelihood over the learned tokens of the accumulated batch."""
    from studio.objectives.losses import sft_loss

    logps, mask = policy.token_logps(batch)
    loss = sft_loss(logps, mask, num_items)
    total = -float((logps.detach() * mask).sum())
    return StepOutput(loss, {"loss": (total, float(mask.sum()))})


METHOD = Method(
    name="sft",
    kind="offline",
    title="Teach it to answer (SFT)",
    about="Imitates the answers of conversations, or goes on with texts. The first step for any base model.",
    paper="arXiv:2305.14314",
    Config=Config,
    kinds=("sft", "text"),
    count=count,
    step=step,
)
