"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290): learn from pairs without a reward model."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Method, StepOutput, TrainConfig, pair_refs, pairs, sums


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """DPO's settings; the learning rate is far below SFT's, since the loss moves answers apart without an anchor."""

    learning_rate: float = setting(
        2e-5,
        "How far one step moves the adapter. DPO needs far less than SFT.",
        low=1e-8,
        high=1.0,
        source="TRL's advice for adapters (1e-5), Llama 3 (1e-5), measured on a 135M model (5e-5 changed no answer)",
        advanced=False,
    )
    epochs: float = setting(
        1.0,
        "How often every pair is seen.",
        low=0.01,
        high=100,
        unit="passes",
        advanced=False,
        source="Zephyr DPO-QLoRA",
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
    nll_coef: float = setting(
        0.0,
        "Weight of the chosen answer's own loss: keeps it likely while the pair moves apart.",
        low=0.0,
        high=10.0,
        source="Llama 3 uses 0.2",
    )
    warmup_ratio: float = setting(
        0.1,
        "Share of the steps in which the learning rate rises to its full value.",
        low=0.0,
        high=0.9,
        source="Zephyr DPO-QLoRA",
    )


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One DPO step on summed response log-probabilities; the reference's were computed before training."""
    from studio.objectives.logps import sequence_logps
    from studio.objectives.losses import dpo_loss

    logps, mask = policy.token_logps(batch)
    chosen, rejected = sequence_logps(logps, mask).chunk(2)
    ref_chosen, ref_rejected = batch["ref_logps"].chunk(2)
    losses, chosen_rewards, rejected_rewards = dpo_loss(
        chosen, rejected, ref_chosen, ref_rejected, config.beta, config.label_smoothing
    )
    count = losses.shape[0]
    objective = losses.sum()
    if config.nll_coef:
        per_pair = -sequence_logps(logps[:count], mask[:count], average=True)
        objective = objective + config.nll_coef * per_pair.sum()
    margins = chosen_rewards - rejected_rewards
    seen = {
        "loss": losses,
        "rewards/chosen": chosen_rewards,
        "rewards/rejected": rejected_rewards,
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).float(),
        "logps/chosen": chosen,
        "logps/rejected": rejected,
        "length/chosen": mask[:count].sum(-1),
        "length/rejected": mask[count:].sum(-1),
    }
    return StepOutput(objective / (count if num_items is None else num_items), sums(seen))


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
