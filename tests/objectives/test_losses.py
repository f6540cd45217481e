"""The offline losses against values that at least two independent implementations agree on, by hand, by property."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import ORACLE, TYPES, four_sums, given_logps, two_means
from torch import Tensor

from studio.objectives.logps import sequence_logps
from studio.objectives.losses import dpo_loss, ipo_loss, kto_loss, orpo_loss, reward_loss, sft_loss, simpo_loss

Typed = pytest.mark.parametrize(("dtype", "rel"), TYPES)


def one(*values: float) -> list[Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


# Against the oracle


@Typed
def test_sft_loss_is_the_token_mean_not_the_mean_of_means(dtype: torch.dtype, rel: float) -> None:
    logps, _, mask = given_logps(dtype)
    expected = ORACLE["logps"]["output"]["sft_loss_token_mean"]
    assert float(sft_loss(logps, mask)) == pytest.approx(expected, rel=rel)
    halves = [float(sft_loss(logps[i : i + 2], mask[i : i + 2], mask.sum())) for i in (0, 2)]
    assert sum(halves) == pytest.approx(expected, rel=rel)


@Typed
@pytest.mark.parametrize("case", ORACLE["dpo"], ids=lambda c: f"beta{c['beta']}-eps{c['label_smoothing']}")
def test_dpo_loss_agrees_with_the_oracle(case: dict[str, Any], dtype: torch.dtype, rel: float) -> None:
    losses, good, bad = dpo_loss(*four_sums(dtype), case["beta"], case["label_smoothing"])
    assert losses.tolist() == pytest.approx(case["losses"], rel=rel)
    assert float(losses.mean()) == pytest.approx(case["loss"], rel=rel)
    assert good.tolist() == pytest.approx(case["chosen_rewards"], rel=rel)
    assert bad.tolist() == pytest.approx(case["rejected_rewards"], rel=rel)
    assert float((good > bad).double().mean()) == case["accuracy"]


@Typed
@pytest.mark.parametrize("case", ORACLE["ipo"], ids=lambda c: f"tau{c['tau']}")
def test_ipo_loss_agrees_with_the_oracle(case: dict[str, Any], dtype: torch.dtype, rel: float) -> None:
    losses, *_ = ipo_loss(*four_sums(dtype), case["tau"])
    assert losses.tolist() == pytest.approx(case["summed_losses(paper eq.17, eric-mitchell)"], rel=rel)


@Typed
@pytest.mark.parametrize("case", ORACLE["kto"], ids=lambda c: f"{c['case']}-beta{c['beta']}")
def test_kto_loss_agrees_with_the_oracle(case: dict[str, Any], dtype: torch.dtype, rel: float) -> None:
    logps, ref, mask = given_logps(dtype)
    mismatched = torch.tensor(case["policy_kl_logps"], dtype=dtype) - torch.tensor(case["ref_kl_logps"], dtype=dtype)
    kl = mismatched.mean().clamp(min=0)
    assert float(kl) == pytest.approx(case["z_kl"], rel=rel)
    losses, rewards = kto_loss(
        sequence_logps(logps, mask),
        sequence_logps(ref, mask),
        kl,
        torch.tensor(case["labels"]),
        case["beta"],
        case["desirable_weight"],
        case["undesirable_weight"],
    )
    assert losses.tolist() == pytest.approx(case["losses"], rel=rel)
    assert float(losses.mean()) == pytest.approx(case["loss"], rel=rel)
    sums = zip(ORACLE["logps"]["output"]["sum"], ORACLE["logps"]["output"]["ref_sum"], strict=True)
    assert rewards.tolist() == pytest.approx([case["beta"] * (policy - ref) for policy, ref in sums], rel=rel)


@Typed
@pytest.mark.parametrize("case", ORACLE["orpo"], ids=lambda c: f"lambda{c['lambda']}")
def test_orpo_loss_agrees_with_the_oracle(case: dict[str, Any], dtype: torch.dtype, rel: float) -> None:
    chosen, rejected = two_means(dtype)
    assert chosen.tolist() == pytest.approx(case["mean_logps_chosen"], rel=rel)
    assert rejected.tolist() == pytest.approx(case["mean_logps_rejected"], rel=rel)
    losses, log_odds = orpo_loss(chosen, rejected, case["lambda"])
    # A difference of two numbers near 3.78 is the first log odds: its digits are those of the numbers, not its own.
    assert log_odds.tolist() == pytest.approx(case["log_odds"], rel=rel, abs=4 * torch.finfo(dtype).eps * 3.8)
    assert losses.tolist() == pytest.approx([-value for value in case["minus_L_OR_times_lambda"]], rel=rel)
    logps, _, mask = given_logps(dtype)
    nll = sft_loss(logps[:2], mask[:2])
    assert float(nll) == pytest.approx(case["nll_chosen_response_only_token_mean"], rel=rel)
    assert float(nll + losses.mean()) == pytest.approx(case["loss_with_response_only_nll"], rel=rel)


@Typed
@pytest.mark.parametrize("case", ORACLE["simpo"], ids=lambda c: f"beta{c['beta']}-gamma{c['gamma']}")
def test_simpo_loss_agrees_with_the_oracle(case: dict[str, Any], dtype: torch.dtype, rel: float) -> None:
    losses, *_ = simpo_loss(*two_means(dtype), case["beta"], case["gamma"])
    assert losses.tolist() == pytest.approx(case["losses"], rel=rel)
    assert float(losses.mean()) == pytest.approx(case["loss"], rel=rel)


@Typed
@pytest.mark.parametrize("case", ORACLE["reward"], ids=["plain", "margin", "centred"])
def test_reward_loss_agrees_with_the_oracle(case: dict[str, Any], dtype: torch.dtype, rel: float) -> None:
    chosen, rejected = (torch.tensor(case[key], dtype=dtype) for key in ("chosen", "rejected"))
    margin = None if case["margin"] is None else torch.tensor(case["margin"], dtype=dtype)
    losses = reward_loss(chosen, rejected, margin)
    assert losses.tolist() == pytest.approx(case["losses"], rel=rel)
    centred = reward_loss(chosen, rejected, margin, case["center_rewards_coefficient"] or 0.0)
    assert float(centred.mean()) == pytest.approx(case["loss"], rel=rel)


# By hand


def test_sft_loss_by_hand() -> None:
    """Three learned tokens of four: (1 + 2 + 4) / 3; over 14 items: 7 / 14; none: 0."""
    logps, mask = torch.tensor([[-1.0, -2.0], [-9.0, -4.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert float(sft_loss(logps, mask)) == pytest.approx(7 / 3)
    assert float(sft_loss(logps, mask, 14)) == pytest.approx(0.5)
    assert float(sft_loss(logps, torch.zeros(2, 2))) == 0.0


def test_dpo_loss_is_log_2_when_the_policy_is_the_reference() -> None:
    """h = 0, so the loss is -log σ(0) = log 2, whatever beta is."""
    chosen, rejected = torch.tensor([-3.0, -8.0]), torch.tensor([-5.0, -1.0])
    losses, good, bad = dpo_loss(chosen, rejected, chosen, rejected, 0.3)
    assert losses.tolist() == pytest.approx([math.log(2)] * 2)
    assert good.tolist() == bad.tolist() == [0.0, 0.0]


def test_dpo_loss_by_hand() -> None:
    """Beta 0.5, chosen up by 2, rejected down by 2: h = 4, loss = log(1 + e^-2) = 0.126928."""
    losses, good, bad = dpo_loss(*one(-1, -4, -3, -2), 0.5)
    assert float(losses) == pytest.approx(math.log(1 + math.exp(-2)))
    assert (float(good), float(bad)) == (1.0, -1.0)


def test_ipo_loss_by_hand() -> None:
    """Tau 0.25 wants a margin of 2. r = 2 and -2: h = 4, loss (4 - 2)² = 4, rewards ±0.5. Policy = reference: 2² too.

    r = 1 and -1 is the wanted margin itself: loss 0, and beyond it the loss grows again.
    """
    losses, good, bad = ipo_loss(*one(-1, -4, -3, -2), 0.25)
    assert (float(losses), float(good), float(bad)) == (4.0, 0.5, -0.5)
    assert float(ipo_loss(*one(-3, -2, -3, -2), 0.25)[0]) == 1 / (4 * 0.25**2)
    assert float(ipo_loss(*one(-2, -3, -3, -2), 0.25)[0]) == 0.0


def test_kto_loss_by_hand() -> None:
    """Beta 2, r = ln(3)/2: σ(2r) = 3/4. Desirable: 1 - 3/4; undesirable, weight 2: 2 (1 - 1/4). z = r: half each."""
    policy, ref = torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, -1.0]) - math.log(3) / 2
    labels = torch.tensor([True, False])
    losses, rewards = kto_loss(policy, ref, torch.tensor(0.0), labels, 2.0, 1.0, 2.0)
    assert losses.tolist() == pytest.approx([0.25, 1.5])
    assert rewards.tolist() == pytest.approx([math.log(3)] * 2)
    losses, _ = kto_loss(policy, ref, torch.tensor(math.log(3) / 2), labels, 2.0, 1.0, 2.0)
    assert losses.tolist() == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("label", [True, False])
def test_kto_takes_a_batch_of_one_class(label: bool) -> None:
    policy = torch.tensor([-3.0, -5.0], requires_grad=True)
    losses, _ = kto_loss(policy, torch.tensor([-3.0, -5.0]), torch.tensor(0.0), torch.tensor([label, label]), 0.1)
    losses.sum().backward()
    assert losses.tolist() == [0.5, 0.5]
    # d/dr of 1 - σ(βr) at 0 is -β/4, and +β/4 for the other class.
    assert policy.grad is not None and policy.grad.tolist() == pytest.approx([-0.025 if label else 0.025] * 2)


def test_kto_wants_labels_of_one_meaning() -> None:
    with pytest.raises(ValueError, match="bool"):
        kto_loss(*one(-1, -1), torch.tensor(0.0), torch.tensor([1]), 0.1)


def test_orpo_loss_by_hand() -> None:
    """Probability 0.8 has odds 4, 0.5 has odds 1: log odds ratio ln 4, loss 0.1 log(1 + 1/4). Equal: 0.1 ln 2."""
    losses, log_odds = orpo_loss(*one(math.log(0.8), math.log(0.5)), 0.1)
    assert float(log_odds) == pytest.approx(math.log(4))
    assert float(losses) == pytest.approx(0.1 * math.log(1.25))
    assert float(orpo_loss(*one(-2, -2), 0.1)[0]) == pytest.approx(0.1 * math.log(2))


@pytest.mark.parametrize("means", [(0.0, -1.0), (-1.0, 0.0), (0.0, 0.0), (1e-7, -500.0), (-500.0, -500.0)])
def test_orpo_stays_finite_where_an_answer_is_certain_or_hopeless(means: tuple[float, float]) -> None:
    chosen, rejected = (torch.tensor([mean], requires_grad=True) for mean in means)
    losses, log_odds = orpo_loss(chosen, rejected, 0.1)
    losses.sum().backward()
    assert losses.isfinite().all() and log_odds.isfinite().all()
    assert chosen.grad is not None and chosen.grad.isfinite().all()
    assert rejected.grad is not None and rejected.grad.isfinite().all()


def test_simpo_loss_by_hand() -> None:
    """Beta 2, means -0.5 and -1.5: rewards -1 and -3; gamma 1: log(1 + e^-(2 - 1)). Equal means: log(1 + e)."""
    losses, good, bad = simpo_loss(*one(-0.5, -1.5), 2.0, 1.0)
    assert float(losses) == pytest.approx(math.log(1 + math.exp(-1)))
    assert (float(good), float(bad)) == (-1.0, -3.0)
    assert float(simpo_loss(*one(-2, -2), 2.0, 1.0)[0]) == pytest.approx(math.log(1 + math.e))


def test_reward_loss_by_hand() -> None:
    """Scores 2 and 1 with margin 1 are just level: ln 2; the pull 0.1 adds 0.1 (2 + 1)² = 0.9."""
    scores = one(2, 1)
    assert float(reward_loss(*scores)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(reward_loss(*scores, *one(1))) == pytest.approx(math.log(2))
    assert float(reward_loss(*scores, *one(1), 0.1)) == pytest.approx(math.log(2) + 0.9)


# Properties: every preference loss as one function of token log-probabilities, reference and mask, rows in pairs

Rows = Callable[[Tensor, Tensor, Tensor], Tensor]


def _four(logps: Tensor, ref: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    return (*sequence_logps(logps, mask).chunk(2), *sequence_logps(ref, mask).chunk(2))


def _two(logps: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    return sequence_logps(logps, mask, average=True).chunk(2)


def _kto(logps: Tensor, ref: Tensor, mask: Tensor) -> Tensor:
    labels = torch.arange(len(mask)) < len(mask) // 2
    kl = torch.tensor(0.3, dtype=logps.dtype)
    losses, _ = kto_loss(sequence_logps(logps, mask), sequence_logps(ref, mask), kl, labels, 0.4, 1.2, 0.8)
    return sum(losses.chunk(2))  # type: ignore[return-value]


LOSSES: dict[str, Rows] = {
    "dpo": lambda x, ref, mask: dpo_loss(*_four(x, ref, mask), 0.3)[0],
    "cdpo": lambda x, ref, mask: dpo_loss(*_four(x, ref, mask), 0.3, 0.1)[0],
    "ipo": lambda x, ref, mask: ipo_loss(*_four(x, ref, mask), 0.05)[0],
    "kto": _kto,
    "orpo": lambda x, ref, mask: orpo_loss(*_two(x, mask), 0.2)[0],
    "simpo": lambda x, ref, mask: simpo_loss(*_two(x, mask), 2.0, 1.0)[0],
    "reward": lambda x, ref, mask: reward_loss(*sequence_logps(x, mask).chunk(2), None, 0.01),
}
Every = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def _rows(pairs: int = 3, length: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logps, ref = (-torch.rand(2 * pairs, length, generator=generator, dtype=torch.float64) - 0.1 for _ in range(2))
    lengths = torch.randint(1, length + 1, (2 * pairs, 1), generator=generator)
    return logps, ref, torch.arange(length) < lengths


@Every
def test_gradients_equal_finite_differences(loss: Rows) -> None:
    logps, ref, mask = _rows()
    assert torch.autograd.gradcheck(lambda x: loss(x, ref, mask), [logps.requires_grad_()])
    assert torch.autograd.gradcheck(lambda x: sft_loss(x, mask, 9), [logps])


@Every
def test_one_step_raises_chosen_and_lowers_rejected(loss: Rows) -> None:
    _, ref, mask = _rows()
    logps = ref.clone().requires_grad_()
    loss(logps, ref, mask).sum().backward()
    assert logps.grad is not None
    chosen, rejected = sequence_logps(-logps.grad, mask).chunk(2)
    if loss is LOSSES["reward"]:  # the pull towards 0 moves both alike: the margin is what has to grow
        assert (chosen > rejected).all()
    else:
        assert (chosen > 0).all() and (rejected < 0).all()
    assert (logps.grad[~mask] == 0).all()


@Every
def test_inputs_stay_and_the_reference_gets_no_gradient(loss: Rows) -> None:
    logps, ref, mask = _rows()
    before = [tensor.clone() for tensor in (logps, ref, mask)]
    logps.requires_grad_()
    ref.requires_grad_()
    loss(logps, ref, mask).sum().backward()
    assert logps.grad is not None and ref.grad is None
    assert all(torch.equal(old, new) for old, new in zip(before, (logps, ref, mask), strict=True))


@Every
@settings(max_examples=15, deadline=None)
@given(extra=st.integers(0, 4), seed=st.integers(0, 999), junk=st.sampled_from([1e30, -1e30, math.inf, math.nan]))
def test_padding_its_garbage_the_mask_type_and_batch_order_change_nothing(
    loss: Rows, extra: int, seed: int, junk: float
) -> None:
    logps, ref, mask = _rows(seed=seed)
    expected = loss(logps, ref, mask)
    longer = torch.cat([mask, torch.zeros(6, extra, dtype=torch.bool)], 1)
    wide, wide_ref = (
        torch.nn.functional.pad(x, (0, extra)).masked_fill(~longer, value) for x, value in ((logps, junk), (ref, -1e30))
    )
    wide.requires_grad_()
    padded = loss(wide, wide_ref, longer.double())
    assert torch.allclose(padded, expected, rtol=1e-12, atol=0)
    padded.sum().backward()
    assert wide.grad is not None and wide.grad.isfinite().all() and (wide.grad[~longer] == 0).all()
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    assert torch.allclose(loss(logps[order], ref[order], mask[order]), expected[order[:3]], rtol=1e-12, atol=0)


def test_what_is_plotted_carries_no_gradient() -> None:
    four = [value.requires_grad_() for value in one(-1, -2, -3, -4)]
    plotted = [*dpo_loss(*four, 0.1)[1:], *ipo_loss(*four, 0.1)[1:], *simpo_loss(*four[:2], 2, 1)[1:]]
    plotted += [orpo_loss(*four[:2], 0.1)[1], kto_loss(*four[:2], torch.tensor(0.0), torch.tensor([True]), 0.1)[1]]
    assert not any(value.requires_grad for value in plotted)


def test_kto_passes_no_gradient_through_its_estimate() -> None:
    policy, ref = one(-1, -2)
    kl = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    losses, _ = kto_loss(policy.requires_grad_(), ref, kl, torch.tensor([True]), 0.1)
    losses.sum().backward()
    assert kl.grad is None and policy.grad is not None


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: dpo_loss(a, a, b, a, 0.1),
        lambda a, b: ipo_loss(a, b, a, a, 0.1),
        lambda a, b: kto_loss(a, b, torch.tensor(0.0), torch.ones(3, dtype=torch.bool), 0.1),
        lambda a, b: orpo_loss(a, b, 0.1),
        lambda a, b: simpo_loss(a, b, 2.0, 1.0),
        lambda a, b: reward_loss(a, a, b),
        lambda a, b: sft_loss(a, b),
    ],
)
def test_shapes_that_would_broadcast_are_refused(call: Callable[[Tensor, Tensor], object]) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        call(torch.zeros(3), torch.zeros(3, 1))


def test_half_precision_is_raised_to_float32() -> None:
    values = [value.bfloat16() for value in one(-1, -2, -1.5, -1.5)]
    assert dpo_loss(*values, 0.1)[0].dtype == torch.float32
    assert orpo_loss(*values[:2], 0.1)[0].dtype == torch.float32
    assert sft_loss(values[0], torch.ones(1)).dtype == torch.float32
