"""Which architectures can be read, trained and exported; whether the weights are what config.json promises."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from studio.errors import ModelError
from studio.models import agreement, experts, splitting, tensors
from studio.models.shape import Shape
from studio.models.tensors import TensorInfo

#: transformers' class -> llama.cpp's architecture: what we can train and also export.
EXPORTABLE = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3moe",
    "MixtralForCausalLM": "llama",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "Phi3ForCausalLM": "phi3",
    "SmolLM3ForCausalLM": "smollm3",
    "Olmo2ForCausalLM": "olmo2",
}

#: transformers' class -> the model_type that makes transformers take it: what can be read.
READABLE = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "MixtralForCausalLM": "mixtral",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "Phi3ForCausalLM": "phi3",
    "SmolLM3ForCausalLM": "smollm3",
    "Olmo2ForCausalLM": "olmo2",
}

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
_NUMBERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_FOUR = ("input", "post_attention", "pre_feedforward", "post_feedforward")
#: model_type -> norms of a layer, where they are not the usual two.
_NORMS = {"gemma2": _FOUR, "gemma3_text": _FOUR, "olmo2": ("post_attention", "post_feedforward")}
#: model_types with an `attention_bias` to set.
_BIASED = ("llama", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "smollm3", "olmo2")
_MOST = 1 << 31


def support(
    architecture: str, config: dict[str, Any] | None = None, tokenizer: dict[str, Any] | None = None
) -> tuple[bool, str]:
    """Say whether a model can be trained and exported, and in words what can be done with it.

    Of a model whose files are not there, only what its architecture says.
    """
    why = f"{architecture} cannot be exported yet" if architecture not in EXPORTABLE else ""
    try:
        if not why and config is not None:
            why = agreement.problem(architecture, config)
        if not why and tokenizer is not None:
            why = splitting.problem(tokenizer)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        why = "its config.json or tokenizer.json holds values that make no sense"
    if not why:
        alone = READABLE.get(architecture) in experts.MIXTURES
        return True, f"can be trained ({experts.ALONE}) and exported" if alone else "can be trained and exported"
    return False, f"can be read and previewed; {why}, so it is not trained either"


def choose(config: dict[str, Any], folder: Path) -> str:
    """Give the class that transformers will take; ModelError when it is none that we can read."""
    named, kind = config.get("architectures"), config.get("model_type")
    architecture = named[0] if isinstance(named, list) and named else None
    choose = f"Choose one of: {', '.join(READABLE)}."
    where = str(folder / "config.json")
    if not isinstance(architecture, str) or not isinstance(kind, str):
        raise ModelError("config.json does not say what the model is (architectures, model_type).", choose, file=where)
    if architecture not in READABLE:
        what = f"{architecture[:80]} (model_type {kind[:80]!r})"
        raise ModelError(f"{what} is not an architecture that Studio can read.", choose, file=where)
    if READABLE[architecture] != kind:
        raise ModelError(
            f"config.json says {architecture}, but its model_type is {kind[:80]!r}: another model would be loaded.",
            f"The model_type of {architecture} is {READABLE[architecture]!r}.",
            file=where,
            field="model_type",
        )
    if config.get("quantization_config"):
        raise ModelError(
            "The weights are quantized already; training starts from the full ones.",
            "Choose the model that this one was made from.",
            file=where,
            field="quantization_config",
        )
    return architecture


def embedding_of(found: list[TensorInfo], config: dict[str, Any], folder: Path) -> TensorInfo:
    """Check that the tensors are those that config.json promises; gives the embedding."""
    for name in (*_NUMBERS, "max_position_embeddings"):
        whole(config, name, folder)
    epsilon = config.get("rms_norm_eps")
    if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise _unusable("rms_norm_eps", folder)
    for name in ("num_key_value_heads", "head_dim"):
        if config.get(name) is not None:
            whole(config, name, folder)
    for name in experts.numbers(config):
        whole(config, name, folder)
    shape = Shape.of(config, config["vocab_size"])
    there = {tensor.name: tensor for tensor in found}
    promised = dict(itertools.chain(_promised(shape, config), _small(shape, config)))
    for name, wanted in promised.items():
        tensor = there.get(name)
        if tensor is None:
            _refuse_fused(there, folder)
            raise ModelError(f"The weights lack {name}.", "Download the model again.", file=str(folder))
        if tensor.shape != wanted:
            if name == EMBEDDING:
                rows = " x ".join(map(str, tensor.shape))
                raise ModelError(
                    f"The embedding has {rows} values, config.json says {wanted[0]} tokens of {wanted[1]}.",
                    "Take config and weights from the same source.",
                    file=str(folder / "config.json"),
                    field="vocab_size",
                )
            raise ModelError(
                f"{name} is {tensor.shape}, config.json says {wanted}.",
                "Take config and weights from the same source.",
                file=str(tensor.file),
            )
        if tensor.dtype not in ("F64", "F32", "F16", "BF16"):
            raise ModelError(
                f"{name} is stored as {tensor.dtype}; training starts from 16 or 32 bits.",
                "Choose the model that this one was made from.",
                file=str(tensor.file),
            )
    more = next((name for name in there if experts.stack(name) and name not in promised), "")
    if more or shape.used > shape.experts:
        what = f"The weights hold {more}" if more else f"A token asks {shape.used} experts"
        raise ModelError(
            f"{what}, config.json says that there are {shape.experts} in a layer.",
            "Take config and weights from the same source.",
            file=str(folder / "config.json"),
            field="num_experts" if more else "num_experts_per_tok",
        )
    _refuse_more(there, promised, shape.tied, config, folder)
    return there[EMBEDDING]


def _refuse_more(
    there: dict[str, TensorInfo], promised: Collection[str], tied: bool, config: dict[str, Any], folder: Path
) -> None:
    """Refuse weights that transformers leaves out, and an output layer that is not the embedding that it should be."""
    head = there.get(OUTPUT) if tied else None
    for name in there:
        if name in promised or name.endswith(".rotary_emb.inv_freq") or (name == OUTPUT and tied):
            continue
        raise ModelError(
            f"The weights hold {name}, for which {config['architectures'][0]} with this config.json has no place.",
            "Take config and weights from the same source.",
            file=str(there[name].file),
        )
    if head is not None and not tensors.equal(head, there[EMBEDDING]):
        raise ModelError(
            f"The weights hold an output layer of their own ({OUTPUT}), config.json says that it is the embedding.",
            'If the model was trained so, write "tie_word_embeddings": false into its config.json.',
            file=str(folder / "config.json"),
            field="tie_word_embeddings",
        )


def _refuse_fused(there: Iterable[str], folder: Path) -> None:
    """Refuse experts that were written as transformers holds them in memory; no hub's checkpoint is."""
    if fused := next((name for name in there if name.endswith(".experts.gate_up_proj")), ""):
        raise ModelError(
            f"{fused} holds the experts of a layer in one; Studio reads checkpoints with a tensor for each.",
            "Save it again with transformers: model.save_pretrained(FOLDER) writes them so, unless told otherwise.",
            file=str(folder),
        )


