"""Odds-ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691): SFT and preferences in one stage."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Method, StepOutput, TrainConfig, own, pairs, sums
from studio.methods.paired import Pairs


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """ORPO's settings; it teaches the answers too, so it learns faster and longer than DPO."""

    learning_rate: float = own(
        "learning_rate",
        2e-4,
        "measured: on a 135M model and 126 pairs, with the settings below, the preferred style went from 0 to 100 % of "
        "14 held-out answers; SFT's own for adapters. The authors' 5e-6 is for full fine-tuning",
        "How far one step moves the adapter.",
    )
    epochs: float = own("epochs", 2.0, "alignment handbook: 1 to 3, the authors 5", "How often every pair is seen.")
    batch_size: int = own(
        "batch_size", 8, "measured: with learning_rate; few pairs make few steps", "Pairs that one step learns from."
    )
    lam: float = setting(
        0.1,
        "Weight of the preference beside the loss of the chosen answer, which is learned as in SFT: its mean over the "
        "answer's tokens. The authors' code and TRL learn the prompt too.",
        low=1e-4,
        high=100.0,
        source="the authors' Mistral-ORPO-beta",
        advanced=False,
    )
    warmup_ratio: float = own("warmup_ratio", 0.1, "alignment handbook")


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One ORPO step: the chosen answer's mean negative log-likelihood and lam times the odds-ratio loss, a pair each.

    Averaged over pairs as in the paper's equation 6; its code averages the first term over the tokens of the batch.
    """
    from studio.objectives.losses import orpo_loss

    found = Pairs.of(policy, batch)
    chosen, rejected = found.means()
    preference, log_odds = orpo_loss(chosen, rejected, config.lam)
    losses = preference - chosen
    # The rewards as TRL plots them: lam times the mean log-probabilities.
    seen = found.seen(losses, config.lam * chosen, config.lam * rejected)
    seen |= sums({"nll": -chosen, "log_odds": log_odds})
    return StepOutput(losses.sum() / (len(losses) if num_items is None else num_items), seen)


METHOD = Method(
    name="orpo",
    kind="offline",
    title="Teach and align at once (ORPO)",
    paper="arXiv:2403.07691",
    Config=Config,
    about="Imitates the chosen answers and makes the rejected ones unlikely, without a reference: no SFT run needed.",
    kinds=("preference",),
    sequences=pairs,
    step=step,
)
