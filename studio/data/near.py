"""Near duplicates and leaks: rows that share most of their word triples, found by MinHash and banded hashing.

Two rows are alike when the Jaccard index of their triples, |A ∩ B| / |A ∪ B|, is about ALIKE or more. It is estimated
from 128 hashes (standard error 0.035 there), so a pair close to the line may fall on either side of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from studio.data import same
from studio.data.finding import finding
from studio.data.records import LISTED, Record

ALIKE = 0.8
SAMPLE = 100_000
_HASHES = 128
_BANDS = 16
_SEED = 42
_MASK = (1 << 64) - 1


class Index:
    """What has been seen, up to SAMPLE different texts; more are compared with those, but not kept."""

    def __init__(self) -> None:
        from rensa import RMinHashDeduplicator

        self._index = RMinHashDeduplicator(ALIKE, _HASHES, True, num_bands=_BANDS, seed=_SEED)
        self._kept = 0

    def seen(self, signature: Any) -> bool:
        """Tell whether a text like this one was seen before, and remember it if not."""
        if self._kept >= SAMPLE:
            return bool(self._index.get_duplicates(signature))
        new: bool = self._index.add(str(self._kept), signature)
        self._kept += new
        return not new

    def like(self, signature: Any) -> list[int]:
        """Give the numbers of the texts kept, in their order from 0, that are like this one."""
        return [int(key) for key in self._index.get_duplicates(signature)]


def signature(words: list[str]) -> Any:
    """Give the MinHash signature of a text's triples."""
    from rensa import RMinHash

    made = RMinHash(_HASHES, _SEED)
    try:
        made.update(words)
    except UnicodeEncodeError:  # half of a surrogate pair
        made.update([word.encode("utf-8", "replace") for word in words])
    return made


class Near:
    """Count the rows that are nearly the same as an earlier one, on a seeded sample of at most SAMPLE rows.

    The sample is thinned as the file goes on: whenever it is full, every second row of it leaves, and rows enter half
    as often. So a row's signature is made once, and at most SAMPLE are held (60 MB).
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed, self._level, self._count = seed, 0, 0
        self._held: list[tuple[int, int, Any]] = []

    def add(self, record: Record) -> None:
        """Take a record into the sample, or pass it over."""
        number = self._count
        self._count += 1
        if _level(number, self._seed) < self._level:
            return
        if len(self._held) == SAMPLE:
            self._level += 1
            self._held = [entry for entry in self._held if _level(entry[0], self._seed) >= self._level]
            if _level(number, self._seed) < self._level:
                return
        self._held.append((number, record.line, signature(same.likeness(record))))

    @property
    def sampled(self) -> int | None:
        """Give how many rows were compared, None when it was all of them."""
        return None if len(self._held) == self._count else len(self._held)

    def found(self, but: Iterable[int] = ()) -> list[int]:
        """Give the lines of rows like an earlier one; the rows numbered in `but` are passed over."""
        index, others = Index(), set(but)
        return [line for number, line, made in self._held if number not in others and index.seen(made)]


def _level(number: int, seed: int) -> int:
    """Give how often the sample may be halved before this row leaves it: k or more for 1 in 2^k rows."""
    mixed = ((number + 1) * 0x9E3779B97F4A7C15 + (seed + 1) * 0xC2B2AE3D27D4EB4F) & _MASK
    mixed = ((mixed ^ (mixed >> 31)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed ^= mixed >> 29
    return (mixed & -mixed).bit_length() - 1 if mixed else 64


def measure_leak(train: Iterable[Record], held_out: Iterable[Record]) -> dict[str, Any] | None:
    """Find the held-out rows whose prompt is nearly one of the training rows': the finding, or None.

    At most SAMPLE prompts of each are compared, the first ones.
    """
    index, groups = Index(), list[list[int]]()
    count = 0
    for record in held_out:
        if count == SAMPLE:
            break
        count += 1
        made = signature(same.triples(same.asked(record)))
        if index.seen(made):
            groups[index.like(made)[0]].append(record.line)
        else:
            groups.append([record.line])
    leaked: set[int] = set()
    looked = 0
    for record in train:
        if looked == SAMPLE or len(leaked) == len(groups):
            break
        looked += 1
        leaked.update(index.like(signature(same.triples(same.asked(record)))))
    lines = sorted(line for number in leaked for line in groups[number])
    if not lines:
        return None
    share = len(lines) / count
    fixed = " Most are: it may be one long instruction that all prompts share." if share > 0.5 else ""
    prompts = "1 prompt" if len(leaked) == 1 else f"{len(leaked):,} prompts"
    detail = f"It is {prompts} and {share:.0%} of the held-out rows.{fixed}"
    sampled = SAMPLE if SAMPLE in (count, looked) else None
    return finding("leak", len(lines), lines[:LISTED], detail=detail, sampled=sampled)
