"""A data file as records: checked in one pass, read in a stream.

Every row is read; problems are all counted and the first 20 listed. Rows are never all in memory.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio import paths
from studio.data import detect
from studio.data.files import Row, read_rows
from studio.data.formats import Format, RowError
from studio.data.records import Conversation, Problem, Problems, Reading, Record, Warnings, turns
from studio.errors import DataError

SAMPLE = 1000
_PLACEHOLDER = re.compile(r"\{\{\s*\w+\s*\}\}")
_READS_AS_IT_IS = Reading()


@dataclasses.dataclass
class Dataset:
    """A file, what it holds, and what was found on the way. `usable` counts the records that `records()` gives."""

    path: Path
    reading: Reading
    found: detect.Found
    rows: int
    usable: int
    errors: Problems
    warnings: Warnings
    sha256: str

    @property
    def format(self) -> str:
        """Name the format, "unclear" when there is none."""
        return self.found.format.name if self.found.format else "unclear"

    @property
    def kind(self) -> str:
        """Name the kind: sft, text, preference, kto, prompt or unclear."""
        return self.found.format.kind if self.found.format else "unclear"

    def records(self) -> Iterator[Record]:
        """Read the file again and give every record that can be used, in the order of the file."""
        if self.found.format is None:
            return
        for line, row in read_rows(self.path, Problems(), Warnings()):
            yield from _read(self.found.format, row, line, Problems())

    def to_dict(self) -> dict[str, Any]:
        """Give the check's document as scripts may rely on it."""
        return {
            "format": self.format,
            "kind": self.kind,
            "rows": self.rows,
            "usable": self.usable,
            "mapping": self.found.mapping,
            "why": self.found.why,
            "question": self.found.question.to_dict() if self.found.question else None,
            "errors": [problem.to_dict() for problem in self.errors.first],
            "error_count": self.errors.count,
            "warnings": self.warnings.to_list(),
            "reading": self.reading.to_dict(),
        }

    def want(self, *kinds: str) -> None:
        """Raise DataError unless the file holds one of these kinds."""
        if self.kind not in kinds:
            raise DataError(
                f"This file holds {self.format} rows ({self.kind}), and this step needs {' or '.join(kinds)}.",
                "Choose a file of that kind, or the step that fits the file.",
                file=str(self.path),
            )


def load(path: str | Path, reading: Reading = _READS_AS_IT_IS) -> Dataset:
    """Check a file and raise DataError at its first problem, unless `reading` drops "bad" rows (then counted)."""
    data = check(path, reading)
    if data.kind == "unclear":
        raise DataError(
            "It is not clear what the rows hold.", "Run `studio data check`: it asks what it needs.", file=str(path)
        )
    if data.errors.count and "bad" not in reading.drop:
        first, more = data.errors.first[0], data.errors.count - 1
        rest = f" ({more} more like it; `studio data check` lists them)" if more else ""
        raise DataError(
            first.problem + rest,
            f"{first.remedy} --drop-bad leaves such rows out.",
            file=str(path),
            line=first.line,
            field=first.field,
        )
    if not data.usable:
        raise DataError("No row can be used.", "Choose a file with at least one good row.", file=str(path))
    return data


def check(path: str | Path, reading: Reading = _READS_AS_IT_IS) -> Dataset:
    """Read a file in one pass and collect what is wrong. Raises DataError only when it cannot be read at all."""
    path = Path(path).expanduser().resolve()
    problems, warnings = Problems(), Warnings()
    rows = read_rows(path, problems, warnings)
    head = list(itertools.islice(rows, SAMPLE))
    if not head and not problems.count:
        raise DataError("The file has no rows.", "Choose a file with at least one row.", file=str(path))
    found = detect.detect([row for _, row in head], reading)
    count = usable = 0
    for line, row in itertools.chain(head, rows):
        count += 1
        for record in _read(found.format, row, line, problems) if found.format else ():
            usable += 1
            _look(record, warnings)
    problems.first.sort(key=lambda problem: problem.line)
    return Dataset(path, reading, found, count, usable, problems, warnings, paths.sha256(path))


def _read(form: Format, row: Row, line: int, problems: Problems) -> list[Record]:
    try:
        return form.read(row, line)
    except RowError as error:
        problems.add(Problem(line, error.field, error.problem, error.remedy))
    except KeyError as error:
        name = str(error.args[0])
        problems.add(Problem(line, name, f"the field {name!r} is missing", f"Add {name!r}."))
    return []


def _look(record: Record, warnings: Warnings) -> None:
    """Count what is odd about a good row."""
    said = turns(record)
    if isinstance(record, Conversation):
        spoken = next((turn for turn in said if turn.role != "system"), None)
        if spoken is not None and spoken.role == "assistant":
            warnings.add(
                "assistant_first", record.line, "The assistant speaks before the user; some templates refuse this."
            )
    if any(_PLACEHOLDER.search(turn.content) for turn in said):
        warnings.add("placeholder", record.line, "Fill in placeholders such as {{name}}, or the model learns them.")
