"""What a person says of single records of a set: accepted, edited or rejected, whatever the filters found.

A decision is a record of the same id that stands in the place of the one before it; what the model wrote is kept in
about["machine"], so that an edit can be taken back.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.data import preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError
from studio.runs import Run

REJECTED = "rejected by a person"
PERSON = {"kind": "person", "name": "person"}


def accept(run: Run, id: str) -> Record:
    """Use a record, with the answer as the model wrote it. Raises DataError where there is none of this id."""
    made = _find(run, id)
    return _put(run, made, _with(made, _machine(made)), "accepted", "")


def reject(run: Run, id: str) -> Record:
    """Leave a record out. Raises DataError where there is none of this id."""
    made = _find(run, id)
    return _put(run, made, made.answers, "rejected", REJECTED)


def edit(run: Run, id: str, text: str) -> Record:
    """Use a record with another text in the place of its best answer. Raises ConfigError for an empty one."""
    if not text.strip():
        raise ConfigError("An answer needs a text.", "Write one, or reject the record.")
    made = _find(run, id)
    before = _machine(made)
    edited = Answer(text.strip(), {**before.identity, "edited_by": "person"})
    return _put(run, made, _with(made, edited), "edited", "")


def _find(run: Run, id: str) -> Record:
    found = next((record for record in preferences.records(run.dir) if record.id == id), None)
    if found is None:
        raise DataError(f"The set {run.name} has no record {id[:40]!r}.", "Load it again.")
    return found


def _best(record: Record) -> int:
    """Give the place of the answer that is decided on: the best one; the last where nobody ranked."""
    return record.ranks.index(min(record.ranks)) if record.ranks else len(record.answers) - 1


def _machine(record: Record) -> Answer:
    """Give the answer as the model wrote it."""
    kept = record.about.get("machine")
    best = record.answers[_best(record)]
    return Answer(str(kept["text"]), dict(kept["identity"])) if isinstance(kept, dict) else best


def _with(record: Record, answer: Answer) -> list[Answer]:
    place = _best(record)
    return [*record.answers[:place], answer, *record.answers[place + 1 :]]


def _put(run: Run, before: Record, answers: list[Answer], review: str, dropped: str) -> Record:
    about: dict[str, Any] = {**before.about, "review": review}
    about.setdefault("machine", dataclasses.asdict(before.answers[_best(before)]))
    about.setdefault("filtered", before.dropped)
    ranks = before.ranks or [1] * len(answers)
    made = dataclasses.replace(before, answers=answers, ranks=ranks, about=about, dropped=dropped, time="")
    return preferences.add(run.dir, made)
