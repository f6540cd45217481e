"""PPO and RLOO: losses and advantages against the oracle, by hand, by property."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import ORACLE, TYPES
from torch import Tensor

from studio.objectives.advantages import gae, kl_rewards, rloo_advantages
from studio.objectives.logps import masked, masked_whiten, sequence_logps
from studio.objectives.losses import ppo_policy_loss, ppo_value_loss, rloo_loss

Typed = pytest.mark.parametrize(("dtype", "rel"), TYPES)
Case = pytest.mark.parametrize("case", ORACLE["ppo"], ids=["kl.05", "kl.1"])
WHITE = "advantages_whitened(mean 0, unbiased var, masked)"


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


# Against the oracle


@Typed
@Case
def test_rewards_advantages_and_returns_agree_with_the_oracle(
    case: dict[str, Any], dtype: torch.dtype, rel: float
) -> None:
    logps, ref, scores, values, rewards, raw, returns = (
        torch.tensor(case[key], dtype=dtype)
        for key in ("logprobs", "ref_logprobs", "scores", "values", "rewards_per_token", "advantages_raw", "returns")
    )
    mask = torch.tensor(case["mask"])
    assert torch.allclose(kl_rewards(scores, logps, ref, mask, case["kl_coef"]), rewards, rtol=rel, atol=0)
    got, ahead = gae(rewards, values, mask, case["gamma"], case["lam"])
    assert torch.allclose(got, raw, rtol=rel, atol=0)
    assert torch.allclose(ahead, returns, rtol=rel, atol=0)


@Typed
@Case
def test_ppo_losses_agree_with_the_oracle(case: dict[str, Any], dtype: torch.dtype, rel: float) -> None:
    new, old, white, new_values, values, returns = (
        torch.tensor(case[key], dtype=dtype)
        for key in ("new_logprobs", "logprobs", WHITE, "new_values", "values", "returns")
    )
    mask = torch.tensor(case["mask"]).to(dtype)
    policy, _ = ppo_policy_loss(new, old, white, mask, case["cliprange"])
    value, _ = ppo_value_loss(new_values, values, returns, mask, case["cliprange_value"])
    assert float(policy) == pytest.approx(case["policy_loss"], rel=rel)
    assert float(value) == pytest.approx(case["value_loss(0.5*masked mean of max)"], rel=rel)
    assert float(policy + case["vf_coef"] * value) == pytest.approx(case["total"], rel=rel)


@Typed
def test_rloo_agrees_with_the_oracle(dtype: torch.dtype, rel: float) -> None:
    rewards = torch.tensor([ORACLE["group_advantages"]["rewards"]], dtype=dtype)
    advantages = rloo_advantages(rewards)
    assert advantages[0].tolist() == pytest.approx(ORACLE["group_advantages"]["rloo"], rel=rel)
    case = ORACLE["rloo_loss"]
    logps, old = (torch.tensor(case[key], dtype=dtype) for key in ("per_token_logps", "old_logps"))
    summed = sequence_logps(logps, torch.tensor(case["completion_mask"]))
    losses, _ = rloo_loss(summed, old, torch.tensor(case["advantages"], dtype=dtype), case["epsilon"])
    assert float(losses.mean()) == pytest.approx(case["loss"], rel=rel)


# By hand


def test_ppo_policy_loss_by_hand() -> None:
    """Ratios 1.5, 1.5, 0.5, 0.5, advantages 1, -1, 1, -2, clip 0.2.

    -1.2 (held), 1.5 (free), -0.5 (free), 2 * 0.8 = 1.6 (held): the sum is 1.4, the mean 0.35, half is clipped.
    """
    logps, old = row(*(math.log(ratio) - 3 for ratio in (1.5, 1.5, 0.5, 0.5))), row(-3, -3, -3, -3)
    logps.requires_grad_()
    loss, share = ppo_policy_loss(logps, old, row(1, -1, 1, -2), torch.ones(1, 4), 0.2)
    loss.backward()
    assert (float(loss.detach()), float(share)) == (pytest.approx(0.35), 0.5)
    # Where it is free: -A * ratio / 4; where it is held: nothing.
    assert logps.grad is not None and logps.grad[0].tolist() == pytest.approx([0.0, 1.5 / 4, -0.5 / 4, 0.0])


def test_ppo_value_loss_by_hand() -> None:
    """Clip 0.2. V 1, old 0, G 2: 1 or 1.8² = 3.24; V 1, old 0.9, G 0: 1; V 1, old 0, G -1: 4 or 1.2² = 1.44.

    0.5 (3.24 + 1 + 4) / 3 = 8.24 / 6, and one of three is clipped.
    """
    loss, share = ppo_value_loss(row(1, 1, 1), row(0, 0.9, 0), row(2, 0, -1), torch.ones(1, 3), 0.2)
    assert float(loss) == pytest.approx(8.24 / 6)
    assert float(share) == pytest.approx(1 / 3)


def test_rloo_loss_by_hand() -> None:
    """Ratio 1.5 with A = 2: -1.2 * 2 (held); with A = -2: 3 (free); ratio 1 with A = 4: -4; a third is clipped."""
    up = math.log(1.5)
    losses, share = rloo_loss(row(up - 5, up - 5, -5)[0], row(-5, -5, -5)[0], row(2, -2, 4)[0], 0.2)
    assert losses.tolist() == pytest.approx([-2.4, 3.0, -4.0])
    assert float(share) == pytest.approx(1 / 3)


def test_gae_by_hand() -> None:
    """Gamma and lambda 1/2, rewards 0 0 8, values 2 4 6.

    Deltas from the end: 8 - 6 = 2; 0.5 * 6 - 4 = -1; 0.5 * 4 - 2 = 0. Each advantage adds a quarter of the next:
    2; -1 + 2/4 = -0.5; 0 - 0.5/4 = -0.125. Returns add the values.
    """
    advantages, returns = gae(row(0, 0, 8), row(2, 4, 6), torch.ones(1, 3), 0.5, 0.5)
    assert advantages[0].tolist() == [-0.125, -0.5, 2.0]
    assert returns[0].tolist() == [1.875, 3.5, 8.0]


def test_gae_with_lambda_1_is_what_is_yet_to_come_and_with_lambda_0_one_step() -> None:
    rewards, values = row(1, -2, 0.5, 4), row(0.3, 0.2, -1, 2)
    to_come = torch.stack([rewards[0, t:].sum() for t in range(4)])
    assert torch.allclose(gae(rewards, values, torch.ones(1, 4), 1.0, 1.0)[1][0], to_come)
    following = torch.cat([values[:, 1:], torch.zeros(1, 1)], 1)
    assert torch.allclose(gae(rewards, values, torch.ones(1, 4), 0.9, 0.0)[0], rewards + 0.9 * following - values)


def test_kl_rewards_by_hand() -> None:
    """Coefficient 0.5, k1 = 1, -2 and a masked position: -0.5, 1 + score 3 = 4, 0. The sum is 3 - 0.5 (1 - 2)."""
    rewards = kl_rewards(torch.tensor([3.0]), row(-1, -4, 9), row(-2, -2, -9), torch.tensor([[1, 1, 0]]), 0.5)
    assert rewards[0].tolist() == [-0.5, 4.0, 0.0]
    nothing = kl_rewards(torch.tensor([3.0]), row(-1, -4), row(-2, -2), torch.zeros(1, 2), 0.5)
    assert nothing[0].tolist() == [0.0, 0.0]


def test_rloo_advantages_by_hand() -> None:
    """1 against (2 + 6) / 2, 2 against (1 + 6) / 2, 6 against (1 + 2) / 2."""
    assert rloo_advantages(row(1, 2, 6))[0].tolist() == pytest.approx([-3.0, -1.5, 4.5])


def test_rloo_advantages_want_two_answers_a_prompt() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        rloo_advantages(torch.zeros(3, 1))


# Properties


def _sampled(seed: int = 0, rows: int = 4, length: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """New and old numbers near one another, targets, and a mask of lengths 1 to `length`."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, length, generator=generator, dtype=torch.float64)
    new = old + 0.3 * torch.randn(rows, length, generator=generator, dtype=torch.float64)
    targets = torch.randn(rows, length, generator=generator, dtype=torch.float64)
    return new, old, targets, torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=generator)


