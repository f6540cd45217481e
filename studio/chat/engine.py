"""llama.cpp in a process of its own (child.py): load GGUF files, answer, tokenise, compare. Never in the window.

Prompts are rendered by `render/template` from the file's own template and passed as token ids, so that nothing is
guessed from names; text that a person typed never becomes a control token. Each loaded file has its own context;
requests for different files run at the same time.
"""

from __future__ import annotations

import codecs
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio.data.records import Message
from studio.errors import DataError, ExportError, ModelError, ToolMissing
from studio.models import ggufhead
from studio.render.template import ChatTemplate, Piece

Cancelled = Callable[[], bool]


@dataclasses.dataclass
class Loaded:
    """A GGUF file with its context, its template and the tokens that end an answer."""

    llama: Any
    template: ChatTemplate | None
    stops: dict[int, str]
    adds_bos: bool
    lock: threading.Lock


_loaded: dict[str, Loaded] = {}


def handle(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Answer one request; `op` is load, unload, ask, tokens, prompt, compare or about."""
    op = {
        "load": _load,
        "unload": _unload,
        "ask": _ask,
        "tokens": _tokens,
        "prompt": _prompt,
        "compare": _compare,
        "about": _about,
    }[request["op"]]
    yield from op(request, cancelled)


def library() -> Any:
    """Give llama_cpp; ToolMissing says how to install it."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise ToolMissing(
            f"llama-cpp-python is not installed or does not load here ({error}).", "Install it with: ./run install"
        ) from None
    return llama_cpp


def _open(path: str, *, n_ctx: int = 512, vocab_only: bool = False, logits_all: bool = False, threads: int = 0) -> Any:
    binding = library()
    ggufhead.read(path)  # llama.cpp aborts on some files that were made to break it, and hangs on others
    cores = threads or os.cpu_count() or 1
    try:
        return binding.Llama(
            path,
            n_ctx=n_ctx,
            n_batch=min(n_ctx, 512),
            vocab_only=vocab_only,
            logits_all=logits_all,
            n_threads=cores,
            n_threads_batch=cores,
            verbose=False,
            **({"type_k": 0, "type_v": 0} if logits_all else {}),
        )
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ModelError(
            f"llama.cpp cannot load this file: {error}", "It is damaged, or of a kind it does not know.", file=path
        ) from None


