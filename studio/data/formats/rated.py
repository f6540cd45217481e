"""One answer and whether it was wanted (KTO): labels as people write them, and ratings on a scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from studio.data.formats import messages, tables
from studio.data.formats.base import Format, Note, Roles, Row, RowError, column_of, unheard
from studio.data.formats.names import says_bad
from studio.data.records import Rated, Record

_WANTED = (
    "true", "yes", "y", "good", "1", "1.0", "+1", "up", "thumbs_up", "thumbs up", "thumbsup", "thumbs-up", "👍", "like",
    "liked", "positive", "desirable", "chosen", "accept", "accepted", "upvote", "✅", "+", "t", "wanted",
)  # fmt: skip
_UNWANTED = (
    "false", "no", "n", "bad", "0", "0.0", "-1", "-1.0", "down", "thumbs_down", "thumbs down", "thumbsdown",
    "thumbs-down", "👎", "dislike", "disliked", "negative", "undesirable", "rejected", "reject", "downvote", "❌", "-",
    "f", "unwanted",
)  # fmt: skip
WORDS: dict[str, bool] = dict.fromkeys(_WANTED, True) | dict.fromkeys(_UNWANTED, False)
_SKIN = dict.fromkeys((0xFE0F, *range(0x1F3FB, 0x1F400)))  # the variants of an emoji
_SCALES = ((0.0, 1.0), (1.0, 5.0), (1.0, 10.0), (0.0, 10.0), (0.0, 100.0))


def label_of(value: Any) -> bool | None:
    """Read a label; None when it is none of the words that people use for wanted and unwanted."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return {1.0: True, 0.0: False, -1.0: False}.get(value)
    return WORDS.get(value.translate(_SKIN).strip().lower()) if isinstance(value, str) else None


def number_of(value: Any) -> float | None:
    """Read a number, also one that is written as text; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number else None


def are_labels(values: Iterable[Any]) -> bool:
    """Say whether a column's values are labels of two kinds rather than a scale or names of something."""
    told = [value for value in values if value is not None and value != ""]
    numbers = {number for value in told if (number := number_of(value)) is not None}
    if numbers - {0.0, 1.0} and numbers - {-1.0, 1.0}:
        return False
    return sum(label_of(value) is not None for value in told) * 2 > len(told)


def scale_of(values: Iterable[Any]) -> tuple[float, float] | None:
    """Name the scale that a column's numbers are on (1 to 5 and so on), None when most are no numbers.

    Numbers on no scale that people use, and those that stay in the lower half of it, are their own scale.
    """
    told = [value for value in values if value is not None and value != ""]
    numbers = [number for value in told if (number := number_of(value)) is not None]
    if not numbers or len(numbers) * 2 <= len(told):
        return None
    low, high = min(numbers), max(numbers)
    return next(((a, b) for a, b in _SCALES if a <= low and (a + b) / 2 < high <= b), (low, high))


def bind(roles: Roles, rows: Sequence[Row]) -> Format:
    """Make the format of rated answers; a scale's upper half is wanted, its middle left out.

    Where the column's name says what is bad (toxic, is_wrong), it is the other way round.
    """
    column = column_of(roles, "label")
    turned = says_bad(column)
    values = [row.get(column) for row in rows]
    scale = None if are_labels(values) else scale_of(values)
    read_sides = (messages if column_of(roles, "messages") else tables).sides(roles, rows)

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        value = row[column]
        wanted = _on_scale(value, scale) if scale else label_of(value)
        if scale and wanted is None and number_of(value) is not None:
            note("middle_rating", "Ratings in the middle of the scale are left out: they say neither good nor bad.")
            return []
        if turned and wanted is not None:
            wanted = not wanted
        if wanted is None:
            raise RowError(
                column,
                f"expected a label, found {str(value)[:40]!r}",
                "Write true or false (or 1/0, yes/no, good/bad).",
            )
        prompt, completion, tools = read_sides(row)
        return [Rated(prompt, completion, wanted, line, tools)]

    half = "lower" if turned else "upper"
    plainly = "what is not wanted" if turned else "wanted or not"
    how = f"{scale[0]:g} to {scale[1]:g}, the {half} half is wanted" if scale else plainly
    title = f"answers with a rating: {column!r} says {how}"
    return Format("kto", "kto", title, roles, lambda row: row.get(column) is not None, read)


def _on_scale(value: Any, scale: tuple[float, float]) -> bool | None:
    number, middle = number_of(value), sum(scale) / 2
    return None if number is None or number == middle else number > middle
