"""Write a LoRA adapter as GGUF: small, for llama.cpp's and Ollama's own adapters, and for the chat's one copy.

y = W x + strength * (alpha / r) * B (A x)      r is read from B's shape by llama.cpp, so rsLoRA's alpha / sqrt(r)
                                                is written as an alpha of alpha * sqrt(r)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from studio.errors import ExportError, ModelError
from studio.export import architectures, gguf
from studio.export.merge import Merged
from studio.models import check
from studio.models.architecture import EXPORTABLE


def write(base: Path, adapter: Path, out: Path, *, name: str = "", rows_in_base: bool = False) -> Path:
    """Write an adapter of `base` as a GGUF file of its own; the file appears whole or not at all.

    Trained rows of control tokens have no place in such a file: they are refused, unless `rows_in_base` says that the
    base's file has them already (gguf.write's `rows_only`). DoRA is refused too: the lengths of W + B A are not a sum.
    Raises ExportError with the way out.
    """
    import gguf as library

    config = check.read_config(base)
    facts, mapping = architectures.find(config), gguf.names(config)
    merged = Merged(base, adapter)
    if merged.scaled:
        raise ExportError(
            "A DoRA adapter has no GGUF form: llama.cpp adds adapters to the weights, DoRA also rescales them.",
            "Export the run merged (without the adapter option).",
        )
    if merged.row_ids and not rows_in_base:
        raise ExportError(
            f"The adapter also trained the rows of {len(merged.row_ids)} control tokens, which a GGUF adapter cannot "
            "hold: on the plain base it would not know when to stop.",
            "Export the run merged (without the adapter option).",
        )
    blocks: list[tuple[str, np.ndarray[Any, Any]]] = []
    for source, (a, b) in merged.pairs.items():
        target = mapping.get_name(source, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ModelError(f"The adapter's {source} has no place in GGUF.", "Export the run merged.")
        rows = gguf.reorder(b.float(), source, facts, config)
        blocks += [(f"{target}.lora_a", a.float().numpy()), (f"{target}.lora_b", rows.contiguous().numpy())]
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        writer = library.GGUFWriter(beside, EXPORTABLE[config["architectures"][0]])
        writer.add_type(library.GGUFType.ADAPTER)
        writer.add_name(name or out.stem)
        writer.add_string(library.Keys.Adapter.TYPE, "lora")
        rank = next(iter(merged.pairs.values()))[0].shape[0]
        writer.add_float32(library.Keys.Adapter.LORA_ALPHA, merged.scale * rank)
        for key, array in blocks:
            writer.add_tensor_info(key, array.shape, array.dtype, array.nbytes)
        gguf.head(writer)
        gguf.finish(beside, out, ([array] for _, array in blocks))
    finally:
        beside.unlink(missing_ok=True)
    return out
