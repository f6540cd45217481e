"""What only shows when all rows are seen together: copies, contradictions, one answer to everything.

Rows are remembered as 64-bit hashes in plain arrays, 8 to 32 bytes a row, and compared by sorting once at the end; so
ten million rows take 300 MB, whatever their length.
"""

from __future__ import annotations

from array import array
from typing import Any

from studio.data import same, signs
from studio.data.finding import finding
from studio.data.records import LISTED, Conversation, Preference, Rated, Record

COMMON = 0.9
_FEWEST = 10


class Across:
    """Fed with every record once; numbers count them from 0."""

    def __init__(self) -> None:
        self.lines = array("q")
        self._whole, self._judged, self._question, self._answer = (array("q") for _ in range(4))
        self._way = bytearray()

    def add(self, record: Record) -> None:
        """Remember a record."""
        self.lines.append(record.line)
        self._whole.append(same.whole(record))
        if isinstance(record, Preference | Rated):
            key, way = same.judged(record)
            self._judged.append(key)
            self._way.append(way)
        if isinstance(record, Rated):
            self._question.append(same.question(record))
        elif isinstance(record, Conversation):
            said = signs.answers(record)
            self._answer.append(hash(said[-1].strip()) if said else 0)

    def copies(self) -> list[int]:
        """Give the numbers of the rows that are exactly an earlier one."""
        import numpy as np

        keys = np.asarray(self._whole, dtype=np.int64)
        order = np.argsort(keys, kind="stable")
        again = keys[order[1:]] == keys[order[:-1]]
        return [int(number) for number in np.sort(order[1:][again])]

    def findings(self, copies: list[int]) -> list[dict[str, Any]]:
        """Give what was found; `copies` is what `copies()` gave."""
        found = [self._finding("duplicate", copies)] if copies else []
        contradicting = _both(self._judged, self._way)
        if contradicting:
            found.append(self._finding("contradiction", contradicting))
        if self._question:
            others = set(contradicting)
            pairs = [number for number in _both(self._question, self._way) if number not in others]
            if pairs:
                found.append(self._finding("hidden_pair", pairs))
        if common := self._common():
            share = len(common) / len(self._answer)
            found.append(self._finding("same_answer", common, detail=f"It is {share:.0%} of the answers."))
        return found

    def _common(self) -> list[int]:
        """Give the rows with the most common answer, if nearly all have it."""
        import numpy as np

        if len(self._answer) < _FEWEST:
            return []
        keys = np.asarray(self._answer, dtype=np.int64)
        middle = np.partition(keys, len(keys) // 2)[len(keys) // 2]  # what most rows have stands in the middle
        rows = np.flatnonzero(keys == middle)
        return [int(number) for number in rows] if len(rows) >= COMMON * len(keys) else []

    def _finding(self, code: str, numbers: list[int], detail: str = "") -> dict[str, Any]:
        lines = dict.fromkeys(self.lines[number] for number in numbers)
        return finding(code, len(lines), list(lines)[:LISTED], detail=detail)


def _both(keys: array[int], way: bytearray) -> list[int]:
    """Give the numbers of the rows whose key also stands in a row that goes the other way."""
    import numpy as np

    if not keys:
        return []
    all_keys, ways = np.asarray(keys, dtype=np.int64), np.frombuffer(bytes(way), dtype=np.uint8)
    order = np.argsort(all_keys, kind="stable")
    ordered, ways = all_keys[order], ways[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    mixed = np.maximum.reduceat(ways, starts) != np.minimum.reduceat(ways, starts)
    sizes = np.diff(np.append(starts, len(ordered)))
    return [int(number) for number in np.sort(order[np.repeat(mixed, sizes)])]
