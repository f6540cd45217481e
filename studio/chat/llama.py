"""A thin binding over llama.cpp's own functions: weights that are loaded once, and any number of contexts on them.

Base and tuned are the same weights: two contexts, a LoRA adapter set on one of them. A context keeps what it has
evaluated, so that a conversation's next question costs its own tokens only.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from studio.chat import offload
from studio.errors import ModelError, Stopped, ToolMissing
from studio.models import ggufhead

#: Tokens evaluated at once: Stop is heard in between, and the buffers are that much smaller. A GPU wants more.
CHUNK, CHUNK_GPU = 128, 512
#: Bytes of weights that are worth a thread: with less to do each, threads wait for each other much of the time (the
#: starter answers with two at 0.6 to 1.3 times its rate with one, as other programs let it).
THREAD_BYTES = 32 << 20
#: Positions whose logits are given at once.
OUTPUTS = 32
#: Adapters kept per model when one looks at many (a run's checkpoints).
ADAPTERS = 8
_log: collections.deque[str] = collections.deque(maxlen=50)
Cancelled = Callable[[], bool]


@functools.cache
def library() -> Any:
    """Give llama_cpp, set up; ToolMissing says how to install it."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise ToolMissing(
            f"llama-cpp-python is not installed or does not load here ({error}).", "Install it with: ./run install"
        ) from None
    global _listener
    _listener = llama_cpp.llama_log_callback(_hear)
    llama_cpp.llama_log_set(_listener, None)
    llama_cpp.llama_backend_init()
    return llama_cpp


_listener: Any = None  # llama.cpp holds it by address


def _hear(level: int, text: bytes, data: Any) -> None:
    """Keep warnings and errors of llama.cpp (ggml's levels 3 and 4), for the reason of a failure."""
    if level in (3, 4):
        line = text.decode("utf-8", "replace").strip()
        _log.append(line)
        if level == 4:
            print(line, file=sys.stderr, flush=True)  # a crash is told with the last line


def reason() -> str:
    """Give the last thing that llama.cpp complained about."""
    told = [line for line in _log if "llama_model_load_from_file" not in line]
    return told[-1].partition("error loading model: ")[2] or told[-1] if told else "it gives no reason"


