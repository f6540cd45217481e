"""Simple preference optimisation (Meng et al. 2024, arXiv:2405.14734): the mean log-probability is the reward."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Method, StepOutput, TrainConfig, own, pairs
from studio.methods.paired import Pairs, anchor


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """SimPO's settings, for a few hundred pairs. As published nothing ties it to its parent but small steps.

    With larger ones it unlearns to speak, so the chosen answer's own loss is an anchor here.

    (TRL's default gamma of 0.5 beside a beta of 0.1 is not the paper's setting.)
    """

    learning_rate: float = own(
        "learning_rate",
        1e-4,
        "measured: on a 135M model and 126 pairs, with the settings below, the preferred style went from 0 to 86 % of "
        "14 held-out answers, all stopping. The authors have 3e-7 to 1e-6 for full fine-tuning and 60,000 pairs",
        "How far one step moves the adapter. Of many thousand pairs, a tenth is enough.",
    )
    epochs: float = own(
        "epochs", 2.0, "measured: with learning_rate; the authors have 1", "How often every pair is seen."
    )
    batch_size: int = own(
        "batch_size", 8, "measured: with learning_rate; few pairs make few steps", "Pairs that one step learns from."
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
    nll_coef: float = anchor(
        1.0,
        "SimPO as published",
        "measured: with 0, at the same rate, no answer of a 135M model stopped by itself any more, and at half of it "
        "none had the style. TRL's CPO, where SimPO lives, has 1",
    )
    warmup_ratio: float = own("warmup_ratio", 0.1, "the authors' settings")


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One SimPO step on mean response log-probabilities; there is no reference."""
    from studio.objectives.losses import simpo_loss

    found = Pairs.of(policy, batch)
    compared = simpo_loss(*found.means(), config.beta, config.beta * config.gamma_beta_ratio)
    return found.output(*compared, num_items, config.nll_coef)


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
