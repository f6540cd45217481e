"""Examples as they lie on the disk: token ids and masks in memory-mapped files, read one at a time.

    ids.bin      uint16 or uint32, the tokens of all sides one after the other
    learned.bin  uint8 beside every token: 1 where it is learned (labels are the ids there, -100 elsewhere)
    ends.bin     uint64, n * sides + 1 places: side k of example i stands between ends[i * sides + k] and the next
    lines.bin    int64 (n): the line of the file that the example comes from
    records.bin  int64 (n): the number of its record, from 0; examples of one record belong on one side of a split
    rated.bin    int8 (n), of rated answers only: 1 wanted, 0 not
    about.json   written last: what is inside, and how long every file is

cache.py makes such a folder; this file only reads it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ABOUT = "about.json"
IGNORE = -100

#: The sides of an example of each kind of data, in the order in which they are stored.
SIDES = {
    "sft": ("text",),
    "text": ("text",),
    "preference": ("chosen", "rejected"),
    "kto": ("completion",),
    "prompt": ("prompt",),
}


@dataclasses.dataclass(frozen=True)
class LeftOutRows:
    """Rows that no example came from, for one reason: how many, and the first lines."""

    count: int
    lines: list[int]


class Cache(Sequence[dict[str, Any]]):
    """The examples of a file: `cache[i]` is {side: {"ids", "labels"}, "line"}, with "label" where answers are rated.

    Nothing is held in memory; it pickles as its path. Raises ValueError where the folder is not a whole one.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
            lengths = {name: (folder / name).stat().st_size for name in self.about["files"]}
        except (OSError, LookupError, ValueError):
            raise ValueError(f"{folder} is not a whole cache") from None
        if lengths != self.about["files"]:
            raise ValueError(f"{folder} is not a whole cache")
        self.folder = folder
        self.sides: tuple[str, ...] = tuple(self.about["sides"])
        self._ids = _open(folder / "ids.bin", self.about["dtype"])
        self._learned = _open(folder / "learned.bin", "uint8")
        self._ends = _open(folder / "ends.bin", "uint64")
        self.lines = _open(folder / "lines.bin", "int64")
        self.records = _open(folder / "records.bin", "int64")
        self._rated = _open(folder / "rated.bin", "int8") if "rated.bin" in lengths else None

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = range(len(self))[index]  # negative numbers, and IndexError past the end
        made: dict[str, Any] = {}
        for number, name in enumerate(self.sides, at * len(self.sides)):
            start, end = int(self._ends[number]), int(self._ends[number + 1])
            ids = self._ids[start:end].astype(np.int64)
            made[name] = {
                "ids": ids.tolist(),
                "labels": np.where(self._learned[start:end], ids, IGNORE).tolist(),
            }
        if self._rated is not None:
            made["label"] = bool(self._rated[at])
        made["line"] = int(self.lines[at])
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Cache, (self.folder,)

    @property
    def left_out(self) -> dict[str, LeftOutRows]:
        """Tell what was left out, by reason: too_long, nothing_learned, template."""
        return {reason: LeftOutRows(**rows) for reason, rows in self.about["left_out"].items()}

    def lengths(self) -> np.ndarray[Any, Any]:
        """Give the tokens of every example (n,), of the longest side where there are two."""
        return self.sizes().max(axis=1)

    def sizes(self) -> np.ndarray[Any, Any]:
        """Give the tokens of every side of every example (n, sides)."""
        return np.diff(self._ends).astype(np.int64).reshape(len(self), len(self.sides))

    def view(self, aside: Collection[int] = ()) -> tuple[View, View]:
        """Split into (the rest, what comes from the records whose numbers are `aside`), both in the file's order."""
        held = np.isin(self.records, np.fromiter(aside, np.int64, len(aside)))
        return View(self, np.flatnonzero(~held)), View(self, np.flatnonzero(held))


class View(Sequence[dict[str, Any]]):
    """Some examples of a cache, by number; `beside` holds what was measured of each (name -> array with n rows)."""

    def __init__(self, cache: Cache, numbers: np.ndarray[Any, Any]) -> None:
        self.cache, self.numbers = cache, numbers
        self.beside: dict[str, np.ndarray[Any, Any]] = {}

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        made: dict[str, Any] = self.cache[int(self.numbers[index])]
        for name, values in self.beside.items():
            made[name] = values[index].tolist()
        return made

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[at] for at in range(len(self)))

    def lengths(self) -> np.ndarray[Any, Any]:
        """Give the tokens of every example (n,)."""
        return self.cache.lengths()[self.numbers]

    def sizes(self) -> np.ndarray[Any, Any]:
        """Give the tokens of every side of every example (n, sides)."""
        return self.cache.sizes()[self.numbers]


def _open(path: Path, dtype: str) -> np.ndarray[Any, Any]:
    """Map a file; an empty one cannot be mapped."""
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)
