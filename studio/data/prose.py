"""Plain text as rows: what stands between blank lines is one text to continue."""

from __future__ import annotations

from collections.abc import Generator
from typing import BinaryIO

from studio.data.records import Problem, Problems
from studio.data.strict import MAX_ROW_BYTES, Row, excerpt


def rows(file: BinaryIO, problems: Problems, offset: int, number: int) -> Generator[tuple[int, int, Row], None, int]:
    """Give (line, offset, {"text": ...}) for every paragraph, its line being its first; `number` lines come before."""
    kept: list[bytes] = []
    size, start, first = 0, offset, number
    while True:
        raw = file.readline(MAX_ROW_BYTES + 1)
        if raw.strip():
            if not kept and not size:
                start, first = offset, number + 1
            size += len(raw)
            if size <= MAX_ROW_BYTES:
                kept.append(raw)
        elif size:
            if size > MAX_ROW_BYTES:
                said = "a text is longer than 16 MB"
                problems.add(
                    Problem(first, "", said, "Put a blank line between two texts.", excerpt(b"".join(kept[:3])[:200]))
                )
            elif (row := _text(b"".join(kept), first, problems)) is not None:
                yield first, start, row
            kept, size = [], 0
        if not raw:
            return number
        number += raw.endswith(b"\n") or len(raw) <= MAX_ROW_BYTES
        offset += len(raw)


def _text(raw: bytes, line: int, problems: Problems) -> Row | None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        where = line + raw.count(b"\n", 0, error.start)
        at = error.start - raw.rfind(b"\n", 0, error.start)
        said = f"byte {at} is not UTF-8"
        problems.add(Problem(where, "text", said, "Save the file as UTF-8.", excerpt(raw, error.start)))
        return None
    if "\0" in text:
        at = text.index("\0")
        where = line + text.count("\n", 0, at)
        problems.add(Problem(where, "text", "it contains a NUL byte", "Delete the byte.", excerpt(text, at)))
        return None
    return {"text": text.replace("\r\n", "\n").rstrip("\n")}
