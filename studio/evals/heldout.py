"""The questions that a run was never shown: its held-out rows, or a file that the user names."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from typing import Any

from studio.data import dataset, preferences
from studio.data.kinds import as_kind
from studio.data.records import Prompt, Reading, Record, Text
from studio.errors import DataError, StudioError
from studio.evals.suite import Asking
from studio.runs import Run


@dataclasses.dataclass(frozen=True)
class Row:
    """The turns up to a question, its answer in the data ("" for none), its line, and the key that names it."""

    turns: list[dict[str, Any]]
    answer: str
    line: int
    key: str


def rows(asking: Asking, most: int) -> list[Row]:
    """Give up to `most` rows, drawn with the seed. Raises DataError where there is no file, or no row in it.

    Of pairs the chosen answer counts, of conversations the last one. Rows that call tools are left out.
    """
    found = _of_run(asking) if asking.file is None else _rows(dataset.load(str(asking.file), Reading()).records())
    if not found:
        raise DataError("There are no questions to ask.", "Name a file with some: --data SUITE=FILE")
    random.Random(asking.seed).shuffle(found)
    return sorted(found[:most], key=lambda row: row.line)


def trained(run: Run | None) -> Run | None:
    """Give the training run that a run is, or was made of; None where there is none."""
    if run is None or run.config.kind == "train":
        return run
    parent = run.parent()
    return parent if parent is not None and parent.config.kind == "train" else None


def _of_run(asking: Asking) -> list[Row]:
    from studio.train import prepare

    run = trained(asking.run)
    if run is None or not run.config.data:
        raise DataError("It learned from no rows that are known here.", "Name a file of questions: --data SUITE=FILE")
    try:
        data, aside, _ = prepare.rows_of(run, lambda _: None, lambda: False)
        found = _rows(record for number, record in enumerate(data.records()) if not aside or number in aside)
    except StudioError as error:
        raise DataError(
            f"The rows that {run.id} learned from cannot be read: {error.message}",
            "Put the file back, or name another one: --data SUITE=FILE",
        ) from None
    if not aside:
        asking.note("The file gave no rows away to hold out: these are rows that it learned from.")
    return found


def _rows(records: Iterable[Record]) -> list[Row]:
    found: list[Row] = []
    for record in records:
        if isinstance(record, Text) or (not isinstance(record, Prompt) and record.tools):
            continue
        for sft in [record] if isinstance(record, Prompt) else as_kind(record, "sft") or [record]:
            for one in [sft] if isinstance(sft, Prompt) else as_kind(sft, "prompt"):
                if isinstance(one, Prompt) and all(turn.role != "tool" for turn in one.prompt):
                    turns = [turn.to_dict() for turn in one.prompt]
                    found.append(Row(turns, one.reference.strip(), one.line, preferences.key(turns, one.line)))
    return found
