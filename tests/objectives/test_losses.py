"""Losses against values that at least two independent implementations agree on (oracle.json), and by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.objectives.logps import sequence_logps, shift, token_logps
from studio.objectives.losses import dpo_loss, sft_loss

ORACLE = json.loads((Path(__file__).parent / "oracle.json").read_text("utf-8"))
TYPES = [(torch.float64, 1e-6), (torch.float32, 1e-5)]


def _inputs(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    given_ = ORACLE["logps"]["input"]
    logits = torch.tensor(given_["logits"], dtype=dtype)
    ref = torch.tensor(given_["ref_logits"], dtype=dtype)
    return logits, ref, torch.tensor(given_["labels"])


def _scored(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logits, ref, labels = _inputs(dtype)
    mask = labels[:, 1:] != -100
    return token_logps(*shift(logits, labels)), token_logps(*shift(ref, labels)), mask.to(dtype)


@pytest.mark.parametrize(("dtype", "rel"), TYPES)
def test_token_logps_and_their_sums_and_means_agree_with_the_oracle(dtype: torch.dtype, rel: float) -> None:
    logps, ref, mask = _scored(dtype)
    out = ORACLE["logps"]["output"]
    for row, expected in zip(range(4), out["per_token"], strict=True):
        assert logps[row][mask[row] > 0].tolist() == pytest.approx(expected, rel=rel)
    assert sequence_logps(logps, mask).tolist() == pytest.approx(out["sum"], rel=rel)
    assert sequence_logps(logps, mask, average=True).tolist() == pytest.approx(out["mean"], rel=rel)
    assert sequence_logps(ref, mask).tolist() == pytest.approx(out["ref_sum"], rel=rel)


@pytest.mark.parametrize(("dtype", "rel"), TYPES)
def test_sft_loss_is_the_token_mean_not_the_mean_of_means(dtype: torch.dtype, rel: float) -> None:
    logps, _, mask = _scored(dtype)
    assert float(sft_loss(logps, mask)) == pytest.approx(ORACLE["logps"]["output"]["sft_loss_token_mean"], rel=rel)
    halves = [float(sft_loss(logps[i : i + 2], mask[i : i + 2], mask.sum())) for i in (0, 2)]
    assert sum(halves) == pytest.approx(ORACLE["logps"]["output"]["sft_loss_token_mean"], rel=rel)


@pytest.mark.parametrize(("dtype", "rel"), TYPES)
@pytest.mark.parametrize("case", ORACLE["dpo"], ids=lambda c: f"beta{c['beta']}-eps{c['label_smoothing']}")
def test_dpo_loss_agrees_with_the_oracle(case: dict[str, object], dtype: torch.dtype, rel: float) -> None:
    logps, ref, mask = _scored(dtype)
    chosen, rejected = sequence_logps(logps, mask).chunk(2)
    ref_chosen, ref_rejected = sequence_logps(ref, mask).chunk(2)
    beta, smoothing = case["beta"], case["label_smoothing"]
    losses, good, bad = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, smoothing)  # type: ignore[arg-type]
    assert losses.tolist() == pytest.approx(case["losses"], rel=rel)
    assert good.tolist() == pytest.approx(case["chosen_rewards"], rel=rel)
    assert bad.tolist() == pytest.approx(case["rejected_rewards"], rel=rel)


def test_dpo_loss_is_log_2_when_the_policy_is_the_reference() -> None:
    """h = 0, so the loss is -log sigma(0) = log 2, whatever beta is."""
    chosen, rejected = torch.tensor([-3.0, -8.0]), torch.tensor([-5.0, -1.0])
    losses, good, bad = dpo_loss(chosen, rejected, chosen, rejected, 0.3)
    assert losses.tolist() == pytest.approx([math.log(2)] * 2)
    assert good.tolist() == bad.tolist() == [0.0, 0.0]


def test_dpo_loss_by_hand() -> None:
    """beta 0.5, chosen up by 2, rejected down by 2: h = 4, loss = log(1 + e^-2) = 0.126928."""
    policy, ref = (torch.tensor([-1.0]), torch.tensor([-4.0])), (torch.tensor([-3.0]), torch.tensor([-2.0]))
    losses, good, bad = dpo_loss(*policy, *ref, 0.5)
    assert float(losses) == pytest.approx(math.log(1 + math.exp(-2)))
    assert (float(good), float(bad)) == (1.0, -1.0)


def test_sft_loss_by_hand() -> None:
    """Three learned tokens of four: (1 + 2 + 4) / 3; over 14 items: 7 / 14."""
    logps, mask = torch.tensor([[-1.0, -2.0], [-9.0, -4.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert float(sft_loss(logps, mask)) == pytest.approx(7 / 3)
    assert float(sft_loss(logps, mask, 14)) == pytest.approx(0.5)


def test_masked_positions_have_no_gradient_and_one_step_raises_the_margin() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 6, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 8, (4, 6))
    labels[:, :3] = -100
    mask = (labels[:, 1:] != -100).double()

    def margin(values: torch.Tensor) -> torch.Tensor:
        chosen, rejected = sequence_logps(token_logps(*shift(values, labels)), mask).chunk(2)
        return chosen - rejected

    chosen, rejected = sequence_logps(token_logps(*shift(logits, labels)), mask).chunk(2)
    losses, *_ = dpo_loss(chosen, rejected, chosen.detach(), rejected.detach(), 0.1)
    losses.mean().backward()
    assert logits.grad is not None
    assert float(logits.grad[:, :2].abs().max()) == 0.0  # position t predicts t + 1: 0 and 1 predict masked labels
    assert float(logits.grad[:, 5].abs().max()) == 0.0  # the last position predicts nothing
    assert (margin(logits - 0.1 * logits.grad) > margin(logits)).all()


def test_gradients_equal_finite_differences() -> None:
    torch.manual_seed(1)
    values = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    refs = [torch.randn(3, dtype=torch.float64) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: dpo_loss(a, b, *refs, 0.7, 0.1)[0], values)
    logps = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1.0, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: sft_loss(x, mask, 9), [logps])


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
        return sequence_logps(token_logps(*shift(a, b)), (b[:, 1:] != -100).double())

    assert torch.allclose(summed(logits, labels), summed(padded, longer), rtol=1e-12)
    order = [2, 0, 1]
    assert torch.allclose(summed(logits, labels)[order], summed(logits[order], labels[order]), rtol=1e-12)
