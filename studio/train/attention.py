"""Attention over sequences that lie behind each other in one row: each is computed alone, no T x T mask is built.

A segment is a run of tokens in the row. It attends to itself, causally, and where it goes on from a prefix that it
shares, to the head of the segment that holds that prefix:

    row       prompt chosen | rejected | prompt chosen | rejected | ...
    keys      itself          prompt + itself

The function is known to transformers under NAME. Where no segments are handed down (generation, padded rows) it does
what `sdpa` does. Sliding windows and soft-capped scores (Gemma) are handled within a segment.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

#: A loop of `scaled_dot_product_attention` over the segments; FlashAttention's kernel for all of them at once (CUDA).
#: Neither name may have "flash" in it: transformers would look for a package of that name.
NAME, FLASH = "studio", "studio_varlen"


@dataclasses.dataclass(frozen=True)
class Segments:
    """The segments of a row: the length of each, and (number of an earlier segment, tokens of its head) or None."""

    lengths: tuple[int, ...]
    prefixes: tuple[tuple[int, int] | None, ...]

    @property
    def shared(self) -> bool:
        """Tell whether any segment goes on from another's head."""
        return any(self.prefixes)

    @functools.cached_property
    def starts(self) -> list[int]:
        """Give the place in the row where each segment begins."""
        return [sum(self.lengths[:number]) for number in range(len(self.lengths))]

    def mask(self, dtype: torch.dtype, device: Any, window: int | None = None) -> Tensor:
        """Give what a model without our attention is given instead: (1, 1, T, T), 0 where a token sees, else lowest."""
        total = sum(self.lengths)
        made = torch.full((1, 1, total, total), torch.finfo(dtype).min, dtype=dtype, device=device)
        for start, length, prefix in zip(self.starts, self.lengths, self.prefixes, strict=True):
            seen = visible(length, prefix[1] if prefix else 0, window, device)
            own = torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)
            here = slice(start, start + length)
            made[0, 0, here, here] = own[:, -length:]
            if prefix:
                first = self.starts[prefix[0]]
                made[0, 0, here, first : first + prefix[1]] = own[:, :-length]
        return made

    @functools.cached_property
    def _made(self) -> dict[Any, Any]:
        return {}

    def visible(self, number: int, window: int | None, device: Any) -> Tensor:
        """Give `visible` of a segment, made once for all layers."""
        prefix = self.prefixes[number]
        key = (self.lengths[number], prefix[1] if prefix else 0, window, device)
        if key not in self._made:
            self._made[key] = visible(*key)
        return self._made[key]

    def flat(self, device: Any) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """Give for one kernel: the keys' places in the row, both cumulative lengths, the longest queries and keys."""
        if device not in self._made:
            places, sizes = [], []
            for start, length, prefix in zip(self.starts, self.lengths, self.prefixes, strict=True):
                if prefix:
                    places.append(torch.arange(prefix[1]) + self.starts[prefix[0]])
                places.append(torch.arange(length) + start)
                sizes.append(length + (prefix[1] if prefix else 0))
            ends = [torch.tensor([0, *found]).cumsum(0).int() for found in (self.lengths, sizes)]
            self._made[device] = (torch.cat(places).to(device), *(end.to(device) for end in ends))
        keys = max(
            length + (prefix[1] if prefix else 0) for length, prefix in zip(self.lengths, self.prefixes, strict=True)
        )
        return *self._made[device], max(self.lengths), keys


def visible(length: int, shared: int = 0, window: int | None = None, device: Any = None) -> Tensor:
    """Tell which keys each query of a segment sees, (length, shared + length) bool: the diagonal ends lower right."""
    seen = torch.ones(length, shared + length, dtype=torch.bool, device=device).tril(shared)
    return seen.triu(shared - window + 1) if window else seen


def forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Segments | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend: query (R, H, T, D), key and value (R, K, T, D) -> (R, T, H, D), as transformers calls it."""
    if segments is None:
        if softcap is None:
            return sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
            )
        if attention_mask is None:
            attention_mask = visible(query.shape[2], key.shape[2] - query.shape[2], sliding_window, query.device)
        return _capped(query, key, value, attention_mask, dropout, scaling, softcap).transpose(1, 2), None
    _refuse(others)
    keys, values = key.split(segments.lengths, 2), value.split(segments.lengths, 2)
    made = []
    for number, (q, prefix) in enumerate(zip(query.split(segments.lengths, 2), segments.prefixes, strict=True)):
        k, v = keys[number], values[number]
        if prefix:
            k = torch.cat([keys[prefix[0]][:, :, : prefix[1]], k], 2)
            v = torch.cat([values[prefix[0]][:, :, : prefix[1]], v], 2)
        window = sliding_window if sliding_window and k.shape[2] > sliding_window else None
        if softcap is not None:
            out = _capped(q, k, v, segments.visible(number, window, q.device), dropout, scaling, softcap)
        else:
            mask = segments.visible(number, window, q.device) if prefix or window else None
            out = F.scaled_dot_product_attention(
                q, k, v, mask, dropout, is_causal=mask is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
            )
        made.append(out.transpose(1, 2))
    return torch.cat(made, 1), None


def flash(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Segments | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Do the same with torch's FlashAttention for sequences of any length: 16 bits, on CUDA."""
    if segments is None or dropout or softcap is not None:
        return forward(
            module, query, key, value, attention_mask, dropout, scaling, segments, sliding_window, softcap, **others
        )
    from torch.nn.attention.varlen import varlen_attn

    _refuse(others)
    places, ends, key_ends, longest, longest_keys = segments.flat(query.device)
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    if segments.shared:
        keys, values = keys[places], values[places]
    out = varlen_attn(
        queries.contiguous(),
        keys.contiguous(),
        values.contiguous(),
        ends,
        key_ends,
        longest,
        longest_keys,
        scale=scaling,
        window_size=(sliding_window - 1 if sliding_window else -1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor)
    return out[None], None


def _refuse(others: dict[str, Any]) -> None:
    """Stop at what would change the scores: learned sinks, position biases."""
    known = {name for name, value in others.items() if isinstance(value, Tensor) and name != "position_ids"}
    if known:
        raise ValueError(f"attention by segments does not know {', '.join(sorted(known))}")


def _capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float, scaling: float | None, softcap: float
) -> Tensor:
    """Attend with scores s = c tanh(q k / c), which no kernel of torch has: (R, H, T, D); mask bool or additive."""
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    shares = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return F.dropout(shares, dropout) @ value


for _name, _function in ((NAME, forward), (FLASH, flash)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, sdpa_mask)
