"""One data file: what its bytes say it is, and how it is opened. The name only tells tables from plain text."""

from __future__ import annotations

import codecs
import dataclasses
import json
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from studio.data import tables
from studio.data.opened import BUFFER, Opened
from studio.data.strict import DECODER, MAX_ROW_BYTES, BadJSON, excerpt, parse
from studio.errors import DataError

TABLES, TEXTS, JSON = (".csv", ".tsv", ".tab"), (".txt", ".md", ".text"), (".json", ".jsonl", ".ndjson")
_HEAD = 64 << 10
_LOOKED_AT = 20  # lines, to tell JSON lines from one JSON value over many lines

_REFUSED: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "This is a zip archive or an Excel workbook.", "Unpack it, or save the sheet as CSV (UTF-8)."),
    (b"\xd0\xcf\x11\xe0", "This is an old Office file.", "Save the sheet as CSV (UTF-8)."),
    (b"%PDF", "This is a PDF.", "Export its text as UTF-8, as .txt or .jsonl."),
    (b"{\\rtf", "This is a rich text file.", "Save it as plain text (UTF-8)."),
    (b"BZh", "This is a bzip2 archive.", "Unpack it first."),
    (b"\xfd7zXZ", "This is an xz archive.", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "This is a zstd archive.", "Unpack it first."),
    (b"7z\xbc\xaf", "This is a 7z archive.", "Unpack it first."),
    (b"Rar!", "This is a rar archive.", "Unpack it first."),
    (b"SQLite format 3", "This is a SQLite database.", "Export the table as CSV or JSON lines."),
    (b"ARROW1", "This is an Arrow file.", "Write it as Parquet or JSON lines."),
    (b"GGUF", "This is a model, not data.", "Choose a data file."),
    (b"\x80\x04\x95", "This is a pickle, which can run code.", "Write the rows as JSON lines."),
    (b"version https://git-lfs", "This is a git-lfs pointer, not the file itself.", "Run `git lfs pull`."),
)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_PAGE = re.compile(rb"\s*<(?:!doctype|html|head|\?xml)\b", re.IGNORECASE)
_OBJECTS = re.compile(rb"\s*\[\s*(?:\{|\]?\s*$)")


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that can be read: its layout (lines, array, objects, table, text, parquet) and where its rows begin.

    `stamp` tells whether the file is still the one that was looked at.
    """

    path: Path
    layout: str
    packed: bool = False
    start: int = 0
    delimiter: str = ""
    stamp: tuple[int, int] = (0, 0)

    @property
    def size(self) -> int:
        """Give the bytes on disk."""
        return self.stamp[0]

    def open(self) -> Opened:
        """Open it. Raises DataError when it is no longer the file that was looked at."""
        if _stamp(self.path) != self.stamp:
            raise DataError("The file has changed while it was in use.", "Check it again.", file=str(self.path))
        return Opened(self.path, self.packed)


def look(path: Path) -> Source:
    """Find out what a file is by its first bytes. Raises DataError with a remedy for what is no data file."""
    stamp = _stamp(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head[:4] == b"PAR1":
            return Source(path, "parquet", stamp=stamp)
        packed = head[:2] == b"\x1f\x8b"
        opened = Opened(path, packed)
        try:
            if packed:
                head = opened.file.read(_HEAD)
            return _layout(path, opened.file, head, packed, stamp)
        finally:
            opened.close()
    except OSError as error:
        raise _refuse(path, f"The file cannot be read: {error.strerror or error}.", "Check its permissions.") from None


def _stamp(path: Path) -> tuple[int, int]:
    """Give size and time of an ordinary file; a pipe or device is refused before it can make us wait."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise _refuse(path, "There is no such file.", "Check the path.", line=None) from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise _refuse(path, f"The file cannot be read: {said}.", "Check the path and its permissions.", None) from None
    if stat.S_ISDIR(found.st_mode):
        raise _refuse(path, "This is a folder.", "Choose a file in it.", line=None)
    if not stat.S_ISREG(found.st_mode):
        raise _refuse(path, "This is a pipe or a device, not a file.", "Write the rows to a file first.", line=None)
    return found.st_size, found.st_mtime_ns


