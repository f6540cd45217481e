"""What a method is: a value with its config, the record it needs, its examples, its batches and its step.

Nothing here imports torch at the top: the window reads `Config` to draw a form.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from studio.config import setting
from studio.models.family import FAMILIES

if TYPE_CHECKING:
    from torch import Tensor

Example = dict[str, Any]
Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The settings that every method has; a method's own Config gives them its own defaults."""

    learning_rate: float = setting(
        2e-4,
        "How far one step moves the adapter. Too high forgets, too low changes nothing.",
        low=1e-8,
        high=1.0,
        advanced=False,
    )
    epochs: float = setting(2.0, "How often every row is seen.", low=0.01, high=100, unit="passes", advanced=False)
    batch_size: int = setting(
        16, "Rows that one step learns from together.", low=1, high=4096, unit="rows", advanced=False
    )
    micro_batch_size: int | None = setting(
        None,
        "Rows in memory at once; the batch is made of several. Empty: chosen for the device.",
        low=1,
        high=1024,
        unit="rows",
    )
    max_length: int = setting(
        1024,
        "Longest row. Older turns are dropped first; an answer is never cut.",
        low=16,
        high=131072,
        unit="tokens",
        advanced=False,
    )
    max_steps: int | None = setting(
        None, "Stop after so many steps. Empty: all epochs.", low=1, high=10**7, unit="steps"
    )
    warmup_ratio: float = setting(
        0.05, "Share of the steps in which the learning rate rises to its full value.", low=0.0, high=0.9
    )
    lr_scheduler: str = setting("cosine", "How the learning rate falls.", choices=("cosine", "linear", "constant"))
    weight_decay: float = setting(0.0, "Pull of the adapter's weights towards zero.", low=0.0, high=1.0)
    max_grad_norm: float = setting(1.0, "Gradients longer than this are shortened.", low=0.0, high=1000.0)
    lora_r: int = setting(
        16, "Rank of the adapter: how much it can learn. With a parent, the parent's.", low=1, high=1024, advanced=False
    )
    lora_alpha: int = setting(32, "Scale of the adapter (alpha / r). With a parent, the parent's.", low=1, high=4096)
    lora_dropout: float = setting(
        0.0, "Share of the adapter's inputs that are dropped while it learns.", low=0.0, high=0.9
    )
    quantize_base: str | None = setting(
        None,
        "Keep the base in 4 bits while training (nf4: QLoRA) or not. Empty: 4 bits where that saves memory.",
        choices=("nf4", "none"),
    )
    gradient_checkpointing: bool | None = setting(
        None, "Recompute activations to save memory (about a third slower). Empty: where memory is short."
    )
    template: str = setting(
        "",
        "Chat template family. Empty: the model's own, else the family that fits.",
        choices=("", *FAMILIES),
    )
    train_on: str = setting(
        "all", "Which answers of a conversation are learned: all of them, or the last one.", choices=("all", "last")
    )
    cut: str = setting(
        "prompt",
        "What goes from a row that is too long: whole exchanges, the oldest first; then also the beginning of the last "
        "question; or nothing (the row is left out). An answer is never cut.",
        choices=("exchanges", "prompt", "none"),
    )
    held_out: float = setting(0.05, "Share of the rows kept aside to measure on.", low=0.0, high=0.5)
    eval_every: int | None = setting(
        None, "Steps between measurements. Empty: about ten in a run.", low=1, high=10**6, unit="steps"
    )
    save_every: int | None = setting(
        None, "Steps between checkpoints. Empty: about five in a run.", low=1, high=10**6, unit="steps"
    )
    seed: int = setting(0, "The same seed gives the same run again.", low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class StepOutput:
    """What a step gives back: a scalar loss to go backwards from, and sums of what is worth plotting.

    `metrics` maps a name to (sum, count) over the batch, so that accumulated batches average rightly.
    """

    loss: Tensor
    metrics: dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of post-training.

    `kinds` are the kinds of data it learns from; `collate(examples, pad_id)` makes a batch of tensors from examples as
    `render/encode` gives them (plain: {side: {"ids", "labels"}}, "label" where rated, "ref" where scored);
    `count(batch)` gives what the loss is averaged over (learned tokens, pairs); `step(policy, batch, config,
    num_items)` the loss. `reference` asks for the frozen parent's log-probabilities of every example before training.
    """

    name: str
    kind: str
    title: str
    paper: str
    Config: type[TrainConfig]
    kinds: tuple[str, ...]
    reference: bool
    collate: Callable[[Sequence[Example], int], Batch]
    count: Callable[[Batch], int]
    step: Callable[[Any, Batch, Any, Any], StepOutput]


def pad(rows: Sequence[Sequence[int]], value: int) -> Any:
    """Make a (B, T) tensor of rows of different length, filled up on the right."""
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
