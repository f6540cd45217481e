"""What llama.cpp takes for granted about an architecture, held against a model's config.json.

Some numbers are built into llama.cpp and not read from the file. A model that differs would load there and talk
nonsense; it is refused before it is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Config = dict[str, Any]
#: model_type -> the rotary embedding's base where config.json does not say; of others 10,000.
_THETA = {"mixtral": 1e6, "gemma3_text": 1e6, "smollm3": 2e6}
#: Ways to stretch the rotary embedding that a file can say.
_SCALINGS = ("default", "linear", "llama3", "yarn", "longrope")


def rope(config: Config) -> Config:
    """Read rope settings as transformers 5 writes them (rope_parameters) or as 4 did (rope_theta, rope_scaling).

    Where layers of two kinds have settings of their own, those of the full-attention layers. What stands under 4's name
    counts where there is something, as in transformers.
    """
    found, scaled = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    whole = found.get("full_attention")
    turn = {**whole, **scaled} if whole else scaled or found
    usual = _THETA.get(str(config.get("model_type")), 10000.0)
    return {"rope_theta": config.get("rope_theta") or usual, **turn}


def scaling(config: Config) -> str:
    """Name the way in which the rotary embedding is stretched, "default" for none."""
    turn = rope(config)
    kind = str(turn.get("rope_type") or turn.get("type") or "default")
    return "longrope" if kind == "su" else kind


def window(config: Config) -> int:
    """Give how far back layers look that llama.cpp lets look at everything, 0 where there are none.

    As long as a text is no longer than this, nothing is left out and both compute the same: a file says that it is its
    context. Gemma's windows llama.cpp knows.
    """
    kind, size = config.get("model_type"), config.get("sliding_window")
    if kind in ("qwen2", "qwen3", "smollm3"):
        size = size if config.get("use_sliding_window") else None
    elif kind not in ("mistral", "phi3"):
        return 0
    elif kind == "mistral":
        size = config.get("sliding_window", 4096)
    return size if type(size) is int and size > 0 else 0


def problem(architecture: str, config: Config) -> str:
    """Say what llama.cpp would compute otherwise, "" where it computes the same."""
    kind, turn = scaling(config), rope(config)
    if kind not in _SCALINGS:
        return f"llama.cpp does not know the rope scaling {kind[:40]!r}"
    if kind == "yarn" and {"mscale", "mscale_all_dim", "truncate"} & turn.keys():
        return "llama.cpp does not know all settings of this yarn rope scaling"
    if kind == "longrope" and architecture != "Phi3ForCausalLM":
        return "llama.cpp knows longrope for Phi-3 only"
    if kind == "llama3" and architecture not in _LLAMA:
        return "llama.cpp knows Llama 3's rope scaling for the architecture of Llama only"
    if kind == "yarn":
        betas = [turn.get("beta_fast") or 32, turn.get("beta_slow") or 1]
        if betas != [32, 1]:
            return f"llama.cpp has yarn's beta_fast and beta_slow = [32, 1] built in, this model has {betas}"
    for what, says, takes in (*_every_one(architecture, config), *_GRANTED.get(architecture, _nothing)(config)):
        if says != takes:
            return f"llama.cpp has {what} = {takes!r:.60} built in, this model has {says!r:.60}"
    return ""


_LLAMA = ("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM")
_GEMMA = ("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM")
_SAME = {"swish": "silu", "gelu_python_tanh": "gelu_pytorch_tanh", "gelu": "gelu_pytorch_tanh"}  # gelu: to 1e-9
Granted = list[tuple[str, Any, Any]]


def _nothing(config: Config) -> Granted:
    return []


def _every_one(architecture: str, config: Config) -> Granted:
    """Give what is built in for each architecture: activation, biases, how much of a head is rotated."""
    usual = "gelu_pytorch_tanh" if architecture in _GEMMA else "silu"
    setting = "hidden_activation" if architecture in _GEMMA[1:] else "hidden_act"
    says = config.get(setting) or usual
    made: Granted = [(setting, usual if _SAME.get(says) == usual else says, usual)]
    if architecture not in _LLAMA:
        made += [(name, bool(config.get(name)), False) for name in ("attention_bias", "mlp_bias")]
    if architecture in _GEMMA:
        made.append(("use_bidirectional_attention", bool(config.get("use_bidirectional_attention")), False))
    if architecture != "Phi3ForCausalLM":
        share = rope(config).get("partial_rotary_factor", config.get("partial_rotary_factor"))
        made.append(("partial_rotary_factor", float(share or 1.0), 1.0))
    return made


def _tied(config: Config) -> Granted:
    return [("tie_word_embeddings", config.get("tie_word_embeddings", True), True)]


def _whole_heads(config: Config) -> Granted:
    """The width of all heads is the model's: head_dim cannot be another."""
    usual = config["hidden_size"] // config["num_attention_heads"]
    return [("head_dim", config.get("head_dim") or usual, usual)]


