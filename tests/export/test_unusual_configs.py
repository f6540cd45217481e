"""Settings that are legal and rare: refused before training, or llama.cpp's logits are transformers'."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_architectures as usual
from test_architectures import LLAMA3, rope

from studio.errors import ModelError
from studio.export import gguf
from studio.models import check
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

GEMMA2 = {"head_dim": 16, "query_pre_attn_scalar": 16}
GEMMA3 = {**GEMMA2, "sliding_window": 16, "num_hidden_layers": 7}
WINDOW = {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 2}
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=64)
NEAR = {
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e4},
}
#: what the model has -> what stands in the refusal
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "activation": ("Llama", {"hidden_act": "gelu"}, "hidden_act = 'silu' built in, this model has 'gelu'"),
    "activation of Gemma": ("Gemma", {"head_dim": 16, "hidden_act": "silu"}, "hidden_act"),
    "biases": ("Qwen3", {"head_dim": 16, "attention_bias": True}, "attention_bias"),
    "biases of Gemma 2": ("Gemma2", {**GEMMA2, "attention_bias": True}, "attention_bias"),
    "mlp biases": ("SmolLM3", {"mlp_bias": True}, "mlp_bias"),
    "part of a head": ("Llama", rope("default", partial_rotary_factor=0.5), "partial_rotary_factor"),
    "yarn's betas": (
        "Llama",
        rope("yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=16.0),
        "beta_fast",
    ),
    "llama3 elsewhere": ("Qwen2", rope("llama3", **LLAMA3), "Llama 3's rope scaling"),
    "another scale": (
        "Gemma2",
        {"head_dim": 16, "query_pre_attn_scalar": 144},
        "query_pre_attn_scalar = 16 built in, this model has 144",
    ),
    "no caps": ("Gemma2", {**GEMMA2, "attn_logit_softcapping": None}, "attn_logit_softcapping"),
    "own output layer": ("Gemma2", {**GEMMA2, "tie_word_embeddings": False}, "tie_word_embeddings"),
    "no output layer": ("Olmo2", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    "both ways": ("Gemma3", {**GEMMA3, "use_bidirectional_attention": True}, "use_bidirectional_attention"),
    "near layers stretched": ("Gemma3", {**GEMMA3, "rope_parameters": NEAR}, "rope_type of sliding layers"),
    "wide heads": ("Phi3", {"num_key_value_heads": 2, "head_dim": 32}, "head_dim"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_llama_cpp_computes_otherwise_is_refused_before_training(case: str, tmp_path: Path) -> None:
    kind, config, said = REFUSED[case]
    info = check.inspect(str(usual.make(tmp_path / "model", kind, **config)))
    assert not info.exportable and said in info.use


def edit(folder: Path, **changes: Any) -> None:
    """Write settings into config.json; `...` takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))


#: what the model has, and what is then written into its config.json
SAME: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "biases": ("Llama", {"attention_bias": True, "mlp_bias": True}, {}),
    "odd heads": ("Llama", {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 112}, {}),
    "swish": ("Llama", {"hidden_act": "swish"}, {}),
    "window of Mistral": ("Mistral", {"sliding_window": 32}, {}),
    "window of Qwen": ("Qwen2", WINDOW, {}),
    "window of Phi": ("Phi3", {"sliding_window": 32}, {}),
    "window by default": ("Mistral", {"max_position_embeddings": 8192}, {"sliding_window": ...}),
    "head_dim by default": ("Qwen3", {"head_dim": 128}, {"head_dim": ...}),
    "theta by default": ("SmolLM3", rope("default") | {"rope_parameters": None}, {"rope_parameters": ...}),
    "near theta by default": ("Gemma3", GEMMA3, {"rope_parameters": ...}),
    "caps by default": (
        "Gemma2",
        {**GEMMA2, "sliding_window": 4096},
        {"sliding_window": ..., "attn_logit_softcapping": ..., "final_logit_softcapping": ...},
    ),
    "both names for rope": (
        "Qwen2",
        YARN,
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "rope_scaling": YARN["rope_parameters"]},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_what_is_rare_and_legal_gives_transformers_logits(case: str, tmp_path: Path) -> None:
    kind, config, changes = SAME[case]
    base = usual.make(tmp_path / "model", kind, **config)
    edit(base, **changes)
    info = check.inspect(str(base))
    assert info.exportable, info.use
    rows = [row[: info.context] for row in usual.sample(info.vocab_size)]
    logits = usual.reference(base, rows)
    file = gguf.write(base, None, tmp_path / "x.gguf", encode.load(base), name=case, dtype="F32")
    assert usual.compared(file, rows, logits, tmp_path) < 1e-5


def test_a_window_that_llama_cpp_does_not_know_is_the_files_context(tmp_path: Path) -> None:
    from gguf import GGUFReader

    base = usual.make(tmp_path / "model", "Mistral", sliding_window=32)
    assert check.inspect(str(base)).context == 32
    file = gguf.write(base, None, tmp_path / "x.gguf", encode.load(base), name="x", dtype="F32")
    field = GGUFReader(file).get_field("llama.context_length")
    assert field is not None and field.contents() == 32


Weights = dict[str, Any]


def _another_head(weights: Weights) -> None:
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 1.5


def _bias(weights: Weights) -> None:
    weights["model.layers.0.self_attn.q_proj.bias"] = weights["model.norm.weight"].clone()


def _no_norm(weights: Weights) -> None:
    del weights["model.layers.1.input_layernorm.weight"]


def _same_head(weights: Weights) -> None:
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()


def change(folder: Path, do: Callable[[Weights], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    do(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (_another_head, "an output layer of their own"),
        (_bias, "The weights hold model.layers.0.self_attn.q_proj.bias"),
        (_no_norm, "The weights lack model.layers.1.input_layernorm.weight"),
    ],
)
def test_weights_that_are_not_config_jsons_are_refused(
    do: Callable[[Weights], None], said: str, tmp_path: Path
) -> None:
    base = usual.make(tmp_path / "model", "Llama", tie_word_embeddings=True)
    check.inspect(str(base))
    change(base, _same_head)  # stored twice is nothing wrong
    check.inspect(str(base))
    change(base, do)
    with pytest.raises(ModelError, match=said.replace(".", r"\.")):
        check.inspect(str(base))


@pytest.mark.parametrize("name", ["rms_norm_eps", "max_position_embeddings"])
def test_a_number_that_a_file_needs_must_be_in_config_json(name: str, tmp_path: Path) -> None:
    base = usual.make(tmp_path / "model", "Llama")
    edit(base, **{name: ...})
    with pytest.raises(ModelError, match=f"no usable {name}"):
        check.inspect(str(base))


def test_an_output_layer_that_is_missing_is_said(tmp_path: Path) -> None:
    base = usual.make(tmp_path / "model", "Llama", tie_word_embeddings=True)
    edit(base, tie_word_embeddings=...)  # transformers would make one up
    with pytest.raises(ModelError, match=r"The weights lack lm_head\.weight"):
        check.inspect(str(base))
