"""What a suite is: questions, and marks for the answers. Counting, intervals and tests are the same for all (card.py).

A suite asks each side (`before`, where there is one, and `after`) the same items and gives each item a mark per
measure. It never averages: the card pairs the marks of an item, so that before and after are compared item by item.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from studio.export.speaking import Stage
from studio.feedback.speakers import Ask, Draw, Said, Speaker
from studio.runs import Run

T = TypeVar("T")
#: side -> item -> mark: 0 or 1 of a share (1/2 for a tie), a number of a mean. An item that a side says nothing about
#: is not there.
Marks = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Measure:
    """One figure of a suite: a `share` of items (marks are 0 or 1) or a `mean` of numbers in `unit`
    (of the unit `share`, numbers from 0 to 1 that are told in per cent; of `points`, -1 to 1, in percentage points).

    `better`: "more", "less", or "" where neither is good in itself (a length). `says` is one sentence for its owner.
    """

    name: str
    label: str
    says: str
    better: str = "more"
    kind: str = "share"
    unit: str = ""


@dataclasses.dataclass
class Outcome:
    """What a suite found: marks by measure, the answers to read one by one, and what its picture is drawn from.

    `answers` rows: {"item", "measure", "asked", "before", "after", "marks": {side: mark}, ...}, all text as it was
    said; what else a row has, a text or {side: text}, is shown beneath. "offensive": true folds it away.
    `plots` of the form {side: [[x, y], ...]} are drawn in the report as points. `measures` are figures that only the
    items tell of; they stand after the suite's own.
    """

    marks: dict[str, Marks] = dataclasses.field(default_factory=dict)
    answers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    plots: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    measures: list[Measure] = dataclasses.field(default_factory=list)

    def mark(self, measure: str, side: str, item: str, mark: float) -> None:
        """Give an item its mark."""
        self.marks.setdefault(measure, {}).setdefault(side, {})[item] = float(mark)


class Asking(Protocol):
    """What a suite gets (card.py makes it). Answers are kept on the disk as they come: a resumed run asks the rest."""

    cfg: Any
    sides: tuple[str, ...]
    seed: int
    #: The run that is evaluated; None for a file or a model.
    run: Run | None
    #: Who judges free answers, where somebody was named; None: rules alone.
    judge: Speaker | None
    #: A file of the user's own with items for this suite, where one was named.
    file: Path | None

    def ask(self, side: str, asks: Sequence[Ask], draw: Draw | None = None, raw: bool = False) -> list[list[Said]]:
        """Answer prompts by a side; `Ask.key` names the item and must be unique in the suite. Raises Stopped.

        `raw`: as text that is gone on with, whatever the side is; what is said then keeps its spaces. What was answered
        is not asked again, so that a suite may ask in several calls what the answers before decide.
        """

    def speaker(self, side: str) -> Speaker:
        """Give who answers for a side (or "base", where it is known), for what `ask` cannot do (Speaker.weigh)."""

    def add(self, stage: Stage) -> Speaker:
        """Open one more side in the same engine, by the stage's name: a checkpoint of the run, say."""

    def keep(self, about: str, make: Callable[[], T]) -> T:
        """Make what is dear and not an answer (a judgement, a likelihood): plain JSON, kept on the disk under `about`.

        `about` must name all that it depends on, within the suite. Raises Stopped.
        """

    def progress(self, phase: str, total: int) -> Callable[[], None]:
        """Tell of work that `ask` does not do; the function that it gives is called after each piece."""

    def note(self, text: str) -> None:
        """Say something that the owner should know."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """A suite as a value: one file each.

    `says` in one sentence what it measures, `cannot` what it cannot show; `Config` declares its settings
    (config.setting): `n`, the most items that it asks, is what `--n` sets; `run` asks and marks. `needs_file`: it asks
    nothing but a file of the user's own. `named`: it is asked only where it is named, and its settings are flags of
    `studio eval`. `ready` checks the settings before anything is written or loaded, and completes them; `reads` reads a
    file of the user's then, and raises what is wrong with it. A suite that cannot measure a thing here leaves the marks
    out and notes why.
    """

    name: str
    title: str
    says: str
    cannot: str
    measures: tuple[Measure, ...]
    Config: type
    run: Callable[[Asking], Outcome]
    needs_file: bool = False
    named: bool = False
    ready: Callable[[Any], Any] | None = None
    reads: Callable[[Path], Any] | None = None


def load(place: str) -> Suite:
    """Give the suite that stands at "module:NAME"."""
    import importlib

    module, _, name = place.partition(":")
    found: Suite = getattr(importlib.import_module(module), name)
    return found


#: name -> where the suite is, in the order of the card.
SUITES: dict[str, str] = {
    "fit": "studio.evals.fit:SUITE",
    "winrate": "studio.evals.winrate:SUITE",
    "forgetting": "studio.evals.forgetting:SUITE",
    "sycophancy": "studio.evals.sycophancy:SUITE",
    "refusal": "studio.evals.refusal:SUITE",
    "redteam": "studio.evals.redteam:SUITE",
    "shift": "studio.evals.shift:SUITE",
    "goodhart": "studio.evals.goodhart:SUITE",
    "own": "studio.evals.own:SUITE",
    "lm-eval": "studio.evals.lmeval:SUITE",
}
