"""A data file as records: checked in one pass, read in a stream.

Every row is read; problems are all counted and the first 20 listed. Rows are never all in memory, unless the format has
to gather them. A mark at every 128th row makes any record and any line quick to find again.
"""

from __future__ import annotations

import bisect
import dataclasses
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from studio import events
from studio.data import detect, files, hubdata, onepass
from studio.data.files import Row, Rows
from studio.data.onepass import Mark
from studio.data.recording import Recorder
from studio.data.records import Problem, Problems, Reading, Record, Warnings
from studio.data.source import Source
from studio.errors import DataError

_READS_AS_IT_IS = Reading()


@dataclasses.dataclass
class Dataset:
    """A file, what it holds, and what was found on the way.

    `path` is the file (of a data set in several files, the first), `usable` counts the records that `records()` gives,
    `left_out` those that it does not by the code that left them out ("bad": rows), `refused` is what is wrong with the
    file as a whole.
    """

    path: Path
    reading: Reading
    found: detect.Found
    rows: int
    usable: int
    errors: Problems
    warnings: Warnings
    sha256: str
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    refused: Problem | None = None
    sources: tuple[Source, ...] = ()
    _marks: list[Mark] = dataclasses.field(default_factory=list, repr=False)
    _left: array[int] = dataclasses.field(default_factory=lambda: array("Q"), repr=False)

    @property
    def format(self) -> str:
        """Name the format, "unclear" when there is none."""
        return self.found.format.name if self.found.format else "unclear"

    @property
    def kind(self) -> str:
        """Name the kind: sft, text, preference, kto, prompt or unclear."""
        return self.found.format.kind if self.found.format else "unclear"

    @property
    def size(self) -> int:
        """Give the bytes of all files."""
        return sum(one.size for one in self.sources)

    @property
    def ok(self) -> bool:
        """Say whether the file can be used as `reading` asks: no errors, or bad rows left out and good ones kept."""
        fine = not self.errors.count or "bad" in self.reading.drop
        return self.kind != "unclear" and fine and self.refused is None and self.usable > 0

    def records(self) -> Iterator[Record]:
        """Read the file again and give every record that can be used, in its order. DataError if the file changed."""
        yield from self._records(None, 0)

    def record(self, index: int) -> Record:
        """Give the record at `index` (from 0) of those that `records()` gives; IndexError when there is none."""
        if not 0 <= index < self.usable:
            raise IndexError(index)
        at = bisect.bisect_right(self._marks, index, key=lambda mark: mark.good) - 1
        mark = self._marks[at] if self.found.format and not self.found.format.group else None
        return next(self._records(mark, index - (mark.good if mark else 0)))

    def rows_at(self, lines: Iterable[int]) -> dict[int, Row]:
        """Give the rows, as they stand in the file, that begin on these lines; lines that hold no row are left out."""
        found: dict[int, Row] = {}
        for line in sorted(set(lines)):
            at = bisect.bisect_right(self._marks, line, key=lambda mark: mark.line) - 1
            if at >= 0:
                rows = Rows(self.sources, Problems(), Warnings(), self._marks[at].place)
                here, row = next(((here, row) for here, row in rows if here >= line), (0, {}))
                found.update({line: row} if here == line else {})
        return found

    def _records(self, mark: Mark | None, skip: int) -> Iterator[Record]:
        if self.found.format is None:
            return
        problems, warnings = Problems(), Warnings()
        rows = Rows(self.sources, problems, warnings, mark.place if mark else None)
        recorder = Recorder(self.found.format, self.reading, problems, warnings)
        made = recorder.gather(rows) if recorder.gathers else recorder.each(rows)
        start = mark.good + mark.left if mark else 0
        left = bisect.bisect_left(self._left, start)
        for number, record in enumerate(made, start):
            if left < len(self._left) and self._left[left] == number:
                left += 1
            elif skip:
                skip -= 1
            else:
                yield record

    def to_dict(self) -> dict[str, Any]:
        """Give the check's document as scripts may rely on it."""
        return {
            "format": self.format,
            "kind": self.kind,
            "rows": self.rows,
            "usable": self.usable,
            "left_out": self.left_out,
            "mapping": self.found.mapping,
            "why": self.found.why,
            "question": self.found.question.to_dict() if self.found.question else None,
            "errors": [problem.to_dict() for problem in self.errors.first],
            "error_count": self.errors.count,
            "warnings": self.warnings.to_list(),
            "reading": self.reading.to_dict(),
            "sha256": self.sha256,
        }

    def want(self, *kinds: str) -> None:
        """Raise DataError unless the file holds one of these kinds."""
        if self.kind not in kinds:
            raise DataError(
                f"This file holds {self.format} rows ({self.kind}), and this step needs {' or '.join(kinds)}.",
                "Choose a file of that kind, or the step that fits the file.",
                file=str(self.path),
            )


def load(
    path: str | Path,
    reading: Reading = _READS_AS_IT_IS,
    *,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Dataset:
    """Check a file and raise DataError at its first problem, unless `reading` drops "bad" rows (then counted)."""
    data = check(path, reading, emit=emit, should_stop=should_stop)
    name = str(data.path)
    unread = 0 < data.rows <= data.errors.count
    if data.kind == "unclear" and not unread:  # where no row can be read, why that is says more
        text = data.found.question.text if data.found.question else ""
        remedy = "Run `studio data check`: it asks what it needs, and says how to answer."
        raise DataError(f"It is not clear what the rows hold. {text}".strip(), remedy, file=name)
    refused = data.refused
    if refused is not None:
        raise DataError(refused.problem, refused.remedy, file=name, line=refused.line, field=refused.field)
    if not data.ok:
        first, more = data.errors.first[0], data.errors.count - 1
        rest = f" ({more} more like it; `studio data check` lists them)" if more else ""
        remedy = first.remedy if unread else f"{first.remedy} --drop-bad leaves such rows out."
        raise DataError(first.problem + rest, remedy, file=name, line=first.line, field=first.field)
    return data


def check(
    path: str | Path,
    reading: Reading = _READS_AS_IT_IS,
    *,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
    watch: Callable[[Record], None] | None = None,
) -> Dataset:
    """Read a file (or a hub data set: org/name, see hubdata) in one pass and collect what is wrong.

    `emit` gets progress events over the file's MB; `should_stop` is asked as often and raises Stopped;
    `watch` is shown every record that is kept (the lint's `add`). Raises DataError
    only when the file cannot be read at all, ConfigError for a `reading` that does not fit it.
    """
    sources = files.look(hubdata.paths_of(path, emit, should_stop))
    made = onepass.Pass(sources, reading, emit, should_stop, watch)
    made.run()
    return Dataset(
        sources[0].path,
        reading,
        made.found,
        made.count + made.unreadable,
        made.good,
        made.problems,
        made.warnings,
        made.rows.sha256,
        dict(made.left_out),
        made.refused,
        sources,
        made.marks,
        made.left,
    )
