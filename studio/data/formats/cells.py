"""What the columns of sampled rows hold: the looks that questions about them need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from studio.data.formats.base import Roles, Row
from studio.data.formats.names import is_aside
from studio.data.records import Reading


def columns_in(rows: Sequence[Row]) -> list[str]:
    """Name the columns of all rows, in the order in which they come up."""
    return list(dict.fromkeys(column for row in rows for column in row))


def cells(rows: Sequence[Row], column: str) -> list[Any]:
    """Give the cells of a column that hold something."""
    return [value for row in rows if (value := row.get(column)) is not None and value != ""]


def spare_texts(roles: Roles, rows: Sequence[Row]) -> Iterator[str]:
    """Give the columns of text that play no role, though they are no mere asides."""
    for column in columns_in(rows):
        if column not in roles and not is_aside(column):
            told = cells(rows, column)
            if told and len(told) * 2 >= len(rows) and all(isinstance(value, str) for value in told):
                yield column


def repeats(rows: Sequence[Row], one: str, others: Sequence[str]) -> bool:
    """Say whether a column repeats one of the others in every row."""
    return all(any(_flat(row.get(one)) == _flat(row.get(other)) for other in others) for row in rows)


def _flat(value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, dict):
        value = value.get("content", value.get("value"))
    return str(value).strip()


def choice(*parts: Roles | str) -> Reading:
    """Make the reading of a choice: roles, and the kind they are read as."""
    mapping: Roles = {}
    kind = ""
    for part in parts:
        if isinstance(part, str):
            kind = part
        else:
            mapping |= part
    return Reading(mapping, kind)
