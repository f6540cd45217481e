"""Rows of weights in llama.cpp's types of blocks, made by ggml's own quantizer in this process, on all cores.

What comes out is byte for byte what llama.cpp's quantizer makes of the same numbers, so that a file of such a type
needs no 16-bit file before it. Not all types are made so: those on a grid (IQ1 to IQ3) may end the process on numbers
that they cannot place, and those that want an importance matrix need the whole file first (quantize.py).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from studio.errors import ExportError
from studio.export import ggml
from studio.models import quants

Key = TypeVar("Key")
Rows = np.ndarray[Any, Any]

#: Tensor types that are made here.
BLOCKS = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS")
_FUNCTIONS: ggml.Functions = {
    "ggml_quantize_chunk": (
        [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p],
        ctypes.c_size_t,
    ),
    "ggml_validate_row_data": ([ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t], ctypes.c_bool),
}
_PIECE = 1 << 18  # weights that a thread takes at a time


class Packer:
    """Quantizes blocks of rows on all cores while the next block is being read; a context, its threads end with it.

    Where there is anything to quantize (one of `types`), torch, which reads and merges the blocks, works in one thread
    meanwhile: its own, one a core, would wait for each other as long as the cores quantize.
    """

    def __init__(self, types: Iterable[str]) -> None:
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "packing")
        self._alone, self._before = any(type_ in BLOCKS for type_ in types), 0

    def __enter__(self) -> Packer:
        """Take torch's threads away."""
        import torch

        self._before = torch.get_num_threads()
        if self._alone:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads; what was not begun is dropped."""
        import torch

        torch.set_num_threads(self._before)
        self._pool.shutdown(cancel_futures=True)

    def pack(self, blocks: Iterable[tuple[Key, str, Rows]]) -> Iterator[tuple[Key, Rows]]:
        """Turn (key, type, float32 rows) into (key, bytes) in the same order, reading one block ahead.

        Rows of a type that is not one of BLOCKS pass as they are. The columns must be a multiple of the type's block.
        ExportError where ggml finds its own result not valid.
        """
        before: tuple[Key, list[Future[Rows]]] | None = None
        for key, type_, rows in blocks:
            begun = key, self._begin(type_, rows)
            if before:
                yield before[0], _joined(before[1])
            before = begun
        if before:
            yield before[0], _joined(before[1])

    def _begin(self, type_: str, rows: Rows) -> list[Future[Rows]]:
        if type_ not in BLOCKS:
            done: Future[Rows] = Future()
            done.set_result(rows)
            return [done]
        step = max(1, _PIECE // rows.shape[-1])
        return [self._pool.submit(_quantized, type_, rows[at : at + step]) for at in range(0, len(rows), step)]


def _joined(pieces: list[Future[Rows]]) -> Rows:
    made = [piece.result() for piece in pieces]
    return made[0] if len(made) == 1 else np.concatenate(made)


def _quantized(type_: str, rows: Rows) -> Rows:
    number, quantize, valid = _of(type_)
    rows = np.ascontiguousarray(rows, np.float32)
    weights, size = quants.block(type_)
    made = np.empty((len(rows), rows.shape[1] // weights * size), np.uint8)
    wrote = quantize(number, rows.ctypes.data, made.ctypes.data, 0, len(rows), rows.shape[1], None)
    if wrote != made.nbytes or not valid(number, made.ctypes.data, made.nbytes):
        raise ExportError(f"ggml could not make {type_} of these weights.", "Export as BF16 or F32.")
    return made


@functools.cache
def _of(type_: str) -> tuple[int, Any, Any]:
    """Give ggml's number of a type, and its functions that quantize rows and that check what was made."""
    from gguf.constants import GGMLQuantizationType

    library = ggml.base(_FUNCTIONS)
    return GGMLQuantizationType[type_].value, library.ggml_quantize_chunk, library.ggml_validate_row_data
