"""Supervised fine-tuning with the loss on the assistant's tokens only (QLoRA.

Dettmers et al. 2023, arXiv:2305.14314).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studio.config import setting
from studio.data.records import Conversation, Record
from studio.methods.base import Batch, Example, Method, StepOutput, TrainConfig, needs, pad

if TYPE_CHECKING:
    from studio.render.encode import Renderer


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


def encode(record: Record, renderer: Renderer, config: Config) -> Example | None:
    """Give ids and labels of one conversation, or None when its last exchange is longer than max_length."""
    from studio.render.encode import shorten

    needs(record, Conversation, "SFT")
    encoded = shorten(renderer, record.messages, config.max_length)  # type: ignore[union-attr]
    return None if encoded is None else {"ids": encoded.ids, "labels": encoded.labels}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Make input_ids, attention_mask, labels (B, T), padded on the right; masks go by position, never by id."""
    rows = [example["ids"] for example in examples]
    return {
        "input_ids": pad(rows, pad_id),
        "attention_mask": pad([[1] * len(row) for row in rows], 0),
        "labels": pad([example["labels"] for example in examples], -100),
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
    record="sft",
    reference=False,
    encode=encode,
    collate=collate,
    count=count,
    step=step,
)
