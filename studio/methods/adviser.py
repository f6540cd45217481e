"""Which method fits: a proposal with its reason, from what the data check tells and what there is to start from.

A proposal, never a decision: every method that learns from the data stays open. Loads no framework.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from studio.data.kinds import OTHERS
from studio.data.lint import kto_weights
from studio.methods import METHODS
from studio.methods.base import Method

#: Fewer pairs or ratings than this say little about a preference.
FEW_PAIRS = 200
#: With more rows than this the defaults that are for a few hundred move the model too far.
MANY = 5_000
#: Fewer conversations than this teach a manner, hardly a subject.
FEW_ROWS = 50
#: From this share of pairs with the longer (or the shorter) answer chosen on, the length is what is learned first.
ONE_SIDED = 0.8
#: From this share on the length looks like the style that is wanted, rather than like a habit of whoever judged.
MEANT = 0.98
#: From this share of rows that contradict one another on, a loss that saturates is safer.
DOUBTED = 0.05
#: Writing answers with the policy is the slow part of an online method; below this memory (GiB) one model less counts.
SMALL_GB = 24.0

KINDS = {
    "sft": "conversations",
    "text": "texts",
    "preference": "pairs of a better and a worse answer",
    "kto": "answers labelled wanted or unwanted",
    "prompt": "prompts",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known: the kind of the rows, how many, what the lint found among them, what there is to start from.

    `longer` is the share of pairs whose chosen answer is the longer one (None: not counted). `taught`: the run starts
    from a model that answers already. `scored`: a reward model or a rule is at hand. `memory_gb` is the memory that a
    run may use (0: not known), on a GPU where `gpu` says so.
    """

    kind: str
    rows: int = 0
    wanted: int = 0
    unwanted: int = 0
    longer: float | None = None
    duplicates: int = 0
    doubted: int = 0
    taught: bool = False
    scored: bool = False
    memory_gb: float = 0.0
    gpu: bool = True

    @classmethod
    def of(cls, document: Mapping[str, Any], statistics: Mapping[str, Any] | None = None, **more: Any) -> Facts:
        """Read a check's document, and the statistics of its tokens where they were counted."""
        counted = statistics or document.get("statistics") or {}
        found = {str(item.get("code")): item for item in document.get("warnings") or ()}
        rows = int(document.get("usable") or document.get("rows") or 0)
        longer = counted.get("chosen_longer_share")
        if longer is None and (bias := found.get("length_bias")) and rows:
            share = int(bias.get("rows") or 0) / rows
            longer = share if "longer" in str(bias.get("title")) else 1 - share
        return cls(
            kind=str(document.get("kind") or ""),
            rows=rows,
            wanted=int(counted.get("wanted") or 0),
            unwanted=int(counted.get("unwanted") or 0),
            longer=longer,
            duplicates=_rows(found, "duplicate", "near_duplicate"),
            doubted=_rows(found, "contradiction", "white_equal"),
            **more,
        )


def _rows(found: Mapping[str, Any], *codes: str) -> int:
    return sum(int(found[code].get("rows") or 0) for code in codes if code in found)


@dataclasses.dataclass(frozen=True)
class Advice:
    """The proposed method ("" when none fits) and why; what else learns from the data; what to look out for."""

    method: str
    reason: str
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def advise(facts: Facts, methods: Mapping[str, Method] = METHODS) -> Advice:
    """Propose a method for data: the first of the reasons that hold whose method is there and learns from the data."""
    fitting = [name for name, method in methods.items() if reads(method, facts.kind)]
    warnings = tuple(_warnings(facts))
    if not fitting:
        kind = KINDS.get(facts.kind)
        why = f"No method learns from {kind} here." if kind else "What the rows hold is not clear yet."
        return Advice("", why, (), warnings)
    name, reason = next(((n, r) for n, r in _reasons(facts) if n in fitting), (fitting[0], ""))
    reason = reason or f"It is the method that learns from {KINDS.get(facts.kind, facts.kind)}."
    return Advice(name, reason, tuple(other for other in fitting if other != name), warnings)


def reads(method: Method, kind: str) -> bool:
    """Tell whether a method learns from rows of a kind, as they are or read as another kind.

    Rows of another kind are never read as answers to imitate without being asked.
    """
    return kind in method.kinds or any((kind, other) in OTHERS for other in method.kinds if other != "sft")


def needs(method: Method) -> str:
    """Say which data a method learns from."""
    found = [KINDS.get(kind, kind) for kind in method.kinds]
    return " or ".join(found)


