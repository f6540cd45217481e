"""Mixtures of experts: how a checkpoint names their weights, and what of them learns.

On the disk each map of each expert is a tensor of its own; a GGUF file has the same map of all experts of a layer in
one tensor of three dimensions, and so has transformers once it has loaded them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studio.models.shape import Shape

#: What an adapter is put on. peft knows maps of two dimensions as layers, experts of three are none to it; nor have
#: 4 bits a form for them (bitsandbytes packs linear layers).
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
#: How that is said to people.
ALONE = "attention alone learns, the experts and their router stay as they are"


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Names in a checkpoint: the layer's part, an expert's maps there; `width` is the setting of their inner width."""

    part: str
    gate: str
    up: str
    down: str
    width: str


MIXTURES = {
    "qwen3_moe": Mixture("mlp", "gate_proj", "up_proj", "down_proj", "moe_intermediate_size"),
    "mixtral": Mixture("block_sparse_moe", "w1", "w3", "w2", "intermediate_size"),
}
_EXPERT = re.compile(r"(.+\.experts)\.(\d{1,6})(\.\w+\.weight)")


def of(config: dict[str, Any]) -> Mixture | None:
    """Give the names of a mixture, None for what is none."""
    return MIXTURES.get(str(config.get("model_type")))


def stack(name: str) -> tuple[str, int] | None:
    """Give the name of the stack that an expert's tensor belongs to, and the expert's number; None for others."""
    found = _EXPERT.fullmatch(name)
    return (found[1] + found[3], int(found[2])) if found else None


def numbers(config: dict[str, Any]) -> list[str]:
    """Name the settings of a mixture that must be whole numbers; none where the model is no mixture."""
    mixture = of(config)
    if mixture is None:
        return []
    count = "num_local_experts" if "num_local_experts" in config else "num_experts"
    return [mixture.width, count, "num_experts_per_tok"]


def promised(config: dict[str, Any], mixture: Mixture, s: Shape, layer: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """List the maps behind the attention of a layer: name in it, (out, in). A layer may have one expert for all."""
    if not sparse(config, layer):
        f = config["intermediate_size"]
        yield from (("mlp.gate_proj", (f, s.hidden)), ("mlp.up_proj", (f, s.hidden)), ("mlp.down_proj", (s.hidden, f)))
        return
    yield f"{mixture.part}.gate", (s.experts, s.hidden)
    for expert in range(s.experts):
        for name in (mixture.gate, mixture.up):
            yield f"{mixture.part}.experts.{expert}.{name}", (s.ffn, s.hidden)
        yield f"{mixture.part}.experts.{expert}.{mixture.down}", (s.hidden, s.ffn)


def sparse(config: dict[str, Any], layer: int) -> bool:
    """Tell whether a layer has experts (Qwen's may be plain at places)."""
    return (
        layer not in (config.get("mlp_only_layers") or []) and (layer + 1) % config.get("decoder_sparse_step", 1) == 0
    )
