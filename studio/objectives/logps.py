"""Log-probabilities of tokens and sequences, and the arithmetic on masks that goes with them.

Notation used for tensor shapes: B rows, T positions, V vocabulary, d hidden size. Log-probabilities are in nats. Masks
are bool or 0 and 1; what lies outside of them has no influence, be it inf or nan.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from studio.objectives.chunks import FixedHead, Head, TrainedHead, split

IGNORE = -100


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """Give log softmax(logits)[label] per position, 0 where the label is -100.

    `logits` (..., V) and `labels` (...) are already aligned: logits[i] predicts labels[i]. Computed in float32 (float64
    stays float64). Returns (...).
    """
    logits = exact(logits)
    kept = labels != IGNORE
    picked = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(kept, picked - logits.logsumexp(-1), torch.zeros_like(picked))


def chunked_token_logps(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    chunk_size: int,
    bias: Tensor | None = None,
    softcap: float | None = None,
    temperature: float = 1.0,
    learned_rows: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    r"""Score labels from hidden states: `token_logps` of the output layer, without its (..., V) logits in memory.

    The layer is applied only where a label is, to a chunk of those positions at a time. What backward needs is known
    up to one number a position, so it is computed in the same pass and nothing is recomputed: with fixed weights

    .. math:: \partial \log\pi(y_i) / \partial h_i = W_{y_i} - \sum_v \pi_v W_v

    has the shape of the hidden state and does not depend on what follows. It is kept and scaled in backward. Two matrix
    products a position, as with plain autograd, and a peak of about chunk_size * V floats in both directions, however
    many positions there are. Where the weight or bias is trained itself, its gradient does depend on what follows, and
    each chunk is recomputed in backward: four products instead of three.

    Args:
        hidden: (..., d) last hidden states, aligned: hidden[i] predicts labels[i].
        weight: (V, d) of the output layer. Logits are computed in its type (under autocast in autocast's), everything
            after them in float32 (float64 stays float64).
        labels: (...), -100 where nothing is predicted.
        chunk_size: positions at a time. Below 128 a CPU spends its time reading the weight; beyond 256 nothing is won.
        bias: (V,) of the output layer.
        softcap: c of c * tanh(logits / c), as Gemma 2 has it.
        temperature: what the logits are divided by, after capping: that of sampling, or a model's own scale.
        learned_rows: ids (n,) and rows (n, d) that stand in for weight[ids] and are trained, the weight itself being
            fixed: added tokens. They get their gradient without one of the size (V, d).

    Returns: (...) log-probabilities in nats, 0 where the label is -100.

    Raises: ValueError when `labels` and `hidden` do not fit or `chunk_size` is below 1.
    """
    rows, targets, where = _labelled(hidden, labels, chunk_size)
    dtype = _compute_type(weight)
    rows, layer = rows.to(dtype), weight.to(dtype)
    offset = None if bias is None else bias.to(dtype)
    ids, learned = (targets[:0], layer[:0].detach()) if learned_rows is None else learned_rows
    learned = learned.to(dtype)
    tracked = torch.is_grad_enabled()
    if tracked and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        layer = layer.index_copy(0, ids, learned) if len(ids) else layer
        head = Head(
            layer.detach(), None if offset is None else offset.detach(), softcap, temperature, ids[:0], learned[:0]
        )
        scored = TrainedHead.apply(rows, layer, offset, targets, head, chunk_size)
    else:
        keep = tracked and (rows.requires_grad or learned.requires_grad)
        head = Head(layer, offset, softcap, temperature, ids, learned.detach())
        scored = FixedHead.apply(rows, learned, targets, head, chunk_size, keep)
    return _put_back(scored, where, labels)


@torch.no_grad()
def chunked_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    chunk_size: int,
    bias: Tensor | None = None,
    softcap: float | None = None,
    temperature: float = 1.0,
) -> Tensor:
    r"""Give the entropy of the next token in nats, 0 to ln V, for a plot: without a gradient.

    .. math:: -\sum_v \pi_v \log \pi_v

    Arguments, memory and errors as in `chunked_token_logps`. Returns (...), 0 where the label is -100.
    """
    rows, _, where = _labelled(hidden, labels, chunk_size)
    dtype = _compute_type(weight)
    layer, offset, scored = weight.to(dtype), None if bias is None else bias.to(dtype), []
    for part in split(rows.to(dtype), chunk_size):
        logits = exact(F.linear(part, layer, offset))
        logits = (logits / softcap).tanh() * softcap if softcap else logits
        logps = (logits / temperature).log_softmax(-1)
        scored.append(-torch.linalg.vecdot(logps.exp(), logps))
    return _put_back(torch.cat(scored), where, labels)


def shift(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Align next-token predictions with what they predict: (B, T, V), (B, T) -> (B, T-1, V), (B, T-1)."""
    return logits[:, :-1], labels[:, 1:]


def sequence_logps(per_token: Tensor, mask: Tensor, average: bool = False) -> Tensor:
    """Sum (DPO, IPO, KTO) or average (ORPO, SimPO) the masked token log-probabilities: (B, T), (B, T) -> (B,).

    A row with an empty mask gives 0.
    """
    total = masked(exact(per_token), mask).sum(-1)
    return total / mask.bool().sum(-1).clamp(min=1) if average else total


def log1mexp(values: Tensor) -> Tensor:
    r"""Give log(1 - exp(x)) for x < 0, with all its digits and a finite gradient on both ends; -inf at 0.

    .. math:: \log(-\mathrm{expm1}(x)) \text{ if } x > -\ln 2 \text{ else } \mathrm{log1p}(-e^x)

    Each form cancels where the other is used: plain log(1 - exp(x)) in float32 gives -inf at x = -1e-8 (true: -18.4).
    """
    near = values > -math.log(2)
    inner = torch.where(near, values, -1.0)  # where() alone would let the unused branch's nan into the gradient
    outer = torch.where(near, -1.0, values)
    return torch.where(near, (-inner.expm1()).log(), (-outer.exp()).log1p())


def kl_k1(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token: log π - log π_ref at samples of the policy.

    Unbiased, but of either sign and noisy. Shapes and unit (nats) as given; no gradient through the reference.
    Source: Schulman 2020, "Approximating KL divergence", estimator k1.
    """
    return exact(logps) - exact(ref_logps).detach()


def kl_k3(logps: Tensor, ref_logps: Tensor) -> Tensor:
    """Estimate KL(policy || reference) per token: e^-d - 1 + d with d = log π - log π_ref, at samples of the policy.

    Unbiased as k1, never below 0, of lower variance. Shapes and unit (nats) as given; no gradient through the
    reference. Source: Schulman 2020, "Approximating KL divergence", estimator k3.
    """
    difference = kl_k1(logps, ref_logps)
    return (-difference).expm1() + difference


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """Put 0 where the mask is 0, same shape. Unlike a product it stops inf and nan, in the gradient too."""
    return torch.where(mask.bool(), values, 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average what the mask keeps, over all dimensions, to a scalar; 0 for an empty mask."""
    return masked(values, mask).sum() / mask.bool().sum().clamp(min=1)


def masked_whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scale what the mask keeps to variance 1, and with `shift_mean` (advantages) to mean 0; else (rewards) keep it.

    The variance is the unbiased one (n - 1) over all masked elements of all rows; 1e-8 is added to it, so a constant
    gives 0 and not nan. Same shape as given, 0 outside of the mask.
    """
    mean = masked_mean(values, mask)
    centred = masked(values - mean, mask)
    variance = centred.square().sum() / (mask.bool().sum() - 1).clamp(min=1)
    white = centred * (variance + 1e-8).rsqrt()
    return white if shift_mean else masked(white + mean, mask)


def _labelled(hidden: Tensor, labels: Tensor, chunk_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give the hidden states that have a label, those labels, and their flat positions: (n, d), (n,), (n,)."""
    if hidden.shape[:-1] != labels.shape:
        raise ValueError(f"hidden states {tuple(hidden.shape)} and labels {tuple(labels.shape)} do not fit")
    if chunk_size < 1:
        raise ValueError(f"chunk_size has to be at least 1, got {chunk_size}")
    flat = labels.reshape(-1)
    where = (flat != IGNORE).nonzero().squeeze(-1)
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, where), flat[where], where


def _put_back(scored: Tensor, where: Tensor, labels: Tensor) -> Tensor:
    out = torch.zeros(labels.numel(), dtype=scored.dtype, device=scored.device)
    return out.index_copy(0, where, scored).view(labels.shape)


def _compute_type(weight: Tensor) -> torch.dtype:
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def exact(values: Tensor) -> Tensor:
    """Raise half precision to float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()
