"""Agreement: Cohen's kappa against an example worked by hand, Wilson's interval against SciPy's, people's overlap."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.feedback import agreement
from studio.feedback.agreement import EQUAL, FIRST, SECOND


def test_kappa_is_that_of_the_example_worked_by_hand() -> None:
    # Fifty things, two judges, yes and no: both yes 20, only the first 5, only the second 10, both no 15.
    # p_o = 35/50 = 0.7. The first says yes 25 times, the second 30 times: p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    # kappa = 0.2 / 0.5 = 0.4, reach = 1.959964 * sqrt(0.7 * 0.3 / 50) / 0.5 = 0.254040
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = agreement.kappa(one, other)
    assert (found.n, found.observed, found.expected) == (50, 0.7, 0.5)
    assert found.value == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx((0.145960, 0.654040), abs=1e-6)
    assert "70% of 50 comparisons" in found.said() and "kappa 0.40" in found.said()


def test_kappa_of_three_categories_by_hand() -> None:
    # equal places: 1, 3, 5 of 6. p_e = (3*2 + 1*2 + 2*2) / 36 = 12/36. kappa = (1/2 - 1/3) / (2/3) = 1/4
    one = [FIRST, FIRST, EQUAL, SECOND, FIRST, SECOND]
    other = [FIRST, EQUAL, EQUAL, SECOND, SECOND, FIRST]
    assert sum(a == b for a, b in zip(one, other, strict=True)) == 3
    assert agreement.kappa(one, other).value == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ("aabb", "aabb", 1.0),
        ("aabb", "bbaa", -1.0),
        ("aaaa", "aaaa", math.nan),
        ("aaaa", "abab", 0.0),
        ("", "", math.nan),
    ],
)
def test_kappa_at_its_ends(one: str, other: str, value: float) -> None:
    found = agreement.kappa(one, other)
    assert found.value == pytest.approx(value, nan_ok=True) and found.said()


def test_two_who_guess_are_said_to_agree_by_chance_at_most_now_and_then() -> None:
    draw = random.Random(1)
    pairs = [([draw.choice("abc") for _ in range(60)], [draw.choice("abc") for _ in range(60)]) for _ in range(400)]
    wrong = sum(agreement.kappa(one, other).low > 0 for one, other in pairs)
    assert wrong / 400 < 0.05  # 2.5 % are expected


def test_judges_of_different_things_are_refused() -> None:
    with pytest.raises(ValueError):
        agreement.kappa("ab", "a")


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (5, 5), (7, 20), (150, 200)])
def test_a_share_has_wilsons_interval(wins: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    there = stats.binomtest(wins, n).proportion_ci(0.95, method="wilson")
    found = agreement.share(wins, n)
    assert (found.rate, found.low, found.high) == pytest.approx((wins / n, there.low, there.high), abs=1e-9)
    assert agreement.share(0, 0).low == 0 and math.isnan(agreement.share(0, 0).rate)


def test_a_ranking_says_something_of_every_two() -> None:
    assert agreement.compared([1, 2, 2]) == [FIRST, FIRST, EQUAL]
    assert agreement.compared([2, 1]) == [SECOND]


def ranking(who: str, sample: str, ranks: list[int], shown: int = 3, **parts: Any) -> Record:
    answers = [Answer(str(i)) for i in range(max(len(ranks), shown))]
    about = {"sample": sample, "order": list(range(shown))}
    return Record([], answers, ranks, by={"kind": "person", "name": who}, about=about, **parts)


def test_people_are_compared_on_what_both_ranked_and_without_what_one_wrote() -> None:
    found = [
        ranking("Ann", "s1", [1, 2, 3]),
        ranking("Bo", "s1", [2, 3, 4, 1]),  # the same ranking below an answer that Bo wrote
        ranking("Ann", "s2", [1, 2, 3]),
        ranking("Bo", "s2", [], bad=True),  # all bad: all equal
        ranking("Ann", "s3", [1, 2, 3]),
        ranking("Cy", "s3", [], dropped="skipped"),
        Record([], [Answer("a"), Answer("b")], [1, 2], by={"kind": "judge", "name": "j"}, about={"sample": "s1"}),
    ]
    (both,) = agreement.overlaps(found)
    assert (both.one, both.other, both.prompts, both.kappa.n) == ("Ann", "Bo", 2, 6)
    assert both.kappa.observed == 0.5
    assert both.kappa.expected == pytest.approx(0.5)  # Ann: all first; Bo: 3 first, 3 equal
    assert both.kappa.value == 0 and "may be chance" in both.said()
    assert both.to_dict()["people"] == ["Ann", "Bo"]
