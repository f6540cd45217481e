"""The output layer where a token is learned, a chunk of positions at a time: no (T, V) tensor ever exists.

What a language model of transformers makes of a hidden state h is, with u = W h + b,

    z = a u                     a: Granite's 1 / logits_scaling, Cohere's logit_scale, Falcon-H1's lm_head_multiplier
    z = c tanh(a u / c)         c: Gemma's final_logit_softcapping

The arithmetic is objectives/logps.py's; this file finds W, b, a, c and the rows of W that are trained, here and in the
input embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from peft.tuners.trainable_tokens import TrainableTokensLayer

from studio.hardware import chunk_of
from studio.objectives.logps import chunked_token_logps, exact, token_logps

if TYPE_CHECKING:
    from torch import Tensor

_SCALES = (("logits_scaling", -1), ("logit_scale", 1), ("lm_head_multiplier", 1))


def logps(base: Any, hidden: Tensor, labels: Tensor, temperature: float = 1.0, chunk: int = 0) -> Tensor:
    """Give log softmax(z / temperature)[label] of N hidden states, (N, d) and (N,) -> (N,), float32.

    `chunk` positions at a time; 0: as many as take 64 MB.
    """
    scale, cap = scaling(base.config)
    # c tanh(a u / c) = a c' tanh(u / c') with c' = c / a: what is divided by last is 1 / a.
    softcap, temperature = cap / scale if cap else None, temperature / scale
    layer, rows = trained_rows(base.get_output_embeddings())
    if type(layer) is not torch.nn.Linear:
        return _asked(layer, hidden, labels, softcap, temperature, chunk or chunk_of(layer.out_features))
    chunk = chunk or chunk_of(layer.out_features)
    return chunked_token_logps(hidden, layer.weight, labels, chunk, layer.bias, softcap, temperature, rows)


def scaling(config: Any) -> tuple[float, float]:
    """Give the factor a of the logits and their soft cap c (0: none)."""
    config = config.get_text_config()
    scale = 1.0
    for name, power in _SCALES:
        scale *= float(getattr(config, name, None) or 1.0) ** power
    return scale, float(getattr(config, "final_logit_softcapping", None) or 0.0)


def trained_rows(layer: Any) -> tuple[Any, tuple[Tensor, Tensor] | None]:
    """Look into peft's wrapper of a layer some rows of which are trained.

    Gives the layer itself, and the rows' numbers (k,) with their weights (k, d): None where there are none, or where
    the adapter is switched off.
    """
    wrapped = getattr(layer, "token_adapter", None)
    if wrapped is None:
        return layer, None
    base = wrapped.get_base_layer()
    names = [name for name in wrapped.active_adapters if name in wrapped.token_indices]
    if wrapped.merged or wrapped.disable_adapters or not names:
        return base, None
    numbers = [number for name in names for number in wrapped.token_indices[name]]
    weights = torch.cat([wrapped.trainable_tokens_delta[name] for name in names])
    return base, (torch.tensor(numbers, device=weights.device), weights)


class LeanRows(TrainableTokensLayer):
    """peft's embedding with trained rows, without the copy of all rows and their gradient that it makes each time."""

    def forward_adapters(self, x: Tensor, active_adapters: Sequence[str], *args: Any, **kwargs: Any) -> Tensor:
        """Look tokens up, (...) -> (..., d): frozen rows as they are, then the trained ones in their places."""
        base, names = self.get_base_layer(), [name for name in active_adapters if name in self.token_indices]
        if (
            not isinstance(base, torch.nn.Embedding)
            or base.weight.requires_grad
            or self.disable_adapters
            or self.merged
        ):
            return super().forward_adapters(x, active_adapters, *args, **kwargs)
        self._check_overlapping_tokens(names)
        found, scale = base(x), self._get_embed_scale()
        for name in names:
            is_row = x[..., None] == torch.tensor(self.token_indices[name], device=x.device)
            here = is_row.any(-1)
            rows = F.embedding(is_row[here].int().argmax(-1), self.trainable_tokens_delta[name]).to(found.dtype)
            found = found.masked_scatter(here[..., None], rows if scale is None else rows * scale.to(found.dtype))
        return found


def lean(model: Any) -> None:
    """Let peft's wrappers of an embedding with trained rows look tokens up without a dense gradient."""
    for module in model.modules():
        if type(module) is TrainableTokensLayer:
            module.__class__ = LeanRows


def _asked(layer: Any, hidden: Tensor, labels: Tensor, softcap: float | None, temperature: float, chunk: int) -> Tensor:
    """Ask a layer of another kind (with an adapter on it, quantised) itself; each chunk again in the backward."""
    from torch.utils.checkpoint import checkpoint

    def scored(states: Tensor, wanted: Tensor) -> Tensor:
        logits = exact(layer(states))
        if softcap:
            logits = (logits / softcap).tanh() * softcap
        return token_logps(logits / temperature, wanted)

    parts = zip(hidden.split(chunk), labels.split(chunk), strict=True)
    return torch.cat([checkpoint(scored, states, wanted, use_reentrant=False) for states, wanted in parts])
