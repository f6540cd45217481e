"""The output layer in chunks: the same numbers and gradients as the whole of it, in a fraction of the memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from studio.objectives.logps import chunked_entropy, chunked_token_logps, token_logps

HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "softcap": {"softcap": 3.0},
    "temperature": {"temperature": 0.7},
    "both": {"softcap": 3.0, "temperature": 1.7},
}
Heads = pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)


def _made(dtype: torch.dtype = torch.float64, size: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states (3, 7, d), weight (11, d), bias (11,), labels of which 12 of 21 count."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)
        for shape in ((3, 7, size), (11, size), (11,))
    )
    labels = torch.randint(0, 11, (3, 7), generator=generator)
    labels[0, :2] = labels[1, 4:] = labels[2, ::2] = -100
    return hidden, weight, bias, labels


def _whole(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None = None,
    softcap: float = 0.0,
    temperature: float = 1,
) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = softcap * torch.tanh(logits / softcap) if softcap else logits
    return token_logps(logits / temperature, labels)


def _gradients(result: Tensor, *inputs: Tensor) -> list[Tensor]:
    upstream = torch.randn(result.shape, dtype=result.dtype, generator=torch.Generator().manual_seed(1))
    return list(torch.autograd.grad(result, inputs, upstream))


def test_by_hand() -> None:
    """Hidden 1, weights 0, ln 2, ln 5: probabilities 1/8, 2/8, 5/8. d/dh of log(5/8): ln 5 - (2 ln 2 + 5 ln 5) / 8."""
    hidden = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[0.0], [math.log(2)], [math.log(5)]], dtype=torch.float64)
    logps = chunked_token_logps(hidden, weight, torch.tensor([2]), 128)
    logps.sum().backward()
    assert float(logps.detach()) == pytest.approx(math.log(5 / 8))
    assert hidden.grad is not None
    assert float(hidden.grad) == pytest.approx(math.log(5) - (2 * math.log(2) + 5 * math.log(5)) / 8)
    entropy = chunked_entropy(hidden, weight, torch.tensor([2]), 128)
    assert float(entropy) == pytest.approx(-sum(p * math.log(p) for p in (1 / 8, 2 / 8, 5 / 8)))


@Heads
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 5, 12, 99])
def test_a_fixed_layer_scores_and_teaches_as_the_whole(
    options: dict[str, Any], with_bias: bool, chunk_size: int
) -> None:
    hidden, weight, bias, labels = _made()
    options = {**options, "bias": bias} if with_bias else options
    hidden.requires_grad_()
    expected, got = (
        _whole(hidden, weight, labels, **options),
        chunked_token_logps(hidden, weight, labels, chunk_size, **options),
    )
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12) and (got[labels == -100] == 0).all()
    for ours, theirs in zip(_gradients(got, hidden), _gradients(expected, hidden), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12) and (ours[labels == -100] == 0).all()


@Heads
@pytest.mark.parametrize("chunk_size", [5, 99])
@pytest.mark.parametrize("learns", ["weight", "bias", "both", "all"])
def test_a_trained_layer_gets_the_gradient_of_the_whole(options: dict[str, Any], chunk_size: int, learns: str) -> None:
    hidden, weight, bias, labels = _made()
    inputs = {"weight": [weight], "bias": [bias], "both": [weight, bias], "all": [hidden, weight, bias]}[learns]
    for tensor in inputs:
        tensor.requires_grad_()
    expected = _whole(hidden, weight, labels, bias, **options)
    got = chunked_token_logps(hidden, weight, labels, chunk_size, bias, **options)
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(_gradients(got, *inputs), _gradients(expected, *inputs), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@Heads
@pytest.mark.parametrize("fixed", [True, False])
def test_rows_of_added_tokens_learn_without_the_weight(options: dict[str, Any], fixed: bool) -> None:
    hidden, weight, bias, labels = _made()
    ids = torch.tensor([10, 3])
    rows = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inputs = [hidden.requires_grad_(), rows.requires_grad_()]
    weight.requires_grad_(not fixed)
    expected = _whole(hidden, weight.index_copy(0, ids, rows), labels, bias, **options)
    got = chunked_token_logps(hidden, weight, labels, 5, bias, **options, learned_rows=(ids, rows))
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(_gradients(got, *inputs), _gradients(expected, *inputs), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_gradients_equal_finite_differences() -> None:
    hidden, weight, bias, labels = _made()
    hidden.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: chunked_token_logps(x, weight, labels, 5, bias, 3.0, 0.7), [hidden])
    hidden.requires_grad_(False)
    inputs = [weight.requires_grad_(), bias.requires_grad_()]
    assert torch.autograd.gradcheck(lambda w, b: chunked_token_logps(hidden, w, labels, 5, b, 3.0, 0.7), inputs)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_lower_precision_loses_no_more_than_its_digits(dtype: torch.dtype, rel: float, trained: bool) -> None:
    """Against float64 on the same rounded inputs; the log-softmax itself is float32 whatever the type."""
    hidden, weight, bias, labels = _made(dtype, size=32)
    inputs = [hidden.requires_grad_(), weight.requires_grad_()][: 1 + trained]
    weight.requires_grad_(trained)
    got = chunked_token_logps(hidden, weight, labels, 5, bias)
    exact = [tensor.detach().double().requires_grad_() for tensor in (hidden, weight)]
    expected = _whole(exact[0], exact[1], labels, bias.double())
    assert got.dtype == torch.float32
    assert float((got - expected).detach().norm() / expected.detach().norm()) < rel
    for ours, theirs in zip(_gradients(got.double(), *inputs), _gradients(expected, *exact), strict=False):
        assert ours.dtype == dtype and float((ours - theirs).norm() / theirs.norm()) < rel


def test_a_certain_token_keeps_the_digits_of_its_gradient_in_bfloat16() -> None:
    """Probability 1 - e^-9: W_label - sum p W rounded to bfloat16 would be noise; p - 1 is subtracted before."""
    hidden = torch.tensor([[9.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    weight = torch.tensor([[1.0, 1.0], [0.0, 3.0]], dtype=torch.bfloat16)
    chunked_token_logps(hidden, weight, torch.tensor([0]), 8).sum().backward()
    left = 1 / (1 + math.exp(9))
    assert hidden.grad is not None and hidden.grad[0].tolist() == pytest.approx([left, -2 * left], rel=0.01)


def test_under_autocast_the_layer_runs_in_the_lower_type() -> None:
    hidden, weight, _, labels = _made(torch.float32, size=32)
    hidden.requires_grad_()
    for trained in (False, True):
        weight.requires_grad_(trained)
        with torch.autocast("cpu", torch.bfloat16):
            got = chunked_token_logps(hidden, weight, labels, 5)
            expected = token_logps(torch.nn.functional.linear(hidden, weight), labels)
        assert torch.allclose(got, expected, atol=1e-5)
        (gradient,) = _gradients(got, hidden)
        assert gradient.dtype == torch.float32
        assert torch.allclose(gradient, _gradients(expected, hidden)[0], atol=0.05)


def test_nothing_labelled_gives_0_and_a_gradient_of_0() -> None:
    hidden, weight, bias, labels = _made()
    for trained in (False, True):
        inputs = [hidden.requires_grad_(), *([weight.requires_grad_()] if trained else [])]
        got = chunked_token_logps(hidden, weight, torch.full_like(labels, -100), 5, bias)
        assert got.shape == labels.shape and (got == 0).all()
        assert all((gradient == 0).all() for gradient in _gradients(got, *inputs))
    assert (chunked_entropy(hidden, weight, torch.full_like(labels, -100), 5) == 0).all()


def test_states_without_a_label_may_be_anything_and_no_input_is_changed() -> None:
    hidden, weight, bias, labels = _made()
    expected = chunked_token_logps(hidden, weight, labels, 5, bias, 3.0, 0.7)
    wild = hidden.masked_fill((labels == -100).unsqueeze(-1), math.nan).requires_grad_()
    before = [tensor.detach().clone() for tensor in (wild, weight, bias, labels)]
    got = chunked_token_logps(wild, weight, labels, 5, bias, 3.0, 0.7)
    assert torch.equal(got, expected)
    assert _gradients(got, wild)[0].isfinite().all()
    for old, new in zip(before, (wild, weight, bias, labels), strict=True):
        assert torch.equal(old.nan_to_num(7), new.nan_to_num(7))


@Heads
def test_entropy_is_that_of_the_whole(options: dict[str, Any]) -> None:
    hidden, weight, bias, labels = _made()
    every = torch.arange(11).expand(3, 7, 11)
    logps = torch.stack([_whole(hidden, weight, every[..., v], bias, **options) for v in range(11)], -1)
    expected = -(logps.exp() * logps).sum(-1).masked_fill(labels == -100, 0)
    got = chunked_entropy(hidden.requires_grad_(), weight, labels, 5, bias, **options)
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12) and not got.requires_grad


def test_entropy_of_equal_chances_is_the_log_of_their_number() -> None:
    assert float(chunked_entropy(torch.zeros(1, 4), torch.ones(11, 4), torch.zeros(1), 8)) == pytest.approx(
        math.log(11)
    )


class _Largest(TorchDispatchMode):
    """Watches the largest tensor that any operation gives, in elements; views of those named are no new memory."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize("trained", [False, True])
