"""Importance matrices: how much each input of each linear map matters, measured on the user's own rows.

    sum over tokens of x_j^2, for each column j of the input x of a linear map, and the number of tokens

which is what llama.cpp's llama-imatrix collects; types of about 3 bits and less are useless without it. llama.cpp shows
each tensor that it computes to a callback; what that needs of the internal struct `ggml_tensor` is guarded: by version,
and by reading a tensor whose name, shape and contents are known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio import events, paths
from studio.child import Child
from studio.errors import ExportError, Stopped
from studio.export import decode, ggml
from studio.export.matrixfile import Matrix, load, save
from studio.models import quants

#: A batch of fewer tokens tells too little: llama-imatrix passes it over, too.
FEWEST = 16


def make(
    gguf: Path,
    rows: Sequence[Sequence[int]],
    out: Path,
    *,
    dataset: str = "",
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Measure a 16- or 32-bit file on rows of token ids, in a child process; the result appears whole or not at all."""
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    total = sum(map(len, rows))
    progress = events.Progress(emit, "Measuring what matters", total, "tokens") if emit else None
    child = Child("studio.export.imatrix:handle")
    try:
        request = {"op": "make", "gguf": str(gguf), "rows": list(rows), "out": str(beside), "dataset": dataset}
        for answer in child.stream(request, timeout=1800):
            if should_stop is not None and should_stop():
                raise Stopped("Stopped while the importance matrix was measured.", "Export again when you like.")
            if progress and answer.get("tokens"):
                progress.step(answer["tokens"])
        os.replace(beside, out)
        paths.fsync_dir(out.parent)
    finally:
        child.close()
        beside.unlink(missing_ok=True)
    return out


def choose(asked: str, types: Sequence[str]) -> tuple[str, list[str]]:
    """Say where the importance matrix comes from ("", "auto" or a file's place) and which types are made with it.

    `asked` is what the user said: nothing makes one where a type needs it, and for those types only. ExportError before
    anything is made: for a file that is damaged, and where this llama.cpp cannot be listened to.
    """
    needing = [name for name in types if quants.TYPES[name].needs_imatrix]
    taking = [name for name in types if quants.TYPES[name].takes_imatrix]
    if asked and asked != "auto":
        place = Path(asked).expanduser().resolve()
        if not any(name.startswith("blk.") for name in check(place)):
            raise ExportError(
                "The importance matrix names no tensor of a language model.",
                "Name a file that llama-imatrix or Studio made, or let one be made: auto.",
                file=str(place),
            )
        return str(place), taking
    used = taking if asked else needing
    if used:
        _ask({"op": "guard"})
    return ("auto" if used else ""), used


def check(path: Path) -> dict[str, int]:
    """Read a file that somebody brought, in a child; gives its tensors with their columns. ExportError when damaged."""
    found: dict[str, int] = _ask({"op": "read", "path": str(path)}, memory_mb=8192)["columns"]
    return found