class Weights:
    """One model file in memory (mapped, so that the system shares and drops its pages), with its vocabulary.

    `device` is `auto` or `cpu`; `reason` says why the processor does what a GPU could. Raises ModelError.
    """

    def __init__(
        self, path: str, *, device: str = "auto", vocab_only: bool = False, n_ctx: int = 2048, busy: bool = False
    ) -> None:
        self.lib = library()
        ggufhead.read(path)  # llama.cpp aborts on some files that were made to break it, and hangs on others
        self.path, self.contexts, self.cache, self._lock = path, 0, dict[Any, Any](), threading.Lock()
        self._adapters: collections.OrderedDict[tuple[str, int, int], Any] = collections.OrderedDict()
        self._pieces: dict[tuple[int, bool], bytes] = {}
        plan, gpus = offload.Plan(0), None
        if not vocab_only and device != "cpu" and self.lib.llama_supports_gpu_offload():
            head = Weights(path, vocab_only=True)
            gpus, size = offload.devices(), os.path.getsize(path)
            layers = int(head.meta.get(f"{head.meta.get('general.architecture')}.block_count", "32"))
            plan = offload.plan(device, True, gpus, layers, size, offload.cache_bytes(head.meta, n_ctx), busy)
            head.close()
        elif device == "cpu":
            plan = offload.plan(device, False, None, 0, 0, 0)
        self.model = self._load(path, vocab_only, plan.layers)
        if not self.model and plan.layers:
            plan = offload.Plan(0, f"the GPU could not take it ({reason()})")
            self.model = self._load(path, vocab_only, 0)
        if not self.model:
            raise ModelError(
                f"llama.cpp cannot load this file: {reason()}",
                "It is damaged, or of a kind it does not know.",
                file=path,
            )
        self.gpu_layers, self.reason = plan.layers, plan.reason
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        self.n_vocab = int(self.lib.llama_vocab_n_tokens(self.vocab))
        self.n_ctx_train = int(self.lib.llama_model_n_ctx_train(self.model))
        self.meta: dict[str, str] = self._meta()
        self.device = offload.said(plan, gpus, 0 if vocab_only else int(self.lib.llama_model_n_layer(self.model)))

    def _load(self, path: str, vocab_only: bool, gpu_layers: int) -> Any:
        params = self.lib.llama_model_default_params()
        params.vocab_only, params.n_gpu_layers = vocab_only, gpu_layers
        none = (ctypes.c_void_p * 1)(None)
        if not gpu_layers:  # an empty list of devices: no scratch memory on a GPU that has none to spare
            params.devices = ctypes.addressof(none)
        _log.clear()
        return self.lib.llama_model_load_from_file(path.encode("utf-8"), params)

    def _meta(self) -> dict[str, str]:
        def text(function: Any, index: int) -> str:
            size = 1 << 10
            while True:
                buffer = ctypes.create_string_buffer(size)
                length = function(self.model, index, buffer, size)
                if length < size:
                    return buffer.value.decode("utf-8", "replace") if length >= 0 else ""
                size = length + 1

        lib = self.lib
        return {
            text(lib.llama_model_meta_key_by_index, index): text(lib.llama_model_meta_val_str_by_index, index)
            for index in range(lib.llama_model_meta_count(self.model))
        }

    @property
    def type(self) -> str:
        """Name the file's type, as Q8_0."""
        name = (self.lib.llama_ftype_name(self.lib.llama_model_ftype(self.model)) or b"").decode()
        return name.replace("(guessed)", "").split(" - ")[0].removeprefix("all ").strip()

    def close(self) -> None:
        """Give the memory back; adapters go with it."""
        model, self.model = self.model, None
        if model:
            self.lib.llama_model_free(model)

    def tokenize(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Give the ids of a text; `special` reads control tokens in it, `bos` lets the file put its beginning first."""
        data = text.encode("utf-8")
        size = len(data) + 8
        while True:
            ids = (ctypes.c_int32 * size)()
            count = self.lib.llama_tokenize(self.vocab, data, len(data), ids, size, bos, special)
            if count >= 0:
                return ids[:count]
            size = -count

    def piece(self, token: int, special: bool = False) -> bytes:
        """Give a token's bytes; a control token is empty unless `special`."""
        if (made := self._pieces.get((token, special))) is None:
            size = 64
            while True:
                buffer = ctypes.create_string_buffer(size)
                length = self.lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
                if length >= 0:
                    break
                size = -length
            made = self._pieces[token, special] = buffer.raw[:length]
        return made

    def takes_spaces(self, token: int) -> bool:
        """Tell whether a token takes the spaces behind it with it, as Phi-3's do."""
        return bool(self.lib.llama_vocab_get_attr(self.vocab, token) & self.lib.LLAMA_TOKEN_ATTR_RSTRIP)

    def text(self, token: int) -> str:
        """Give a token as people can read it; bytes that are no whole character are written as numbers."""
        return self.piece(token, True).decode("utf-8", "backslashreplace")

    def adapter(self, path: str) -> Any:
        """Give a LoRA adapter of these weights, read once per file. Raises ModelError."""
        try:
            stat = os.stat(path)
        except OSError:
            raise ModelError("There is no such adapter.", "Export the run again.", file=path) from None
        key = (path, stat.st_mtime_ns, stat.st_size)
        with self._lock:
            if key not in self._adapters:
                ggufhead.read(path)
                _log.clear()
                made = self.lib.llama_adapter_lora_init(self.model, path.encode("utf-8"))
                if not made:
                    raise ModelError(
                        f"llama.cpp cannot put this adapter on {os.path.basename(self.path)}: {reason()}",
                        "An adapter fits the base it was trained on only.",
                        file=path,
                    )
                self._adapters[key] = made
            self._adapters.move_to_end(key)
            return self._adapters[key]

    def drop_adapters(self, used: Sequence[Any]) -> None:
        """Free the adapters that were not used for longest, if there are many and no context has them set."""
        for key, adapter in list(self._adapters.items())[:-ADAPTERS]:
            if adapter not in used:
                self.lib.llama_adapter_lora_free(self._adapters.pop(key))


class Context:
    """A conversation's place on shared weights: its own cache, threads and adapter.

    `exact` keeps the cache in 32 bits, for comparing numbers. Raises ModelError when there is no memory for it.
    """

    def __init__(self, weights: Weights, n_ctx: int, *, threads: int = 0, exact: bool = False) -> None:
        self.lib, self.weights, self.n_ctx = weights.lib, weights, n_ctx
        self.chunk = min(n_ctx, CHUNK_GPU if weights.gpu_layers else CHUNK)
        self._threads = self._useful(threads or os.cpu_count() or 1)
        params = self.lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, self.chunk, self.chunk
        params.n_outputs_max = min(OUTPUTS, self.chunk)
        params.n_threads = params.n_threads_batch = self._threads
        if not weights.gpu_layers:
            params.offload_kqv = params.op_offload = False
        if exact:
            params.type_k = params.type_v = 0  # GGML_TYPE_F32
            params.flash_attn_type = self.lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        _log.clear()
        self.ctx = self.lib.llama_init_from_model(weights.model, params)
        if not self.ctx:
            raise ModelError(
                f"llama.cpp has no room for a context of {n_ctx} tokens: {reason()}",
                "Close other programs or the other pane, or ask for a shorter context.",
                file=weights.path,
            )
        weights.contexts += 1
        self.memory = self.lib.llama_get_memory(self.ctx)
        self.ids: list[int] = []
        self._starts: list[int] = []  # where the batches began that `ids` were evaluated in
        self.adapter, self.strength = None, 0.0
        self._tokens = (ctypes.c_int32 * self.chunk)()
        self._flags = (ctypes.c_int8 * self.chunk)()
        self._batch = self.lib.llama_batch_get_one(self._tokens, 1)
        self._batch.logits = ctypes.cast(self._flags, type(self._batch.logits))

    def close(self) -> None:
        """Give the cache back."""
        ctx, self.ctx = self.ctx, None
        if ctx:
            self.lib.llama_free(ctx)
            self.weights.contexts -= 1

    def set_threads(self, threads: int) -> None:
        """Take so many threads from now on, or what a small model has use for."""
        if threads and self._useful(threads) != self._threads:
            self._threads = self._useful(threads)
            self.lib.llama_set_n_threads(self.ctx, self._threads, self._threads)

    def _useful(self, threads: int) -> int:
        """Take no more threads than the weights give work to."""
        return min(threads, 1 + self.lib.llama_model_size(self.weights.model) // THREAD_BYTES)

    def adapt(self, path: str = "", strength: float = 1.0) -> bool:
        """Set the adapter (none for ""), so many times as strong as it was trained; tells whether that is a change.

        What was evaluated under another adapter is forgotten.
        """
        adapter = self.weights.adapter(path) if path and strength else None
        wanted = strength if adapter else 0.0
        if adapter is self.adapter and wanted == self.strength:
            return False
        adapters = (self.lib.llama_adapter_lora_p_ctypes * 1)(adapter) if adapter else None
        scales = (ctypes.c_float * 1)(wanted) if adapter else None
        if self.lib.llama_set_adapters_lora(self.ctx, adapters, int(adapter is not None), scales):
            raise ModelError("llama.cpp could not set the adapter.", "Export the run again.", file=path)
        self.adapter, self.strength = adapter, wanted
        self.forget()
        return True

    def forget(self) -> None:
        """Empty the cache."""
        self.lib.llama_memory_clear(self.memory, False)
        self.ids, self._starts = [], []

    def feed(self, ids: Sequence[int], cancelled: Cancelled = bool, *, logits_from: int | None = None) -> Any:
        """Evaluate a text from its beginning; what is there of it already is kept. Gives how many tokens were kept.

        Only whole batches are kept, so that a question asked again is evaluated in the same batches and gets the same
        answer, bit for bit. With `logits_from` gives the logits (len(ids) - logits_from, V) in their place. Raises
        Stopped, and ModelError when llama.cpp fails.
        """
        upto = len(ids) - 1 if logits_from is None else logits_from
        pairs = zip(self.ids, ids[:upto], strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        kept = max((start for start in (*self._starts, len(self.ids)) if start <= same), default=0)
        if kept < len(self.ids) and not self.lib.llama_memory_seq_rm(self.memory, 0, kept, -1):
            kept = 0  # this kind of memory cannot be cut
        if kept == 0:
            self.forget()
        self.ids, self._starts = self.ids[:kept], [start for start in self._starts if start < kept]
        found: list[Any] = []
        at = kept
        while at < len(ids):
            if cancelled():
                raise Stopped("Stopped.")
            size = self.chunk
            if logits_from is not None:
                size = min(size, logits_from - at if at < logits_from else OUTPUTS)
            part = list(ids[at : at + size])
            self._decode(part, (len(ids) - 1 if logits_from is None else logits_from) - at)
            if logits_from is not None and at >= logits_from:
                found.append(self._logits(len(part)))
            at += len(part)
        if logits_from is None:
            return kept
        import numpy as np

        return np.concatenate(found)

    def next(self, token: int) -> None:
        """Evaluate one more token."""
        self._decode([token], 0)

    def last(self) -> Any:
        """Give the logits (V) after what was evaluated last by `next`, or by `feed` without `logits_from`."""
        return self._logits(1)[0]

    def _decode(self, part: list[int], first: int) -> None:
        """Evaluate a batch after what is there; logits are made from position `first` of it on."""
        count = len(part)
        self._tokens[:count] = part  # type: ignore[assignment]  # ctypes takes ints
        self._flags[:count] = [int(place >= first) for place in range(count)]
        self._batch.n_tokens = count
        code = self.lib.llama_decode(self.ctx, self._batch)
        if code:
            self.forget()
            full = "the context is full" if code == 1 else reason()
            raise ModelError(
                f"llama.cpp could not evaluate the text (code {code}: {full}).",
                "Ask again; if it fails again, close the other pane or start a new conversation.",
                file=self.weights.path,
            )
        self._starts.append(len(self.ids))
        self.ids += part

    def _logits(self, rows: int) -> Any:
        import numpy as np

        given = np.ctypeslib.as_array(self.lib.llama_get_logits(self.ctx), shape=(rows, self.weights.n_vocab))
        return given.astype(np.float32, copy=True)
