"""Token and sequence log-probabilities, log(1 - e^x), the KL estimators and the arithmetic on masks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import ORACLE, TYPES, given_logps

from studio.objectives.logps import (
    kl_k1,
    kl_k3,
    log1mexp,
    masked,
    masked_mean,
    masked_whiten,
    sequence_logps,
    shift,
    token_logps,
)
from studio.objectives.losses import sft_loss

Typed = pytest.mark.parametrize(("dtype", "rel"), TYPES)


@Typed
def test_token_logps_and_their_sums_and_means_agree_with_the_oracle(dtype: torch.dtype, rel: float) -> None:
    logps, ref, mask = given_logps(dtype)
    out = ORACLE["logps"]["output"]
    for row in range(4):
        assert logps[row][mask[row]].tolist() == pytest.approx(out["per_token"][row], rel=rel)
        assert ref[row][mask[row]].tolist() == pytest.approx(out["ref_per_token"][row], rel=rel)
    assert mask.sum(-1).tolist() == out["response_tokens"]
    for numbers in (mask, mask.to(dtype)):
        assert sequence_logps(logps, numbers).tolist() == pytest.approx(out["sum"], rel=rel)
        assert sequence_logps(logps, numbers, average=True).tolist() == pytest.approx(out["mean"], rel=rel)
        assert sequence_logps(ref, numbers).tolist() == pytest.approx(out["ref_sum"], rel=rel)


def test_sequence_logps_by_hand() -> None:
    """Two of three tokens: -1 - 3 = -4, mean -2; an empty row: 0."""
    logps = torch.tensor([[-1.0, -9.0, -3.0], [-5.0, math.nan, -math.inf]])
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert sequence_logps(logps, mask).tolist() == [-4.0, 0.0]
    assert sequence_logps(logps, mask, average=True).tolist() == [-2.0, 0.0]


@settings(max_examples=25, deadline=None)
@given(extra=st.integers(0, 5), seed=st.integers(0, 99))
def test_padding_and_batch_order_change_nothing(extra: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, 7, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 7, (3, 5), generator=generator)
    labels[:, 0] = -100
    padded = torch.cat([logits, torch.randn(3, extra, 7, dtype=torch.float64, generator=generator)], 1)
    longer = torch.cat([labels, torch.full((3, extra), -100)], 1)

    def summed(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return sequence_logps(token_logps(*shift(a, b)), b[:, 1:] != -100)

    assert torch.allclose(summed(logits, labels), summed(padded, longer), rtol=1e-12)
    order = [2, 0, 1]
    assert torch.allclose(summed(logits, labels)[order], summed(logits[order], labels[order]), rtol=1e-12)


def test_positions_without_a_label_get_no_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 8, requires_grad=True)
    labels = torch.randint(0, 8, (2, 6))
    labels[:, :3] = -100
    token_logps(*shift(logits, labels)).sum().backward()
    assert logits.grad is not None
    assert float(logits.grad[:, :2].abs().max()) == 0.0  # position t predicts t + 1: 0 and 1 predict masked labels
    assert float(logits.grad[:, 5].abs().max()) == 0.0  # the last position predicts nothing
    assert (logits.grad[:, 2:5].abs().amax(-1) > 0).all()


@pytest.mark.parametrize(("at", "expected"), [(float(at), value) for at, value in ORACLE["log1mexp"].items()])
@Typed
def test_log1mexp_keeps_its_digits_at_both_ends(at: float, expected: float, dtype: torch.dtype, rel: float) -> None:
    values = torch.tensor([at], dtype=dtype, requires_grad=True)
    result = log1mexp(values)
    # float32 has no e^-800 nor the exact argument; its tolerance is relative to the result all the same.
    assert float(result.detach()) == pytest.approx(expected, rel=rel, abs=0)
    result.sum().backward()
    # d/dx log(1 - e^x) = 1 / (1 - e^-x)
    slope = 0.0 if at < -700 else 1 / -math.expm1(-at)
    assert values.grad is not None and float(values.grad) == pytest.approx(slope, rel=10 * rel, abs=1e-300)


def test_log1mexp_by_hand() -> None:
    """log(1 - 1/2) = -ln 2, log(1 - 1/4) = ln 0.75; a sure event leaves nothing: -inf."""
    given_ = torch.tensor([math.log(0.5), math.log(0.25), 0.0], dtype=torch.float64)
    assert log1mexp(given_).tolist() == pytest.approx([-math.log(2), math.log(0.75), -math.inf])


@Typed
def test_kl_estimators_agree_with_the_oracle(dtype: torch.dtype, rel: float) -> None:
    case = ORACLE["kl_estimators"]
    logps, ref = (torch.tensor([case[key]], dtype=dtype) for key in ("logp", "ref_logp"))
    assert float(kl_k1(logps, ref)) == pytest.approx(case["k1"], rel=rel)
    assert float(kl_k3(logps, ref)) == pytest.approx(case["k3"], rel=rel)


def test_kl_estimators_are_unbiased_and_k3_is_never_negative() -> None:
    """Weighted by the policy's own probabilities both give the exact KL; here 0.5 ln 2 + 0.5 ln(2/3) = 0.143841."""
    policy, ref = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.25, 0.75], dtype=torch.float64)
    exact = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    for estimator in (kl_k1, kl_k3):
        assert float((policy * estimator(policy.log(), ref.log())).sum()) == pytest.approx(exact)
    assert (kl_k3(policy.log(), ref.log()) > 0).all() and (kl_k1(policy.log(), ref.log()) < 0).any()


