"""Simple preference optimisation (Meng et al. 2024, arXiv:2405.14734): the mean log-probability is the reward."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Method, StepOutput, TrainConfig, own, pairs
from studio.methods.paired import Pairs


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """SimPO's settings. Nothing ties it to its parent but small steps: with a large learning rate it unlearns to speak.

    (TRL's default gamma of 0.5 beside a beta of 0.1 is not the paper's setting.)
    """

    learning_rate: float = own(
        "learning_rate",
        1e-5,
        "20 times the authors' for full fine-tuning (3e-7 to 1e-6)",
        "How far one step moves the adapter. Nothing holds SimPO near its parent but a small value.",
    )
    epochs: float = own("epochs", 1.0, "the authors' settings", "How often every pair is seen.")
    batch_size: int = own(
        "batch_size", 32, "the authors use 128 on far larger data", "Pairs that one step learns from together."
    )
    beta: float = setting(
        2.0,
        "Scale of the reward, which is the mean log-probability of a token.",
        low=1e-2,
        high=100.0,
        source="the authors' settings: 2 to 2.5, and 10 for Llama 3 v0.2",
        advanced=False,
    )
    gamma_beta_ratio: float = setting(
        0.5,
        "By how many nats a token the chosen answer is to lead (gamma / beta).",
        low=0.0,
        high=10.0,
        source="the authors' settings: 0.5 to start with, 0.3 to 0.8 used",
        advanced=False,
    )
    warmup_ratio: float = own("warmup_ratio", 0.1, "the authors' settings")


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One SimPO step on mean response log-probabilities; there is no reference."""
    from studio.objectives.losses import simpo_loss

    found = Pairs.of(policy, batch)
    losses, chosen_rewards, rejected_rewards = simpo_loss(
        *found.means(), config.beta, config.beta * config.gamma_beta_ratio
    )
    count = len(losses) if num_items is None else num_items
    return StepOutput(losses.sum() / count, found.seen(losses, chosen_rewards, rejected_rewards))


METHOD = Method(
    name="simpo",
    kind="offline",
    title="Align it without a reference (SimPO)",
    paper="arXiv:2405.14734",
    Config=Config,
    about="Moves the policy towards the chosen answers by their mean likelihood: long answers are not favoured.",
    kinds=("preference",),
    sequences=pairs,
    step=step,
)
