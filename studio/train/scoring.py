"""How well a reward model judges: on held-out pairs, beside a judge who only counts words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from studio.data.interval import wilson
from studio.methods.base import Example, learned

if TYPE_CHECKING:
    from studio.train.policy import Policy
    from studio.train.prepare import Setup

#: Training pairs that are scored for the mean and the spread of the scores.
_SCORED = 1000
#: Probabilities by which a calibration is told, from 0.5 (no idea) on.
_BINS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def judged(made: Setup, policy: Policy, train: Sequence[Example], held: Sequence[Example]) -> dict[str, Any]:
    """Score held-out pairs, and some training pairs for the scale of the scores (see `measured`, `scale`)."""
    some = [train[at] for at in range(0, len(train), max(1, math.ceil(len(train) / _SCORED)))]
    found: dict[str, Any] = {"scores": scale(*_scores(made, policy, some))}
    if held:
        counted = [tuple(learned([pair[side]]) for side in ("chosen", "rejected")) for pair in held]
        found |= measured(*_scores(made, policy, held))
        found["longer_wins"] = longer_wins(counted)
    return found


def measured(chosen: Sequence[float], rejected: Sequence[float]) -> dict[str, Any]:
    """Give what the scores of n pairs tell: accuracy (a tie is half) with its 95 % interval, margin, calibration.

    `calibration` lists, by how sure the model says it is (σ of the margin's size), how often it is right;
    `calibration_error` is the mean distance of the two, weighted by pairs. `log_loss` is in nats.
    """
    margins = [good - bad for good, bad in zip(chosen, rejected, strict=True)]
    n = len(margins)
    right = [1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins]
    accuracy = sum(right) / n
    low, high = wilson(accuracy * n, n)
    sure = [1 / (1 + math.exp(-min(abs(margin), 700.0))) for margin in margins]
    bins = []
    for number, (start, end) in enumerate(itertools.pairwise(_BINS)):
        last = number == len(_BINS) - 2
        inside = [at for at, said in enumerate(sure) if start <= said < end or (last and said >= end)]
        if inside:
            said, was = (sum(values[at] for at in inside) / len(inside) for values in (sure, right))
            bins.append({"said": said, "right": was, "n": len(inside)})
    return {
        "n": n,
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "margin": sum(margins) / n,
        "log_loss": sum(max(0.0, -margin) + math.log1p(math.exp(-abs(margin))) for margin in margins) / n,
        "calibration": bins,
        "calibration_error": sum(abs(found["said"] - found["right"]) * found["n"] for found in bins) / n,
    }


def scale(chosen: Sequence[float], rejected: Sequence[float]) -> dict[str, float]:
    """Give the mean score of the chosen answers, and the standard deviation (n - 1) of all scores about their own mean.

    Who learns from the scores centres by the one and divides by the other.
    """
    every = [*chosen, *rejected]
    middle = sum(every) / len(every)
    spread = math.sqrt(sum((score - middle) ** 2 for score in every) / max(1, len(every) - 1))
    return {"mean": sum(chosen) / len(chosen), "std": spread, "n": float(len(chosen))}


def longer_wins(lengths: Sequence[Sequence[int]]) -> float:
    """Give the share of pairs (lengths of chosen and rejected) that "the longer one" gets right; ties are half."""
    return sum(1.0 if good > bad else 0.5 if good == bad else 0.0 for good, bad in lengths) / len(lengths)


def _scores(made: Setup, policy: Policy, examples: Sequence[Example]) -> tuple[list[float], list[float]]:
    import torch

    from studio.train import layout, memory

    method, room = made.method, memory.room(made.config, policy)
    sides: tuple[list[float], list[float]] = ([0.0] * len(examples), [0.0] * len(examples))
    policy.model.eval()
    with torch.no_grad():
        for start in range(0, len(examples), made.config.batch_size):
            group = examples[start : start + made.config.batch_size]
            for numbers in layout.passes(method, group, room, policy.packed):
                rows = method.sequences([group[at] for at in numbers])
                batch = layout.to(layout.lay(rows, made.renderer.pad_id, policy.packed), policy.device)
                for side, found in zip(sides, policy.scores(batch, method.head).view(2, -1).tolist(), strict=True):
                    for at, score in zip(numbers, found, strict=True):
                        side[start + at] = score
    policy.model.train()
    return sides
