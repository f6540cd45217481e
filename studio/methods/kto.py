"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306): answers that are wanted or not, no pairs.

An answer counts as gained or lost against z, how far the policy has moved from its parent in general: the mean
log-ratio of answers behind prompts that they do not belong to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from studio.config import setting
from studio.errors import DataError
from studio.methods.base import Batch, Example, Method, Row, StepOutput, TrainConfig, own, sums

#: λ_D n_D : λ_U n_U as the paper advises it, between 1:1 and 4:3.
LOWEST, HIGHEST = 1.0, 4 / 3
#: How many rows are looked at for a partner with another prompt.
TRIES = 32
IGNORE = -100


@dataclasses.dataclass(frozen=True)
class Config(TrainConfig):
    """KTO's settings, for a few hundred answers; z is a mean over the batch, so batches are larger than DPO's.

    Published runs have 10,000 answers and more: there a tenth of the learning rate and one pass do.
    """

    learning_rate: float = own(
        "learning_rate",
        2e-4,
        "measured: on a 135M model and 252 rated answers, with the settings below, the wanted style went from 0 to "
        "100 % of 14 held-out answers. TRL has at most 1e-6 for full fine-tuning",
        "How far one step moves the adapter. Of many thousand answers, a tenth is enough.",
    )
    epochs: float = own(
        "epochs", 2.0, "measured: with learning_rate; the authors have 1", "How often every answer is seen."
    )
    batch_size: int = own(
        "batch_size", 16, "the authors' settings: 16 to 128", "Answers that one step learns from together."
    )
    beta: float = setting(
        0.1,
        "Tie to the parent: higher keeps closer to it.",
        low=1e-4,
        high=100.0,
        source="KTO paper, section 5",
        advanced=False,
    )
    desirable_weight: float | None = setting(
        None,
        "Weight of a wanted answer. Empty: from the counts in the data, so that both kinds weigh alike.",
        low=1e-4,
        high=1e4,
        source="KTO paper: weight times count of wanted to unwanted answers between 1:1 and 4:3",
    )
    undesirable_weight: float | None = setting(
        None,
        "Weight of an unwanted answer. Empty: from the counts in the data, so that both kinds weigh alike.",
        low=1e-4,
        high=1e4,
        source="KTO paper: weight times count of wanted to unwanted answers between 1:1 and 4:3",
    )
    warmup_ratio: float = own("warmup_ratio", 0.1, "the authors' settings")


class Mismatched(Sequence[Example]):
    """Examples, each with another one's answer behind its prompt: "mismatched", a Row.

    The partner is fixed by the order of the data and made when it is asked for. It has another prompt wherever one is
    found in some tries; a single example is its own partner.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples
        self.stride = _stride(len(examples))
        #: What was measured of each example; the examples' own.
        self.beside: dict[str, Any] = getattr(examples, "beside", {})

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        example = self.examples[at]
        return {**example, "mismatched": mismatch(example["completion"], self._partner(at, example["completion"]))}

    def __iter__(self) -> Iterator[Example]:
        return (self[at] for at in range(len(self)))

    def __getattr__(self, name: str) -> Any:
        if name == "examples":  # not there yet: while it is unpickled
            raise AttributeError(name)
        return getattr(self.examples, name)

    def _partner(self, at: int, row: Row) -> Row:
        asked = prompt(row)
        found: Row = row
        for number in range(1, min(TRIES, len(self))):
            found = self.examples[(at + number * self.stride) % len(self)]["completion"]
            if prompt(found) != asked:
                break
        return found


def mismatch(row: Row, other: Row) -> Row:
    """Put another row's answer behind a row's prompt, as long at most as the longer of the two."""
    asked = prompt(row)
    start = len(prompt(other))
    room = max(len(row["ids"]), len(other["ids"])) - len(asked)
    return {
        "ids": [*asked, *other["ids"][start : start + room]],
        "labels": [*[IGNORE] * len(asked), *other["labels"][start : start + room]],
    }


def prompt(row: Row) -> list[int]:
    """Give the tokens before the first that is learned."""
    start = next((at for at, label in enumerate(row["labels"]) if label != IGNORE), len(row["ids"]))
    found: list[int] = row["ids"][:start]
    return found


def completions(examples: Sequence[Example]) -> list[Row]:
    """Give the rated answers."""
    return [example["completion"] for example in examples]


def mismatched(examples: Sequence[Example]) -> list[Row]:
    """Give the answers that stand behind a prompt not theirs."""
    return [example["mismatched"] for example in examples]


def extras(examples: Sequence[Example]) -> dict[str, Any]:
    """Give labels and the reference's log-probabilities, of the answers and of the mismatched ones, (B,) each."""
    import torch

    return {
        "desirable": torch.tensor([bool(example["label"]) for example in examples]),
        "ref_logps": torch.tensor([example["ref"][0] for example in examples]),
        "ref_mismatched": torch.tensor([example["ref"][1] for example in examples]),
    }


