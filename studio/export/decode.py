"""Rows of token ids through a GGUF file, by llama.cpp's own C interface: for what needs more than an answer.

Runs in a child only (child.py). Rows of one batch are sequences of their own: none sees another.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from studio.chat.engine import library
from studio.errors import ModelError

#: Bytes that the logits of one batch may take, and the tokens of a batch.
_LOGITS, _FEWEST, MOST = 128 << 20, 64, 512
#: Sequences of a batch (llama.cpp's own limit is 256).
SEQUENCES = 64


@dataclasses.dataclass(frozen=True)
class Part:
    """Tokens to go into a batch: their sequence, the place of the first one, and which of them give logits."""

    tokens: Sequence[int]
    sequence: int = 0
    start: int = 0
    wanted: Sequence[bool] | None = None


class Decoder:
    """A loaded file with one context of `room` tokens; `seen` is called with each tensor that is computed."""

    def __init__(self, path: str, room: int, *, seen: Any = None, threads: int = 0) -> None:
        self._lib = lib = library()
        lib.llama_backend_init()
        if not os.path.isfile(path):
            raise ModelError("There is no such file.", "Export the model again.", file=path)
        params = lib.llama_model_default_params()
        # Repacked weights are no use for a few batches, and their AMX kernels crash where gcc 12 built them.
        params.use_extra_bufts, params.n_gpu_layers = False, 0
        self._model = lib.llama_model_load_from_file(path.encode(), params)
        if not self._model:
            raise ModelError(
                "llama.cpp cannot load this file.", "It is damaged, or of a kind it does not know.", file=path
            )
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.vocabulary = int(lib.llama_vocab_n_tokens(self._vocab))
        self.batch = min(MOST, max(_FEWEST, _LOGITS // (4 * self.vocabulary)))
        self.room = max(room, self.batch)
        self._context = self._open(seen, threads or os.cpu_count() or 1)
        self._memory = lib.llama_get_memory(self._context)
        self._held = lib.llama_batch_init(self.batch, 0, 1)

    def _open(self, seen: Any, threads: int) -> Any:
        lib = self._lib
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = self.room, self.batch, self.batch
        params.n_seq_max, params.kv_unified, params.no_perf = SEQUENCES, True, True
        params.n_threads = params.n_threads_batch = threads
        if seen is not None:
            params.cb_eval = self._seen = lib.ggml_backend_sched_eval_callback(seen)
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise ModelError("llama.cpp has no room for this file's context.", "Close other programs, and try again.")
        return context

    def forget(self) -> None:
        """Empty the context."""
        self._lib.llama_memory_clear(self._memory, True)

    def feed(self, parts: Sequence[Part]) -> np.ndarray[Any, Any]:
        """Decode parts, together at most `batch` tokens; gives the wanted logits (n, V), by default of all tokens."""
        held, count, wanted = self._held, 0, []
        for part in parts:
            for place, token in enumerate(part.tokens):
                asked = part.wanted is None or part.wanted[place]
                held.token[count], held.pos[count] = token, part.start + place
                held.n_seq_id[count], held.seq_id[count][0] = 1, part.sequence
                held.logits[count] = int(asked)
                if asked:
                    wanted.append(count)
                count += 1
        held.n_tokens = count
        if count and self._lib.llama_decode(self._context, held):
            raise ModelError("llama.cpp could not compute a batch.", "The file may be damaged: export it again.")
        out = np.empty((len(wanted), self.vocabulary), np.float32)
        for row, place in enumerate(wanted):
            found = self._lib.llama_get_logits_ith(self._context, place)
            out[row] = np.ctypeslib.as_array(ctypes.cast(found, ctypes.POINTER(ctypes.c_float)), (self.vocabulary,))
        return out

    def ends(self, token: int) -> bool:
        """Tell whether a token ends an answer."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        """Free the memory."""
        self._lib.llama_batch_free(self._held)
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)


def packed(rows: Iterable[Sequence[int]], most: int) -> Iterator[list[Part]]:
    """Put rows into batches of at most `most` tokens and SEQUENCES rows; a longer row becomes several."""
    batch: list[Part] = []
    size = 0
    for row in rows:
        for start in range(0, len(row), most):
            piece = row[start : start + most]
            if size + len(piece) > most or len(batch) == SEQUENCES:
                yield batch
                batch, size = [], 0
            batch.append(Part(piece, sequence=len(batch)))
            size += len(piece)
    if batch:
        yield batch