def test_kl_estimators_pass_a_gradient_to_the_policy_alone() -> None:
    logps, ref = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (-1.0, -1.3))
    for estimator in (kl_k1, kl_k3):
        assert torch.autograd.gradcheck(lambda x, f=estimator: f(x, ref.detach()), [logps])
        estimator(logps, ref).sum().backward()
    assert ref.grad is None


@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.int64])
def test_masked_stops_infinities_and_nan_in_the_gradient_too(kind: torch.dtype) -> None:
    values = torch.tensor([1.0, math.nan, math.inf, 3.0], requires_grad=True)
    mask = torch.tensor([1, 0, 0, 1]).to(kind)
    assert masked(values, mask).tolist() == [1.0, 0.0, 0.0, 3.0]
    mean = masked_mean(values, mask)
    mean.backward()
    assert float(mean.detach()) == 2.0
    assert values.grad is not None and values.grad.tolist() == [0.5, 0.0, 0.0, 0.5]


def test_masked_mean_of_nothing_is_0() -> None:
    assert float(masked_mean(torch.ones(2, 2), torch.zeros(2, 2))) == 0.0


def test_masked_whiten_by_hand() -> None:
    """0 and 4 kept: mean 2, unbiased variance (4 + 4) / 1 = 8: ∓2/√8; with the mean kept, 2 more."""
    values = torch.tensor([[0.0, 1e30], [4.0, math.nan]], dtype=torch.float64)
    mask = torch.tensor([[True, False], [True, False]])
    step = 2 / math.sqrt(8)
    assert masked_whiten(values, mask)[:, 0].tolist() == pytest.approx([-step, step])
    assert masked_whiten(values, mask, shift_mean=False)[:, 0].tolist() == pytest.approx([2 - step, 2 + step])
    assert masked_whiten(values, mask)[:, 1].tolist() == [0.0, 0.0]


def test_masked_whiten_of_one_or_of_equal_values_is_0() -> None:
    values = torch.tensor([5.0, 5.0, 5.0])
    for mask in (torch.tensor([1, 1, 1]), torch.tensor([0, 1, 0])):
        assert masked_whiten(values, mask).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("case", ORACLE["ppo"], ids=["kl.05", "kl.1"])
@Typed
def test_masked_whiten_agrees_with_the_oracle(case: dict[str, list[float]], dtype: torch.dtype, rel: float) -> None:
    values, expected = (
        torch.tensor(case[key], dtype=dtype)
        for key in ("advantages_raw", "advantages_whitened(mean 0, unbiased var, masked)")
    )
    mask = torch.tensor(case["mask"])
    white = masked_whiten(values.masked_fill(mask == 0, 1e30), mask)
    assert torch.allclose(white, expected, rtol=rel, atol=0)
    assert float(white.sum()) == pytest.approx(0, abs=1e-5)


def test_a_mask_of_any_type_is_counted_beyond_what_the_type_can_hold() -> None:
    """Half precision ends at 65,504: 70,000 learned tokens of -1 each still average to -1."""
    mask, values = torch.ones(1, 70_000, dtype=torch.float16), -torch.ones(1, 70_000)
    assert float(masked_mean(values, mask)) == pytest.approx(-1.0)
    assert float(sequence_logps(values, mask, average=True)) == pytest.approx(-1.0)
    assert float(sft_loss(values, mask)) == pytest.approx(1.0)
    assert bool(masked_whiten(torch.arange(70_000.0).view(1, -1), mask).isfinite().all())