def _all(new: Tensor, old: Tensor, targets: Tensor, mask: Tensor) -> list[Tensor]:
    """Every function of this file in one go, per-row results last."""
    scores = masked(targets, mask).sum(-1)
    rewards = kl_rewards(scores, old, new, mask, 0.1)
    advantages, returns = gae(rewards, old, mask, 0.99, 0.9)
    white = masked_whiten(advantages, mask)
    scalars = [*ppo_policy_loss(new, old, white, mask, 0.2), *ppo_value_loss(new, old, returns, mask, 0.2)]
    losses, share = rloo_loss(sequence_logps(new, mask), sequence_logps(old, mask), scores, 0.2)
    return [*scalars, share, losses, rewards.sum(-1), advantages.sum(-1), returns.sum(-1)]


def test_gradients_equal_finite_differences() -> None:
    new, old, targets, mask = _sampled()
    new.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ppo_policy_loss(x, old, targets, mask, 0.2)[0], [new])
    assert torch.autograd.gradcheck(lambda x: ppo_value_loss(x, old, targets, mask, 0.2)[0], [new])
    summed = sequence_logps(new, mask).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: rloo_loss(x, sequence_logps(old, mask), sequence_logps(targets, mask), 0.2)[0], [summed]
    )


@settings(max_examples=25, deadline=None)
@given(extra=st.integers(0, 4), seed=st.integers(0, 999), junk=st.sampled_from([1e30, -1e30, math.inf, math.nan]))
def test_padding_its_garbage_the_mask_type_and_batch_order_change_nothing(extra: int, seed: int, junk: float) -> None:
    new, old, targets, mask = _sampled(seed)
    expected = _all(new, old, targets, mask)
    longer = torch.cat([mask, torch.zeros(4, extra, dtype=torch.bool)], 1)
    wide = [torch.nn.functional.pad(x, (0, extra)).masked_fill(~longer, junk) for x in (new, old, targets)]
    wide[0].requires_grad_()
    padded = _all(*wide, longer.float())
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(padded, expected, strict=True))
    (padded[0] + padded[2] + padded[5].sum()).backward()
    assert wide[0].grad is not None and wide[0].grad.isfinite().all() and (wide[0].grad[~longer] == 0).all()
    order = torch.tensor([2, 0, 3, 1])
    for a, b in zip(_all(*(x[order] for x in (new, old, targets, mask))), expected, strict=True):
        assert torch.allclose(a, b[order] if b.dim() else b, rtol=1e-9, atol=1e-12)


