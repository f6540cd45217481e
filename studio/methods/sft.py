"""Supervised fine-tuning with the loss on the assistant's tokens only (QLoRA.

Dettmers et al. 2023, arXiv:2305.14314).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, Example, Method, StepOutput, TrainConfig, pad


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


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Make one batch of (B, T) tensors."""
    return collate_rows([example["text"] for example in examples], pad_id)


def collate_rows(rows: Sequence[Example], pad_id: int) -> Batch:
    """Make input_ids, attention_mask, labels (B, T), padded on the right; masks go by position, never by id."""
    return {
        "input_ids": pad([row["ids"] for row in rows], pad_id),
        "attention_mask": pad([[1] * len(row["ids"]) for row in rows], 0),
        "labels": pad([row["labels"] for row in rows], -100),
    }


def count(batch: Batch) -> int:
    """Count the learned tokens: the first position is never predicted."""
    return int((batch["labels"][:, 1:] != -100).sum())


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
    paper="arXiv:2305.14314",
    Config=Config,
    kinds=("sft", "text"),
    reference=False,
    collate=collate,
    count=count,
    step=step,
)
