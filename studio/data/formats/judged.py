"""Columns that judge the answer beside them (is_safe, correct, toxic, score): what is bad is not imitated unasked."""

from __future__ import annotations

from collections.abc import Sequence

from studio.data.formats import rated
from studio.data.formats.base import Question, Roles, Row, columns_of, listed
from studio.data.formats.cells import cells, choice, columns_in
from studio.data.formats.names import judges, says_bad
from studio.data.formats.rated import number_of
from studio.data.records import Reading

_Choice = tuple[str, Reading]
_MOST = 3


def ask(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Ask what a judgement beside an answer is for: rated answers, only the good ones, or all of them."""
    columns = [name for name in columns_in(rows) if name not in roles and judges(name) and _judged(rows, name)]
    if not columns:
        return None
    choices = [made for name in columns[:_MOST] for made in _rated(roles, rows, name)]
    named = listed(columns[:_MOST])
    says, judge = ("says", "judges") if len(columns) == 1 else ("say", "judge")
    choices.append((f"Answers to imitate, all of them, whatever {named} {says}", choice(roles, "sft")))
    if columns_of(roles, "prompt"):
        choices.append(("Prompts alone", choice(roles, "prompt")))
    text = f"{named} {judge} the answers. Are these rated answers, or answers to imitate, and then all of them?"
    return Question(text, tuple(choices))


def _judged(rows: Sequence[Row], column: str) -> bool:
    """Say whether a column holds yes and no, or numbers, in most rows."""
    told = cells(rows, column)
    return len(told) * 2 >= len(rows) and (rated.are_labels(told) or rated.scale_of(told) is not None)


def _rated(roles: Roles, rows: Sequence[Row], column: str) -> list[_Choice]:
    """Give the readings that heed a judgement; none where all numbers of a scale are the same."""
    told = cells(rows, column)
    bad, scale = says_bad(column), None if rated.are_labels(told) else rated.scale_of(told)
    if scale is not None and len(set(map(number_of, told))) < 2:
        return []
    which = f"what {column!r} says is not wanted" if bad else f"{column!r} says which are wanted"
    only = f"Only the answers that are not {column!r}" if bad else f"Only the answers that are {column!r}"
    if scale is not None:
        half = "lower" if bad else "upper"
        which = f"of {column!r}, {scale[0]:g} to {scale[1]:g}, the {half} half is wanted, the middle left out"
        only = f"Only the {half} half of {column!r}"
    heeds = {column: "label"}
    return [
        (f"Rated answers: {which}", choice(roles, heeds, "kto")),
        (f"{only}, to imitate", choice(roles, heeds, "sft")),
    ]
