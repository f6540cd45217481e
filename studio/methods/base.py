"""What a method is: a value with its config, the data it needs, its sequences, and its step or its update.

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

#: What an example is: its sides by name, each a Row; "label" where it is rated, "ref" where the reference was asked.
Example = dict[str, Any]
#: One sequence: {"ids", "labels"}, lists of one length; labels are the ids where a token is learned, else -100.
Row = dict[str, Any]
#: Tensors: how the sequences lie in memory (train/layout.py) and what the method's `extras` gave.
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
        "Rows of full length in memory at once: shorter rows share their room, and a batch is learned in as many "
        "passes as that takes. Empty: chosen for the device.",
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
    tuning: str = setting(
        "lora",
        "What learns: an adapter beside the base (lora), or all weights of the base (full: 16 bytes of memory a weight "
        "with adamw, 10 with an 8-bit optimizer). With full, the default learning rate is a tenth.",
        choices=("lora", "full"),
        source="a tenth: Biderman et al. 2024 (LoRA Learns Less), Schulman et al. 2025 (LoRA Without Regret)",
    )
    use_rslora: bool = setting(
        False,
        "Scale the adapter by alpha / sqrt(r) instead of alpha / r: high ranks learn more.",
        source="rsLoRA paper",
    )
    use_dora: bool = setting(
        False, "Learn the length of each weight row apart from its direction (DoRA): about twice as slow."
    )
    init_lora_weights: str = setting(
        "default",
        "How a new adapter begins: as nothing (default), as the strongest part of each layer (pissa; pissa_niter_16 is "
        "quicker and nearly the same), as the first part of its QR (olora), or as what 4 bits lose (loftq, with nf4).",
        choices=("default", "pissa", "pissa_niter_16", "olora", "loftq"),
    )
    neftune_noise_alpha: float = setting(
        0.0,
        "Noise on the embeddings while learning (NEFTune); 5 is usual, 0 is none. For sft.",
        low=0.0,
        high=100.0,
    )
    dtype: str | None = setting(
        None,
        "What the arithmetic is done in; what learns is kept in float32 in any case. Empty: bf16 on a GPU that is fast "
        "at it, else float32. A CPU that is fast at it takes half of the time in bf16, and learns less at first.",
        choices=("bf16", "float32"),
    )
    optimizer: str | None = setting(
        None,
        "AdamW with its two averages a weight in 32 bits (adamw), in 8 (adamw_8bit), or in 8 and moved to the "
        "machine's memory when the card's runs short (paged_adamw_8bit). Empty: the last on CUDA, adamw elsewhere.",
        choices=("adamw", "adamw_8bit", "paged_adamw_8bit"),
    )
    quantize_base: str | None = setting(
        None,
        "Keep the base in 4 bits while training (nf4: QLoRA) or not. Empty: 4 bits where that saves memory.",
        choices=("nf4", "none"),
    )
    gradient_checkpointing: bool | None = setting(
        None, "Recompute activations to save memory (about a third slower). Empty: where memory is short."
    )
    packing: bool | None = setting(
        None, "Lay rows behind each other instead of filling them up. Empty: where the model keeps them apart."
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
    keep_checkpoints: int = setting(
        2,
        "The newest checkpoints that stay. An evaluation asks them, too: how answers came to be, and where a reward "
        "that is optimised turns against what is wanted (three or more).",
        low=1,
        high=1000,
    )
    patience: int | None = setting(
        None,
        "Measurements in a row without a better held-out figure after which the run ends; it then ends with the best "
        "one. Empty: it goes on to its last step, and ends with that.",
        low=1,
        high=1000,
        unit="measurements",
    )
    seed: int = setting(0, "The same seed gives the same run again.", low=0, high=2**31 - 1)


def own(name: str, default: Any, source: str, help: str = "") -> Any:
    """Declare a setting of TrainConfig with a method's own default, and where that comes from."""
    known = TrainConfig.__dataclass_fields__[name].metadata
    return setting(default, **{**known, "source": source, "help": help or known["help"]})


