"""The values that at least two independent implementations agree on, as tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studio.objectives.logps import sequence_logps, shift, token_logps

ORACLE: dict[str, Any] = json.loads((Path(__file__).parent / "oracle.json").read_text("utf-8"))
TYPES = [(torch.float64, 1e-6), (torch.float32, 1e-5)]


def given_logits(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the policy, of the reference, and labels: two chosen rows, then two rejected ones."""
    given = ORACLE["logps"]["input"]
    logits, ref = (torch.tensor(given[key], dtype=dtype) for key in ("logits", "ref_logits"))
    return logits, ref, torch.tensor(given["labels"])


def given_logps(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Token log-probabilities of policy and reference, and the mask, each (4, 6)."""
    logits, ref, labels = given_logits(dtype)
    return token_logps(*shift(logits, labels)), token_logps(*shift(ref, labels)), labels[:, 1:] != -100


def four_sums(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Summed log-probabilities: policy chosen, policy rejected, reference chosen, reference rejected, each (2,)."""
    logps, ref, mask = given_logps(dtype)
    chosen, rejected = sequence_logps(logps, mask).chunk(2)
    ref_chosen, ref_rejected = sequence_logps(ref, mask).chunk(2)
    return chosen, rejected, ref_chosen, ref_rejected


def two_means(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean log-probabilities under the policy: chosen, rejected, each (2,)."""
    logps, _, mask = given_logps(dtype)
    chosen, rejected = sequence_logps(logps, mask, average=True).chunk(2)
    return chosen, rejected
