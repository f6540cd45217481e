"""Write a model as GGUF, tensor by tensor: the converter reads as a list of facts about an architecture.

Facts shown bit-identical to llama.cpp's own converter: 1-d tensors stay float32; the rows of q and k are reordered for
the interleaved rotary embedding; llama3's rope factors are a tensor of their own; tied embeddings write no
output.weight. More architectures come as further entries of ARCHITECTURES.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studio import events, paths
from studio.errors import ExportError, ModelError
from studio.export import vocab
from studio.export.merge import Merged
from studio.models import check

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from studio.render.encode import Renderer

F16_MAX = 65504.0


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How a transformers architecture maps to llama.cpp's.

    `metadata(writer, config)` writes its hyperparameters; `change(name, array, config)` rearranges a tensor where
    layouts differ; `extra(config)` gives tensors that the checkpoint does not hold.
    """

    arch: str
    metadata: Callable[[GGUFWriter, dict[str, Any]], None]
    change: Callable[[str, np.ndarray, dict[str, Any]], np.ndarray]
    extra: Callable[[dict[str, Any]], dict[str, np.ndarray]]


def _llama_metadata(writer: GGUFWriter, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    head_dim = _head_dim(config)
    rope = _rope(config)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    elif kind not in ("default", "llama3"):
        raise ModelError(f"The rope scaling {kind!r} cannot be exported yet.", "Choose a model without it.")


def _llama_change(name: str, array: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    heads = config["num_attention_heads"]
    if ".q_proj." in name:
        return _interleave(array, heads)
    if ".k_proj." in name:
        return _interleave(array, config.get("num_key_value_heads") or heads)
    return array


def _llama_extra(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Give llama3's rope factors, one per pair of dimensions (head_dim / 2,)."""
    rope = _rope(config)
    if (rope.get("rope_type") or rope.get("type")) != "llama3":
        return {}
    factor, original = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    half = np.arange(0, _head_dim(config), 2, dtype=np.float64)
    lengths = 2 * math.pi * float(rope.get("rope_theta", 10000.0)) ** (half / _head_dim(config))
    smooth = np.clip((original / lengths - low) / (high - low), 0.0, 1.0)
    return {"rope_freqs.weight": (1.0 / ((1.0 - smooth) / factor + smooth)).astype(np.float32)}


ARCHITECTURES: dict[str, Architecture] = {
    "LlamaForCausalLM": Architecture("llama", _llama_metadata, _llama_change, _llama_extra),
}


def write(
    base: Path,
    adapter: Path | None,
    out: Path,
    renderer: Renderer,
    *,
    name: str,
    dtype: str = "F16",
    emit: events.Emit | None = None,
    should_stop: Callable[[], None] | None = None,
) -> Path:
    """Write base (+ adapter) as one F16 or F32 GGUF file with vocabulary, chat template and stop tokens.

    One tensor is in memory at a time. The file appears whole or not at all. With an adapter the file's eos is the token
    that ends a turn; a plain base keeps its own.
    """
    import gguf

    config = check.read_config(base)
    facts = ARCHITECTURES.get((config.get("architectures") or [""])[0])
    if facts is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"{config.get('architectures')} cannot be exported yet.", f"Studio exports: {known}.")
    merged = Merged(base, adapter)
    kinds = {
        "F16": (np.float16, gguf.LlamaFileType.MOSTLY_F16),
        "F32": (np.float32, gguf.LlamaFileType.ALL_F32),
    }
    kind, file_type = kinds[dtype]
    extra = facts.extra(config)
    tied = bool(config.get("tie_word_embeddings", False))
    names = [n for n in merged.names if not (tied and n == "lm_head.weight") and not n.endswith(".rotary_emb.inv_freq")]
    mapping = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    writer = gguf.GGUFWriter(beside, facts.arch)
    try:
        writer.add_name(name)
        writer.add_file_type(file_type)
        facts.metadata(writer, config)
        rows = merged.rows
        writer.add_vocab_size(rows)
        _vocabulary(writer, adapter or base, rows, renderer, tuned=adapter is not None)
        for key, array in extra.items():
            writer.add_tensor_info(key, array.shape, array.dtype, array.nbytes)
        for key in names:
            shape = merged.shape(key)
            kept = np.dtype(np.float32 if len(shape) == 1 else kind)
            writer.add_tensor_info(_mapped(mapping, key), shape, kept, math.prod(shape) * kept.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for array in extra.values():
            writer.write_tensor_data(array)
        progress = events.Progress(emit, f"Writing {dtype}", len(names), "tensors") if emit else None
        for key in names:
            if should_stop is not None:
                should_stop()
            array = facts.change(key, merged.tensor(key).numpy(), config)
            if kind is np.float16 and array.ndim > 1 and not np.abs(array).max() <= F16_MAX:
                raise ExportError(
                    f"{key} holds values that F16 cannot (above {F16_MAX:g}, or not a number).", "Export as F32."
                )
            writer.write_tensor_data(np.ascontiguousarray(array, dtype=np.float32 if array.ndim == 1 else kind))
            if progress:
                progress.step()
        writer.close()
        os.replace(beside, out)
        paths.fsync_dir(out.parent)
    except BaseException:
        writer.close()
        beside.unlink(missing_ok=True)
        raise
    return out


def _vocabulary(writer: GGUFWriter, folder: Path, rows: int, renderer: Renderer, tuned: bool) -> None:
    tokenizer = renderer.tokenizer
    vocab.add_vocabulary(
        writer,
        folder,
        rows,
        template=renderer.source if tuned or not renderer.added else "",
        bos=tokenizer.bos_token,
        eos=tokenizer.eos_token,
        pad=tokenizer.pad_token,
        end_of_turn=renderer.stop_tokens[0] if tuned or not renderer.added else None,
    )


def _mapped(mapping: Any, key: str) -> str:
    name = mapping.get_name(key, try_suffixes=(".weight", ".bias"))
    if name is None:
        raise ModelError(
            f"The tensor {key} has no place in GGUF.", "This variant of the architecture is not supported."
        )
    return str(name)


def _interleave(array: np.ndarray, heads: int) -> np.ndarray:
    """Reorder rows from transformers' half-and-half rotary layout to llama.cpp's pairs."""
    shape = array.shape
    return array.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def _head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Read rope settings as transformers 5 writes them (rope_parameters) or as 4 did (rope_theta, rope_scaling)."""
    old = {"rope_theta": config.get("rope_theta", 10000.0), **(config.get("rope_scaling") or {})}
    return config.get("rope_parameters") or old