def test_no_tensor_is_larger_than_a_chunk_of_logits_in_either_direction(trained: bool) -> None:
    """400 positions, 1000 tokens: logits 400 000; in chunks of 20: 20 000. The weight, 8000, has its own gradient."""
    hidden, weight = torch.randn(400, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=trained)
    labels = torch.randint(0, 1000, (400,))
    with _Largest() as watch:
        chunked_token_logps(hidden, weight, labels, 20, softcap=5.0).sum().backward()
        chunked_entropy(hidden, weight, labels, 20)
    assert 20_000 <= watch.numel < 21_000


def test_a_fixed_layer_makes_no_gradient_of_the_size_of_its_weight() -> None:
    """6 positions, 2000 tokens of 50 numbers: 12 000 logits, and nothing as large as the 100 000 of the weight."""
    hidden, weight, rows = torch.randn(6, 50, requires_grad=True), torch.randn(2000, 50), torch.randn(2, 50)
    with _Largest(weight) as watch:
        learned = (torch.tensor([7, 1999]), rows.requires_grad_())
        chunked_token_logps(hidden, weight, torch.arange(6), 6, learned_rows=learned).sum().backward()
    assert rows.grad is not None
    assert 12_000 <= watch.numel < 13_000


@pytest.mark.parametrize(("labels", "chunk_size", "says"), [(3, 8, "do not fit"), (4, 0, "at least 1")])
def test_what_does_not_fit_is_refused(labels: int, chunk_size: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        chunked_token_logps(torch.zeros(4, 2), torch.zeros(5, 2), torch.zeros(labels, dtype=torch.long), chunk_size)
