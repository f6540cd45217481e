"""Reward model (Ouyang et al. 2022, arXiv:2203.02155): a score for an answer, learned from pairs.

An adapter and a scalar head on the base, read at the last token of the answer. It does not write; PPO, RLOO and
rejection sampling ask it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Figure, Method, StepOutput, TrainConfig, own, pairs, sums
from studio.methods.paired import compared

#: The head's name, and of its file: head-reward.safetensors.
HEAD = "reward"


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """The reward model's settings."""

    learning_rate: float = own("learning_rate", 1e-4, "TRL's RewardConfig")
    epochs: float = own(
        "epochs", 1.0, "InstructGPT: a second pass overfits", "How often every pair is seen. More than one overfits."
    )
    margin: float = setting(
        0.0,
        "By how much the chosen answer is to lead before a pair counts as learned.",
        low=0.0,
        high=100.0,
        unit="nats",
        source="0 in InstructGPT; Llama 2 uses up to 3 for answers that are far better",
    )
    center_coef: float = setting(
        0.01,
        "Pull of the scores towards a mean of 0, which the pairs themselves leave free.",
        low=0.0,
        high=10.0,
        source="Eisenstein et al. 2023 (arXiv:2312.09244)",
    )
    warmup_ratio: float = own("warmup_ratio", 0.05, "as SFT's")


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One step of the reward model: scores at the end of both answers of each pair."""
    from studio.objectives.losses import reward_loss

    chosen, rejected = policy.scores(batch, HEAD).chunk(2)
    losses = reward_loss(chosen, rejected, chosen.new_full(chosen.shape, config.margin), config.center_coef)
    long, short = batch["lengths"].chunk(2)
    seen = compared(losses, chosen.detach(), rejected.detach())
    seen |= sums({"length/chosen": long, "length/rejected": short})
    return StepOutput(losses.sum() / (len(losses) if num_items is None else num_items), seen)


def extras(examples: Any) -> dict[str, Any]:
    """Give the learned tokens of both answers, (2B,) in the order of their sequences."""
    import torch

    return {"lengths": torch.tensor([sum(x != -100 for x in row["labels"]) for row in pairs(examples)])}


METHOD = Method(
    name="reward",
    kind="offline",
    title="Teach a judge (reward model)",
    paper="arXiv:2203.02155",
    Config=Config,
    about="Learns to score answers from pairs. It does not chat: PPO and RLOO learn from its scores.",
    kinds=("preference",),
    sequences=pairs,
    extras=extras,
    step=step,
    head=HEAD,
    figure=Figure("rewards/accuracies", higher=True),
)
