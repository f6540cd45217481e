"""A step of each method by hand: two pairs, three tokens at most, log-probabilities that a policy is made to give."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from studio.methods import METHODS

MASK = torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]])
#: Sums: chosen -3 and -1, rejected -2 and -4; means: -1, -0.5, -1, -4.
LOGPS = torch.tensor([[-1.0, -1.5, -0.5], [-0.4, -0.6, 0], [-0.5, -1.5, 0], [-4.0, 0, 0]])
REF = torch.tensor([-4.0, -1.5, -2.5, -3.0])


class Fixed:
    """A policy that always gives the same; its numbers can be followed to the gradient."""

    def __init__(self, logps: torch.Tensor, mask: torch.Tensor = MASK) -> None:
        self.logps, self.mask = logps.clone().requires_grad_(), mask

    def token_logps(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logps, self.mask

    def scores(self, batch: Any, head: str) -> torch.Tensor:
        assert head == "reward"
        return self.logps[:, 0]


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def take(name: str, num_items: int | None = None, **settings: Any) -> tuple[Any, Fixed]:
    method, policy = METHODS[name], Fixed(LOGPS)
    assert method.step is not None
    out = method.step(policy, {"ref_logps": REF, "lengths": MASK.sum(-1)}, method.Config(**settings), num_items)
    out.loss.backward()
    return out, policy


def mean(out: Any, name: str) -> float:
    total, count = out.metrics[name]
    return float(total / count)


def log_odds(mean_logp: float) -> float:
    return mean_logp - math.log(1 - math.exp(mean_logp))


# r: chosen -3+4 = 1 and -1+1.5 = 0.5; rejected -2+2.5 = 0.5 and -4+3 = -1. h = 0.5 and 1.5.
BY_HAND = {
    "dpo": ({"beta": 0.4, "nll_coef": 0.0}, (-math.log(sigma(0.2)) - math.log(sigma(0.6))) / 2),
    "ipo": ({"tau": 0.25}, ((0.5 - 2) ** 2 + (1.5 - 2) ** 2) / 2),
    "orpo": (
        {"lam": 0.5},
        (
            1.0
            - 0.5 * math.log(sigma(log_odds(-1.0) - log_odds(-1.0)))
            + 0.5
            - 0.5 * math.log(sigma(log_odds(-0.5) - log_odds(-4.0)))
        )
        / 2,
    ),
    # Margins of the means: 0 and 3.5; gamma = 2 * 0.5 = 1.
    "simpo": (
        {"beta": 2.0, "gamma_beta_ratio": 0.5, "nll_coef": 0.0},
        (-math.log(sigma(0 - 1)) - math.log(sigma(7 - 1))) / 2,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_step_of_two_pairs_is_what_the_formula_gives(name: str) -> None:
    settings, expected = BY_HAND[name]
    out, _ = take(name, **settings)
    assert float(out.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert mean(out, "loss") == pytest.approx(expected, rel=1e-5)
    assert mean(out, "logps/chosen") == pytest.approx(-2) and mean(out, "logps/rejected") == pytest.approx(-3)
    assert mean(out, "length/chosen") == 2.5 and mean(out, "length/rejected") == 1.5
    assert mean(out, "rewards/margins") == pytest.approx(mean(out, "rewards/chosen") - mean(out, "rewards/rejected"))


@pytest.mark.parametrize("name", BY_HAND)
def test_a_step_down_the_gradient_makes_chosen_tokens_likelier_and_rejected_ones_less(name: str) -> None:
    _, policy = take(name, **BY_HAND[name][0])
    gradient = policy.logps.grad
    assert gradient is not None
    assert (gradient[:2][MASK[:2] > 0] < 0).all() and (gradient[2:][MASK[2:] > 0] > 0).all()
    assert (gradient[MASK == 0] == 0).all()


@pytest.mark.parametrize("name", [*BY_HAND, "reward"])
def test_passes_of_a_batch_add_up_to_its_mean(name: str) -> None:
    """A pass of 2 of 8 pairs gives a quarter of its own mean."""
    whole, part = take(name)[0], take(name, num_items=8)[0]
    assert float(part.loss.detach()) == pytest.approx(float(whole.loss.detach()) / 4)
    assert part.metrics == whole.metrics


@pytest.mark.parametrize("name", ["dpo", "simpo"])
def test_a_method_can_hold_the_chosen_answer(name: str) -> None:
    """Means of the chosen answers: -1 and -0.5, so 2 * 0.75 is added."""
    plain, held = take(name, nll_coef=0.0)[0], take(name, nll_coef=2.0)[0]
    assert float((held.loss - plain.loss).detach()) == pytest.approx(1.5)
    assert held.metrics["loss"] == plain.metrics["loss"]
    assert mean(held, "nll") == pytest.approx(0.75)


def test_a_reward_step_is_bradley_terry_with_a_margin_and_a_pull_to_the_middle() -> None:
    """Scores: chosen -1 and -0.4, rejected -0.5 and -4."""
    out, _ = take("reward", margin=0.5, center_coef=0.1)
    pairs = ((-1.0, -0.5), (-0.4, -4.0))
    expected = sum(-math.log(sigma(good - bad - 0.5)) + 0.1 * (good + bad) ** 2 for good, bad in pairs) / 2
    assert float(out.loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert mean(out, "rewards/accuracies") == 0.5
    assert mean(out, "length/chosen") == 2.5 and mean(out, "length/rejected") == 1.5
