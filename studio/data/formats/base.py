"""What a format is: a value that names a layout of rows and reads them, and the words for a row that cannot be read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from studio.data.records import Reading, Record

Row = dict[str, Any]
#: Which column plays which role, in the order in which columns of one role are joined.
Roles = dict[str, str]
#: Called with (code, remedy) for what is odd about a row, or left out of it, without making the row bad.
Note = Callable[[str, str], None]

ROLES = (
    "prompt", "system", "completion", "chosen", "rejected", "label", "text", "messages", "history", "tools",
    "reference", "reasoning",
)  # fmt: skip
#: The group of a format whose rows are all one record.
WHOLE = "*"
_LONGEST = 10**100


class RowError(ValueError):
    """A row cannot be read: the field, what is wrong, what to do."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.field, self.problem, self.remedy = field, problem, remedy


def unheard(code: str, remedy: str) -> None:
    """Take a note that nobody asked for."""


class Reader(Protocol):
    """Reads one row as records; raises RowError, or KeyError for a field that is not there."""

    def __call__(self, row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        """Read one row."""


@dataclasses.dataclass(frozen=True)
class Format:
    """One layout of rows, bound to the columns of one file.

    `mapping` names the role of each column that is read. `group` names the field by which rows belong together
    (WHOLE: all of them are one record): then `read` is given one row {"rows": [...]} for each group. `also` are other
    readings of the same rows, each of another kind.
    """

    name: str
    kind: str
    title: str
    mapping: dict[str, str]
    matches: Callable[[Row], bool]
    read: Reader
    group: str = ""
    also: tuple[Format, ...] = ()


@dataclasses.dataclass(frozen=True)
class Question:
    """What to ask when rows can be meant in several ways: each choice is a title and the Reading that settles it."""

    text: str
    choices: tuple[tuple[str, Reading], ...]

    def to_dict(self) -> dict[str, Any]:
        """Give the question as JSON."""
        return {"text": self.text, "choices": [{"title": t, "reading": r.to_dict()} for t, r in self.choices]}


def columns_of(roles: Roles, role: str) -> list[str]:
    """Name the columns that play a role, in order."""
    return [column for column, played in roles.items() if played == role]


def column_of(roles: Roles, role: str) -> str:
    """Name the one column that plays a role, "" when there is none."""
    return next((column for column, played in roles.items() if played == role), "")


def text_of(value: Any, field: str, *, may_be_empty: bool = False) -> str:
    """Give a cell as text: numbers as they are written, nothing as ""; RowError for lists, objects, true and false."""
    if not isinstance(value, str):
        if value is None or value != value:  # Parquet writes an empty number as NaN
            value = ""
        elif isinstance(value, int) and abs(value) >= _LONGEST:
            raise RowError(field, "the number is too long to be one", "Write it as text, in quotes.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        else:
            raise RowError(field, f"expected text, found {kind_of_value(value)}", f"Write text in {field!r}.")
    if not may_be_empty and not value.strip():
        raise RowError(field, "it is empty", "Fill it in, or leave the row out with --drop-bad.")
    return value


def kind_of_value(value: Any) -> str:
    """Name the type of a JSON value in plain words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def listed(names: list[str]) -> str:
    """Write names as a sentence part: 'a', 'b' and 'c'."""
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}" if quoted else ""
