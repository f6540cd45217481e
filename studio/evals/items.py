"""What suites share: item sets that ship with Studio or come as a file, and a sheet of answers and marks."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import paths
from studio.errors import DataError
from studio.evals import importers
from studio.evals.suite import Asking, Outcome
from studio.feedback.speakers import Ask, Draw

Turn = dict[str, Any]
Row = dict[str, Any]


def user(text: str) -> Turn:
    """Give a turn of the user's."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Turn:
    """Give a turn of the assistant's."""
    return {"role": "assistant", "content": text}


def shipped(name: str) -> Path:
    """Give the place of an item set that ships with Studio."""
    return paths.assets() / "evals" / name


def once(name: str, number: int, taken: set[str]) -> str:
    """Give the id of a row; one that an earlier row has gets the row's number behind it, as answers go by their ids."""
    while name in taken:
        name = f"{name}-{number}"
    taken.add(name)
    return name


def toml(path: Path) -> Row:
    """Read a TOML file; DataError says where it is none."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path.name} cannot be read as TOML: {error}", "Correct it.", file=str(path)) from None


def rows(path: Path) -> list[Row]:
    """Read the rows of a file as every data file is read (CSV, JSON, JSON lines, compressed), whatever their keys.

    A row without any value is none. Raises DataError with the line of the first one that cannot be read.
    """
    found = [{str(name).strip(): value for name, value in row.items()} for _, row in importers.numbered(path)]
    kept = [row for row in found if any(value not in (None, "", [], {}) for value in row.values())]
    if not kept:
        raise DataError("This file holds no rows.", "Name a file with one item a row.", file=str(path))
    return kept


def text_of(row: Mapping[str, Any], *names: str) -> str:
    """Give the first of the named values that is a text with something in it."""
    return next((str(row[name]).strip() for name in names if isinstance(row.get(name), str) and row[name].strip()), "")


def prefer(asking: Asking, who: str, text: str, one: str, other: str) -> float:
    """Give a side's (or the "judge"'s) P(one) of two choices: the mean of both letters, so that neither is liked more.

    (P("A" | A: one, B: other) + P("B" | A: other, B: one)) / 2
    """
    speaker = asking.judge if who == "judge" else asking.speaker(who)
    assert speaker is not None

    def made() -> list[float]:
        shares = []
        for first, second, at in ((one, other, 0), (other, one, 1)):
            asked = f"{text}\nA: {first}\nB: {second}\nAnswer with A or B."
            shares.append(speaker.weigh([user(asked)], ["A", "B"])[at])
        return shares

    return sum(asking.keep(f"{who}\0{text}\0{one}\0{other}", made)) / 2


@dataclasses.dataclass
class Sheet:
    """The answers of a suite as they come, a row an item and measure, and the marks in its outcome."""

    asking: Asking
    outcome: Outcome = dataclasses.field(default_factory=Outcome)
    _rows: dict[tuple[str, str], Row] = dataclasses.field(default_factory=dict)
    _had: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)

    def replies(self, side: str, asks: Iterable[tuple[str, Sequence[Turn]]], draw: Draw) -> dict[str, str]:
        """Ask a side prompts by their keys, one answer to each: {key: text}. A key is asked once."""
        wanted = list(asks)
        asked = [Ask(list(turns), key) for key, turns in wanted if (side, key) not in self._had]
        said = self.asking.ask(side, asked, draw) if asked else []
        self._had |= {(side, one.key): answers[0].text for one, answers in zip(asked, said, strict=True)}
        return {key: self._had[side, key] for key, _ in wanted}

    def said(
        self,
        item: str,
        measure: str,
        asked: str,
        side: str,
        text: str,
        mark: float | None = None,
        *,
        offensive: bool = False,
        right: str = "",
        **about: Any,
    ) -> None:
        """Write an answer down, with its mark where it has one; `about`: what else its reader should see, by side.

        `offensive`: the texts are not shown before somebody asks for them. `right`: the answer, where one is known.
        """
        row = self._rows.get((item, measure))
        if row is None:
            row = {"item": item, "measure": measure, "asked": asked, "before": None, "after": None, "marks": {}}
            row |= {"offensive": True} if offensive else {}
            row |= {"right": right} if right else {}
            self._rows[item, measure] = row
            self.outcome.answers.append(row)
        row[side] = text
        for name, value in about.items():
            row.setdefault(name, {})[side] = value
        if mark is not None:
            row["marks"][side] = mark
            self.outcome.mark(measure, side, item, mark)
