"""Find a file's format by looking at its rows, read them as records, and list what is wrong.

The file name is never trusted. Every row is read; problems are all counted and the first 20 listed.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from studio import paths
from studio.data.files import read_rows
from studio.data.formats import FORMATS, Format, RowError
from studio.data.records import Conversation, Preference, Problem, Record, Warnings
from studio.errors import DataError

LISTED = 20
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}")


@dataclasses.dataclass
class Dataset:
    """The records of a file, with what was found on the way."""

    path: Path
    format: str
    kind: str
    mapping: dict[str, str]
    records: list[Record]
    rows: int
    errors: list[Problem]
    warnings: Warnings
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Give the check's document as scripts may rely on it."""
        return {
            "format": self.format,
            "kind": self.kind,
            "rows": self.rows,
            "mapping": self.mapping,
            "errors": [problem.to_dict() for problem in self.errors[:LISTED]],
            "error_count": len(self.errors),
            "warnings": self.warnings.to_list(),
        }

    def conversations(self) -> list[Conversation]:
        """Give the records of an SFT file; DataError for another kind."""
        self._want("sft", "conversations")
        return [record for record in self.records if isinstance(record, Conversation)]

    def preferences(self) -> list[Preference]:
        """Give the records of a preference file; DataError for another kind."""
        self._want("preference", "preference pairs")
        return [record for record in self.records if isinstance(record, Preference)]

    def _want(self, kind: str, what: str) -> None:
        if self.kind != kind:
            raise DataError(
                f"This file holds {self.format} rows, and this step needs {what}.",
                "Choose a file of that kind, or the step that fits the file.",
                file=str(self.path),
            )


def load(path: str | Path, *, drop_bad: bool = False) -> Dataset:
    """Read a file whole. Raises DataError at the first problem unless `drop_bad` leaves such rows out (counted)."""
    dataset = check(path)
    if dataset.kind == "unclear":
        raise DataError(
            "The rows fit no format that Studio knows.",
            "Use messages, ShareGPT, Alpaca, prompt/completion, or prompt/chosen/rejected rows.",
            file=str(path),
        )
    if dataset.errors and not drop_bad:
        first, more = dataset.errors[0], len(dataset.errors) - 1
        rest = f" ({more} more like it; `studio data check` lists them)" if more else ""
        raise DataError(
            first.problem + rest,
            f"{first.remedy} --drop-bad leaves such rows out.",
            file=str(path),
            line=first.line,
            field=first.field,
        )
    if not dataset.records:
        raise DataError("No row can be used.", "Choose a file with at least one good row.", file=str(path))
    return dataset


def check(path: str | Path) -> Dataset:
    """Read a file and collect everything that is wrong with it. Raises DataError only when it cannot be read at all."""
    path = Path(path).expanduser().resolve()
    problems: list[Problem] = []
    warnings = Warnings()
    rows = list(read_rows(path, problems, warnings))
    if not rows and not problems:
        raise DataError("The file has no rows.", "Choose a file with at least one row.", file=str(path))
    chosen = _vote([row for _, row in rows])
    records: list[Record] = []
    if chosen is not None:
        for line, row in rows:
            try:
                record = chosen.read(row, line)
            except RowError as error:
                problems.append(Problem(line, error.field, error.problem, error.remedy))
            except KeyError as error:
                name = str(error.args[0])
                problems.append(Problem(line, name, f"the field {name!r} is missing", f"Add {name!r}."))
            else:
                records.append(record)
                _look(record, warnings)
    problems.sort(key=lambda problem: problem.line)
    return Dataset(
        path=path,
        format=chosen.name if chosen else "unclear",
        kind=chosen.kind if chosen else "unclear",
        mapping=dict(chosen.mapping) if chosen else {},
        records=records,
        rows=len(rows),
        errors=problems,
        warnings=warnings,
        sha256=paths.sha256(path),
    )


def _vote(rows: list[dict[str, Any]]) -> Format | None:
    """Choose the first format that at least half of the rows fit."""
    for candidate in FORMATS:
        if rows and sum(map(candidate.matches, rows)) * 2 >= len(rows):
            return candidate
    return None


def _look(record: Record, warnings: Warnings) -> None:
    """Count what is odd about a good row."""
    turns = record.messages if isinstance(record, Conversation) else record.prompt + record.chosen
    spoken = [turn for turn in turns if turn.role != "system"]
    if spoken and spoken[0].role == "assistant":
        warnings.add(
            "assistant_first", record.line, "The assistant speaks before the user; some templates refuse this."
        )
    if any(_PLACEHOLDER.search(turn.content) for turn in turns):
        warnings.add("placeholder", record.line, "Fill in placeholders such as {{name}}, or the model learns them.")
