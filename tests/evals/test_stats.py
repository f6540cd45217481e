"""Intervals and tests against scipy, statsmodels, published examples, and what must hold of any of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as some
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from studio.evals import stats

SAMPLES = [[0.3, -1.2, 0.5, 2.0, 0.1], list(np.random.default_rng(1).normal(0.4, 2.0, 37)), [1.0, 1.0, 0.0, 1.0] * 9]


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 20), (7, 20), (20, 20), (1, 3), (481, 1000)])
def test_wilsons_interval_is_that_of_statsmodels(hits: int, n: int) -> None:
    assert stats.wilson(hits, n) == pytest.approx(proportion_confint(hits, n, 0.05, "wilson"), abs=1e-9)


def test_a_share_never_lies_outside_its_own_interval_by_rounding() -> None:
    for n in range(1, 200):
        assert stats.wilson(0, n)[0] == 0.0 and stats.wilson(n, n)[1] == 1.0


@pytest.mark.parametrize("counts", [(7, 20, 3, 25), (0, 10, 10, 10), (56, 70, 48, 80), (5, 5, 5, 5)])
def test_newcombes_interval_of_two_samples_is_that_of_statsmodels(counts: tuple[int, int, int, int]) -> None:
    expected = confint_proportions_2indep(*counts, compare="diff", method="newcomb")
    assert stats.newcombe(*counts) == pytest.approx(expected, abs=1e-6)


def test_newcombes_interval_of_pairs_is_that_of_his_paper() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 2635-2650: table II, method 10, and 56/70 against 48/80 of the other one
    assert stats.newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33: airway hyper-responsiveness, 1, 1, 7, 12
    assert stats.newcombe_paired(1, 1, 7, 12) == pytest.approx((-0.507, -0.026), abs=5e-4)
    assert stats.newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(some.tuples(*[some.integers(0, 60)] * 4).filter(any))
def test_newcombes_interval_of_pairs_turns_with_the_sides_and_holds_the_difference(table: tuple[int, ...]) -> None:
    both, first, second, neither = table
    low, high = stats.newcombe_paired(both, first, second, neither)
    assert -1 <= low <= (first - second) / sum(table) + 1e-12 and (first - second) / sum(table) - 1e-12 <= high <= 1
    assert stats.newcombe_paired(both, second, first, neither) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 2), (2, 0), (1, 1), (7, 3), (60, 0)])
def test_where_all_pairs_differ_the_interval_is_that_of_one_share(first: int, second: int) -> None:
    low, high = proportion_confint(first, first + second, method="wilson")
    assert stats.newcombe_paired(0, first, second, 0) == pytest.approx((2 * low - 1, 2 * high - 1), abs=1e-9)


def test_newcombes_interval_of_pairs_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(1000):
        drawn = rng.multinomial(80, [0.35, 0.25, 0.1, 0.3])
        low, high = stats.newcombe_paired(*map(int, drawn))
        held += low <= 0.15 <= high
    assert 930 <= held <= 975


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 21), (300, 251)])
def test_mcnemars_test_is_that_of_statsmodels_and_its_mid_p_is_the_definition(first: int, second: int) -> None:
    if first + second:
        table = [[10, first], [second, 10]]
        assert stats.mcnemar(first, second) == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-9)
        coin = scipy.stats.binom(first + second, 0.5)
        least = min(first, second)
        expected = 2 * coin.cdf(least) - coin.pmf(least)
        assert stats.mcnemar(first, second, mid=True) == pytest.approx(min(1.0, expected), abs=1e-9)
    assert 0 < stats.mcnemar(first, second, mid=True) <= stats.mcnemar(first, second) <= 1


@pytest.mark.parametrize("counts", [(7, 20, 3, 25), (0, 10, 10, 10), (1, 2, 1, 2), (90, 200, 130, 210), (0, 3, 0, 4)])
def test_fishers_test_is_that_of_scipy(counts: tuple[int, int, int, int]) -> None:
    a, n, b, m = counts
    expected = scipy.stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert stats.fisher(*counts) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("values", SAMPLES)
def test_students_interval_and_test_are_those_of_scipy_and_statsmodels(values: list[float]) -> None:
    assert stats.mean_interval(values) == pytest.approx(DescrStatsW(values).tconfint_mean(), abs=1e-8)
    assert stats.t_test(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=1e-9)


def test_numbers_that_are_all_alike_have_an_interval_with_a_width() -> None:
    assert stats.alike_interval(0.0, 23, 0, 1) == pytest.approx(stats.wilson(0, 23))
    assert stats.alike_interval(1.0, 23, 0, 1) == pytest.approx(stats.wilson(23, 23))
    w = stats.wilson(0, 40)[1]
    assert stats.alike_interval(0.0, 40, -1, 1) == pytest.approx((-w, w))
    assert stats.alike_interval(1.0, 40, -1, 1) == pytest.approx((1 - 2 * w, 1))


@pytest.mark.parametrize("values", SAMPLES)
def test_welchs_test_and_interval_are_those_of_scipy(values: list[float]) -> None:
    others = [0.2, 0.9, -0.4, 0.6, 0.3, 0.7]
    expected = scipy.stats.ttest_ind(values, others, equal_var=False)
    p, interval = stats.welch(values, others)
    assert p == pytest.approx(expected.pvalue, abs=1e-9)
    assert interval == pytest.approx(tuple(expected.confidence_interval()), abs=1e-7)


@pytest.mark.parametrize("freedom", [1, 2.5, 9, 80, 5000])
def test_students_distribution_is_that_of_scipy(freedom: float) -> None:
    assert stats.t_point(0.975, freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), abs=1e-8)
    for t in (0.0, 0.3, 2.1, 9.0):
        assert stats.t_tail(t, freedom) == pytest.approx(scipy.stats.t.sf(t, freedom), abs=1e-11)


def test_the_sign_test_is_scipys_binomial_test_and_zeros_say_nothing() -> None:
    values = [0.2, 0.0, -1.0, 3.0, 0.0, 2.0, 0.5, 0.1, 4.0, 1.0]
    assert stats.sign_test(values) == pytest.approx(scipy.stats.binomtest(7, 8).pvalue, abs=1e-12)
    assert stats.sign_test([0.0, 0.0]) == 1.0


def test_the_flip_test_is_scipys_permutation_test_of_pairs() -> None:
    values = [0.31, -1.2, 0.55, 2.0, 0.11, 0.7, 1.4, -0.2, 0.9]
    expected = scipy.stats.permutation_test(
        (values,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert stats.flip_test(values) == pytest.approx(expected.pvalue, abs=1e-9)


def test_the_drawn_flip_test_is_near_the_whole_one_and_the_same_for_a_seed() -> None:
    values = list(np.random.default_rng(3).normal(0.35, 1.0, 40))
    drawn = stats.flip_test(values, seed=7)
    assert drawn == stats.flip_test(values, seed=7)
    assert drawn == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert stats.flip_test([5.0] * 40, seed=7) == pytest.approx(1 / 10_001)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_the_bootstrap_is_scipys_with_the_same_seed(method: str) -> None:
    values = np.random.default_rng(2).exponential(2.0, 30)
    ours = stats.bootstrap(values, method=method, resamples=2000, seed=11)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method=method, n_resamples=2000, rng=np.random.default_rng(11), vectorized=True
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=1e-9)


def test_the_bootstrap_takes_a_statistic_of_items_with_several_numbers() -> None:
    pairs = np.column_stack([np.arange(40.0), 2 * np.arange(40.0)])
    ratio = stats.bootstrap(pairs, lambda sample: sample[:, :, 1].sum(1) / sample[:, :, 0].sum(1), resamples=300)
    assert ratio == pytest.approx((2.0, 2.0))
    assert stats.bootstrap([1.0]) == (-math.inf, math.inf)


@pytest.mark.parametrize("seed", range(6))
def test_holms_correction_is_that_of_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ps = [float(p) for p in rng.choice(rng.uniform(size=20) ** 3, 5 * seed + 1)]  # some are alike
    expected = multipletests(ps, method="holm")[1]
    assert stats.holm(ps) == pytest.approx(list(expected), abs=1e-9)
