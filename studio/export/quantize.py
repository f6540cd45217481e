"""Quantize a GGUF file through llama.cpp's own quantizer, in a child process: an abort there is an error here.

llama.cpp gives a tensor another type without failing where its rows are no multiple of the type's block; so the types
of all tensors are read from the file that was made, and its log is counted.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio import events, paths
from studio.chat.engine import library
from studio.child import Child
from studio.errors import ExportError, Stopped
from studio.export import matrixfile
from studio.models import ggufhead, mixture, quants
from studio.train import heap

#: Bytes of rows that llama.cpp keeps in memory at once; the file is the same whatever it is.
_BUFFER = 32 << 20
_AT = re.compile(r"\[\s*(\d+)/\s*(\d+)\] (\S+)")
_FAILED = re.compile(r"failed to quantize: (.+)")
_FELL = re.compile(r"-> falling back to\s+(\w+)")
_UNWEIGHTED = re.compile(r"did not find weights for (blk\.\S+)")


@dataclasses.dataclass(frozen=True)
class Made:
    """A quantized file: tensors by type, those that fell back by what they became, and those without importance."""

    path: Path
    types: dict[str, int]
    fallen: dict[str, int]
    unweighted: int = 0

    @classmethod
    def read(cls, path: Path, fallen: dict[str, int]) -> Made:
        """Read the types from the head of a file that was made."""
        return cls(path, _types(path), fallen)

    def to_dict(self) -> dict[str, Any]:
        """Give what stands in the export's result."""
        return {"types": self.types, "fallback": sum(self.fallen.values()), "fallen": self.fallen}


def predicted_bytes(folder: Path, type_: str, imatrix: bool = False) -> int:
    """Predict a file's size before it is made, from the headers of a model's folder (studio/models/mixture.py)."""
    return mixture.predict(type_, mixture.of_folder(folder), imatrix).bytes


def quantize(
    source: Path,
    out: Path,
    type_: str,
    *,
    imatrix: Path | None = None,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Made:
    """Quantize a 16- or 32-bit GGUF file; the result appears whole or not at all.

    `emit` gets progress over its tensors; `should_stop` is asked twice a second and ends the child. ExportError when
    llama.cpp refuses, with its reason.
    """
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    heap.give_back()
    child = Child("studio.export.quantize:handle")
    request = {"source": str(source), "out": str(beside), "type": type_, "imatrix": str(imatrix or "")}
    progress: events.Progress | None = None
    last: dict[str, Any] = {}
    at = 0
    try:
        for last in child.stream(request, timeout=3600):
            if should_stop is not None and should_stop():
                raise Stopped(f"Stopped while {type_} was made.", "Export again to make it.")
            if emit is not None and last.get("total"):
                progress = progress or events.Progress(emit, f"Quantizing to {type_}", last["total"], "tensors")
                progress.step(last["done"] - at)
                at = last["done"]
        os.replace(beside, out)
        paths.fsync_dir(out.parent)
    finally:
        child.close()
        beside.unlink(missing_ok=True)
    return Made(out, last["types"], last["fallen"], last["unweighted"])


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Do the work in the child: {"done", "total"} for each tensor, {} twice a second, last {"types", "fallen", ...}."""
    llama_cpp = library()
    lines: queue.Queue[str | int] = queue.Queue()
    keep = llama_cpp.llama_log_callback(lambda level, text, _: lines.put((text or b"").decode("utf-8", "replace")))
    llama_cpp.llama_log_set(keep, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, quants.TYPES[request["type"]].constant)
    params.nthread, params.max_buf_size = os.cpu_count() or 1, _BUFFER
    held = _give(llama_cpp, params, request["imatrix"]) if request["imatrix"] else None

    def work() -> None:
        source, out = request["source"].encode(), request["out"].encode()
        lines.put(int(llama_cpp.llama_model_quantize(source, out, ctypes.byref(params))))

    threading.Thread(target=work, daemon=True).start()
    log, code = "", None
    while code is None:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            yield {}
            continue
        if isinstance(line, int):
            code = line
            continue
        log += line
        if found := _AT.search(line):
            yield {"done": int(found[1]), "total": int(found[2])}
    del held
    unweighted = set(_UNWEIGHTED.findall(log))
    if code:
        raise _refused(request["type"], log, code)
    fallen = Counter(name.upper() for name in _FELL.findall(log))
    yield {"types": _types(request["out"]), "fallen": dict(fallen.most_common()), "unweighted": len(unweighted)}


def _give(llama_cpp: Any, params: Any, path: str) -> Any:
    """Hand an importance matrix to llama.cpp, and what the file is to say about it; what is given must stay alive."""
    matrix = matrixfile.load(Path(path))
    means = {name: values.reshape(-1) for name, values in matrix.means().items()}
    entries = (llama_cpp.llama_model_imatrix_data * (len(means) + 1))()
    for entry, (name, values) in zip(entries, means.items(), strict=False):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    said: dict[str, str | int] = {
        "quantize.imatrix.file": Path(path).name,
        "quantize.imatrix.dataset": matrix.dataset,
        "quantize.imatrix.entries_count": len(means),
        "quantize.imatrix.chunks_count": matrix.chunks,
    }
    overrides = (llama_cpp.llama_model_kv_override * (len(said) + 1))()
    for override, (key, value) in zip(overrides, said.items(), strict=False):
        override.key = key.encode()
        if isinstance(value, int):
            override.tag, override.value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
        else:
            override.tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            override.value.val_str = value.encode("utf-8")[:127]
    params.imatrix, params.kv_overrides = entries, overrides
    return means, entries, overrides


def _refused(type_: str, log: str, code: int) -> ExportError:
    reason = _FAILED.search(log)
    why = reason[1].strip() if reason else f"code {code}"
    if "imatrix size" in why:
        return ExportError(f"The importance matrix is another model's: {why}.", "Say --imatrix auto to have one made.")
    if "imatrix" in why or "importance matrix" in why:
        return ExportError(
            f"{type_} needs an importance matrix ({why}).", "Give one with --imatrix FILE, or choose a larger type."
        )
    return ExportError(f"llama.cpp could not make {type_}: {why}.", "Choose another type, or export the model again.")


def _types(path: str | Path) -> dict[str, int]:
    """Count the types of the tensors of a file, read from its head."""
    found = Counter(tensor.type_name for tensor in ggufhead.read(path).tensors)
    return dict(found.most_common())