def many(kind: str, rows: int) -> str:
    """Say what to set where there are far more rows than the defaults of the methods after SFT are for, else "".

    It is no advice for a reward model, whose defaults are those of published runs.
    """
    what = {"preference": "pairs", "kto": "ratings", "prompt": "prompts"}.get(kind)
    if what is None or rows <= MANY:
        return ""
    return f"{rows:,} {what} are many: the defaults are for a few hundred. A tenth of the learning rate and 1 epoch do."


def _reasons(facts: Facts) -> Iterator[tuple[str, str]]:
    """Give (method, why) for everything that speaks for a method, the strongest first."""
    match facts.kind:
        case "sft":
            yield "sft", "Conversations show how to answer; that is the first step from any base model."
        case "text":
            yield "sft", "Texts teach how a field writes. It will still need conversations before it answers."
        case "preference":
            yield from _of_pairs(facts)
        case "kto":
            yield "kto", f"Each answer is judged by itself, so there is nothing to compare it with. {_balance(facts)}"
        case "prompt":
            yield from _of_prompts(facts)


def _of_pairs(facts: Facts) -> Iterator[tuple[str, str]]:
    if not facts.taught:
        yield (
            "orpo",
            "Nothing was taught to answer yet. ORPO does both in one stage: it learns the chosen answers and keeps "
            "away from the rejected ones. With conversations at hand, Train first and then DPO is the surer way.",
        )
    if facts.longer is not None and ONE_SIDED <= max(facts.longer, 1 - facts.longer) < MEANT:
        side, share = ("longer", facts.longer) if facts.longer >= 0.5 else ("shorter", 1 - facts.longer)
        yield (
            "simpo",
            f"The chosen answer is the {side} one in {share:.0%} of the pairs. SimPO counts per token, so that length "
            "alone wins nothing.",
        )
    if facts.rows and facts.doubted >= DOUBTED * facts.rows:
        yield (
            "ipo",
            f"{facts.doubted:,} of {facts.rows:,} pairs contradict others or hardly differ. IPO aims at a fixed "
            "margin, so that a wrong pair cannot pull without end.",
        )
    yield (
        "dpo",
        "Pairs, and a model that answers already: DPO compares with what it started from, and needs no reward model.",
    )


def _of_prompts(facts: Facts) -> Iterator[tuple[str, str]]:
    how = "" if facts.scored else " It needs something that scores them: a rule, or a reward run made from pairs."
    small = not facts.gpu or 0 < facts.memory_gb < SMALL_GB
    why = "so it fits a small card" if small else "and is the simpler one to get right"
    yield (
        "rloo",
        f"It writes several answers to each prompt and learns from the best. No value model is kept, {why}.{how}",
    )
    yield "ppo", f"It writes answers to each prompt and learns what scores higher than expected.{how}"


def _balance(facts: Facts) -> str:
    weights = {name: value for name, value in kto_weights(facts.wanted, facts.unwanted).items() if value != 1}
    if not weights:
        return "KTO weighs the two labels from the data."
    ((name, value),) = weights.items()
    counts = f"{facts.wanted:,} are wanted and {facts.unwanted:,} are not"
    return f"{counts}: KTO evens that out with {name} = {value:g}, taken from the data."


def _warnings(facts: Facts) -> Iterator[str]:
    if facts.kind == "preference" and 0 < facts.rows < FEW_PAIRS:
        yield f"{facts.rows:,} pairs are few: under {FEW_PAIRS} the result leans on chance. Compare two seeds."
    if facts.kind == "kto" and 0 < facts.rows < FEW_PAIRS:
        yield f"{facts.rows:,} ratings are few: under {FEW_PAIRS} the result leans on chance."
    if facts.kind == "kto" and facts.rows and not min(facts.wanted, facts.unwanted) and facts.wanted + facts.unwanted:
        yield "All answers have the same label: there is nothing to tell apart."
    if facts.kind == "sft" and 0 < facts.rows < FEW_ROWS:
        yield f"{facts.rows:,} conversations teach a manner of speaking, hardly a subject."
    if facts.kind == "preference" and facts.longer is not None and max(facts.longer, 1 - facts.longer) > 0.65:
        side, share = ("longer", facts.longer) if facts.longer > 0.5 else ("shorter", 1 - facts.longer)
        most = "nearly all" if share >= MEANT else "mostly"
        yield f"The chosen answers are {most} the {side} ones. Unless that is what you want, add pairs the other way."
    if facts.rows and facts.duplicates >= 0.1 * facts.rows:
        yield f"{facts.duplicates:,} rows repeat others; the Data page can leave them out."
    if facts.kind == "prompt" and not facts.gpu:
        yield "Writing answers is the slow part, and there is no GPU. Begin with a few hundred prompts."
