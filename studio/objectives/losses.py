"""The objectives: tensors and floats in, losses out. No model, no global, nothing changed in place.

Notation used for tensor shapes: B rows (pairs for preference losses), T positions. Losses are computed in float32, or
in float64 when given float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sft_loss(token_logps: Tensor, mask: Tensor, num_items: Tensor | int | None = None) -> Tensor:
    r"""Negative log-likelihood of the response tokens.

    .. math:: -\sum_{t \in mask} \log \pi(y_t | x, y_{<t}) / N

    Args:
        token_logps: (B, T) log-probabilities of the labels.
        mask: (B, T), 1 where a token is learned.
        num_items: N, the learned tokens of the whole accumulated batch; by default the mask's own count. A mean of
            per-row or per-microbatch means would weigh short answers more.

    Returns: a scalar.
    """
    total = -(_exact(token_logps) * mask).sum()
    count = mask.sum() if num_items is None else num_items
    return total / count


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Direct preference optimisation.

    .. math:: -(1-\epsilon) \log\sigma(\beta h) - \epsilon \log\sigma(-\beta h), \quad
              h = (\log\pi_w - \log\pi_l) - (\log\pi^{ref}_w - \log\pi^{ref}_l)

    Args:
        policy_chosen_logps, policy_rejected_logps: (B,) summed response log-probabilities under the policy.
        ref_chosen_logps, ref_rejected_logps: (B,) the same under the frozen reference.
        beta: strength of the tie to the reference, usually 0.01 to 0.5.
        label_smoothing: the share of pairs believed to be labelled the wrong way round, 0 to 0.5 (conservative DPO).

    Returns: losses, chosen rewards, rejected rewards, each (B,); rewards are detached. Policy = reference gives ln 2.

    Source: Rafailov et al. 2023 (arXiv:2305.18290), equation 7; label smoothing from the authors' note on cDPO.
    """
    chosen = _exact(policy_chosen_logps) - _exact(ref_chosen_logps)
    rejected = _exact(policy_rejected_logps) - _exact(ref_rejected_logps)
    margin = beta * (chosen - rejected)
    losses = -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)
    return losses, (beta * chosen).detach(), (beta * rejected).detach()


def _exact(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
