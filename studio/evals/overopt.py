"""What optimising a proxy does to what is really wanted: best-of-n from one scored list, and Gao et al.'s fits.

Pure functions; d is the square root of the KL divergence from the policy that was begun with, in nats.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from studio.evals import stats

#: The n at which a curve along best-of-n is drawn: evenly in log n.
NS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
#: Least part of Sxx Szz that D must be: x and z are else the same but for a factor.
_ALIKE = 1e-4
#: Least distances above 0: two numbers go through any two points, which then say nothing about the form.
LEAST = 3
#: A p below this is no chance.
LEVEL = 0.05


def best_of(proxy: Sequence[float], gold: Sequence[float], n: int) -> tuple[float, float]:
    """Give what proxy and gold are expected to be for the best of n by the proxy, without bias, from N scored answers.

    E[g] = sum_i g_(i) C(i - 1, n - 1) / C(N, n), answers in the order of the proxy, lowest first; of equal proxies each
    is as likely to be taken, so they share the mean of their gold. 1 <= n <= N.
    """
    order = sorted(range(len(proxy)), key=lambda at: proxy[at])
    total, found = math.comb(len(proxy), n), [0.0, 0.0]
    groups: dict[float, list[float]] = {}
    for at in order:
        groups.setdefault(proxy[at], []).append(gold[at])
    for i, at in enumerate(order):
        share = math.comb(i, n - 1) / total
        equal = groups[proxy[at]]
        found[0] += share * proxy[at]
        found[1] += share * math.fsum(equal) / len(equal)
    return found[0], found[1]


@dataclasses.dataclass(frozen=True)
class Fit:
    """R(d) = d (alpha - beta f(d)), fitted by least squares; `error` is the root of the mean square of what is left."""

    form: str
    alpha: float
    beta: float
    error: float

    def at(self, d: float) -> float:
        """Give R at a distance."""
        return d * self.alpha - _second(self.form, d) * self.beta

    @property
    def peak(self) -> float | None:
        """Give the d where R is highest; None where it only rises or only falls. R'(d) = 0."""
        if self.beta <= 0 or (self.form == "bon" and self.alpha <= 0):
            return None
        return self.alpha / (2 * self.beta) if self.form == "bon" else math.exp(self.alpha / self.beta - 1)


def _second(form: str, d: float) -> float:
    """d f(d): d^2 for best-of-n, d log d for RL (0 at d = 0)."""
    if form == "bon":
        return d * d
    return d * math.log(d) if d > 0 else 0.0


def fit(form: str, ds: Sequence[float], rewards: Sequence[float]) -> Fit | None:
    """Fit R_bon(d) = d (alpha - beta d) or R_rl(d) = d (alpha - beta log d) (Gao et al. 2022, arXiv:2210.10760).

    Least squares in closed form, with x = d and z = d f(d):

        alpha = (Szz Sxy - Sxz Szy) / D,  beta = (Sxz Sxy - Sxx Szy) / D,  D = Sxx Szz - Sxz^2

    `rewards` are above that at d = 0. None where the distances are too few or too alike to tell the two apart.
    """
    zs = [_second(form, d) for d in ds]
    sxx, szz = math.fsum(d * d for d in ds), math.fsum(z * z for z in zs)
    sxz = math.fsum(d * z for d, z in zip(ds, zs, strict=True))
    sxy = math.fsum(d * r for d, r in zip(ds, rewards, strict=True))
    szy = math.fsum(z * r for z, r in zip(zs, rewards, strict=True))
    det = sxx * szz - sxz * sxz
    if len({d for d in ds if d > 0}) < LEAST or det <= _ALIKE * sxx * szz:
        return None
    made = Fit(form, (szz * sxy - sxz * szy) / det, (sxz * sxy - sxx * szy) / det, 0.0)
    left = [(made.at(d) - r) ** 2 for d, r in zip(ds, rewards, strict=True)]
    return dataclasses.replace(made, error=math.sqrt(math.fsum(left) / len(left)))


@dataclasses.dataclass(frozen=True)
class Turn:
    """Where the gold is highest though the proxy still rises: the point's number, and how sure the fall after it is.

    `fall` is the gold lost from there to the last point, with its 95 % interval over prompts (paired). The point was
    chosen by the same data, which flatters the fall: `p` is Student's, one-sided, times the points it was chosen of.
    """

    at: int
    fall: float
    low: float
    high: float
    p: float

    @property
    def sure(self) -> bool:
        """Whether so large a fall after the highest of as many points is no chance: p below 0.05."""
        return self.p < LEVEL

    def told(self) -> dict[str, Any]:
        """Give it as JSON, which has no infinity: of one prompt there is no interval."""
        ends = {name: end if math.isfinite(end) else None for name, end in (("low", self.low), ("high", self.high))}
        return {**dataclasses.asdict(self), **ends, "sure": self.sure}


def turn(proxy: Sequence[Sequence[float]], gold: Sequence[Sequence[float]]) -> Turn | None:
    """Find the point after which the proxy rises and the gold falls; both are lists of points, each one mean a prompt.

    None where the gold is highest at the last point, or the proxy does not rise from the gold's height on.
    """
    means = [math.fsum(point) / len(point) for point in gold]
    proxies = [math.fsum(point) / len(point) for point in proxy]
    if not means:
        return None
    at = max(range(len(means)), key=lambda i: (means[i], i))
    if at == len(means) - 1 or proxies[-1] <= proxies[at] or means[-1] >= means[at]:
        return None
    falls = [a - b for a, b in zip(gold[at], gold[-1], strict=True)]
    low, high = stats.mean_interval(falls)
    p = min(1.0, stats.t_test(falls) / 2 * (len(means) - 1))
    return Turn(at, math.fsum(falls) / len(falls), low, high, p)
