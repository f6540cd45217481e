"""What the lengths of rows say: a histogram, percentiles, how many sequences they pack into."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

BINS = 30


def nice(value: float) -> int:
    """Round up to 1, 2 or 5 times a power of ten, and to 1 at least."""
    power = 10 ** max(0, math.floor(math.log10(max(1.0, value))))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def percentile(ordered: Sequence[int], share: float) -> int:
    """Give the smallest length that at least this share of the rows do not exceed; `ordered` rises."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0


def histogram(ordered: Sequence[int], bins: int = BINS) -> dict[str, list[int]]:
    """Count rows by length: bin i holds the lengths from edges[i] up to, but not including, edges[i + 1].

    The bins are equally wide, on round edges, and at most `bins` cover 99 % of the rows; what is longer is counted in
    one last, wider bin.
    """
    if not ordered:
        return {"edges": [], "counts": []}
    width = nice((percentile(ordered, 0.99) + 1) / bins)
    edges = [width * i for i in range(math.ceil((percentile(ordered, 0.99) + 1) / width) + 1)]
    if ordered[-1] >= edges[-1]:
        edges.append(width * (ordered[-1] // width + 1))
    places = [bisect.bisect_left(ordered, edge) for edge in edges]
    return {"edges": edges, "counts": [end - start for start, end in itertools.pairwise(places)]}


def packed(lengths: Sequence[int], size: int) -> int:
    """Count the sequences of `size` tokens that rows pack into by best-fit decreasing.

    Each row, the longest first, goes where it leaves the least room. That needs at most 11/9 of the fewest possible,
    plus one, as first-fit decreasing does (Johnson, 1973).
    """
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        place = bisect.bisect_left(rooms, length)
        room = rooms.pop(place) if place < len(rooms) else size
        bisect.insort(rooms, max(0, room - length))
    return len(rooms)
