"""Tables as text: comma, semicolon, tab or bar between the cells, quotes and line ends as every program writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, TextIO, cast

from studio.data.records import Problem, Problems, Warnings
from studio.data.strict import MAX_ROW_BYTES, TOO_LONG, Row, excerpt, show
from studio.errors import DataError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sniff(head: str) -> tuple[str, bool]:
    """Choose the delimiter that splits the first rows most evenly into most cells ("": none splits the header).

    Also say whether those rows are enough to take the text for a table: two or more, all equally long.
    """
    best, delimiter, sure = (0.0, 0), "", False
    for candidate in DELIMITERS:
        try:
            rows = [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=candidate) if row][:50]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width > 1:
            score = (sum(len(row) == width for row in rows) / len(rows), width)
            if score > best:
                best, delimiter, sure = score, candidate, score[0] == 1 and len(rows) > 1
    return delimiter, sure


def rows(
    file: BinaryIO,
    problems: Problems,
    warnings: Warnings,
    delimiter: str,
    header_at: tuple[int, int],
    place: tuple[int, int] | None,
) -> Generator[tuple[int, int, Row], None, int]:
    """Give (line, offset, row) for every record, its line being where it begins; return the lines of the file.

    `header_at` is where the header stands (lines before it, offset), `place` a record to go on with. Cells are text,
    whatever they look like. Raises DataError when the header cannot be used.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _Lines(file, *header_at)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header, top = _header(reader, lines)
    if place is not None:
        lines = _Lines(file, *place)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    elif "" in header:
        warnings.add("unnamed_column", top, "A column without a name is not read: name it in the first line.")
    while True:
        line, at = lines.line + 1, lines.offset
        try:
            cells = next(reader)
        except StopIteration:
            return lines.line
        except csv.Error as error:
            problems.add(lines.bad(line) or _broken(error, line, lines))
            continue
        if bad := lines.bad(line):
            problems.add(bad)
        elif not any(cells) and len(cells) <= 1:
            warnings.add("blank_line", line, "Blank lines are skipped.")
        elif len(cells) != len(header):
            problems.add(
                Problem(
                    line,
                    "",
                    f"the row has {len(cells)} cells, the header has {len(header)}",
                    f'Put quotes ("...") around a cell with {DELIMITERS.get(delimiter, "the delimiter")} in it, '
                    "or mend the row.",
                    show(delimiter.join(cells)),
                )
            )
        else:
            row = dict(zip(header, cells, strict=True))
            row.pop("", None)
            yield line, at, row


def _header(reader: Iterator[list[str]], lines: _Lines) -> tuple[list[str], int]:
    """Read the names of the columns, and the line they stand on."""
    try:
        while not (cells := next(reader)):
            pass
        bad = lines.bad(lines.line)
    except StopIteration:
        raise DataError("The table has no header.", "Name the columns in the first line.", line=1) from None
    except csv.Error as error:
        bad = lines.bad(1) or _broken(error, 1, lines)
    if bad:
        raise DataError(f"The header cannot be read: {bad.problem}.", bad.remedy, line=bad.line)
    names = [name.strip() for name in cells]
    double = next((name for name in names if name and names.count(name) > 1), None)
    if not any(names):
        raise DataError("The header has no names.", "Name the columns in the first line.", line=lines.line)
    if double:
        raise DataError(f"Two columns have the name {double!r}.", "Rename one of them.", line=lines.line, field=double)
    return names, lines.line


def _broken(error: csv.Error, line: int, lines: _Lines) -> Problem:
    said, remedy = str(error), "Mend the quotes of this row."
    if "unexpected end of data" in said or "field larger" in said:
        said = "a quote opens here and is not closed; all rows after it are in that cell"
        remedy = "Close the quote, or write it twice where it is part of the text."
    elif "expected after" in said:
        said = f"text stands after a closing quote ({said})"
        remedy = "Write a quote that is part of the text twice."
    return Problem(line, "", said, remedy, excerpt(lines.last))


class _Lines:
    """The lines of a file as text, counted, with the byte where the next one begins."""

    def __init__(self, file: BinaryIO, line: int, offset: int) -> None:
        file.seek(offset)
        # Any line end is one, and stays as it is inside quotes; bytes that are not UTF-8 are told of later.
        self._text = io.TextIOWrapper(cast(BinaryIO, _Borrowed(file)), "utf-8", "surrogateescape", newline="")
        self.offset, self.line, self.last = offset, line, ""
        self._bad: Problem | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        text = self._text.readline(MAX_ROW_BYTES + 1)
        if not text:
            raise StopIteration
        self.line += 1
        try:
            size = len(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raw = text.encode("utf-8", "surrogateescape")
            size, at = len(raw), len(text[: error.start].encode("utf-8"))
            self._bad = Problem(
                self.line, "", f"byte {at + 1} is not UTF-8", "Save the file as UTF-8.", excerpt(raw, at)
            )
        if "\0" in text:
            at = text.index("\0")
            self._bad = Problem(self.line, "", "it contains a NUL byte", "Delete the byte.", excerpt(text, at))
        if len(text) > MAX_ROW_BYTES and not text.endswith(("\n", "\r")):
            self._bad = Problem(self.line, "", *TOO_LONG, excerpt(text[:100]))
            while text and not text.endswith(("\n", "\r")):
                text = self._text.readline(MAX_ROW_BYTES)
                size += len(text.encode("utf-8", "surrogateescape"))
            text = "\n"
        self.offset += size
        self.last = text
        return text

    def bad(self, line: int) -> Problem | None:
        """Give what was wrong with the lines of the last record, and forget it."""
        found, self._bad = self._bad, None
        return Problem(line, "", found.problem, found.remedy, found.excerpt) if found else None


class _Borrowed(io.BufferedIOBase):
    """A file that a wrapper may read and must not close."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read1(self, size: int = -1) -> bytes:
        """Read what is at hand."""
        return self._file.read1(size)  # type: ignore[attr-defined]

    def read(self, size: int | None = -1) -> bytes:
        """Read."""
        return self._file.read(-1 if size is None else size)


def write(file: TextIO, fields: list[str], records: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV that a spreadsheet shows and does not run: a cell that would be a formula gets a ' in front.

    `file` is opened with newline="". None becomes an empty cell.
    """
    writer = csv.writer(file)
    writer.writerow([plain(field) for field in fields])
    for record in records:
        writer.writerow([plain(record.get(field)) for field in fields])


def plain(value: Any) -> str:
    """Give a cell's text, with a ' before what a spreadsheet takes for a formula (= + - @, tab, carriage return)."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
