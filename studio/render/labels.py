"""Rows before and after they are tokenised, and which of their tokens are learned.

A token is learned by its place in the text, never by what it is, so a pad token equal to the end token cannot hide it.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any

from studio.data.records import Message
from studio.render.template import Piece

IGNORE = -100


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Token ids (T) with labels (T): the id where it is learned, -100 elsewhere; `offsets` are places in `text`."""

    ids: list[int]
    labels: list[int]
    text: str = ""
    offsets: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    @property
    def trained(self) -> int:
        """Count the learned tokens."""
        return sum(label != IGNORE for label in self.labels)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A row before it is tokenised: its pieces, and the stretches of its text that are learned (start, end).

    `turns` are the turns it shows, with `train` on those it teaches; a text that is no conversation has none.
    """

    pieces: list[Piece]
    spans: list[tuple[int, int]]
    turns: tuple[Message, ...] = ()
    tools: tuple[Any, ...] = ()

    @property
    def text(self) -> str:
        """Give the whole text."""
        return "".join(piece.text for piece in self.pieces)


def labelled(plan: Plan, encodings: Sequence[tuple[int, Any]], offsets: bool) -> Encoded:
    """Put a row together from its tokenised pieces, each (where it begins, encoding), and label what is learned."""
    if len(encodings) == 1:
        _, encoding = encodings[0]
        ids = encoding.ids
        stretches = [_tokens(encoding, start, end, len(ids)) for start, end in plan.spans]
        places = encoding.offsets if offsets else []
    else:
        ids = [token for _, encoding in encodings for token in encoding.ids]
        places = [(at + start, at + end) for at, encoding in encodings for start, end in encoding.offsets]
        starts, ends = [start for start, _ in places], [end for _, end in places]
        stretches = [(bisect.bisect_right(ends, a), bisect.bisect_left(starts, b)) for a, b in plan.spans]
    labels = [IGNORE] * len(ids)
    for first, last in stretches:
        labels[first:last] = ids[first:last]
    return Encoded(ids, labels, plan.text, places) if offsets else Encoded(ids, labels)


def _tokens(encoding: Any, start: int, end: int, count: int) -> tuple[int, int]:
    """Find the tokens (first, behind the last) that a stretch of the text touches."""
    places = range(start, end)
    first = next((t for t in map(encoding.char_to_token, places) if t is not None), None)
    if first is None:
        return 0, 0
    while first and encoding.token_to_chars(first - 1) == (start, start):
        first -= 1  # a token of no width, as the mark of a word's beginning can be: the answer begins with it
    last = next(t for t in map(encoding.char_to_token, reversed(places)) if t is not None) + 1
    while last < count and encoding.token_to_chars(last)[0] < end:
        last += 1
    return first, last
