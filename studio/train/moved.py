"""How far a run moved the weights: the norm of the change over the norm of the weights, over the layers that learn.

    moved = sqrt(sum ||W1 - W0||_F^2) / sqrt(sum ||W0||_F^2)                  in per cent; W: a layer as it computes

With an adapter W = W_base + s B A, so that the change is a product of rank 2 r, and its norm follows from two small
matrices; nothing as large as W is built. Of a 4-bit base W_base is what its 4 bits stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from studio.train.policy import POLICY

if TYPE_CHECKING:
    from torch import Tensor

#: Of each layer with an adapter that did not begin as nothing: its A and B, and its row lengths with DoRA.
Start = dict[str, tuple[Any, ...]]


@torch.no_grad()
def start(model: Any, adapter: str = POLICY) -> Start:
    """Keep what the adapter begins with, in the machine's memory; of a new one nothing, since its B is 0."""
    return {
        name: tuple(None if t is None else t.detach().to("cpu", copy=True) for t in _factors(layer, adapter))
        for name, layer in _layers(model, adapter)
        if bool(layer.lora_B[adapter].weight.any())
    }


@torch.no_grad()
def moved(model: Any, began: Start, adapter: str = POLICY) -> float | None:
    """Give how far the adapter's layers moved since `start`, in per cent; None where there is no adapter."""
    change = size = 0.0
    for name, layer in _layers(model, adapter):
        a, b, magnitude = _factors(layer, adapter)
        weight, s = base_weight(layer.get_base_layer()), float(layer.scaling[adapter])
        old: list[Any] = [None if t is None else t.to(a.device) for t in began.get(name, (None, None, None))]
        if magnitude is not None:
            now = _dora(weight, s, a, b, magnitude)
            then = weight if old[0] is None else _dora(weight, s, old[0], old[1], old[2])
            change += float((now - then).double().square().sum())
            size += float(then.double().square().sum())
            continue
        size += float(torch.linalg.vector_norm(weight)) ** 2
        left, right = s * b.double(), a.double()
        if old[0] is not None:
            a0, b0 = old[0].double(), s * old[1].double()
            # ||W + B0 A0||^2 = ||W||^2 + 2 <W, B0 A0> + ||B0 A0||^2
            size += 2 * float(((b0.to(weight.dtype).T @ weight).double() * a0).sum()) + _squared(b0, a0)
            left, right = torch.cat([left, -b0], 1), torch.cat([right, a0])
        change += _squared(left, right)
    return 100 * (change / size) ** 0.5 if size > 0 else None


@torch.no_grad()
def moved_full(weights: Mapping[str, Tensor], original: Callable[[str], Tensor]) -> float | None:
    """Give how far weights (by name) moved from what `original` gives, read one at a time; in per cent."""
    change = size = 0.0
    for name, weight in weights.items():
        then = original(name).to(weight.device).float()
        change += float(torch.linalg.vector_norm(weight.detach().float() - then)) ** 2
        size += float(torch.linalg.vector_norm(then)) ** 2
    return 100 * (change / size) ** 0.5 if size > 0 else None


def base_weight(layer: Any) -> Tensor:
    """Give a linear layer's weight (out, in) in float32, taken out of its 4 bits where it lies in them."""
    weight = layer.weight
    if type(weight).__name__ == "Params4bit":
        import bitsandbytes.functional as bnb

        found: Tensor = bnb.dequantize_4bit(weight.data, weight.quant_state)
        return found.float()
    return weight.detach().float()


def _layers(model: Any, adapter: str) -> Iterator[tuple[str, Any]]:
    return ((name, layer) for name, layer in model.named_modules() if adapter in getattr(layer, "lora_A", {}))


def _factors(layer: Any, adapter: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Give A (r, in), B (out, r), and DoRA's row lengths (out,) or None."""
    vector = layer.lora_magnitude_vector[adapter].weight if layer.use_dora.get(adapter) else None
    return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, vector


def _squared(left: Tensor, right: Tensor) -> float:
    """Give ||L R||_F^2 = tr((L^T L)(R R^T)), (out, k) and (k, in), without the product."""
    return max(0.0, float(((left.T @ left) * (right @ right.T)).sum()))


def _dora(weight: Tensor, s: float, a: Tensor, b: Tensor, magnitude: Tensor) -> Tensor:
    """Give DoRA's weight m (W + s B A) / ||W + s B A||, rows scaled (Liu et al. 2024, arXiv:2402.09353, eq. 5)."""
    whole = weight + s * (b.float() @ a.float())
    return magnitude.float()[:, None] * whole / whole.norm(dim=1, keepdim=True)