def _ask(request: dict[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
    child = Child("studio.export.imatrix:handle", memory_mb=memory_mb)
    try:
        return child.ask(request, timeout=120)
    finally:
        child.close()


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Do the work in the child; `op` is make, read or guard."""
    if request["op"] == "guard":
        ggml.functions()
        yield {"ok": True}
        return
    if request["op"] == "read":
        yield {"columns": {name: sums.shape[-1] for name, sums in load(Path(request["path"])).sums.items()}}
        return
    collector = Collector(ggml.functions())
    decoder = decode.Decoder(request["gguf"], decode.MOST, seen=collector.seen)
    try:
        for parts in decode.packed(request["rows"], decoder.batch):
            decoder.forget()
            try:
                decoder.feed(parts)  # all logits are asked for: the last layer computes only what they need
            finally:
                if collector.error is not None:
                    raise collector.error
            yield {"tokens": sum(len(part.tokens) for part in parts)}
            if cancelled():
                return
    finally:
        decoder.close()
    if not collector.matrix.sums:
        raise ExportError("The rows are too short to measure anything on.", "Choose a type without importance matrix.")
    collector.matrix.dataset = request["dataset"]
    save(collector.matrix, Path(request["out"]))
    yield {"ok": True}


class Collector:
    """Adds up squares of the inputs of the linear maps while llama.cpp computes."""

    def __init__(self, functions: Any) -> None:
        self._ggml = functions
        self.matrix = Matrix()
        self.error: Exception | None = None

    def seen(self, address: int, ask: bool, _: Any) -> bool:
        """Take part in the computing: asked whether a tensor is wanted, then shown it. False ends the computing."""
        try:
            node = ggml.view(address)
            op = self._ggml.ggml_op_desc(address)
            if op not in (b"MUL_MAT", b"MUL_MAT_ID"):
                return not ask
            weight, given = ggml.view(node.src[0]), ggml.view(node.src[1])
            if ask:
                return self._wanted(op, weight, given)
            if op == b"MUL_MAT":
                self._dense(ggml.plain_name(weight.name), weight, given, node.src[1])
            else:
                self._experts(ggml.plain_name(weight.name), weight, node)
            return True
        except Exception as error:  # nothing may be raised through C
            self.error = error
            return False

    def _wanted(self, op: bytes, weight: ggml.GGMLTensor, given: ggml.GGMLTensor) -> bool:
        if not ggml.plain_name(weight.name).startswith("blk.") or given.type != ggml.F32:
            return False
        return op == b"MUL_MAT_ID" or given.ne[1] >= FEWEST

    def _read(self, address: int, kind: Any) -> np.ndarray[Any, Any]:
        """Copy a tensor (from a GPU, too): its four dimensions, rows before columns."""
        tensor, size = ggml.view(address), self._ggml.ggml_nbytes(address)
        raw = np.empty(size, np.uint8)
        self._ggml.ggml_backend_tensor_get(address, raw.ctypes.data, 0, size)
        shape, steps = tuple(reversed(tensor.ne)), tuple(reversed(tensor.nb))
        return np.lib.stride_tricks.as_strided(raw[: size // 4 * 4].view(kind), shape, steps)

    def _dense(self, name: str, weight: ggml.GGMLTensor, given: ggml.GGMLTensor, address: int) -> None:
        x = self._read(address, np.float32)
        maps = weight.ne[2] * weight.ne[3]
        sums, counts = self._places(name, maps, x.shape[-1], 1)
        for i3 in range(x.shape[0]):
            for i2 in range(x.shape[1]):
                at = (i3 % weight.ne[3]) * weight.ne[2] + i2 % weight.ne[2]
                sums[at] += squares(x[i3, i2])
        counts += x.shape[0] * x.shape[1] * x.shape[2] // maps

    def _experts(self, name: str, weight: ggml.GGMLTensor, node: ggml.GGMLTensor) -> None:
        """`ids` (tokens, used) name the experts, the input is (tokens, 1 or used, columns)."""
        x, ids = self._read(node.src[1], np.float32)[0], self._read(node.src[2], np.int32)[0, 0]
        sums, counts = self._places(name, weight.ne[2], x.shape[-1], weight.ne[2])
        for used in range(ids.shape[1]):
            given = x[:, used % x.shape[1]]
            for expert in np.unique(ids[:, used]):
                mine = given[ids[:, used] == expert]
                sums[expert] += squares(mine)
                counts[expert] += len(mine)

    def _places(self, name: str, maps: int, columns: int, counted: int) -> tuple[np.ndarray[Any, Any], ...]:
        made = self.matrix
        if name not in made.sums:
            made.sums[name], made.counts[name] = np.zeros((maps, columns)), np.zeros(counted, np.int64)
        return made.sums[name], made.counts[name]


def squares(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Add up the squares of each column of x (T, C); ExportError when one is not finite."""
    found = np.einsum("tc,tc->c", x, x).astype(np.float64)
    if not np.isfinite(found).all():
        raise ExportError("The model computes values that are not finite.", "Check its weights: the run went wrong.")
    return found
