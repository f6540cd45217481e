"""The rows of data files in a stream, whatever holds them: JSON lines or arrays, tables, Parquet, plain text."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from studio.data import jsonrows, parquet, prose, source, tables
from studio.data.opened import Opened
from studio.data.records import Problems, Warnings
from studio.data.source import Source
from studio.data.strict import MAX_ROW_BYTES, Row
from studio.errors import DataError

__all__ = ["MAX_ROW_BYTES", "Place", "Row", "Rows", "look", "read_rows"]

#: Where a row begins: the number of its file, the byte (in Parquet: the row) there, the line that it has.
Place = tuple[int, int, int]


def look(files: Sequence[Path]) -> tuple[Source, ...]:
    """Find out what each file is. Raises DataError for one that is no data."""
    return tuple(map(source.look, files))


def read_rows(path: Path, problems: Problems, warnings: Warnings) -> Iterator[tuple[int, Row]]:
    """Give (line, row) for every row of one file; rows that cannot be read are added to `problems`.

    A line counts from 1, and is the row's number in arrays and Parquet. Raises DataError when nothing can be read at
    all.
    """
    return iter(Rows(look([path]), problems, warnings))


class Rows:
    """The rows of files that are read as one: iterate once, for (line, row). Lines count on from file to file.

    `place` is where the row that was just given begins: `Rows(..., place)` begins with it. `done` counts the bytes
    read so far, of `size`; after the last row `sha256` is the hash of the file (of several: the hash of their hashes).
    """

    def __init__(
        self, sources: Sequence[Source], problems: Problems, warnings: Warnings, place: Place | None = None
    ) -> None:
        self._sources, self._problems, self._warnings, self._from = sources, problems, warnings, place
        self.place: Place = place or (0, 0, 0)
        self.size = sum(one.size for one in sources)
        self.sha256 = ""
        self._finished = 0
        self._opened: Opened | None = None

    @property
    def done(self) -> int:
        """Give how many bytes were read so far."""
        return self._finished + (self._opened.done if self._opened else 0)

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Give (line, row)."""
        hashes, base = [], 0  # base: the lines of the files before
        start = self._from
        for index in range(start[0] if start else 0, len(self._sources)):
            one = self._sources[index]
            with contextlib.closing(one.open()) as opened:
                self._opened = opened
                reader = self._read(one, opened, base, start)
                try:
                    while True:
                        line, at, row = next(reader)
                        self.place = (index, at, line)
                        yield line, row
                except StopIteration as end:
                    base = end.value
                except DataError as error:
                    error.file = error.file or str(one.path)
                    raise
                if self._from is None:
                    hashes.append(opened.sha256())
                self._opened = None
            self._finished += one.size
            start = None
        together = hashlib.sha256("".join(hashes).encode()).hexdigest()
        self.sha256 = hashes[0] if len(hashes) == 1 else together if hashes else ""

    def _read(
        self, one: Source, opened: Opened, base: int, start: Place | None
    ) -> Generator[tuple[int, int, Row], None, int]:
        """Choose the reader; `base` lines stand before the file, `start` is where to go on in it."""
        offset, before = (start[1], start[2] - 1) if start else (one.start, base)
        if one.layout == "parquet":
            return parquet.rows(one.path, self._problems, offset if start else 0, before, opened.tell_share)
        file = opened.file
        if start:
            file.seek(offset)
        else:
            file.read(one.start)  # not passed over: the hash is of the whole file
        if one.layout == "lines":
            return jsonrows.lines(file, self._problems, self._warnings, offset, before)
        if one.layout == "table":
            place = (before, offset) if start else None
            return tables.rows(file, self._problems, self._warnings, one.delimiter, (base, one.start), place)
        if one.layout == "text":
            return prose.rows(file, self._problems, offset, before)
        return jsonrows.values(file, self._problems, offset, before, array=one.layout == "array", first=not start)
