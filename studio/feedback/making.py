"""What all sources share: the prompts of a file, and a loop that keeps what is finished and goes on after a kill."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from studio import config, events
from studio.data import dataset, preferences
from studio.data.kinds import as_kind
from studio.data.preferences import Record
from studio.data.records import Prompt, Reading, Text
from studio.errors import DataError, Stopped, StudioError
from studio.runs import Run

T = TypeVar("T")
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


#: What a source makes records of: a prompt, with what else the source needs.
A = TypeVar("A", bound=Asked)


def prompts(
    file: str, reading: Reading, *, limit: int = 0, emit: Emit | None = None, should_stop: Halt | None = None
) -> list[Asked]:
    """Read the prompts of a data file of any kind, or of a set (the path of its records), each of these once.

    `limit` > 0: so many at most. DataError where it has none.
    """
    if (made := of_set(file)) is not None:
        records = {preferences.key(record.prompt): record.prompt for record in preferences.records(made.dir)}
        some = [Asked(turns, "", line, key) for line, (key, turns) in enumerate(records.items(), 1)]
        return some[:limit] if limit else some
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


def of_set(file: str) -> Run | None:
    """Give the set that a path to its records means; None for another file."""
    path = Path(file)
    return preferences.of(str(path.parent)) if path.name == preferences.FILE else None


def settings(run: Run, cls: type[T]) -> T:
    """Read a source's settings from its run's options, which hold what was set beside what the run itself needs."""
    known = {s.name for s in config.settings(cls)}
    return config.build(cls, {name: value for name, value in run.config.options.items() if name in known})


def names(text: str) -> list[str]:
    """Split names at commas; a path that is there is one name, whatever it holds."""
    if text.strip() and Path(text).expanduser().exists():
        return [text]
    return [name.strip() for name in text.split(",") if name.strip()]


def too_long(error: StudioError) -> bool:
    """Tell whether what was asked has no room in a context, ours or an endpoint's."""
    return error.field == "context" or "context" in f"{error.message} {getattr(error, 'about', '')}"


def missing(run: Run, asked: Sequence[A]) -> list[A]:
    """Give the prompts whose record is not finished; a record's id is its prompt's key."""
    done = {record.id for record in preferences.records(run.dir)}
    return [one for one in asked if one.key not in done]


def fill(
    run: Run,
    asked: Sequence[A],
    make: Callable[[Sequence[A]], Iterator[Record]],
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
