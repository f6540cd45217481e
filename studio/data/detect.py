"""Find the format of a file by looking at its rows; the file's name is never trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from studio.data.formats import FORMATS, Format, Row
from studio.data.records import Reading


@dataclasses.dataclass(frozen=True)
class Question:
    """What to ask when rows can be meant in several ways: each choice is a title and the Reading that settles it."""

    text: str
    choices: tuple[tuple[str, Reading], ...]

    def to_dict(self) -> dict[str, Any]:
        """Give the question as JSON."""
        return {"text": self.text, "choices": [{"title": t, "reading": r.to_dict()} for t, r in self.choices]}


@dataclasses.dataclass(frozen=True)
class Found:
    """What the rows are: a format (None when unclear, then with a question), and the reason in words."""

    format: Format | None
    mapping: dict[str, str]
    why: str
    question: Question | None = None


def detect(rows: Sequence[Row], reading: Reading) -> Found:
    """Choose the format of a sample of rows."""
    for candidate in FORMATS:
        if rows and sum(map(candidate.matches, rows)) * 2 >= len(rows):
            return Found(candidate, dict(candidate.mapping), f"the rows are {candidate.title}")
    return Found(None, {}, "the rows fit no format that Studio knows", Question("What do the rows hold?", ()))
