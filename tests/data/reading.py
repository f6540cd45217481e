"""What tests of formats share: rows read as detection says, and messages written short."""

from __future__ import annotations

from typing import Any

from studio.data.detect import Found, detect
from studio.data.formats import RowError
from studio.data.records import Message, Reading, Record

Row = dict[str, Any]


def find(*rows: Row, **reading: Any) -> Found:
    """Detect the format of some rows."""
    return detect(rows, Reading(**reading))


def read(*rows: Row, **reading: Any) -> list[Record]:
    """Detect the format of some rows and read them, lines counting from 1."""
    form = find(*rows, **reading).format
    assert form is not None
    if form.group:
        return form.read({"rows": list(rows)}, 1)
    return [record for line, row in enumerate(rows, 1) for record in form.read(row, line)]


def refused(row: Row, *others: Row) -> RowError:
    """Give the error of reading `row` in a file that also has `others`."""
    form = find(*others, row).format
    assert form is not None
    try:
        made = form.read(row, 1)
    except RowError as error:
        return error
    raise AssertionError(f"read as {made}")


def u(text: str) -> Message:
    """Make a user's turn."""
    return Message("user", text)


def a(text: str, **more: Any) -> Message:
    """Make an assistant's turn."""
    return Message("assistant", text, **more)


def s(text: str) -> Message:
    """Make a system text."""
    return Message("system", text)


def call(name: str, id: str = "", **arguments: Any) -> dict[str, Any]:
    """Make a tool call as messages carry it."""
    return {**({"id": id} if id else {}), "type": "function", "function": {"name": name, "arguments": arguments}}


def msg(role: str, content: Any, **more: Any) -> Row:
    """Write a message as OpenAI does."""
    return {"role": role, "content": content, **more}


def turn(who: str, value: Any, **more: Any) -> Row:
    """Write a turn as ShareGPT does."""
    return {"from": who, "value": value, **more}
