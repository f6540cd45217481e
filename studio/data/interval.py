"""Wilson's interval of a share: what votes, judges and evaluations tell their figures with."""

from __future__ import annotations

import math

#: The 97.5 % point of the normal distribution: 95 % lie between minus and plus this.
Z = 1.959963984540054


def wilson(hits: float, n: int, z: float = Z) -> tuple[float, float]:
    """Give the interval of the share p = hits / n; 0 to 1 where n is 0.

        (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    (Wilson 1927, JASA 22; Brown, Cai and DasGupta 2001, eq. 4.)
    """
    if not n:
        return 0.0, 1.0
    p, shrink = hits / n, 1 + z * z / n
    middle = (p + z * z / (2 * n)) / shrink
    reach = z * math.sqrt(max(0.0, p * (1 - p)) / n + z * z / (4 * n * n)) / shrink
    return max(0.0, middle - reach), min(1.0, middle + reach)
