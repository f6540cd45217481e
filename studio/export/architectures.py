"""What llama.cpp wants to know about an architecture: one row each, the rest is the same for all.

Shown bit-identical to llama.cpp's own converter: the rows of q and k are reordered where llama.cpp rotates neighbouring
pairs; Gemma's norms are stored as w - 1 and written as w; llama3's and longrope's factors are tensors of their own; the
experts of a layer lie in one tensor.
What llama.cpp computes with constants of its own is compared with config.json (models/agreement), and refused where it
differs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.errors import ModelError
from studio.models import agreement, check
from studio.models.agreement import rope, scaling
from studio.models.shape import Shape

if TYPE_CHECKING:
    from gguf import GGUFWriter

Config = dict[str, Any]
Extra = dict[str, np.ndarray]


def _nothing(writer: GGUFWriter, config: Config) -> None:
    """Write nothing more."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How a transformers class becomes llama.cpp's architecture.

    `pairs`: the rows of q and k are reordered, because llama.cpp rotates pairs of neighbours; `norm`: what is added to
    every norm's weights; `more(writer, config)`: hyperparameters of its own.
    """

    pairs: bool = False
    norm: float = 0.0
    more: Callable[[GGUFWriter, Config], None] = _nothing


def _gemma2(writer: GGUFWriter, config: Config) -> None:
    caps = {name: float(config.get(name, usual)) for name, usual in agreement.SOFTCAPS.items()}
    writer.add_attn_logit_softcapping(caps["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(caps["final_logit_softcapping"])
    writer.add_sliding_window(config.get("sliding_window", 4096))


def _gemma3(writer: GGUFWriter, config: Config) -> None:
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    writer.add_sliding_window(config.get("sliding_window", 4096))
    local = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
    writer.add_rope_freq_base_swa(float(local.get("rope_theta") or config.get("rope_local_base_freq") or 10000.0))


def _mixture(writer: GGUFWriter, config: Config) -> None:
    shape = Shape.of(config, 1)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.used)


def _qwen3_moe(writer: GGUFWriter, config: Config) -> None:
    _mixture(writer, config)
    writer.add_expert_feed_forward_length(Shape.of(config, 1).ffn)


def _phi3(writer: GGUFWriter, config: Config) -> None:
    writer.add_sliding_window(config.get("sliding_window") or 0)
    writer.add_rope_scaling_orig_ctx_len(_original(config))
    if scaling(config) == "longrope":
        ratio = float(rope(config).get("factor", config["max_position_embeddings"] / _original(config)))
        usual = math.sqrt(1 + math.log(ratio) / math.log(_original(config))) if ratio > 1 else 1.0
        writer.add_rope_scaling_attn_factors(float(rope(config).get("attention_factor", usual)))


#: transformers' class -> the row. EXPORTABLE (models/architecture) has the same classes with llama.cpp's names.
ARCHITECTURES: dict[str, Architecture] = {
    "LlamaForCausalLM": Architecture(pairs=True),
    "MistralForCausalLM": Architecture(pairs=True),
    "Qwen2ForCausalLM": Architecture(),
    "Qwen3ForCausalLM": Architecture(),
    "Qwen3MoeForCausalLM": Architecture(more=_qwen3_moe),
    "MixtralForCausalLM": Architecture(pairs=True, more=_mixture),
    "GemmaForCausalLM": Architecture(norm=1.0),
    "Gemma2ForCausalLM": Architecture(norm=1.0, more=_gemma2),
    "Gemma3ForCausalLM": Architecture(norm=1.0, more=_gemma3),
    "Phi3ForCausalLM": Architecture(more=_phi3),
    "SmolLM3ForCausalLM": Architecture(pairs=True),
    "Olmo2ForCausalLM": Architecture(),
}


def find(config: Config) -> Architecture:
    """Give the row of a model; ModelError for one that is not there, or that llama.cpp would compute otherwise."""
    kind = (config.get("architectures") or [""])[0]
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{kind or 'This architecture'} cannot be exported yet.", f"Studio exports: {known}.")
    if why := agreement.problem(kind, config):
        remedy = "It would talk nonsense there: use it through `studio merge` instead."
        raise ModelError(f"This model cannot be exported: {why}.", remedy)
    return ARCHITECTURES[kind]


def write_config(writer: GGUFWriter, config: Config, rows: int) -> None:
    """Write the hyperparameters; `rows` is the height of the embedding."""
    shape, turn = Shape.of(config, rows), rope(config)
    writer.add_context_length(check.context_of(config))
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(config.get("intermediate_size", shape.ffn))
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(rows)
    writer.add_rope_dimension_count(int(shape.head_dim * _share(config)))
    writer.add_rope_freq_base(float(turn.get("rope_theta") or config.get("rope_theta") or 10000.0))
    _scaling(writer, turn, config)
    find(config).more(writer, config)


def _scaling(writer: GGUFWriter, turn: Config, config: Config) -> None:
    from gguf import RopeScalingType

    kind = scaling(config)
    if kind in ("default", "llama3"):  # llama3's factors are a tensor
        return
    if kind == "longrope":
        writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
    elif kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(turn["factor"]))
    elif kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(turn["factor"]))
        writer.add_rope_scaling_orig_ctx_len(_original(config))
        for key, add in (
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if turn.get(key) is not None:
                add(float(turn[key]))
        if turn.get("attention_factor") is not None:
            usual = 0.1 * math.log(float(turn["factor"])) + 1  # llama.cpp multiplies by this itself
            writer.add_rope_scaling_attn_factors(float(turn["attention_factor"]) / usual)


def extra(config: Config) -> Extra:
    """Give tensors that the checkpoint does not hold: factors of the rotary embedding (head_dim / 2,)."""
    turn, shape = rope(config), Shape.of(config, 1)
    if scaling(config) == "longrope":
        made = {
            f"rope_factors_{name}.weight": np.asarray(turn[f"{name}_factor"], np.float32) for name in ("long", "short")
        }
        count = int(shape.head_dim * _share(config)) // 2
        if any(factors.shape != (count,) for factors in made.values()):
            raise ModelError(f"The rope factors of this model are not {count} numbers.", "Download config.json again.")
        return made
    if scaling(config) != "llama3":
        return {}
    factor, original = float(turn["factor"]), float(turn["original_max_position_embeddings"])
    low, high = float(turn["low_freq_factor"]), float(turn["high_freq_factor"])
    half = np.arange(0, shape.head_dim, 2, dtype=np.float64)
    lengths = 2 * math.pi * float(turn.get("rope_theta", 10000.0)) ** (half / shape.head_dim)
    smooth = np.clip((original / lengths - low) / (high - low), 0.0, 1.0)
    return {"rope_freqs.weight": (1.0 / ((1.0 - smooth) / factor + smooth)).astype(np.float32)}


def _share(config: Config) -> float:
    """Tell which part of each head is rotated."""
    return float(rope(config).get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) or 1.0)


def _original(config: Config) -> int:
    found = rope(config).get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return int(found or config["max_position_embeddings"])
