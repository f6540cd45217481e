"""What benchmarks/seeds.py makes of its runs' figures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import seeds


def test_a_spread_is_that_of_a_sample_and_relative_to_its_mean() -> None:
    found = seeds.spread([1.0, 2.0, 3.0, 4.0])
    # squares of the distances from 2.5: 2.25 + 0.25 + 0.25 + 2.25 = 5, over n - 1 = 3
    assert found["sd"] == pytest.approx((5 / 3) ** 0.5)
    assert (found["mean"], found["min"], found["max"]) == (2.5, 1.0, 4.0)
    assert found["relative_sd"] == pytest.approx((5 / 3) ** 0.5 / 2.5)


def test_figures_about_nothing_have_no_relative_spread() -> None:
    assert seeds.spread([-1.0, 1.0])["relative_sd"] is None


@pytest.mark.parametrize(
    ("dpo", "ppo", "said"),
    [
        (0.01, 0.04, "supported"),
        (0.04, 0.01, "NOT supported: PPO's is smaller"),
        (0.01, 0.03, "open: neither sd is 3.1 times the other"),
        (0.0, 0.0, "open: neither sd is 3.1 times the other"),
    ],
)
def test_a_spread_is_called_smaller_only_where_five_runs_can_tell(dpo: float, ppo: float, said: str) -> None:
    assert seeds.verdict(dpo, ppo, 5) == said


def test_how_much_larger_a_spread_must_be_follows_from_the_f_distribution() -> None:
    """F(d, d) = x / (1 - x) with x from Beta(d / 2, d / 2): its density is summed up to the bound, x = sin^2 a."""
    angle = (numpy.arange(200_000) + 0.5) / 200_000 * numpy.pi / 2
    for count, times in seeds.TELLING.items():
        density = (numpy.sin(angle) * numpy.cos(angle)) ** (count - 2)
        below = density[numpy.tan(angle) <= times].sum() / density.sum()
        assert below == pytest.approx(0.975, abs=0.0005)
