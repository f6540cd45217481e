"""Quantize a GGUF file through llama.cpp's own quantizer, in a child process: an abort there is an error here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio import paths
from studio.chat.engine import library
from studio.child import Child
from studio.errors import ConfigError, ExportError

#: our names -> llama.cpp's file types, and what a weight takes in bits (from ggml's block sizes)
TYPES = {
    "F32": ("LLAMA_FTYPE_ALL_F32", 32.0),
    "F16": ("LLAMA_FTYPE_MOSTLY_F16", 16.0),
    "BF16": ("LLAMA_FTYPE_MOSTLY_BF16", 16.0),
    "Q8_0": ("LLAMA_FTYPE_MOSTLY_Q8_0", 8.5),
    "Q6_K": ("LLAMA_FTYPE_MOSTLY_Q6_K", 6.56),
    "Q5_K_M": ("LLAMA_FTYPE_MOSTLY_Q5_K_M", 5.7),
    "Q4_K_M": ("LLAMA_FTYPE_MOSTLY_Q4_K_M", 4.85),
}


def check_types(names: list[str]) -> list[str]:
    """Give the types without repeats; ConfigError for one that we do not make."""
    for name in names:
        if name not in TYPES:
            raise ConfigError(f"There is no type {name!r}.", f"Choose from: {', '.join(TYPES)}.", field="quant")
    return list(dict.fromkeys(names)) or ["Q8_0"]


def predicted_bytes(parameters: int, type_: str) -> int:
    """Predict a file's size before it is made, from bits per weight (small models keep more in high precision)."""
    return int(parameters * TYPES[type_][1] / 8)


def quantize(source: Path, out: Path, type_: str) -> Path:
    """Quantize a 16- or 32-bit GGUF file; the result appears whole or not at all."""
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    child = Child("studio.export.quantize:handle")
    try:
        child.ask({"source": str(source), "out": str(beside), "type": type_}, timeout=3600)
        os.replace(beside, out)
        paths.fsync_dir(out.parent)
    finally:
        child.close()
        beside.unlink(missing_ok=True)
    return out


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Do the work in the child."""
    import ctypes

    llama_cpp = library()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, TYPES[request["type"]][0])
    params.nthread = os.cpu_count() or 1
    code = llama_cpp.llama_model_quantize(request["source"].encode(), request["out"].encode(), ctypes.byref(params))
    if code:
        raise ExportError(
            f"llama.cpp could not make {request['type']} (code {code}).", "Choose another type; the log has its reason."
        )
    yield {"ok": True}
