"""NEFTune: noise on the embeddings while a model learns, so that it imitates answers less to the letter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextlib.contextmanager
def neftune(embeddings: Any, batch: dict[str, Any], alpha: float) -> Iterator[None]:
    """Add noise to what an embedding layer gives within the block.

        x' = x + alpha / sqrt(L d) u,   u uniform in [-1, 1]      (Jain et al. 2023, arXiv:2310.05914, algorithm 1)

    L is the length of the sequence that a token stands in, not of the row that several share; d the width.
    """
    import torch

    def noisy(_: Any, __: Any, found: Tensor) -> Tensor:
        size = alpha / (lengths(batch).to(found.device) * found.shape[-1]).sqrt()
        return found + (torch.rand_like(found) * 2 - 1) * size[..., None].to(found.dtype)

    handle = embeddings.register_forward_hook(noisy)
    try:
        yield
    finally:
        handle.remove()


def lengths(batch: dict[str, Any]) -> Tensor:
    """Give the length of the sequence that each place belongs to, (R, T) float32: positions begin anew with each."""
    import torch

    positions = batch["position_ids"]
    numbers = (positions == 0).flatten().cumsum(0) - 1
    last = positions if batch.get("attention_mask") is None else positions * batch["attention_mask"]
    longest = torch.zeros(int(numbers[-1]) + 1, dtype=last.dtype, device=last.device)
    longest = longest.scatter_reduce(0, numbers, last.flatten(), "amax")
    return (longest + 1)[numbers].view(positions.shape).float()