def test_a_gap_in_the_mask_is_skipped_as_if_it_were_not_there() -> None:
    rewards, values = row(1, 2, 3), row(0.5, -1, 0.25)
    gap = torch.tensor([[0, 1, 0, 1, 1, 0]])
    spread = [torch.full((1, 6), 1e30, dtype=torch.float64).masked_scatter(gap.bool(), x) for x in (rewards, values)]
    for dense, sparse in zip(
        gae(rewards, values, torch.ones(1, 3), 0.9, 0.8), gae(*spread, gap, 0.9, 0.8), strict=True
    ):
        assert torch.equal(sparse[gap.bool()], dense[0]) and (sparse[gap == 0] == 0).all()


def test_one_step_raises_what_did_better_than_expected() -> None:
    _, old, targets, mask = _sampled()
    logps = old.clone().requires_grad_()
    ppo_policy_loss(logps, old, targets, mask, 0.2)[0].backward()
    assert logps.grad is not None and torch.equal((-logps.grad).sign(), masked(targets, mask).sign())
    values = old.clone().requires_grad_()
    ppo_value_loss(values, old, targets, mask, 0.2)[0].backward()
    assert values.grad is not None and torch.equal((-values.grad).sign(), masked(targets - old, mask).sign())
    summed = sequence_logps(old, mask).requires_grad_()
    advantages = rloo_advantages(sequence_logps(targets, mask).view(2, 2)).flatten()
    rloo_loss(summed, summed.detach(), advantages, 0.2)[0].sum().backward()
    assert summed.grad is not None and torch.allclose(-summed.grad, advantages)  # REINFORCE's gradient


def test_inputs_stay_and_only_the_new_policy_gets_a_gradient() -> None:
    given_ = [tensor.clone() for tensor in _sampled()]
    before = [tensor.clone() for tensor in given_]
    for tensor in given_[:3]:
        tensor.requires_grad_()
    losses = _all(*given_)
    (losses[0] + losses[2] + losses[5].sum()).backward()
    assert given_[0].grad is not None and given_[1].grad is None and given_[2].grad is None
    assert all(torch.equal(old, new) for old, new in zip(before, given_, strict=True))
    assert not any(result.requires_grad for i, result in enumerate(losses) if i not in (0, 2, 5))


def test_a_policy_that_ran_away_gives_finite_losses_and_gradients() -> None:
    far = torch.tensor([[500.0, 500.0, -500.0, 500.0]], requires_grad=True)
    advantages = torch.tensor([[1.0, -1.0, 1.0, 0.0]])
    loss, _ = ppo_policy_loss(far, torch.zeros(1, 4), advantages, torch.ones(1, 4), 0.2)
    losses, _ = rloo_loss(far[0], torch.zeros(4), advantages[0], 0.2)
    (loss + losses.sum()).backward()
    assert loss.isfinite() and losses.isfinite().all()
    assert far.grad is not None and far.grad.isfinite().all()


def test_shapes_that_would_broadcast_are_refused() -> None:
    two, one = torch.zeros(2, 3), torch.zeros(2, 1)
    with pytest.raises(ValueError, match="shapes differ"):
        ppo_policy_loss(two, two, one, two, 0.2)
    with pytest.raises(ValueError, match="shapes differ"):
        ppo_value_loss(two, two, one, two, 0.2)
    with pytest.raises(ValueError, match="shapes differ"):
        rloo_loss(two[:, 0], one, two[:, 0], 0.2)
