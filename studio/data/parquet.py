"""Rows of a Parquet file, a batch at a time, through pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from studio.data.records import Problem, Problems
from studio.data.strict import Row
from studio.errors import DataError, ToolMissing

_BATCH = 256
_BUFFER = 1 << 20


def rows(
    path: Path, problems: Problems, start: int, before: int, tell: Callable[[float], None]
) -> Generator[tuple[int, int, Row], None, int]:
    """Give (line, row number from 0, row) from row `start` on, and return the last line; `before` lines come before.

    `tell` is told the share of the file that is done.

    Lists, structs and maps become Python's; text that was stored as bytes becomes text; in nested values null is the
    same as absent, as every row of a column must have all fields. Raises DataError for a file that is none.
    """
    file = _open(path)
    total, number = file.metadata.num_rows, start
    group, first = _group_of(file, start)
    groups = list(range(group, file.num_row_groups))
    at = first  # the row that the next batch begins with
    try:
        for batch in file.iter_batches(_BATCH, row_groups=groups, use_threads=False) if groups else ():
            at += batch.num_rows
            if at <= start:
                continue
            for row in _as_python(batch.slice(max(0, batch.num_rows - (at - number)))):
                number += 1
                line = before + number - start
                if isinstance(row, UnicodeDecodeError):
                    problems.add(Problem(line, "", "its text is not UTF-8", "Write the file again, as UTF-8."))
                else:
                    yield line, number - 1, row
            tell(number / total)
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's ArrowInvalid is a ValueError
        said = f"the rows from here on cannot be read: {_short(error)}"
        problems.add(Problem(before + number - start + 1, "", said, "Get the file again: it is damaged."))
    finally:
        file.close()
    return before + number - start


def _group_of(file: Any, row: int) -> tuple[int, int]:
    """Give the row group that holds a row, and the row that it begins with."""
    first = 0
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if row < first + size:
            return group, first
        first += size
    return file.num_row_groups, first


def _open(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ToolMissing(
            "Reading Parquet needs pyarrow, and it is not installed.", "Run `pip install pyarrow`.", file=str(path)
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"The Parquet file is damaged: {_short(error)}", "Get it again: it may be cut off.", file=str(path), line=1
        ) from None


def _as_python(batch: Any) -> Iterator[Row | UnicodeDecodeError]:
    try:
        yield from map(_row, batch.to_pylist(maps_as_pydicts="lossy"))
    except UnicodeDecodeError:
        for index in range(batch.num_rows):
            try:
                yield _row(batch.slice(index, 1).to_pylist(maps_as_pydicts="lossy")[0])
            except UnicodeDecodeError as error:
                yield error


def _row(row: Row) -> Row:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
