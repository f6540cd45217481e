"""Identity preference optimisation (Azar et al. 2023, arXiv:2310.12036): a margin of fixed size, so it cannot run away.

DPO goes on for ever where all judges agree; IPO stops at a lead of 1 / (2 tau) nats. The log-probabilities are summed
over the answer, as in the paper; TRL divides them by its length, so that its tau is another scale.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Method, StepOutput, TrainConfig, own, pair_refs, pairs
from studio.methods.paired import Pairs, anchor


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """IPO's settings."""

    learning_rate: float = own(
        "learning_rate",
        1e-4,
        "measured: on a 135M model and 126 pairs it changed 79 % of 14 held-out answers, and all stopped; the style of "
        "the pairs was not taken over, nor with twice the rate and passes and tau from 0.02 to 0.1",
        "How far one step moves the adapter. Of many thousand pairs, a tenth is enough.",
    )
    epochs: float = own("epochs", 1.0, "Zephyr DPO-QLoRA", "How often every pair is seen.")
    batch_size: int = own(
        "batch_size", 8, "measured: with learning_rate; few pairs make few steps", "Pairs that one step learns from."
    )
    tau: float = setting(
        0.1,
        "Tie to the parent: the chosen answer is to lead by 1 / (2 tau) nats, 5 with 0.1. Higher keeps closer.",
        low=1e-4,
        high=100.0,
        source="IPO paper, section 5; TRL's beta is per token and smaller by the length of an answer",
        advanced=False,
    )
    nll_coef: float = anchor(0.0, "IPO as published", "IPO paper: what holds it is its fixed lead")
    warmup_ratio: float = own("warmup_ratio", 0.1, "Zephyr DPO-QLoRA")


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One IPO step on summed response log-probabilities; the reference's were computed before training."""
    from studio.objectives.losses import ipo_loss

    found = Pairs.of(policy, batch)
    chosen, rejected = found.sums()
    ref_chosen, ref_rejected = batch["ref_logps"].chunk(2)
    return found.output(*ipo_loss(chosen, rejected, ref_chosen, ref_rejected, config.tau), num_items, config.nll_coef)


METHOD = Method(
    name="ipo",
    kind="offline",
    title="Align it, up to a fixed lead (IPO)",
    paper="arXiv:2310.12036",
    Config=Config,
    about="As DPO, but stops at a fixed lead of the chosen answer: for pairs on which everybody agrees.",
    kinds=("preference",),
    sequences=pairs,
    extras=pair_refs,
    step=step,
    reference=True,
)
