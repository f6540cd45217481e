"""How far two who judge agree, and a share with its interval: for people's rankings and a judge's report.

A judgement of two answers is one of three: the first is better, they are equal, the second is better. A ranking says
this of every two of its answers.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from studio.data.interval import Z, wilson
from studio.data.preferences import Record

FIRST, EQUAL, SECOND = "first", "equal", "second"


@dataclasses.dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance of n judgements: see `kappa`. What cannot be computed is NaN."""

    n: int
    observed: float
    expected: float
    value: float
    low: float
    high: float

    def said(self) -> str:
        """Say in a sentence what it means."""
        if not self.n:
            return "Nothing was judged by both."
        agreed = f"they agree on {self.observed:.0%} of {self.n:,} comparisons"
        if math.isnan(self.value):
            return f"{agreed}; both always said the same, so chance cannot be told from agreement.".capitalize()
        span = f"kappa {self.value:.2f} (95 %: {self.low:.2f} to {self.high:.2f})"
        more = "" if self.low > 0 else ", which may be chance"
        return f"{agreed}, {self.expected:.0%} of them by chance: {span}{more}.".capitalize()


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of n with its 95 % interval; NaN and 0 to 1 where n is 0."""

    rate: float
    n: int
    low: float
    high: float


def kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> Kappa:
    """Compare two judges' categories of the same n things, place by place.

    kappa = (p_o - p_e) / (1 - p_e),  p_o = share of equal places,  p_e = sum_k (n_1k / n) (n_2k / n)

    n_jk: how often judge j said k. 1: they always agree; 0: no more than chance; below 0: less. The interval is kappa
    -+ 1.96 sqrt(p_o (1 - p_o) / n) / (1 - p_e). (Cohen 1960, Educational and Psychological Measurement 20, pp. 37-46.)
    It takes the n for independent, which the pairs of one ranking are not: with many answers to a prompt it is too
    narrow. Where both judges only ever said one and the same thing, p_e is 1 and kappa NaN. ValueError for unequal
    lengths.
    """
    if len(one) != len(other):
        raise ValueError("the judges did not judge the same things")
    n = len(one)
    if not n:
        return Kappa(0, math.nan, math.nan, math.nan, math.nan, math.nan)
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    mine, theirs = Counter(one), Counter(other)
    expected = sum(mine[said] * theirs[said] for said in mine) / (n * n)
    if expected == 1:
        return Kappa(n, observed, expected, math.nan, math.nan, math.nan)
    value = (observed - expected) / (1 - expected)
    reach = Z * math.sqrt(observed * (1 - observed) / n) / (1 - expected)
    return Kappa(n, observed, expected, value, max(-1.0, value - reach), min(1.0, value + reach))


def share(wins: float, n: int) -> Share:
    """Give wins / n with Wilson's interval; `wins` may have halves, with which it is a little wider than need be."""
    return Share(wins / n if n else math.nan, n, *wilson(wins, n))


def compared(ranks: Sequence[int]) -> list[str]:
    """Give what ranks (1 is the best) say of every two answers, in the order (1, 2), (1, 3), ..., (2, 3), ..."""
    return [FIRST if a < b else SECOND if b < a else EQUAL for a, b in itertools.combinations(ranks, 2)]


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Two people, how many prompts both have ranked, and how far they agree on them."""

    one: str
    other: str
    prompts: int
    kappa: Kappa

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {"people": [self.one, self.other], "prompts": self.prompts, **dataclasses.asdict(self.kappa)}

    def said(self) -> str:
        """Say it in a sentence."""
        return f"{self.one} and {self.other}, {self.prompts:,} prompts in common: {_lower(self.kappa.said())}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def overlaps(found: Iterable[Record]) -> list[Overlap]:
    """Compare every two people of a set on the prompts that both have ranked.

    A ranking names its sample in `about`; that all answers are bad says that they are equal. An answer that somebody
    wrote is in nobody else's ranking and is left out.
    """
    said: dict[str, dict[str, list[str]]] = {}
    for record in found:
        sample, shown = str(record.about.get("sample") or ""), len(record.about.get("order") or ())
        if not sample or record.by.get("kind") != "person" or record.dropped:
            continue
        ranks = [1] * shown if record.bad else record.ranks[:shown]
        said.setdefault(str(record.by.get("name")), {})[sample] = compared(ranks)
    out = []
    for one, other in itertools.combinations(sorted(said), 2):
        both = sorted(said[one].keys() & said[other].keys())
        if both:
            mine, theirs = ([word for sample in both for word in said[who][sample]] for who in (one, other))
            out.append(Overlap(one, other, len(both), kappa(mine, theirs)))
    return out
