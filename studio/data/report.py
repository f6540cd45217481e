"""The check's whole document: what the file is, what is wrong, and what the lint sees; what every door shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from studio import events
from studio.data import dataset
from studio.data.dataset import Dataset
from studio.data.finding import ERROR, single
from studio.data.lint import Lint
from studio.data.records import LISTED, Problem, Reading
from studio.errors import DataError

_READS_AS_IT_IS = Reading()


@dataclasses.dataclass
class Report:
    """A checked file and its document; `blocked` counts the rows that the lint does not let through."""

    data: Dataset
    document: dict[str, Any]
    blocked: int = 0

    @property
    def ok(self) -> bool:
        """Say whether the file can be used as its reading asks."""
        left = "bad" in self.data.reading.drop and self.data.usable > self.blocked
        return self.data.ok and (not self.blocked or left)

    def add(self, findings: Iterable[dict[str, Any]]) -> None:
        """Take in what a lint found: errors join the errors, a line each, warnings replace those of the same code."""
        warnings = {one["code"]: one for one in self.document["warnings"]}
        for one in findings:
            if one["level"] != ERROR:
                warnings[one["code"]] = one
            elif one["code"] != "one_label":  # the check itself refuses such a file
                self._block(one)
        self.document["warnings"] = list(warnings.values())

    def _block(self, finding: dict[str, Any]) -> None:
        rows, document = finding["rows"], self.document
        problem = single(finding["code"])
        if finding["code"] == "template":  # what it said is in the finding's problem
            problem += ". " + finding["problem"].rstrip(".")
        made = [Problem(line, "", problem, finding["remedy"]).to_dict() for line in finding["lines"] or [1]]
        document["errors"] = sorted([*document["errors"], *made], key=lambda error: error["line"])[:LISTED]
        document["error_count"] += rows
        self.blocked += rows
        if "bad" in self.data.reading.drop:
            document["left_out"] = {**document["left_out"], finding["code"]: rows}


def check(
    path: str | Path,
    reading: Reading = _READS_AS_IT_IS,
    *,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Report:
    """Check and lint a file in one pass (see dataset.check, which raises the same)."""
    lint = Lint(reading)
    data = dataset.check(path, reading, emit=emit, should_stop=should_stop, watch=lint.add)
    made = Report(data, data.to_dict())
    made.add(lint.findings() if data.usable else ())
    return made


def unreadable(error: DataError) -> dict[str, Any]:
    """Make the document for a file that cannot be read at all: its one error stands where all errors of files stand."""
    problem = Problem(error.line or 1, error.field or "", error.message, error.remedy)
    return {
        "format": "unclear",
        "kind": "unclear",
        "rows": 0,
        "usable": 0,
        "left_out": {},
        "mapping": {},
        "errors": [problem.to_dict()],
        "error_count": 1,
        "warnings": [],
        "error": error.to_dict(),
    }
