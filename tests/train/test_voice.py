"""How a voice chooses tokens: the filters by hand, and the shares in which it draws."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from studio.train import voice
from studio.train.voice import Filter

#: P = 0.4, 0.3, 0.2, 0.1, out of order.
P = [0.2, 0.4, 0.1, 0.3]


def logits(rows: int = 1) -> torch.Tensor:
    return torch.tensor([[math.log(p) for p in P]]).repeat(rows, 1)


@pytest.mark.parametrize(
    ("how", "left"),
    [
        (Filter(1.0), [1, 3, 0, 2]),
        (Filter(1.0, top_k=2), [1, 3]),
        (Filter(1.0, top_p=0.4 - 1e-6), [1]),
        (Filter(1.0, top_p=0.5), [1, 3]),
        (Filter(1.0, top_p=0.75), [1, 3, 0]),
        (Filter(1.0, min_p=0.6), [1, 3]),  # 0.6 of 0.4 is 0.24
        (Filter(1.0, top_k=3, top_p=0.7), [1, 3]),  # of 4/9, 3/9, 2/9 the first two make up 7/9
        (Filter(1.0, top_p=1e-9, min_p=1.0), [1]),  # the likeliest is never left out
    ],
)
def test_tokens_are_left_out_by_their_own_probabilities(how: Filter, left: list[int]) -> None:
    found, order = voice._filtered(logits(), how)
    assert [token for token, value in zip(order[0].tolist(), found[0].tolist(), strict=True) if value > -1e30] == left


@pytest.mark.parametrize("how", [Filter(1.0), Filter(0.5), Filter(2.0, top_k=3), Filter(1.0, top_p=0.5)])
def test_tokens_are_drawn_in_their_shares_and_a_seed_draws_the_same_beside_any_others(how: Filter) -> None:
    seeds = range(4000)
    drawn = voice._chooser(seeds, how)(logits(len(seeds)), list(seeds)).tolist()
    kept = {1, 3, 0} if how.top_k == 3 else {1, 3} if how.top_p < 1 else {0, 1, 2, 3}
    weights = {token: P[token] ** (1 / how.temperature) for token in kept}
    share = {token: weight / sum(weights.values()) for token, weight in weights.items()}
    counts = Counter(drawn)
    assert set(counts) == kept
    for token, p in share.items():
        assert abs(counts[token] / 4000 - p) < 4 * math.sqrt(p * (1 - p) / 4000)
    alone = [voice._chooser([seed], how)(logits(), [0]).item() for seed in range(20)]
    assert alone == drawn[:20]


def test_temperature_0_takes_the_likeliest_and_a_seed_goes_on_where_it_was() -> None:
    assert voice._chooser([1, 2], Filter())(logits(2), [0, 1]).tolist() == [1, 1]
    both = voice._chooser([5, 6], Filter(1.0))
    first = [both(logits(2), [0, 1]).tolist()[1] for _ in range(10)] + [both(logits(1), [1]).item() for _ in range(10)]
    alone = voice._chooser([6], Filter(1.0))
    assert first == [alone(logits(), [0]).item() for _ in range(20)]
