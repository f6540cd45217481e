"""Log-probabilities of tokens and sequences, and the arithmetic on masks that goes with them.

Notation used for tensor shapes: B rows, T positions, V vocabulary. Log-probabilities are in nats. Masks are bool or
0 and 1; what lies outside of them has no influence, be it inf or nan.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


def shift(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Align next-token predictions with what they predict: (B, T, V), (B, T) -> (B, T-1, V), (B, T-1)."""
    return logits[:, :-1], labels[:, 1:]


def sequence_logps(per_token: Tensor, mask: Tensor, average: bool = False) -> Tensor:
    """Sum (DPO, IPO, KTO) or average (ORPO, SimPO) the masked token log-probabilities: (B, T), (B, T) -> (B,).

    A row with an empty mask gives 0.
    """
    total = masked(exact(per_token), mask).sum(-1)
    return total / mask.sum(-1).clamp(min=1) if average else total


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
    return masked(values, mask).sum() / mask.sum().clamp(min=1)


def masked_whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Scale what the mask keeps to variance 1, and with `shift_mean` (advantages) to mean 0; else (rewards) keep it.

    The variance is the unbiased one (n - 1) over all masked elements of all rows; 1e-8 is added to it, so a constant
    gives 0 and not nan. Same shape as given, 0 outside of the mask.
    """
    mean = masked_mean(values, mask)
    centred = masked(values - mean, mask)
    variance = centred.square().sum() / (mask.sum() - 1).clamp(min=1)
    white = centred * (variance + 1e-8).rsqrt()
    return white if shift_mean else masked(white + mean, mask)


def exact(values: Tensor) -> Tensor:
    """Raise half precision to float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()
