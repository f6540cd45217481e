"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290): learn from pairs without a reward model."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Method, StepOutput, TrainConfig, own, pair_refs, pairs
from studio.methods.paired import Pairs, anchor


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """DPO's settings, for a few hundred pairs: as large steps as SFT's, with the chosen answer's own loss as an anchor.

    Published runs have 10,000 pairs and more: there a tenth of the learning rate and one pass do.
    """

    learning_rate: float = own(
        "learning_rate",
        2e-4,
        "measured: on a 135M model and 126 pairs, with the settings below, the preferred style went from 0 to 100 % of "
        "14 held-out answers; one pass at 1e-4 left it at 0. Zephyr DPO-QLoRA: 5e-6 for 60,000 pairs",
        "How far one step moves the adapter. Of many thousand pairs, a tenth is enough.",
    )
    epochs: float = own(
        "epochs", 2.0, "measured: with learning_rate; Zephyr DPO-QLoRA has 1", "How often every pair is seen."
    )
    batch_size: int = own(
        "batch_size", 8, "measured: with learning_rate; few pairs make few steps", "Pairs that one step learns from."
    )
    beta: float = setting(
        0.1,
        "Tie to the parent: higher keeps closer to it.",
        low=1e-4,
        high=100.0,
        source="DPO paper, section 6",
        advanced=False,
    )
    label_smoothing: float = setting(
        0.0, "Share of pairs believed to be labelled the wrong way round (cDPO).", low=0.0, high=0.5
    )
    nll_coef: float = anchor(
        1.0,
        "DPO as published",
        "measured: with 0, at 1e-4 and 2 passes, only 64 % of answers still stopped by themselves on a 135M model, "
        "none in the style; with 1, at 2e-4, all did both. arXiv:2404.19733 has 1, Llama 3 0.2",
    )
    warmup_ratio: float = own("warmup_ratio", 0.1, "Zephyr DPO-QLoRA")


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One DPO step on summed response log-probabilities; the reference's were computed before training."""
    from studio.objectives.losses import dpo_loss

    found = Pairs.of(policy, batch)
    chosen, rejected = found.sums()
    ref_chosen, ref_rejected = batch["ref_logps"].chunk(2)
    compared = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, config.beta, config.label_smoothing)
    return found.output(*compared, num_items, config.nll_coef)


METHOD = Method(
    name="dpo",
    kind="offline",
    title="Align it with preferences (DPO)",
    paper="arXiv:2305.18290",
    Config=Config,
    about="Moves the policy towards the chosen and away from the rejected answers, tied to its parent.",
    kinds=("preference",),
    sequences=pairs,
    extras=pair_refs,
    step=step,
    reference=True,
)