def fit(config: Config, examples: Sequence[Example]) -> Config:
    """Weigh the classes by their counts in the training rows. Raises DataError when there is but one class."""
    wanted = sum(bool(example["label"]) for example in getattr(examples, "examples", examples))
    unwanted = len(examples) - wanted
    if not wanted or not unwanted:
        which, other = ("wanted", "unwanted") if wanted else ("unwanted", "wanted")
        raise DataError(
            f"All {len(examples)} answers are {which}: KTO learns from the difference.",
            f"Add {other} answers" + (", or imitate these: method sft." if wanted else "."),
        )
    good, bad = weights(wanted, unwanted, config.desirable_weight, config.undesirable_weight)
    return dataclasses.replace(config, desirable_weight=good, undesirable_weight=bad)


def weights(
    wanted: int, unwanted: int, desirable: float | None = None, undesirable: float | None = None
) -> tuple[float, float]:
    """Give λ_D and λ_U such that λ_D n_D : λ_U n_U is within 1:1 and 4:3, moved as little as that takes.

    What is given stays; of two free ones the class that is short of weight gets more, the other keeps 1.
    """
    if desirable is not None and undesirable is not None:
        return desirable, undesirable
    share = (desirable or 1.0) * wanted / ((undesirable or 1.0) * unwanted)
    aim = min(max(share, LOWEST), HIGHEST)
    if desirable is None and (undesirable is not None or share < aim):
        return (1.0 if share == aim else aim / share), undesirable or 1.0
    return desirable or 1.0, (1.0 if share == aim else share / aim)


def before(policy: Any, batches: Sequence[Batch], config: Config) -> dict[str, Any]:
    """Give z: the mean log-ratio of the whole batch's mismatched answers, in nats, 0 at least, and no gradient."""
    import torch

    from studio.objectives.logps import sequence_logps

    ratios = [sequence_logps(*policy.token_logps(batch)) - batch["ref_mismatched"] for batch in batches]
    return {"kl": torch.cat(ratios).mean().clamp(min=0).detach()}


def step(policy: Any, batch: Batch, config: Config, num_items: Any = None) -> StepOutput:
    """One KTO step on summed response log-probabilities. Any mix of wanted and unwanted answers will do."""
    from studio.objectives.logps import sequence_logps
    from studio.objectives.losses import kto_loss

    logps, mask = policy.token_logps(batch)
    total, lengths, wanted, kl = sequence_logps(logps, mask), mask.sum(-1), batch["desirable"], batch["kl"]
    good, bad = config.desirable_weight or 1.0, config.undesirable_weight or 1.0
    losses, rewards = kto_loss(total, batch["ref_logps"], kl, wanted, config.beta, good, bad)
    ahead = rewards > config.beta * kl
    seen = {"loss": losses, "rewards/accuracies": (ahead == wanted).float(), "kl": kl.expand(len(losses))}
    for side, chosen in (("chosen", wanted), ("rejected", ~wanted)):
        if chosen.any():
            seen[f"rewards/{side}"] = rewards[chosen]
            seen[f"logps/{side}"] = total[chosen]
            seen[f"length/{side}"] = lengths[chosen]
    return StepOutput(losses.sum() / (len(losses) if num_items is None else num_items), sums(seen))


def _stride(count: int) -> int:
    """Choose a stride near the golden section that reaches every row, so that files sorted by prompt are left fast."""
    import math

    return next(step for step in range(max(1, round(0.618 * count)), count + 2) if math.gcd(step, count) == 1)


METHOD = Method(
    name="kto",
    kind="offline",
    title="Align it with thumbs up and down (KTO)",
    paper="arXiv:2402.01306",
    Config=Config,
    about="Moves the policy towards wanted and away from unwanted answers; they need no pairs.",
    kinds=("kto",),
    sequences=completions,
    extras=extras,
    step=step,
    arrange=Mismatched,
    fit=fit,
    before=before,
    beside=mismatched,
    reference=True,
)