def _load(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    path = request["gguf"]
    if path not in _loaded:
        llama = _open(path, n_ctx=request.get("n_ctx", 2048), threads=request.get("threads", 0))
        _loaded[path] = _describe(llama)
    loaded = _loaded[path]
    yield {
        "name": loaded.llama.metadata.get("general.name", ""),
        "has_template": loaded.template is not None,
        "stops": list(loaded.stops.values()),
        "n_ctx": loaded.llama.n_ctx(),
    }


def _describe(llama: Any) -> Loaded:
    """Read template and stop tokens from the file itself."""
    binding, vocab = library(), llama._model.vocab
    stops, control = {}, []
    texts: dict[int, str] = {}
    for token in range(llama.n_vocab()):
        ends = binding.llama_vocab_is_eog(vocab, token)
        if ends or binding.llama_vocab_is_control(vocab, token):
            text = (binding.llama_vocab_get_text(vocab, token) or b"").decode("utf-8", "replace")
            texts[token] = text
            control.append(text)
            if ends:
                stops[token] = text
    meta = llama.metadata
    tokens = {
        f"{name}_token": texts.get(int(meta.get(f"tokenizer.ggml.{name}_token_id", -1)), "")
        for name in ("bos", "eos", "pad")
    }
    source = meta.get("tokenizer.chat_template", "")
    return Loaded(
        llama=llama,
        template=ChatTemplate(source, tokens, control) if source else None,
        stops=stops,
        adds_bos=meta.get("tokenizer.ggml.add_bos_token", "false") == "true",
        lock=threading.Lock(),
    )


def _unload(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    for path in [request["gguf"]] if "gguf" in request else list(_loaded):
        if loaded := _loaded.pop(path, None):
            with loaded.lock:
                loaded.llama.close()
    yield {"ok": True}


def _ids(llama: Any, pieces: Sequence[Piece]) -> list[int]:
    """Tokenise rendered pieces.

    What the template wrote with control tokens, what people typed without. No BOS is added.
    """
    ids: list[int] = []
    for piece in pieces:
        ids += llama.tokenize(piece.text.encode("utf-8"), add_bos=False, special=not piece.plain)
    return ids


def _prompt_ids(loaded: Loaded, messages: Sequence[Message], raw: bool) -> list[int]:
    """Make the prompt: through the file's template, or as raw text that a base model goes on with."""
    if raw or loaded.template is None:
        text = "\n".join(message.content for message in messages)
        ids: list[int] = loaded.llama.tokenize(text.encode("utf-8"), add_bos=loaded.adds_bos, special=False)
        return ids
    return _ids(loaded.llama, loaded.template.pieces(messages, generate=True))


def _messages(request: dict[str, Any]) -> list[Message]:
    return [Message(m["role"], m["content"]) for m in request["messages"]]


def _ask(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Stream an answer: {"text"} pieces, then {"done", "tokens", "tokens_per_s", "first_s", "stopped", ...}."""
    loaded = _loaded.get(request["gguf"])
    if loaded is None:
        for _ in _load(request, cancelled):
            pass
        loaded = _loaded[request["gguf"]]
    limit = int(request.get("max_tokens", 256))
    with loaded.lock:
        ids = _prompt_ids(loaded, _messages(request), bool(request.get("raw")))
        room = loaded.llama.n_ctx() - len(ids)
        if room <= 1:
            raise DataError(
                f"The conversation is {len(ids)} tokens long, the context {loaded.llama.n_ctx()}.",
                "Start a new conversation.",
            )
        yield from _generate(loaded, ids, min(limit, room - 1), request, cancelled)


def _generate(
    loaded: Loaded, ids: list[int], limit: int, request: dict[str, Any], cancelled: Cancelled
) -> Iterator[dict[str, Any]]:
    llama = loaded.llama
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    start = time.monotonic()
    first, count, stop = 0.0, 0, ""
    llama.set_seed(int(request.get("seed", 0)))
    tokens = llama.generate(
        ids,
        temp=float(request.get("temperature", 0.0)),
        top_p=float(request.get("top_p", 0.95)),
        top_k=int(request.get("top_k", 40)),
        min_p=float(request.get("min_p", 0.05)),
        repeat_penalty=float(request.get("repeat_penalty", 1.0)),
    )
    seen = list(ids)
    if ids and limit > 0:
        for token in tokens:
            first = first or time.monotonic() - start
            if token in loaded.stops:
                stop = loaded.stops[token]
                break
            count += 1
            text = decoder.decode(llama.detokenize([token], prev_tokens=seen))
            seen.append(token)
            if text:
                yield {"text": text}
            if count >= limit or cancelled():
                break
    if rest := decoder.decode(b"", True):
        yield {"text": rest}
    seconds = max(1e-9, time.monotonic() - start - first)
    yield {
        "done": True,
        "tokens": count,
        "tokens_per_s": (count - 1) / seconds if count > 1 else 0.0,
        "first_s": first,
        "stopped": bool(stop),
        "stop_token": stop,
        "cancelled": cancelled(),
    }


def _tokens(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Tokenise plain texts with the file's vocabulary."""
    llama = _open(request["gguf"], vocab_only=True)
    special = bool(request.get("special"))
    yield {"ids": [llama.tokenize(text.encode("utf-8"), add_bos=False, special=special) for text in request["texts"]]}
    llama.close()


def _prompt(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Render conversations with the file's own template and tokenise them, up to the assistant's turn."""
    llama = _open(request["gguf"], vocab_only=True)
    loaded = _describe(llama)
    rows: list[list[int] | dict[str, str]] = []
    for conversation in request["conversations"]:
        try:
            rows.append(_prompt_ids(loaded, [Message(m["role"], m["content"]) for m in conversation], raw=False))
        except (DataError, ModelError) as error:
            rows.append({"error": error.message})
    yield {"ids": rows, "has_template": loaded.template is not None, "stops": list(loaded.stops.values())}
    llama.close()


def _compare(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Compare next-token distributions with reference ones: mean KL(reference || file) and top-1 agreement.

    `rows` are token ids; `reference` is a .npy file of float32 logits, one line per position of all rows in order.
    """
    import numpy as np

    reference = np.load(request["reference"], mmap_mode="r")
    rows = request["rows"]
    llama = _open(request["gguf"], n_ctx=max(8, max(map(len, rows))), logits_all=True)
    if reference.shape[1] != llama.n_vocab():
        raise ExportError(f"The file has {llama.n_vocab()} tokens, the model {reference.shape[1]}.", "Export it again.")
    total, same, count = 0.0, 0, 0
    for row in rows:
        llama.reset()
        llama.eval(row)
        p = log_softmax(np.asarray(reference[count : count + len(row)], dtype=np.float64))
        q = log_softmax(np.asarray(llama.scores[: len(row)], dtype=np.float64))
        total += float((np.exp(p) * (p - q)).sum())
        same += int((p.argmax(-1) == q.argmax(-1)).sum())
        count += len(row)
        yield {"done": count}
    llama.close()
    yield {"kl": total / count, "top1": same / count, "n": count}


def log_softmax(logits: Any) -> Any:
    """Normalise logits (T, V) to log-probabilities, row by row."""
    import numpy as np

    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _about(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Tell which llama.cpp this is."""
    binding = library()
    yield {
        "version": binding.__version__,
        "gpu": bool(binding.llama_supports_gpu_offload()),
        "system": binding.llama_print_system_info().decode(),
    }
