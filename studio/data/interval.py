"""Intervals of a share: Wilson's for one look, and one that may be looked at any time."""

from __future__ import annotations

import math

#: The 97.5 % point of the normal distribution: 95 % lie between minus and plus this.
Z = 1.959963984540054


def wilson(hits: float, n: float, z: float = Z) -> tuple[float, float]:
    """Give the interval of the share p = hits / n; 0 to 1 where n is 0.

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    (Wilson 1927, JASA 22; Brown, Cai and DasGupta 2001, eq. 4.)
    """
    if not n:
        return 0.0, 1.0
    p, shrink = hits / n, 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    reach = z * math.sqrt(max(0.0, p * (1 - p)) / n + z * z / (4 * n * n)) / shrink
    # at none and at all the ends are 0 and 1: rounding must not leave the share outside its own interval
    return (max(0.0, middle - reach) if hits > 0 else 0.0), (min(1.0, middle + reach) if hits < n else 1.0)


def always_valid(hits: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Give an interval of a share that may be looked at after every trial: a confidence sequence.

    The mixture of all shares q against one share p, after s hits of n trials,

        M_n(p) = int_0^1 q^s (1 - q)^(n - s) dq / (p^s (1 - p)^(n - s)) = B(1 + s, 1 + n - s) / (p^s (1 - p)^(n - s))

    is a martingale of mean 1 where p is the true share, so that it ever reaches 1 / alpha with probability alpha at
    most (Ville 1939). The interval is where it has not: {p: M_n(p) < 1 / alpha}, which holds the true share for all n
    at once with probability 1 - alpha (Robbins 1970, Ann. Math. Stat. 41; Howard et al. 2021, Ann. Stat. 49). It is
    wider than Wilson's, which holds for one n that was fixed before.
    """
    if not n:
        return 0.0, 1.0
    whole = math.lgamma(1 + hits) + math.lgamma(1 + n - hits) - math.lgamma(2 + n)

    def inside(p: float) -> bool:
        said = (hits * math.log(p) if hits else 0.0) + ((n - hits) * math.log1p(-p) if hits < n else 0.0)
        return whole - said < -math.log(alpha)

    def end(outside: float) -> float:
        within = hits / n
        for _ in range(60):
            middle = (outside + within) / 2
            if inside(middle):
                within = middle
            else:
                outside = middle
        return outside

    return (end(0.0) if hits else 0.0), (end(1.0) if hits < n else 1.0)
