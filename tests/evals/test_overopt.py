"""Best-of-n by counting all draws, and the fits against known coefficients and numpy's solver."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from studio.evals import overopt


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_best_of_n_is_the_mean_over_all_draws_without_putting_back(n: int) -> None:
    proxy, gold = [3.0, 1.0, 2.0, 2.0, 5.0, 4.0], [0.0, 1.0, 1.0, 0.0, 0.0, 1.0]
    proxies, golds = [], []
    for drawn in itertools.combinations(range(6), n):
        top = max(proxy[at] for at in drawn)
        best = [gold[at] for at in drawn if proxy[at] == top]
        proxies.append(top)
        golds.append(sum(best) / len(best))
    found = overopt.best_of(proxy, gold, n)
    assert list(found) == pytest.approx([np.mean(proxies), np.mean(golds)])


def test_best_of_one_is_the_mean_and_the_best_of_all_the_highest() -> None:
    assert list(overopt.best_of([1, 2, 6], [3, 0, 9], 1)) == pytest.approx([3, 4])
    assert overopt.best_of([1, 2, 6], [3, 0, 9], 3) == (6, 9)


@pytest.mark.parametrize("form", ["bon", "rl"])
def test_known_coefficients_are_found_again(form: str) -> None:
    ds = [0.0, 0.3, 0.8, 1.3, 1.9, 2.6]
    rewards = [d * (1.7 - 0.6 * (d if form == "bon" else math.log(d))) if d else 0.0 for d in ds]
    found = overopt.fit(form, ds, rewards)
    assert found is not None
    assert [found.alpha, found.beta] == pytest.approx([1.7, 0.6]) and found.error < 1e-9
    peak = {"bon": 1.7 / 1.2, "rl": math.exp(1.7 / 0.6 - 1)}[form]
    assert found.peak == pytest.approx(peak)
    assert found.at(peak) > max(found.at(peak - 0.01), found.at(peak + 0.01))


@pytest.mark.parametrize("form", ["bon", "rl"])
def test_a_fit_of_noisy_points_is_that_of_an_independent_solver(form: str) -> None:
    rng = random.Random(3)
    ds = [rng.uniform(0.05, 3) for _ in range(20)]
    rewards = [d * (1 - 0.2 * d) + rng.gauss(0, 0.1) for d in ds]
    x = np.array(ds)
    table = np.stack([x, -x * (x if form == "bon" else np.log(x))], axis=1)
    solved, *_ = np.linalg.lstsq(table, np.array(rewards), rcond=None)
    found = overopt.fit(form, ds, rewards)
    assert found is not None and [found.alpha, found.beta] == pytest.approx(solved.tolist(), abs=1e-9)
    assert found.error == pytest.approx(float(np.sqrt(np.mean((table @ solved - rewards) ** 2))))


def test_there_is_no_fit_of_one_distance_and_no_peak_of_what_only_rises() -> None:
    assert overopt.fit("bon", [0, 1, 1], [0, 1, 2]) is None
    assert overopt.fit("rl", [0, 0.661, 0.662, 0.664], [0, 1, 2, 1]) is None
    assert overopt.fit("bon", [0, 1, 2], [0, 1, 2]) is None, "any form goes through two points"
    rising = overopt.fit("bon", [0, 1, 2, 3], [0, 1, 2, 3])
    assert rising is not None and rising.beta == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("points", [3, 6, 21])
def test_a_gold_that_is_noise_is_seldom_called_a_sure_fall_however_many_points_there_are(points: int) -> None:
    rng, sure = np.random.default_rng(7), 0
    for _ in range(200):
        gold = rng.binomial(4, 0.5, (points, 12)) / 4
        found = overopt.turn([[float(at)] * 12 for at in range(points)], gold.tolist())
        sure += found is not None and found.sure
    assert sure <= 14  # of 200; 0.05 of them and a little chance


def test_the_turn_is_where_gold_is_highest_while_the_proxy_rises() -> None:
    proxy = [[0.0, 0.1], [1.0, 1.1], [2.0, 2.1], [3.0, 3.1]]
    gold = [[0.5, 0.5], [0.9, 1.0], [0.6, 0.7], [0.1, 0.2]]
    found = overopt.turn(proxy, gold)
    assert found is not None and found.at == 1 and found.fall == pytest.approx(0.8) and found.sure
    assert overopt.turn(proxy, [*gold[:3], [1.0, 1.0]]) is None  # gold rises to the end
    assert overopt.turn([[0.0], [2.0], [1.0]], [[0.0], [1.0], [0.5]]) is None  # the proxy falls too
    noisy = overopt.turn(proxy, [[0.5, 0.5], [0.9, 0.1], [0.6, 0.7], [0.1, 0.8]])
    assert noisy is not None and not noisy.sure
    assert overopt.turn([], []) is None
