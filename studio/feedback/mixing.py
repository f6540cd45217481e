"""Good answers of the user's own, mixed into a set: what is learned is then not only to be careful."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio import events, paths
from studio.data import dataset, preferences
from studio.data.kinds import as_kind
from studio.data.preferences import Record
from studio.data.records import Conversation, Reading
from studio.data.votes import Answer
from studio.errors import DataError
from studio.runs import Run

Emit = events.Emit
Halt = Callable[[], bool]


def mix(run: Run, file: str, share: float, seed: int, emit: Emit, should_stop: Halt) -> dict[str, Any]:
    """Add so many answers of a file that they are the share of a set's rows to imitate, drawn by the seed.

    n = rows * share / (1 - share), where the file has so many: {"rows", "wanted", "file", "sha256"}.
    """
    made = preferences.records(run.dir)
    there = {record.id for record in made if is_mixed(record)}
    rows = len(preferences.rows("sft", [record for record in made if not is_mixed(record)]))
    wanted = round(rows * share / (1 - share))
    found = sorted(_answers(file, seed, emit, should_stop), key=lambda record: record.id) if wanted else []
    progress = events.Progress(emit, "Mixing in helpful answers", min(wanted, len(found)), "rows")
    for record in found[:wanted]:
        if record.id not in there:
            preferences.add(run.dir, record)
        progress.step()
    if len(found) < wanted:
        text = f"{Path(file).name} has {len(found)} answers; {wanted} were wanted for a share of {share:.0%}."
        emit(events.event("note", level="warning", code="few_helpful", text=text))
    told = {"rows": min(wanted, len(found)), "wanted": wanted, "file": file}
    return {**told, "sha256": paths.sha256(Path(file))}


def is_mixed(record: Record) -> bool:
    """Tell whether a record was mixed in."""
    return record.by.get("kind") == "producer"


def _answers(file: str, seed: int, emit: Emit, should_stop: Halt) -> Iterator[Record]:
    """Give a file's answers as records that are to be imitated; their ids put them into the seed's order."""
    data = dataset.load(file, Reading(), emit=emit, should_stop=should_stop)
    if data.kind not in ("sft", "preference", "kto"):
        raise DataError("This file holds no answers to imitate.", "Use conversations or pairs.", file=file)
    by = {"kind": "producer", "name": data.path.name}
    for number, record in enumerate(data.records()):
        for one in [record] if isinstance(record, Conversation) else as_kind(record, "sft"):
            if not isinstance(one, Conversation) or len(one.messages) < 2:
                continue
            *before, last = one.messages
            if last.role == "assistant" and last.content.strip() and not last.tool_calls and before[-1].role == "user":
                turns = [turn.to_dict() for turn in before]
                name = preferences.key(seed, "helpful", number, turns)
                answer = Answer(last.content, {"name": data.path.name, "file": data.path.name})
                yield Record(turns, [answer], ranks=[1], by=by, about={"line": one.line}, id=name)
