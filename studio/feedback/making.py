"""What all sources share: the prompts of a file, and a loop that keeps what is finished and goes on after a kill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio import events
from studio.data import dataset, preferences
from studio.data.kinds import as_kind
from studio.data.preferences import Record
from studio.data.records import Prompt, Reading, Text
from studio.errors import DataError, Stopped
from studio.runs import Run

Emit = events.Emit
Halt = Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A prompt of a file: the turns up to the question, the row's own answer ("" for none), its line, and its key.

    The key names the prompt in seeds and records; two rows that ask the same have two keys.
    """

    turns: list[dict[str, Any]]
    reference: str
    line: int
    key: str


def prompts(
    file: str, reading: Reading, *, limit: int = 0, emit: Emit | None = None, should_stop: Halt | None = None
) -> list[Asked]:
    """Read the prompts of a data file of any kind; `limit` > 0: so many at most. DataError where it has none."""
    data = dataset.load(file, reading, emit=emit, should_stop=should_stop)
    found: list[Asked] = []
    for record in data.records():
        if isinstance(record, Text):
            continue
        for one in [record] if isinstance(record, Prompt) else as_kind(record, "prompt"):
            if isinstance(one, Prompt):
                turns = [turn.to_dict() for turn in one.prompt]
                key = preferences.key(turns, one.line, len(found))
                found.append(Asked(turns, one.reference, one.line, key))
        if limit and len(found) >= limit:
            break
    if not found:
        raise DataError("This file holds no prompts.", "Use a file of prompts, conversations or pairs.", file=file)
    return found[:limit] if limit else found


def missing(run: Run, asked: Sequence[Asked]) -> list[Asked]:
    """Give the prompts whose record is not finished; a record's id is its prompt's key."""
    done = {record.id for record in preferences.records(run.dir)}
    return [one for one in asked if one.key not in done]


def fill(
    run: Run,
    asked: Sequence[Asked],
    make: Callable[[Sequence[Asked]], Iterator[Record]],
    phase: str,
    emit: Emit,
    should_stop: Halt,
) -> list[Record]:
    """Make the records that are missing, each kept as soon as it is finished; gives all of the set.

    `make` takes the prompts that are missing and gives their records one after the other, each with its prompt's key as
    id. Raises Stopped; what was finished stays.
    """
    progress = events.Progress(emit, phase, len(asked), "prompts")
    left = missing(run, asked)
    progress.step(len(asked) - len(left))
    for record in make(left):
        preferences.add(run.dir, record)
        progress.step()
        if should_stop():
            raise Stopped("Stopped; what was finished is kept.", f"Go on with: studio resume {run.name}")
    return preferences.records(run.dir)
