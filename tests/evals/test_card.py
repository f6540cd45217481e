"""The card: what is compared with what, the correction, the verdicts, and how often chance makes them wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar

from studio.evals import card, stats
from studio.evals.suite import Measure, Outcome, Suite

SHARES = [Measure(f"share{i}", f"share {i}", "", "more" if i % 2 else "less") for i in range(10)]
MEANS = [Measure(f"mean{i}", f"mean {i}", "", "more", "mean", "nats") for i in range(2)]


@dataclasses.dataclass(frozen=True)
class Config:
    pass


def suite(*measures: Measure, name: str = "one") -> Suite:
    return Suite(name, name.title(), "", "", measures, Config, lambda asking: Outcome())


def outcome(**marks: dict[str, list[float]]) -> Outcome:
    out = Outcome()
    for measure, sides in marks.items():
        for side, values in sides.items():
            for item, mark in enumerate(values):
                out.mark(measure, side, str(item), mark)
    return out


def only(measure: Measure, **sides: list[float]) -> dict[str, Any]:
    made = card.card([(suite(measure), outcome(**{measure.name: sides}))])
    figure: dict[str, Any] = made["suites"]["one"]["figures"][0]
    return figure


# --- how often it is wrong -------------------------------------------------------------------------------------------


def simulated(seed: int, n: int, gain: float) -> dict[str, Any]:
    """Mark items of every difficulty twice; `gain` moves the chances of the first measure."""
    rng, out = np.random.default_rng(seed), Outcome()
    for measure in (*SHARES, *MEANS):
        chance = rng.uniform(0, 0.8, n)
        for side, more in (("before", 0.0), ("after", gain if measure is SHARES[1] else 0.0)):
            drawn = rng.uniform(size=n) < chance + more if measure.kind == "share" else rng.exponential(1 + chance)
            for item, mark in enumerate(drawn):
                out.mark(measure.name, side, str(item), mark)
    return card.card([(suite(*SHARES, *MEANS), out)], seed)


def test_a_run_against_itself_shows_a_difference_in_at_most_ten_of_a_hundred_seeds() -> None:
    wrong = 0
    for seed in range(100):
        made = simulated(seed, 100, 0.0)
        assert made["tested"] == 12
        wrong += bool(made["worse"] or made["better"] or made["changed"])
    assert wrong <= 10


def test_a_true_difference_of_twenty_points_of_200_items_is_found_in_at_least_ninety_of_a_hundred_seeds() -> None:
    found = [simulated(seed, 200, 0.2)["better"] for seed in range(100)]
    assert sum(any(one["measure"] == "share1" for one in better) for better in found) >= 90


# --- what is compared with what --------------------------------------------------------------------------------------


def test_marks_of_an_item_are_paired_and_agree_with_an_independent_test() -> None:
    before, after = [1.0] * 30 + [0.0] * 70, [1.0] * 25 + [0.0] * 5 + [1.0] * 22 + [0.0] * 48
    figure = only(SHARES[1], before=before, after=after)
    expected = mcnemar([[25, 5], [22, 48]], exact=True).pvalue - binom(27, 0.5).pmf(5)
    difference = figure["difference"]
    assert (difference["paired"], difference["n"], figure["sides"]["after"]["n"]) == (True, 100, 100)
    assert difference["value"] == pytest.approx(0.17)
    assert difference["p"] == difference["p_holm"] == pytest.approx(expected, abs=1e-9)
    assert (difference["low"], difference["high"]) == stats.newcombe_paired(25, 22, 5, 48)
    assert figure["verdict"] == "better"


def test_sides_that_were_marked_on_other_items_are_compared_without_pairs() -> None:
    out = Outcome()
    for item in range(60):
        out.mark("share1", "before", f"b{item}", item < 12)
        out.mark("share1", "after", f"a{item}", item < 40)
    figure = card.card([(suite(SHARES[1]), out)])["suites"]["one"]["figures"][0]
    assert not figure["difference"]["paired"] and figure["difference"]["n"] == 120
    assert figure["difference"]["p"] == stats.fisher(40, 60, 12, 60)
    assert "other items on each side" in figure["words"] and figure["verdict"] == "better"


def test_the_common_items_are_paired_where_most_are_common() -> None:
    out = Outcome()
    for item in range(60):
        out.mark("share1", "after", str(item), 1.0)
        if item >= 20:
            out.mark("share1", "before", str(item), 0.0)
    figure = card.card([(suite(SHARES[1]), out)])["suites"]["one"]["figures"][0]
    assert figure["difference"]["paired"] and figure["difference"]["n"] == 40
    assert [figure["sides"][side]["n"] for side in ("before", "after")] == [40, 60]


def test_halves_are_compared_by_the_sizes_of_their_differences() -> None:
    figure = only(SHARES[1], before=[0.0, 0.5, 1.0] * 20, after=[1.0, 0.5, 1.0] * 20)
    assert figure["difference"]["test"] == "sign flips" and figure["verdict"] == "better"
    assert figure["sides"]["before"]["value"] == pytest.approx(0.5)


def test_numbers_are_compared_as_pairs_too() -> None:
    rng = np.random.default_rng(4)
    before = rng.normal(3.0, 5.0, 50)  # the items differ by far more than the sides do
    figure = only(MEANS[0], before=list(before), after=list(before - 0.5 + rng.normal(0, 0.2, 50)))
    assert figure["verdict"] == "worse" and figure["difference"]["p"] < 0.001
    assert figure["difference"]["low"] < -0.5 < figure["difference"]["high"] < 0


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_what_got_worse_stands_first_and_each_list_names_its_figures() -> None:
    up, down = {"before": [0.0] * 40, "after": [1.0] * 40}, {"before": [1.0] * 40, "after": [0.0] * 40}
    more, less = Measure("more", "more", ""), Measure("less", "less", "", "less")
    neither, same = Measure("neither", "neither", "", ""), Measure("same", "same", "")
    out = outcome(more=down, less=up, neither=up, same={"before": [0.0, 1.0] * 20, "after": [0.0, 1.0] * 20})
    made = card.card([(suite(more, less, neither, same), out)])
    assert [one["measure"] for one in made["worse"]] == ["more", "less"]
    assert [one["measure"] for one in made["changed"]] == ["neither"]
    assert [one["measure"] for one in made["undecided"]] == ["same"] and made["better"] == []
    assert list(made).index("worse") < list(made).index("better")


def test_the_number_of_figures_is_corrected_for_over_all_suites() -> None:
    clear = {"before": [0.0] * 6 + [1.0] * 20, "after": [1.0] * 26}  # mid-p = 1/64 by itself
    same = {"before": [0.0, 1.0] * 10, "after": [0.0, 1.0] * 10}
    alone = card.card([(suite(SHARES[1]), outcome(share1=clear))])
    among = card.card(
        [
            (suite(SHARES[1]), outcome(share1=clear)),
            (suite(*SHARES[2:5], name="two"), outcome(share2=same, share3=same, share4=same)),
        ]
    )
    assert [one["label"] for one in alone["better"]] == ["share 1"]
    assert among["better"] == [] and among["tested"] == 4
    figure = among["suites"]["one"]["figures"][0]
    assert (figure["difference"]["p"], figure["difference"]["p_holm"]) == pytest.approx((1 / 64, 4 / 64))
    assert figure["verdict"] == "no significant difference"


def test_one_side_alone_has_figures_and_no_verdict() -> None:
    figure = only(SHARES[0], after=[1.0, 0.0, 1.0, 1.0])
    assert figure["difference"] is None and figure["verdict"] == ""
    assert figure["sides"]["after"] == {"n": 4, "value": 0.75, **_ends(stats.wilson(3, 4))}
    assert figure["words"].startswith("75.0 % after (95 %: ")


def test_a_measure_without_marks_is_not_measured_and_one_mark_has_no_interval() -> None:
    made = card.card([(suite(SHARES[0], MEANS[0]), outcome(mean0={"after": [2.5]}))])
    nothing, one = made["suites"]["one"]["figures"]
    assert nothing["words"] == "Not measured." and nothing["sides"] == {}
    assert one["sides"]["after"] == {"n": 1, "value": 2.5, "low": None, "high": None}
    assert "too few for an interval" in one["words"]


def test_a_share_of_each_answer_that_is_always_whole_has_an_interval_with_a_width() -> None:
    figure = only(Measure("a", "a", "", "more", "mean", "share"), after=[1.0] * 23)
    assert figure["sides"]["after"] == {"n": 23, "value": 1.0, **_ends(stats.wilson(23, 23))}


def test_points_that_are_all_alike_have_an_interval_with_a_width_and_so_has_their_difference() -> None:
    figure = only(Measure("a", "a", "", "less", "mean", "points"), before=[0.0] * 40, after=[1.0] * 40)
    w = stats.wilson(0, 40)[1]
    assert figure["sides"]["after"] == {"n": 40, "value": 1.0, "low": pytest.approx(1 - 2 * w), "high": 1.0}
    assert (figure["difference"]["low"], figure["difference"]["high"]) == pytest.approx((1 - 3 * w, 1 + w))
    assert figure["words"].startswith("0.0 points before, 100.0 points after: 100.0 points more")


def test_an_interval_of_a_share_stays_between_0_and_1() -> None:
    figure = only(Measure("a", "a", "", "more", "mean", "share"), after=[0.0] * 11 + [1.0, 0.5])
    assert figure["sides"]["after"]["low"] == 0.0 < figure["sides"]["after"]["high"] < 1


def test_words_tell_both_sides_the_change_and_its_interval() -> None:
    figure = only(SHARES[1], before=[1.0] * 34 + [0.0] * 66, after=[1.0] * 81 + [0.0] * 19)
    low, high = stats.newcombe_paired(34, 47, 0, 19)
    said = f"34.0 % before, 81.0 % after: 47.0 points more (95 %: +{100 * low:.1f} to +{100 * high:.1f}; n 100)"
    assert figure["words"] == said


def _ends(interval: tuple[float, float]) -> dict[str, float]:
    return {"low": interval[0], "high": interval[1]}
