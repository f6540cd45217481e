"""The output layer applied to a chunk of positions at a time, and its gradient: the machinery of `chunked_token_logps`.

Notation used for tensor shapes: N positions, V vocabulary, d hidden size, n learned rows. A push is what a
log-probability's gradient with respect to the layer's outputs is, negated: probabilities, less 1 at the label.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass
class Head:
    """An output layer, what the model does to its logits, and rows that stand in for some of its own."""

    weight: Tensor  # (V, d)
    bias: Tensor | None  # (V,)
    softcap: float | None
    temperature: float
    ids: Tensor  # (n,)
    learned: Tensor  # (n, d)

    def passes(
        self, rows: Tensor, targets: Tensor, chunk_size: int, push: bool
    ) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Give, chunk by chunk, its positions, their log-probabilities, their pushes (as float32 and as `rows`' type).

        The pushes, not yet divided by the temperature, lie in buffers that the next chunk overwrites: fresh pages for
        each would cost a CPU a tenth of the time. With `push` false they hold nothing of use.
        """
        high = high_type(rows.dtype)
        raw = rows.new_empty(min(chunk_size, len(rows)), len(self.weight))
        lifted = raw if rows.dtype == high else raw.to(high)
        done = 0
        for part, goal in zip(split(rows, chunk_size), split(targets, chunk_size), strict=True):
            here = slice(done, done + len(part))
            done = here.stop
            logits = torch.mm(part, self.weight.t(), out=raw[: len(part)])
            if len(self.ids):
                logits.index_copy_(1, self.ids, part @ self.learned.t())
            if self.bias is not None:
                logits += self.bias
            chunk = logits if raw is lifted else lifted[: len(part)].copy_(logits)
            bent = None
            if self.softcap:
                bent = chunk.div_(self.softcap).tanh_().square().neg_().add_(1)  # the cap's derivative
                chunk.mul_(self.softcap)
            if self.temperature != 1:
                chunk.div_(self.temperature)
            goal = goal.unsqueeze(-1)
            top = chunk.amax(-1, keepdim=True)
            picked = chunk.gather(-1, goal)
            total = chunk.sub_(top).exp_().sum(-1, keepdim=True)
            if push:
                chunk.div_(total).scatter_add_(-1, goal, torch.full_like(total, -1))
                if bent is not None:
                    chunk.mul_(bent)
                if raw is not lifted:
                    logits.copy_(chunk)
            yield here, (picked - top - total.log()).squeeze(-1), chunk, logits


class FixedHead(torch.autograd.Function):
    """Scores by a layer that is not trained, and the gradient towards the hidden states, both in forward."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, learned: Tensor, targets: Tensor, head: Head, chunk_size: int, keep: bool
    ) -> Tensor:
        """(N, d), (n, d), (N,) -> (N,); `keep` prepares for backward."""
        scored = rows.new_empty(len(rows), dtype=high_type(rows.dtype))
        slopes = torch.empty_like(rows) if keep else rows[:0]
        shares = scored.new_empty(len(slopes), len(head.ids))
        change = head.learned - head.weight[head.ids]
        for here, logps, pushes, low in head.passes(rows, targets, chunk_size, keep):
            scored[here] = logps
            if keep:
                shares[here] = pushes.index_select(1, head.ids)
                torch.mm(low, head.weight, out=slopes[here]).addmm_(shares[here].to(rows.dtype), change)
        if keep:
            ctx.save_for_backward(slopes.div_(-head.temperature), shares.div_(-head.temperature), rows)
        return scored

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what forward kept: for the hidden states and the learned rows."""
        slopes, shares, rows = ctx.saved_tensors
        upstream = upstream.unsqueeze(-1)
        pulled = (slopes * upstream).to(rows.dtype) if ctx.needs_input_grad[0] else None
        taught = (shares * upstream).to(rows.dtype).t() @ rows if ctx.needs_input_grad[1] else None
        return pulled, taught, None, None, None, None


class TrainedHead(torch.autograd.Function):
    """Scores by a layer that is trained: each chunk's logits are computed again in backward."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, head: Head, chunk_size: int
    ) -> Tensor:
        """(N, d), (V, d), (V,), (N,) -> (N,)."""
        ctx.save_for_backward(rows, weight, bias, targets)
        ctx.head, ctx.chunk_size = head, chunk_size
        scored = rows.new_empty(len(rows), dtype=high_type(rows.dtype))
        for here, logps, _, _ in head.passes(rows, targets, chunk_size, push=False):
            scored[here] = logps
        return scored

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Compute each chunk again, and from it what the hidden states, the weight and the bias get."""
        rows, weight, bias, targets = ctx.saved_tensors
        high = high_type(rows.dtype)
        to_rows, to_weight, to_bias = ctx.needs_input_grad[:3]
        pulled = torch.empty_like(rows) if to_rows else None
        # Summed over chunks in float32: a sum kept in a half type would lose the small ones.
        taught = torch.zeros_like(weight, dtype=high) if to_weight else None
        lifted = torch.zeros_like(bias, dtype=high) if to_bias else None
        upstream = upstream.unsqueeze(-1) / -ctx.head.temperature
        for here, _, pushes, low in ctx.head.passes(rows, targets, ctx.chunk_size, push=True):
            pushes.mul_(upstream[here])
            if low is not pushes:
                low.copy_(pushes)
            if pulled is not None:
                torch.mm(low, weight, out=pulled[here])
            if taught is not None and low is pushes:
                taught.addmm_(low.t(), rows[here])
            elif taught is not None:
                taught += low.t() @ rows[here]
            if lifted is not None:
                lifted += pushes.sum(0)
        return (
            pulled,
            None if taught is None else taught.to(weight.dtype),
            None if lifted is None else lifted.to(bias.dtype),
            None,
            None,
            None,
        )


def split(values: Tensor, chunk_size: int) -> tuple[Tensor, ...]:
    """Split evenly: 130 positions by 128 are 65 and 65, since a chunk of 2 would read the whole weight as well."""
    return values.tensor_split(max(1, math.ceil(len(values) / chunk_size)))


def high_type(dtype: torch.dtype) -> torch.dtype:
    """Give the type in which log-probabilities are computed: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
