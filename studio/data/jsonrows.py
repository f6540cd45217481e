"""Rows out of JSON: a line each, or the values of one array (or one after the other), in a stream.

Both give (line, offset, row), the offset being the byte where the row begins, so that it can be found again at once;
and return the last line.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator
from typing import Any, BinaryIO

from studio.data.records import Problem, Problems, Warnings
from studio.data.strict import DECODER, MAX_ROW_BYTES, TOO_LONG, BadJSON, Row, excerpt, kind, parse, refuse_odd, show

Reading = Generator[tuple[int, int, Row], None, int]
_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_OUTSIDE = re.compile(r'["\[\]{},]')
_INSIDE = re.compile(r'["\\]')
_REST = "What stands after it is not read."


def lines(file: BinaryIO, problems: Problems, warnings: Warnings, offset: int, number: int) -> Reading:
    """Read JSON lines from `offset` on; `number` counts the lines before it."""
    while raw := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        start, offset = offset, offset + len(raw)
        if len(raw) > MAX_ROW_BYTES and not raw.endswith(b"\n"):
            problems.add(Problem(number, "", *TOO_LONG, excerpt(raw[:200])))
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(_CHUNK)
                offset += len(raw)
        elif not (row := raw.strip(b" \t\r\n")):
            warnings.add("blank_line", number, "Blank lines are skipped.")
        else:
            try:
                value = parse(row)
            except BadJSON as error:
                problems.add(_problem(number, error))
                continue
            if isinstance(value, list):
                value = _row(value)
            if isinstance(value, dict):
                yield number, start, value
            else:
                problems.add(_not_an_object(number, value))
    return number


def values(file: BinaryIO, problems: Problems, offset: int, number: int, *, array: bool, first: bool) -> Reading:
    """Read the values of a JSON array, or values that follow each other, from `offset` on.

    `number` counts the values before it. `first`: the array's bracket is still to come. A value that is wrong inside is
    passed over as a whole, where its brackets tell its end.
    """
    window = _Window(file, offset)
    if array and first:
        window.peek()
        window.take(1)
        if window.peek() == "]":
            return number
    commas = False
    while mark := window.peek():
        if mark == "," and not array:
            window.take(1)
            if not commas:
                said = "a comma stands between two rows, and no brackets around all of them"
                problems.add(
                    Problem(number + 1, "", said, "Write [ before the first and ] at the end.", window.ahead())
                )
            commas = True
            continue
        number += 1
        start = window.offset
        found = _value(window, number, problems)
        if isinstance(found, dict):
            yield number, start, found
        if window.lost or (array and not _comma(window, number, problems)):
            return number
    if array:
        problems.add(
            Problem(
                number + 1,
                "",
                "the array is never closed: the file is cut off",
                "Get the whole file, or close the array with ].",
                excerpt(window.before, len(window.before)),
            )
        )
    return number


def _comma(window: _Window, number: int, problems: Problems) -> bool:
    """Pass over what stands between two values of an array; False at its end."""
    mark = window.peek()
    if mark == ",":
        window.take(1)
        if window.peek() != "]":
            return True
        problems.add(
            Problem(
                number, "", "a comma stands before the closing bracket", "Delete the comma.", excerpt(window.before)
            )
        )
    elif mark == "{":
        problems.add(Problem(number, "", "no comma after the row", "Write a comma between two rows.", window.ahead()))
        return True
    elif not mark:
        return True  # the caller says that the array is not closed
    elif mark != "]":
        problems.add(Problem(number, "", f"expected a comma or ] after the row. {_REST}", "Mend it.", window.ahead()))
        return False
    window.take(1)
    if window.peek():
        problems.add(
            Problem(number, "", f"the array ends here. {_REST}", "Write one array, or a row a line.", window.ahead())
        )
    return False


def _value(window: _Window, number: int, problems: Problems) -> Any:
    """Read one value; None when a problem was added."""
    try:
        value, raw = window.decode()
        if len(raw) > MAX_ROW_BYTES:
            raise BadJSON(*TOO_LONG, excerpt(raw[:200]))
        raw.decode("utf-8")  # bytes that are not UTF-8 went through as lone surrogates
        refuse_odd(raw, value)
    except (ValueError, RecursionError) as error:
        try:
            if isinstance(error, BadJSON):
                raise
            if isinstance(error, UnicodeDecodeError):
                parse(error.object)
            raw = window.skip()
            if len(raw) > MAX_ROW_BYTES:
                raise BadJSON(*TOO_LONG, excerpt(raw[:200])) from None
            value = parse(raw)
        except BadJSON as bad:
            problems.add(_problem(number, bad))
            return None
    value = _row(value)
    if not isinstance(value, dict):
        problems.add(_not_an_object(number, value))
    return value


class _Window:
    """A piece of text that slides over a file. `offset` is the byte where it stands; `lost`: it ran off the end."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self.offset = "", 0, offset
        self.before, self.lost = b"", False

    def _grow(self, size: int = _CHUNK) -> bool:
        """Read on; False at the end of the file."""
        chunk = self._file.read(size)
        more = self._decoder.decode(chunk, final=not chunk)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(chunk or more)

    def peek(self) -> str:
        """Give the next character that is not white space, "" at the end."""
        while True:
            end = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if end > self._at:
                self.take(end - self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, length: int) -> bytes:
        """Go on by so many characters, and give them as the bytes they were."""
        raw = self._text[self._at : self._at + length].encode("utf-8", "surrogateescape")
        self._at += length
        self.offset += len(raw)
        self.before = raw[-200:] if len(raw) > 1 else self.before[-200:] + raw
        return raw

    def ahead(self) -> str:
        """Show what comes next."""
        return excerpt(self._text[self._at : self._at + 100])

    def decode(self) -> tuple[Any, bytes]:
        """Read one value, with its bytes. Raises ValueError or RecursionError, and has then not moved."""
        size = _CHUNK
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                # The window may just end too early. Doubling keeps the cost of trying again below that of reading.
                if len(self._text) - self._at < MAX_ROW_BYTES and self._grow(size):
                    size *= 2
                    continue
                raise
            if end == len(self._text) and not isinstance(value, (dict, list, str)) and self._grow():
                continue  # a number may go on
            return value, self.take(end - self._at)

    def skip(self) -> bytes:
        """Pass over one value by its brackets and quotes alone, and give it, or what is over the limit of it."""
        kept, depth, inside, at = b"", 0, False, self._at
        while True:
            found = (_INSIDE if inside else _OUTSIDE).search(self._text, at)
            if found is None:
                raw = self.take(len(self._text) - self._at)
                kept = kept + raw if len(kept) <= MAX_ROW_BYTES else kept
                at = max(0, at - len(self._text))  # 1 where a backslash was last: its other half is still to come
                if not self._grow():
                    self.lost = True
                    return kept
                continue
            at = found.end()
            mark = found[0]
            if inside:
                at += mark == "\\"
                inside = mark != '"'
            elif mark == '"':
                inside = True
            elif mark in "[{":
                depth += 1
            elif depth == 0:
                at -= at - 1 > self._at  # the comma or bracket after a bare value; alone, it is what is wrong
                break
            elif mark in "]}":
                depth -= 1
                if depth == 0:
                    break
        return kept + self.take(at - self._at)


def _problem(number: int, error: BadJSON) -> Problem:
    return Problem(number, error.field, error.problem, error.remedy, error.excerpt)


def _row(value: Any) -> Any:
    """Give a row that is a bare list of objects the name that such lists go by: it is a conversation."""
    bare = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    return {"messages": value} if bare else value


def _not_an_object(number: int, value: Any) -> Problem:
    return Problem(
        number, "", f"a row must be a JSON object, this is {kind(value)}", "Write {...} for each row.", show(value)
    )