def _promised(s: Shape, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """List the large tensors of a decoder: name and shape; Phi-3 stores some of them in one."""
    d, f, q, k = s.hidden, s.ffn, s.heads * s.head_dim, s.kv_heads * s.head_dim
    mixture = experts.of(config)
    yield EMBEDDING, (s.vocab, d)
    if config["model_type"] == "phi3":
        maps = {"self_attn.qkv_proj": (q + 2 * k, d), "self_attn.o_proj": (d, q)}
        maps |= {"mlp.gate_up_proj": (2 * f, d), "mlp.down_proj": (d, f)}
    else:
        maps = {f"self_attn.{x}_proj": (n, d) for x, n in (("q", q), ("k", k), ("v", k))}
        maps |= {"self_attn.o_proj": (d, q)}
        if mixture is None:
            maps |= {"mlp.gate_proj": (f, d), "mlp.up_proj": (f, d), "mlp.down_proj": (d, f)}
    for layer in range(s.layers):
        behind = experts.promised(config, mixture, s, layer) if mixture else ()
        for name, wanted in (*maps.items(), *behind):
            yield f"model.layers.{layer}.{name}.weight", wanted


def _small(s: Shape, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """List what is beside the maps: norms, biases, and the output layer where it is not the embedding."""
    d, kind = s.hidden, config["model_type"]
    sizes = {"q": s.heads * s.head_dim, "k": s.kv_heads * s.head_dim, "v": s.kv_heads * s.head_dim, "o": d}
    norms = {f"{name}_layernorm": d for name in _NORMS.get(kind, ("input", "post_attention"))}
    if kind in ("qwen3", "qwen3_moe", "gemma3_text"):
        norms |= {"self_attn.q_norm": s.head_dim, "self_attn.k_norm": s.head_dim}
    elif kind == "olmo2":
        norms |= {"self_attn.q_norm": sizes["q"], "self_attn.k_norm": sizes["k"]}
    biased = "qkv" if kind == "qwen2" else "qkvo" if kind in _BIASED and config.get("attention_bias") else ""
    biases = {f"self_attn.{x}_proj": sizes[x] for x in biased}
    if kind in ("llama", "smollm3") and config.get("mlp_bias"):
        biases |= {"mlp.gate_proj": s.ffn, "mlp.up_proj": s.ffn, "mlp.down_proj": d}
    yield "model.norm.weight", (d,)
    if not s.tied:
        yield OUTPUT, (s.vocab, d)
    for layer in range(s.layers):
        for name, size in norms.items():
            yield f"model.layers.{layer}.{name}.weight", (size,)
        for name, size in biases.items():
            yield f"model.layers.{layer}.{name}.bias", (size,)


def whole(config: dict[str, Any], name: str, folder: Path) -> int:
    """Read a positive number of config.json; ModelError when it is none."""
    value = config.get(name)
    if type(value) is not int or not 0 < value < _MOST:
        raise _unusable(name, folder)
    return value


def _unusable(name: str, folder: Path) -> ModelError:
    file = str(folder / "config.json")
    return ModelError(f"config.json has no usable {name}.", "Download it again.", file=file, field=name)
