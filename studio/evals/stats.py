"""Intervals and tests: pure functions of counts and numbers. None of them knows what was measured.

Shares: Wilson's interval (data/interval.py), Newcombe's of a difference, McNemar's and Fisher's exact tests. Means:
Student's intervals, Welch's test, the sign and the sign-flip test, the bootstrap. Families: Holm. What is drawn at
random is drawn with a seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from studio.data.interval import Z as Z
from studio.data.interval import wilson as wilson

#: Resamples of the bootstrap and of the sign-flip test.
RESAMPLES = 10_000
#: So many differences that are not 0 are flipped in every way; more of them at random.
_ALL_FLIPS = 14
_TINY = 1e-12
_NORMAL = NormalDist()
Interval = tuple[float, float]


# --- shares ----------------------------------------------------------------------------------------------------------


def newcombe(hits: int, n: int, other_hits: int, other_n: int, z: float = Z) -> Interval:
    """Give the interval of p1 - p2 of two samples that are not paired; -1 to 1 where one is empty.

        d - sqrt((p1 - l1)^2 + (u2 - p2)^2)  to  d + sqrt((u1 - p1)^2 + (p2 - l2)^2),   l and u Wilson's

    (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10.)
    """
    return _joined(hits, n, other_hits, other_n, 0.0, z) if n and other_n else (-1.0, 1.0)


def newcombe_paired(both: float, first: float, second: float, neither: float, z: float = Z) -> Interval:
    """Give the interval of p1 - p2 = (first - second) / n of pairs; -1 to 1 where there are none.

    As `newcombe`, less 2 phi (p1 - l1)(u2 - p2) and 2 phi (u1 - p1)(p2 - l2) under the roots, where phi is the
    correlation of the marks with a correction for continuity: of both * neither - first * second, where that is
    positive, n / 2 is taken away, down to 0. Where all pairs differ it is -1, also where all do so the same way.

    (Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10.)
    """
    n = both + first + second + neither
    if not n:
        return -1.0, 1.0
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    cross = both * neither - first * second
    phi = (max(0.0, cross - n / 2) if cross > 0 else cross) / math.sqrt(product) if product else 0.0
    if both + neither < _TINY:
        phi = -1.0
    return _joined(both + first, n, both + second, n, phi, z)


def _joined(hits: float, n: float, other_hits: float, other_n: float, phi: float, z: float) -> Interval:
    p1, p2 = hits / n, other_hits / other_n
    (l1, u1), (l2, u2) = wilson(hits, n, z), wilson(other_hits, other_n, z)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    return max(-1.0, p1 - p2 - reach(p1 - l1, u2 - p2)), min(1.0, p1 - p2 + reach(u1 - p1, p2 - l2))


def mcnemar(first: int, second: int, mid: bool = False) -> float:
    """Test pairs of shares: the two-sided p of `first` against `second` pairs that differ, 1 where none does.

        p = min(1, 2 P(X <= min(first, second))),   X ~ Binomial(first + second, 1/2)

    `mid`: less P(X = min), which is less cautious and has the level on average (Fagerland, Lydersen and Laake 2013,
    BMC Medical Research Methodology 13:91).
    """
    n, least = first + second, min(first, second)
    if not n:
        return 1.0
    tail = 2.0 * sum(_binomial(k, n) for k in range(least + 1))
    if mid:
        tail -= _binomial(least, n)
    return min(1.0, tail)


def _binomial(k: int, n: int) -> float:
    """P(X = k) of n tosses of a coin."""
    return math.exp(_choose(n, k) - n * math.log(2))


def _choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def fisher(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Test two shares that are not paired: Fisher's exact two-sided p, over all tables no likelier than this one."""
    total, drawn = n + other_n, hits + other_hits

    def p(k: int) -> float:
        return math.exp(_choose(n, k) + _choose(other_n, drawn - k) - _choose(total, drawn))

    limit = p(hits) * (1 + 1e-7)
    return min(1.0, sum(q for k in range(max(0, drawn - other_n), min(n, drawn) + 1) if (q := p(k)) <= limit))


# --- means -----------------------------------------------------------------------------------------------------------


def mean_interval(values: Sequence[float]) -> Interval:
    """Give Student's 95 % interval of a mean: m -+ t(n - 1) s / sqrt(n); without end where n is below 2."""
    n = len(values)
    if n < 2:
        return -math.inf, math.inf
    found = np.asarray(values, dtype=np.float64)
    reach = t_point(0.975, n - 1) * float(found.std(ddof=1)) / math.sqrt(n)
    return float(found.mean()) - reach, float(found.mean()) + reach


def alike_interval(value: float, n: int, low: float, high: float) -> Interval:
    """Give the 95 % interval of the mean of numbers from `low` to `high`, n of which were drawn and are all `value`.

    No more than w of all are others, w the upper end of Wilson's interval of 0 in n: value - w (value - low) to
    value + w (high - value). Student's interval would have no width.
    """
    _, w = wilson(0, n)
    return value - w * (value - low), value + w * (high - value)


def t_test(differences: Sequence[float]) -> float:
    """Test whether paired differences have the mean 0: Student's two-sided p; 1 where all are 0, or fewer than 2."""
    found = np.asarray(differences, dtype=np.float64)
    if len(found) < 2 or not found.any():
        return 1.0
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    return 2 * t_tail(abs(float(found.mean())) / error, len(found) - 1) if error > 0 else 0.0