def _olmo2(config: Config) -> Granted:
    return [*_whole_heads(config), ("tie_word_embeddings", bool(config.get("tie_word_embeddings")), False)]


def _every(step: int, config: Config) -> list[str]:
    layers = range(1, config["num_hidden_layers"] + 1)
    return ["full_attention" if layer % step == 0 else "sliding_attention" for layer in layers]


def _gemma(step: int, largest: int) -> Callable[[Config], Granted]:
    """Gemma 2 and 3: every `step`-th layer sees all; scores are divided by a root, of another number in the largest."""

    def granted(config: Config) -> Granted:
        usual = _every(step, config)
        says = config.get("layer_types") or _every(config.get("sliding_window_pattern") or step, config)
        whole = config["num_hidden_layers"] == largest
        scale = config["hidden_size"] // config["num_attention_heads"] if whole else config.get("head_dim", 256)
        size = config.get("sliding_window", 4096)
        return [
            ("layer_types", says, usual),
            ("sliding_window", 4096 if size else size, 4096),
            ("query_pre_attn_scalar", config.get("query_pre_attn_scalar", 256), scale),
        ]

    return granted


def _gemma2(config: Config) -> Granted:
    """Scores and logits are softly capped, by whatever number, in every file."""
    capped = [(name, config.get(name, usual), usual) for name, usual in SOFTCAPS.items()]
    return [
        *_gemma(2, 46)(config),
        *_tied(config),
        *((name, usual if says else says, usual) for name, says, usual in capped),
    ]


#: Gemma 2's soft caps where config.json does not say.
SOFTCAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}


def _gemma3(config: Config) -> Granted:
    """Only the layers that see all can have a stretched rotary embedding."""
    near = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
    return [*_gemma(6, 62)(config), ("rope_type of sliding layers", near.get("rope_type") or "default", "default")]


def _smollm3(config: Config) -> Granted:
    def every(step: int) -> list[int]:
        return [int(layer % step != 0) for layer in range(1, config["num_hidden_layers"] + 1)]

    says = config.get("no_rope_layers") or every(config.get("no_rope_layer_interval") or 4)
    return [("no_rope_layers", says, every(4))]


def _mixtral(config: Config) -> Granted:
    """A window as long as the context is none."""
    size = config.get("sliding_window")
    return [("sliding_window", None if size and size >= config["max_position_embeddings"] else size, None)]


def _qwen3_moe(config: Config) -> Granted:
    """Every layer has experts, whose weights are made to add up to 1; what config.json leaves out is transformers'."""
    return [
        ("norm_topk_prob", config.get("norm_topk_prob", False), True),
        ("decoder_sparse_step", config.get("decoder_sparse_step", 1), 1),
        ("mlp_only_layers", config.get("mlp_only_layers") or [], []),
        ("use_sliding_window", config.get("use_sliding_window", False), False),
    ]


_GRANTED: dict[str, Callable[[Config], Granted]] = {
    "GemmaForCausalLM": _tied,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "MixtralForCausalLM": _mixtral,
    "Olmo2ForCausalLM": _olmo2,
    "Phi3ForCausalLM": _whole_heads,
    "Qwen2ForCausalLM": _whole_heads,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "SmolLM3ForCausalLM": _smollm3,
}
