"""The rows of a data file as a table: an index of numbers built in one pass, sorted and filtered a page at a time.

What is kept of a row are three numbers (line, turns, characters), never the row itself: ten million rows take 160 MB.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from studio import events
from studio.data.dataset import Dataset
from studio.data.records import Preference, Rated, Record, Text, turns
from studio.errors import Stopped

PAGE = 50
FOUND = 5000
EXCERPT = 160
TOLD = 2000
SORTS = ("file", "longest", "shortest", "turns")
Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclasses.dataclass(frozen=True)
class Index:
    """Where each record stands and how large it is: arrays over all records, in the order of the file."""

    lines: Numbers
    turns: Numbers
    characters: Numbers

    def order(self, sort: str = "file", only: Sequence[int] | None = None) -> Numbers:
        """Give record numbers in the wanted order; `only` keeps the records of these lines."""
        if sort == "longest":
            order = np.argsort(-self.characters, kind="stable")
        elif sort == "shortest":
            order = np.argsort(self.characters, kind="stable")
        elif sort == "turns":
            order = np.argsort(-self.turns, kind="stable")
        else:
            order = np.arange(len(self.lines))
        return order if only is None else order[np.isin(self.lines[order], np.asarray(only, dtype=np.int64))]

    def at_line(self, line: int) -> int:
        """Give the number of the first record that stands on a line, or on the next line that has one."""
        return min(int(np.searchsorted(self.lines, line)), max(0, len(self.lines) - 1))


def build(data: Dataset, emit: events.Emit, should_stop: Callable[[], bool]) -> Index:
    """Read the file once and keep three numbers a record. Raises Stopped."""
    lines, said, sizes = array("q"), array("q"), array("q")
    for number, record in enumerate(data.records()):
        lines.append(record.line)
        said.append(len(turns(record)))
        sizes.append(characters(record))
        if number % TOLD == 0:
            _tell(emit, should_stop, "listing the rows", number, data.usable)
    return Index(
        *(
            np.frombuffer(numbers, dtype=np.int64) if numbers else np.zeros(0, np.int64)
            for numbers in (lines, said, sizes)
        )
    )


def search(data: Dataset, text: str, emit: events.Emit, should_stop: Callable[[], bool]) -> tuple[Numbers, bool]:
    """Find the records that contain a text, upper and lower case alike: at most FOUND, and whether there were more."""
    wanted = text.casefold()
    found = array("q")
    for number, record in enumerate(data.records()):
        if number % TOLD == 0:
            _tell(emit, should_stop, "searching", number, data.usable)
        if any(wanted in part.casefold() for part in texts(record)):
            if len(found) == FOUND:
                return np.frombuffer(found, dtype=np.int64), True
            found.append(number)
    return np.frombuffer(found, dtype=np.int64) if found else np.zeros(0, np.int64), False


def _tell(emit: events.Emit, should_stop: Callable[[], bool], phase: str, done: int, total: int) -> None:
    if should_stop():
        raise Stopped("It was stopped.", "Start it again whenever you like.")
    emit(events.event("progress", phase=phase, done=done, total=total, unit="rows"))


def texts(record: Record) -> list[str]:
    """Give everything that is said in a record."""
    if isinstance(record, Text):
        return [record.text]
    more = record.rejected if isinstance(record, Preference) else ()
    return [turn.content for turn in (*turns(record), *more)]


def characters(record: Record) -> int:
    """Count the characters of a record."""
    return sum(map(len, texts(record)))


def entry(record: Record, number: int) -> dict[str, Any]:
    """Give a record as a line of the table: where it stands, how large it is, how it begins and how it ends."""
    said = texts(record)
    if isinstance(record, Preference):
        pair = record.prompt[-1].content, record.chosen[-1].content
    else:
        pair = (
            next((turn.content for turn in turns(record) if turn.role == "user"), said[0] if said else ""),
            said[-1] if len(said) > 1 else "",
        )
    made: dict[str, Any] = {
        "index": number,
        "line": record.line,
        "turns": len(turns(record)),
        "characters": characters(record),
        "prompt": " ".join(pair[0][: 4 * EXCERPT].split())[:EXCERPT],
        "answer": " ".join(pair[1][: 4 * EXCERPT].split())[:EXCERPT],
    }
    return {**made, "label": record.label} if isinstance(record, Rated) else made
