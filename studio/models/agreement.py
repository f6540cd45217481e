"""What llama.cpp takes for granted about an architecture, held against a model's config.json.

Some numbers are built into llama.cpp and not read from the file. A model that differs would load there and talk
nonsense; it is refused before it is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Config = dict[str, Any]
#: Ways to stretch the rotary embedding that a file can say.
_SCALINGS = ("default", "linear", "llama3", "yarn", "longrope")


def rope(config: Config) -> Config:
    """Read rope settings as transformers 5 writes them (rope_parameters) or as 4 did (rope_theta, rope_scaling).

    Where layers of two kinds have settings of their own, those of the full-attention layers.
    """
    old = {"rope_theta": config.get("rope_theta", 10000.0), **(config.get("rope_scaling") or {})}
    found = config.get("rope_parameters") or old
    return found.get("full_attention") or found


def scaling(config: Config) -> str:
    """Name the way in which the rotary embedding is stretched, "default" for none."""
    turn = rope(config)
    kind = str(turn.get("rope_type") or turn.get("type") or "default")
    return "longrope" if kind == "su" else kind


def problem(architecture: str, config: Config) -> str:
    """Say what llama.cpp would compute otherwise, "" where it computes the same."""
    kind, turn = scaling(config), rope(config)
    if kind not in _SCALINGS:
        return f"llama.cpp does not know the rope scaling {kind[:40]!r}"
    if kind == "yarn" and {"mscale", "mscale_all_dim", "truncate"} & turn.keys():
        return "llama.cpp does not know all settings of this yarn rope scaling"
    if kind == "longrope" and architecture != "Phi3ForCausalLM":
        return "llama.cpp knows longrope for Phi-3 only"
    for what, says, takes in _GRANTED.get(architecture, lambda config: [])(config):
        if says != takes:
            return f"llama.cpp has {what} = {takes!r:.60} built in, this model has {says!r:.60}"
    return ""


def _every(step: int, config: Config) -> list[str]:
    layers = range(1, config["num_hidden_layers"] + 1)
    return ["full_attention" if layer % step == 0 else "sliding_attention" for layer in layers]


def _gemma(step: int, largest: int) -> Callable[[Config], list[tuple[str, Any, Any]]]:
    """Gemma 2 and 3: every `step`-th layer sees all; scores are divided by a root, of another number in the largest."""

    def granted(config: Config) -> list[tuple[str, Any, Any]]:
        usual = _every(step, config)
        whole = config["num_hidden_layers"] == largest
        scale = config["hidden_size"] // config["num_attention_heads"] if whole else config.get("head_dim", 256)
        return [
            ("layer_types", config.get("layer_types") or usual, usual),
            ("query_pre_attn_scalar", config.get("query_pre_attn_scalar", 256), scale),
        ]

    return granted


def _smollm3(config: Config) -> list[tuple[str, Any, Any]]:
    usual = [int(layer % 4 != 0) for layer in range(1, config["num_hidden_layers"] + 1)]
    return [("no_rope_layers", config.get("no_rope_layers") or usual, usual)]


def _mixture(config: Config) -> list[tuple[str, Any, Any]]:
    return [("hidden_act", config.get("hidden_act", "silu"), "silu")]


def _mixtral(config: Config) -> list[tuple[str, Any, Any]]:
    """A window as long as the context is none."""
    window = config.get("sliding_window")
    seen = None if window and window >= config["max_position_embeddings"] else window
    return [*_mixture(config), ("sliding_window", seen, None)]


def _qwen3_moe(config: Config) -> list[tuple[str, Any, Any]]:
    """Every layer has experts, whose weights are made to add up to 1; what config.json leaves out is transformers'."""
    return [
        *_mixture(config),
        ("norm_topk_prob", config.get("norm_topk_prob", False), True),
        ("decoder_sparse_step", config.get("decoder_sparse_step", 1), 1),
        ("mlp_only_layers", config.get("mlp_only_layers") or [], []),
        ("use_sliding_window", config.get("use_sliding_window", False), False),
        ("attention_bias", config.get("attention_bias", False), False),
    ]


_GRANTED: dict[str, Callable[[Config], list[tuple[str, Any, Any]]]] = {
    "Gemma2ForCausalLM": _gemma(2, 46),
    "Gemma3ForCausalLM": _gemma(6, 62),
    "MixtralForCausalLM": _mixtral,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "SmolLM3ForCausalLM": _smollm3,
}