def _layout(path: Path, file: BinaryIO, head: bytes, packed: bool, stamp: tuple[int, int]) -> Source:
    for magic, said, remedy in _REFUSED:
        if head.startswith(magic):
            raise _refuse(path, said, remedy)
    if head.startswith(_UTF32):  # the mark of one of them begins like UTF-16's
        raise _refuse(path, "The file is UTF-32.", "Save it as UTF-8 and choose it again.")
    if head.startswith(_UTF16) or _looks_utf16(head):
        raise _refuse(path, "The file is UTF-16.", "Save it as UTF-8 and choose it again.")
    if (packed and head[:4] == b"PAR1") or head[257:262] == b"ustar":
        raise _refuse(path, "This is a packed archive.", "Unpack it and choose a file in it.")
    start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    if not head[start:].strip() and not _more(file):
        raise _refuse(path, "The file is empty.", "Choose a file with at least one row.")
    if _PAGE.match(head[start:]):
        raise _refuse(path, "This is a web page, not data.", "Download the file itself (on a hub: its raw file).")
    name = (path.with_suffix("") if packed and path.suffix.lower() == ".gz" else path).suffix.lower()
    layout, delimiter = _json_layout(file, start, head, name), ""
    if not layout and name not in TEXTS:
        delimiter, sure = tables.sniff(_whole_lines(head[start:]))
        layout = "table" if name in TABLES or (sure and name not in JSON) else ""
    if not layout and name in TEXTS:
        layout = "text"
    if not layout:
        if b"\0" in head:
            raise _refuse(path, "This is no text file.", "Choose .jsonl, .json, .csv, .tsv, .parquet or .txt.")
        shown = excerpt(head[start:].lstrip()[:80])
        raise _refuse(
            path,
            f"The file is no JSON: it begins with {shown!r}." if name in JSON else "It is not clear what the file is.",
            "Mend it, or name a table .csv and plain text .txt.",
        )
    return Source(path, layout, packed, start, delimiter or ",", stamp)


def _json_layout(file: BinaryIO, start: int, head: bytes, name: str) -> str:
    """Tell JSON lines from an array and from objects over many lines; "" for what is no JSON."""
    first = head[start:].lstrip()[:1]
    may_be_text = name in TEXTS or name in TABLES  # such files may well begin with a bracket
    if may_be_text and ((first == b"[" and not _OBJECTS.match(head[start:])) or first not in (b"[", b"{")):
        return ""
    file.seek(start)
    lines: list[bytes] = []
    size = 0
    while len(lines) < _LOOKED_AT and size <= MAX_ROW_BYTES and (line := file.readline(MAX_ROW_BYTES + 1)):
        size += len(line)
        if line.strip():
            lines.append(line if lines else line.lstrip())
    if first == b"[":
        more = any(_is(dict, line) for line in lines) or any(_is(list, line) for line in lines[1:])
        return "lines" if _is(list, lines[0]) and more else "array"
    some_rows = any(_is(dict, line) for line in lines)
    if first == b"{" and _runs_out(lines[0]):  # the first row is cut off, or goes on over more lines
        next_row = some_rows or (len(lines) > 1 and lines[1].startswith(b"{"))
        return "lines" if next_row and not _sound(b"".join(lines)) else "objects"
    return "lines" if some_rows or (first == b"{" and not may_be_text) else ""


def _sound(text: bytes) -> bool:
    """Say whether a value begins here, or may: what is odd about it is told when it is read."""
    try:
        DECODER.raw_decode(text.decode("utf-8", "replace"))
    except json.JSONDecodeError:
        return _runs_out(text)
    except (ValueError, RecursionError):
        pass
    return True


def _runs_out(raw: bytes) -> bool:
    """Say whether a value ends too early, between two of its parts."""
    text = raw.decode("utf-8", "replace").rstrip()
    try:
        DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except (ValueError, RecursionError):
        pass
    return False


def _is(type: type, line: bytes) -> bool:
    try:
        return isinstance(parse(line), type)
    except BadJSON:
        return False


def _more(file: BinaryIO) -> bool:
    """Say whether anything but white space is in the file."""
    file.seek(0)
    while chunk := file.read(BUFFER):
        if chunk.removeprefix(codecs.BOM_UTF8).strip():
            return True
    return False


def _whole_lines(head: bytes) -> str:
    if len(head) >= _HEAD - 4:
        head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head
    return head.decode("utf-8", "replace")


def _looks_utf16(head: bytes) -> bool:
    """UTF-16 without its mark: every other byte of plain letters is 0."""
    sample = head[:400]
    zeros, others = sorted((sample[::2].count(0), sample[1::2].count(0)), reverse=True)
    return len(sample) > 8 and zeros * 5 > 2 * len(sample) and others * 20 < len(sample)


def _refuse(path: Path, said: str, remedy: str, line: int | None = 1) -> DataError:
    return DataError(said, remedy, file=str(path), line=line)
