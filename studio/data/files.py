"""Read the rows of a .jsonl or .json file, or say in plain words why a line cannot be read."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.data.records import Problem, Problems, Warnings
from studio.errors import DataError

MAX_LINE_BYTES = 16 << 20
Row = dict[str, Any]
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_rows(path: Path, problems: Problems, warnings: Warnings) -> Iterator[tuple[int, Row]]:
    """Give (line, row) for every object in the file; lines that cannot be read are added to `problems`.

    A JSON array counts its rows from 1; one JSON object alone is one row. Raises DataError when nothing can be read at
    all.
    """
    if not path.is_file():
        raise DataError("There is no such file.", "Check the path.", file=str(path))
    with path.open("rb") as file:
        head = file.read(4)
        if head.startswith(_UTF16):
            raise DataError("The file is UTF-16.", "Save it as UTF-8 and choose it again.", file=str(path))
        file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
        first = _first_byte(file)
        if first is None:
            raise DataError("The file is empty.", "Choose a file with at least one row.", file=str(path))
        whole = path.suffix.lower() == ".json" or first == b"["
        yield from (_whole if whole else _lines)(file, problems, warnings)


def _first_byte(file: Any) -> bytes | None:
    """Give the first byte that is not white space, and go back to where we were."""
    start = file.tell()
    while (byte := file.read(1)) and byte.isspace():
        pass
    file.seek(start)
    return byte or None


def _lines(file: Any, problems: Problems, warnings: Warnings) -> Iterator[tuple[int, Row]]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
            problems.add(Problem(number, "", "the line is longer than 16 MB", "Split the row."))
        elif not raw.strip():
            warnings.add("blank_line", number, "Blank lines are skipped.")
        else:
            row = _parse(raw, number, problems)
            if isinstance(row, dict):
                yield number, row
            elif row is not None:
                problems.add(_not_an_object(number, row))


def _whole(file: Any, problems: Problems, warnings: Warnings) -> Iterator[tuple[int, Row]]:
    """Read one JSON document; where it turns out to be JSON lines under a .json name, read those."""
    start = file.tell()
    attempt = Problems()
    document = _parse(file.read(), 1, attempt)
    if attempt.count:
        file.seek(start)
        lines = Problems()
        rows = list(_lines(file, lines, Warnings()))
        if rows and not lines.count:
            yield from rows
        else:
            problems.add(attempt.first[0])
        return
    for number, row in enumerate(document if isinstance(document, list) else [document], 1):
        if isinstance(row, dict):
            yield number, row
        else:
            problems.add(_not_an_object(number, row))


def _not_an_object(number: int, row: Any) -> Problem:
    return Problem(number, "", f"a row must be a JSON object, this is {type(row).__name__}", "Write {...} per row.")


class _DuplicateKey(ValueError):
    pass


def _parse(raw: bytes, number: int, problems: Problems) -> Any:
    """Parse strictly: UTF-8, no NUL, no NaN, no key twice; None when a problem was added."""

    def pairs(items: list[tuple[str, Any]]) -> Row:
        row = dict(items)
        if len(row) != len(items):
            names = [name for name, _ in items]
            raise _DuplicateKey(next(name for name in names if names.count(name) > 1))
        return row

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        if b"\0" in raw:
            raise ValueError("it contains a NUL byte")
        return json.loads(raw.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except UnicodeDecodeError as error:
        problem = Problem(number, "", f"byte {error.start + 1} is not UTF-8", "Save the file as UTF-8.")
    except _DuplicateKey as error:
        problem = Problem(number, str(error), "the key stands twice in one object", "Keep one of them.")
    except RecursionError:
        problem = Problem(number, "", "it is nested too deeply", "Flatten the row.")
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        problem = Problem(number, "", f"not valid JSON at {where}: {error.msg}", "Mend or delete the line.")
    except ValueError as error:
        problem = Problem(number, "", f"not valid JSON: {error}", "Mend or delete the line.")
    problems.add(problem)
    return None
