"""How far weights are from those of the first time: number by number where these are here, else by a sketch of them.

A sketch is 32 numbers that a recipe keeps of a run's weights. Each weight is added to or taken from one of them, which
and how is drawn by its place (a count sketch: Charikar, Chen, Farach-Colton 2002, section 3.2). The squared distance of
two sketches is that of the weights on average, with a standard deviation of sqrt(2 / 32) of it: about an eighth of the
distance.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_WEIGHTS = "*.safetensors"
NUMBERS = 32
#: Of more weights none is made: it would take minutes.
_MOST = 400_000_000
_PIECE = 1 << 22


def difference(one: Path, other: Path) -> dict[str, Any] | None:
    """Compare the weights of two folders; None where they are not of one shape.

    {"tensors", "largest": the largest difference of a weight, "where": its tensor, "relative": the length of all
    differences by that of the weights of `other`}
    """
    sides = [dict(_tensors(place)) for place in (one, other)]
    if sides[0].keys() != sides[1].keys() or not sides[0]:
        return None
    largest, where, squares, length = 0.0, "", 0.0, 0.0
    for name in sides[0]:
        mine, theirs = (_read(side[name], name) for side in sides)
        if mine.shape != theirs.shape:
            return None
        away = mine - theirs
        most = float(abs(away).max()) if away.size else 0.0
        squares, length = squares + float((away * away).sum()), length + float((theirs * theirs).sum())
        if most > largest:
            largest, where = most, name
    told = {"tensors": len(sides[0]), "largest": largest, "where": where}
    return {**told, "relative": math.sqrt(squares / length) if length else None}


def sketch(folder: Path) -> list[float]:
    """Give the sketch of a folder's weights, [] where they are too many."""
    import numpy as np

    sums, left = np.zeros(NUMBERS), _MOST
    for name, file in sorted(_tensors(folder)):
        values = _read(file, name).reshape(-1)
        left -= values.size
        if left < 0:
            return []
        start = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
        for at in range(0, values.size, _PIECE):
            piece = values[at : at + _PIECE]
            drawn = _mixed(np.arange(at, at + piece.size, dtype=np.uint64) + start)
            signs = 1.0 - 2.0 * ((drawn >> np.uint64(8)) & np.uint64(1)).astype(np.float64)
            sums += np.bincount((drawn % np.uint64(NUMBERS)).astype(np.int64), piece * signs, NUMBERS)
    return [float(f"{value:.9g}") for value in sums]


def apart(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Estimate the distance of two weights by their sketches, as a share of the length of `other`."""
    length = math.sqrt(math.fsum(value * value for value in other))
    if len(one) != len(other) or not length:
        return None
    return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(one, other, strict=True))) / length


def _mixed(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Mix the bits of numbers (splitmix64: Steele, Lea, Flood 2014), the same on every machine."""
    import numpy as np

    mixed = (numbers + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _tensors(folder: Path) -> Iterator[tuple[str, Path]]:
    from safetensors import safe_open

    for file in sorted(folder.glob(_WEIGHTS)):
        with safe_open(file, framework="pt") as opened:
            for name in list(opened.keys()):
                yield name, file


def _read(file: Path, name: str) -> np.ndarray[Any, Any]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        values: np.ndarray[Any, Any] = opened.get_tensor(name).double().numpy()
        return values