def welch(values: Sequence[float], others: Sequence[float]) -> tuple[float, Interval]:
    """Compare two means of samples that are not paired: Welch's two-sided p and the 95 % interval of the difference.

    (Welch 1947, Biometrika 34.) p is 1 and the interval without end where a sample has fewer than 2 numbers.
    """
    if min(len(values), len(others)) < 2:
        return 1.0, (-math.inf, math.inf)
    one, other = (np.asarray(v, dtype=np.float64) for v in (values, others))
    parts = [float(v.var(ddof=1)) / len(v) for v in (one, other)]
    difference, error = float(one.mean() - other.mean()), math.sqrt(sum(parts))
    if not error > 0:
        return (0.0 if difference else 1.0), (difference, difference)
    freedom = sum(parts) ** 2 / sum(part * part / (len(v) - 1) for part, v in zip(parts, (one, other), strict=True))
    reach = t_point(0.975, freedom) * error
    return 2 * t_tail(abs(difference) / error, freedom), (difference - reach, difference + reach)


def sign_test(differences: Sequence[float]) -> float:
    """Test whether paired differences are as often above 0 as below: the exact two-sided p; zeros say nothing."""
    return mcnemar(sum(d > 0 for d in differences), sum(d < 0 for d in differences))


def flip_test(differences: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Test whether paired differences lie evenly around 0: the two-sided p of their sum under flipped signs.

    All 2^n flips where n is small, else `resamples` drawn with the seed and p = (1 + hits) / (1 + resamples): never 0
    (Phipson and Smyth 2010). Assumes nothing of the numbers but that under the null a sign is as likely as the other.
    """
    found = np.asarray([d for d in differences if d], dtype=np.float64)
    if not len(found):
        return 1.0
    limit = abs(float(found.sum())) * (1 - _TINY)
    if len(found) <= _ALL_FLIPS:
        signs = np.asarray(list(itertools.product((1.0, -1.0), repeat=len(found))))
        return float((np.abs(signs @ found) >= limit).mean())
    rng, hits, left = np.random.default_rng(seed), 0, resamples
    while left:  # a piece at a time: many items are no reason for much memory
        part = min(left, max(1, 4_000_000 // len(found)))
        signs = rng.integers(0, 2, (part, len(found)), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ found) >= limit).sum())
        left -= part
    return (1 + hits) / (1 + resamples)


def bootstrap(
    values: Sequence[float] | Any,
    statistic: Callable[[Any], Any] | None = None,
    *,
    method: str = "bca",
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Give the bootstrap interval of a statistic of items, by default their mean; `values` (n,) or (n, k), n items.

    `statistic` takes resamples (r, n) or (r, n, k) and gives (r,). `method` is "percentile" or "bca": bias-corrected
    and accelerated (Efron 1987, JASA 82), percentiles moved by

        Phi(z0 + (z0 + z) / (1 - a (z0 + z))),   z0 = Phi^-1(share below the estimate),   a from the jackknife

    Where a BCa interval does not exist (all resamples alike) it is the percentiles'. Without end where n is below 2.
    """
    found = np.asarray(values, dtype=np.float64)
    n, count = len(found), statistic or (lambda sample: sample.mean(axis=1))
    if n < 2:
        return -math.inf, math.inf
    rng, parts, left = np.random.default_rng(seed), [], resamples
    while left:
        part = min(left, max(1, 8_000_000 // found.size))
        parts.append(np.asarray(count(found[rng.integers(0, n, (part, n))])))
        left -= part
    drawn = np.concatenate(parts)
    ends = [(1 - level) / 2, (1 + level) / 2]
    if method == "bca":
        ends = _corrected(found, count, drawn, ends)
    low, high = np.quantile(drawn, ends)
    return float(low), float(high)


def _corrected(found: Any, count: Callable[[Any], Any], drawn: Any, ends: list[float]) -> list[float]:
    """Move the percentiles for bias and acceleration."""
    estimate = float(np.asarray(count(found[None]))[0])
    below = (float((drawn < estimate).mean()) + float((drawn <= estimate).mean())) / 2
    if not 0 < below < 1:
        return ends
    keep = ~np.eye(len(found), dtype=bool)
    without = np.asarray([float(np.asarray(count(found[row][None]))[0]) for row in keep])
    pulls = without.mean() - without
    spread = float((pulls**2).sum()) ** 1.5
    a = float((pulls**3).sum()) / (6 * spread) if spread > 0 else 0.0
    z0 = _NORMAL.inv_cdf(below)
    moved = [z0 + (z0 + z) / (1 - a * (z0 + z)) for z in map(_NORMAL.inv_cdf, ends)]
    return [_NORMAL.cdf(z) for z in moved]


# --- families --------------------------------------------------------------------------------------------------------


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust the p of a family so that a false find among all of them has at most the level (Holm 1979).

    In rising order p_(i) becomes max_{j <= i} min(1, (m - j + 1) p_(j)), m of them.
    """
    made, most = [1.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        most = max(most, min(1.0, (len(ps) - place) * ps[index]))
        made[index] = most
    return made


# --- Student's distribution ------------------------------------------------------------------------------------------


def t_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's distribution, t >= 0: half the regularised incomplete beta at freedom / (freedom + t^2)."""
    return 0.5 * _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def t_point(share: float, freedom: float) -> float:
    """Give the point that `share` (0.5 or more) of Student's distribution lies below."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > 1 - share:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if t_tail(middle, freedom) > 1 - share else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz's way)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    tiny, c = 1e-300, 1.0
    d = 1 / (1 - (a + b) * x / (a + 1) or tiny)
    made = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for part in (even, odd):
            d = 1 / (1 + part * d or tiny)
            c = 1 + part / c or tiny
            step = c * d
            made *= step
        if abs(step - 1) < 1e-15:
            break
    return made
