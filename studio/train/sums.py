"""What a step measures, added up over its passes: (sum, count) by name, so that parts of a batch average rightly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Sums = dict[str, list[float]]


def add(sums: Sums, metrics: Iterable[tuple[str, Sequence[float]]]) -> None:
    """Add (name, (sum, count)) to what there is."""
    for name, (total, count) in metrics:
        entry = sums.setdefault(name, [0.0, 0.0])
        entry[0] += total
        entry[1] += count


def means(sums: Sums) -> dict[str, float]:
    """Average; where wanted and unwanted answers come without each other, their margin is that of the means."""
    found = {name: total / count if count else 0.0 for name, (total, count) in sums.items()}
    if {"rewards/chosen", "rewards/rejected"} <= found.keys():
        found.setdefault("rewards/margins", found["rewards/chosen"] - found["rewards/rejected"])
    return found