@dataclasses.dataclass(frozen=True)
class StepOutput:
    """What a step gives back: a scalar loss to go backwards from, and sums of what is worth plotting.

    `metrics` maps a name to (sum, count) over the batch, so that the passes of a batch average rightly.
    """

    loss: Tensor
    metrics: dict[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Figure:
    """The held-out figure that a method is judged by: a metric's name, and whether more of it is better."""

    name: str = "loss"
    higher: bool = False


def first_side(examples: Sequence[Example]) -> list[Row]:
    """Give the sequence of each example that has one side."""
    return [next(side for side in example.values() if isinstance(side, dict)) for example in examples]


def no_extras(examples: Sequence[Example]) -> dict[str, Any]:
    """Add nothing to the batch."""
    return {}


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of post-training; Studio's own stand in METHODS, others come in by the entry points `studio.methods`.

    `kinds` are the kinds of data it learns from. Kind `offline` learns from examples as `render/encode` gives them:

    sequences(examples)       the rows of a batch, S in all; of pairs first the chosen ones
    extras(examples)          further tensors of the batch, one entry an example
    count(examples)           what the loss is averaged over: learned tokens, pairs
    step(policy, batch, config, num_items)
                              the loss: sums over the batch divided by `num_items`, the count of the whole accumulated
                              batch (None: of this one)
    arrange(examples)         the examples as the method needs them, made before anything is scored
    fit(config, examples)     the config with what the data decides; raises StudioErrors where it cannot be learned from
    before(policy, batches, config)
                              a look at the whole batch without gradient before the first of its passes; gives tensors
                              or floats that are added to every pass
    beside(examples)          further sequences, one an example, that are never learned: `before` is given these
    reference                 asks for the frozen parent's summed log-probability of every sequence before training:
                              example["ref"], one number a sequence, the one beside last
    head                      asks for a scalar head of that name beside the adapter

    Kind `online` learns from what the policy itself writes to prompts: `update` instead (train/online.py).
    """

    name: str
    kind: str
    title: str
    paper: str
    Config: type[TrainConfig]
    kinds: tuple[str, ...]
    about: str = ""
    sequences: Callable[[Sequence[Example]], list[Row]] = first_side
    count: Callable[[Sequence[Example]], int] = len
    step: Callable[[Any, Batch, Any, Any], StepOutput] | None = None
    update: Callable[..., StepOutput] | None = None
    extras: Callable[[Sequence[Example]], dict[str, Any]] = no_extras
    arrange: Callable[[Sequence[Example]], Sequence[Example]] | None = None
    fit: Callable[[Any, Sequence[Example]], Any] | None = None
    before: Callable[[Any, Sequence[Batch], Any], dict[str, Any]] | None = None
    beside: Callable[[Sequence[Example]], list[Row]] | None = None
    reference: bool = False
    head: str = ""
    figure: Figure = Figure()

    def looking(self) -> Method:
        """Give the method with the sequences that `before` looks at in the place of those that are learned."""
        return dataclasses.replace(self, sequences=self.beside or self.sequences)

    def asking(self) -> Method:
        """Give the method with all the sequences that the reference is asked for, the ones beside last."""
        beside = self.beside
        if beside is None:
            return self
        return dataclasses.replace(self, sequences=lambda examples: self.sequences(examples) + beside(examples))


def learned(rows: Sequence[Row]) -> int:
    """Count the learned tokens of sequences: the first position is never predicted."""
    return sum(label != -100 for row in rows for label in row["labels"][1:])


def pairs(examples: Sequence[Example]) -> list[Row]:
    """Give the sequences of pairs: all chosen ones, then all rejected ones."""
    return [example[side] for side in ("chosen", "rejected") for example in examples]


def pair_refs(examples: Sequence[Example]) -> dict[str, Any]:
    """Give the reference's log-probabilities of pairs, (2B,) in the order of their sequences."""
    import torch

    return {"ref_logps": torch.tensor([example["ref"][side] for side in (0, 1) for example in examples])}


def sums(values: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Give (sum, count) of each metric's values, (B,) each."""
    return {name: (float(found.detach().float().sum()), float(found.numel())) for name, found in values.items()}
