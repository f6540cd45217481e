"""Rows to records: the format's reader, with what is wrong put in words and the placeholders filled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from studio.data import fill
from studio.data.formats import WHOLE, Format, Row, RowError
from studio.data.records import Problem, Problems, Reading, Record, Warnings
from studio.data.strict import show

_STEP = re.compile(r"\[(\d+)\]|[^.\[\]]+")


class Recorder:
    """Reads rows as records; what is wrong goes to `problems`, what is odd to `warnings`."""

    def __init__(self, form: Format, reading: Reading, problems: Problems, warnings: Warnings) -> None:
        self._form, self._values = form, reading.fill
        self._problems, self._warnings = problems, warnings
        self.placeholders: dict[str, None] = {}  # those that the rows hold, when any are filled

    def read(self, row: Row, line: int) -> list[Record]:
        """Give the records of one row, none when it is bad."""
        try:
            made = self._form.read(row, line, lambda code, remedy: self._warnings.add(code, line, remedy))
        except RowError as error:
            where = show(_at(row, error.field))
            self._problems.add(Problem(line, error.field, error.problem, error.remedy, where))
            return []
        except KeyError as error:
            name = str(error.args[0])
            said, remedy = f"the field {name!r} is missing", f"Add {name!r}, or leave the row out with --drop-bad."
            self._problems.add(Problem(line, name, said, remedy, show(row)))
            return []
        if not self._values:
            return made
        for record in made:
            self.placeholders |= dict.fromkeys(fill.placeholders(record))
        return [fill.fill(record, self._values) for record in made]

    def each(self, rows: Iterable[tuple[int, Row]]) -> Iterator[Record]:
        """Give the records of all rows, one row after the other."""
        for line, row in rows:
            yield from self.read(row, line)

    @property
    def gathers(self) -> bool:
        """Say whether rows make records only together."""
        return bool(self._form.group)

    def gather(self, rows: Iterable[tuple[int, Row]]) -> Iterator[Record]:
        """Give the records of rows that belong together. All rows are in memory: any of them may be in any group."""
        group, groups = self._form.group, {}  # type: str, dict[Any, tuple[int, list[Row]]]
        for line, row in rows:
            key = WHOLE if group == WHOLE else row.get(group)
            if key is None or key == "" or isinstance(key, (dict, list)):
                remedy = f"Fill in {group!r}, or leave the row out with --drop-bad."
                self._problems.add(Problem(line, group, "it is empty: the row belongs to no group", remedy, show(row)))
            else:
                groups.setdefault(key, (line, []))[1].append(row)
        for line, together in groups.values():
            yield from self.read({"rows": together}, line)


def _at(row: Any, field: str) -> Any:
    """Give what stands at a place such as messages[1].content; where there is nothing, what is around it."""
    for step in _STEP.finditer(field):
        try:
            row = row[int(step[1])] if step[1] else row[step[0]]
        except (KeyError, IndexError, TypeError):
            break
    return row
