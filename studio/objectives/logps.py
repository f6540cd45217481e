"""Log-probabilities of tokens and sequences.

Notation used for tensor shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = -100


def token_logps(logits: Tensor, labels: Tensor) -> Tensor:
    """Give log softmax(logits)[label] per position, 0 where the label is -100.

    `logits` (..., V) and `labels` (...) are already aligned: logits[i] predicts labels[i]. Computed in float32 (float64
    stays float64). Returns (...).
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    kept = labels != IGNORE
    picked = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(kept, picked - logits.logsumexp(-1), torch.zeros_like(picked))


def shift(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Align next-token predictions with what they predict: (B, T, V), (B, T) -> (B, T-1, V), (B, T-1)."""
    return logits[:, :-1], labels[:, 1:]


def sequence_logps(per_token: Tensor, mask: Tensor, average: bool = False) -> Tensor:
    """Sum (DPO, IPO, KTO) or average (ORPO, SimPO) the masked token log-probabilities: (B, T), (B, T) -> (B,)."""
    total = (per_token * mask).sum(-1)
    return total / mask.sum(-1).clamp(min=1) if average else total
