"""llama.cpp in a process of its own (child.py): load GGUF files, answer, tokenise, compare. Never in the window.

Prompts are rendered by `render/template` from the file's own template and passed as token ids, so that nothing is
guessed from names; text that a person typed never becomes a control token. A file's weights are loaded once; each pane
has its own context on them, and requests for different panes run at the same time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from studio.chat import answers, prompts
from studio.chat.answers import log_softmax
from studio.chat.llama import Cancelled, Context, Weights, library
from studio.data.records import Message
from studio.errors import DataError, ExportError, ModelError

__all__ = ["handle", "library", "log_softmax"]


@dataclasses.dataclass
class Loaded:
    """A pane: a context on weights that others may share."""

    context: Context
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)


_loaded: dict[str, Loaded] = {}
_weights: dict[tuple[Any, ...], Weights] = {}
_asked: dict[str, threading.Event] = {}
_opening = threading.Lock()


def handle(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Answer one request; `op` names it. `pane` tells apart the panes of one file."""
    op: Callable[[dict[str, Any], Cancelled], Iterator[dict[str, Any]]] = {
        "load": _load,
        "unload": _unload,
        "ask": _ask,
        "stop": _stop,
        "adapt": _adapt,
        "scores": _scores,
        "weigh": _weigh,
        "tokens": _tokens,
        "prompt": _prompt,
        "compare": _compare,
        "about": _about,
    }[request["op"]]
    yield from op(request, cancelled)


def _key(request: dict[str, Any]) -> str:
    return f"{request['gguf']}\0{request.get('pane', '')}"


def _shared(path: str, device: str, n_ctx: int, busy: bool) -> Weights:
    """Give a file's weights, loaded at the first call; a file that was written anew is loaded anew."""
    try:
        stat = os.stat(path)
        key: tuple[Any, ...] = (os.path.realpath(path), stat.st_mtime_ns, stat.st_size, device)
    except OSError:
        key = (path,)
    if key not in _weights:
        _weights[key] = Weights(path, device=device, n_ctx=n_ctx, busy=busy)
    return _weights[key]


def _open(request: dict[str, Any]) -> Loaded:
    """Give a pane, opened if it is not; where the GPU has no room for its context, the processor takes all of it."""
    key, n_ctx = _key(request), int(request.get("n_ctx") or 2048)
    with _opening:
        if key not in _loaded:
            path, device = request["gguf"], str(request.get("device") or "auto")
            weights = _shared(path, device, n_ctx, bool(request.get("busy")))
            try:
                context = Context(weights, n_ctx, threads=int(request.get("threads") or 0))
            except ModelError as error:
                if not weights.gpu_layers:
                    _sweep()
                    raise
                _sweep()
                weights = _shared(path, "cpu", n_ctx, False)
                weights.reason = f"the GPU has no room for the context ({error.message})"
                context = Context(weights, n_ctx, threads=int(request.get("threads") or 0))
            _loaded[key] = Loaded(context)
        return _loaded[key]


def _sweep() -> None:
    """Free the weights that no context is on."""
    for key, weights in list(_weights.items()):
        if not weights.contexts:
            del _weights[key]
            weights.close()


def _load(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Open a pane and describe it."""
    context = _open(request).context
    weights = context.weights
    facts = prompts.facts(weights)
    yield {
        "name": weights.meta.get("general.name", ""),
        "has_template": facts.template is not None,
        "thinks": facts.template is not None and "enable_thinking" in facts.template.source,
        "stops": list(facts.stops.values()),
        "n_ctx": context.n_ctx,
        "n_ctx_train": weights.n_ctx_train,
        "type": weights.type,
        "device": weights.device,
        "reason": weights.reason,
        "shared": weights.contexts,
    }


def _unload(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Close a pane, all panes of a file, or all."""
    wanted = _key(request) if "pane" in request else request.get("gguf", "") + "\0" if "gguf" in request else ""
    with _opening:
        gone = [_loaded.pop(key) for key in list(_loaded) if key.startswith(wanted)]
    for loaded in gone:  # an answer that is being given ends first
        with loaded.lock:
            loaded.context.close()
    with _opening:
        _sweep()
    yield {"ok": True}


@contextlib.contextmanager
def _held(request: dict[str, Any]) -> Iterator[Context]:
    """Give a pane's context to one request at a time, with threads and adapter as the request wants them."""
    while True:
        loaded = _open(request)
        with loaded.lock:
            context = loaded.context
            if not context.ctx:
                continue  # it was closed while we waited
            context.set_threads(int(request.get("threads") or 0))
            if context.adapt(str(request.get("adapter") or ""), float(request.get("strength", 1.0))):
                with _opening:
                    context.weights.drop_adapters([pane.context.adapter for pane in _loaded.values()])
            yield context
            return


def _ask(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Stream an answer, see `answers.stream`; `ask` names it for `stop`."""
    stop = threading.Event()
    name = str(request.get("ask") or id(stop))
    _asked[name] = stop

    def stopped() -> bool:
        return stop.is_set() or cancelled()

    try:
        with _held(request) as context:
            yield from answers.stream(context, request, stopped)
    finally:
        _asked.pop(name, None)


def _stop(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Stop answers by their names; those that ended are left in peace."""
    for name in request["asks"]:
        if event := _asked.get(name):
            event.set()
    yield {"ok": True}


def _adapt(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Set a pane's adapter and strength now, so that the next question does not wait for it."""
    with _held(request) as context:
        yield {"strength": context.strength}


def _scores(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Give the probability of each token of an answer, see `answers.scores`."""
    with _held(request) as context:
        yield answers.scores(context, request, cancelled)


def _weigh(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Give the probabilities of words as the beginning of an answer, see `answers.weigh`."""
    with _held(request) as context:
        yield {"p": answers.weigh(context, request, cancelled)}


def _vocabulary(path: str) -> Weights:
    return Weights(path, vocab_only=True)


def _tokens(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Tokenise plain texts with the file's vocabulary: {"ids"}.

    With `pane` by the file that is open there, where `bos` puts the file's beginning first, if it has one. It then
    tells "prefix" too, the token that stands for an empty text (the beginning, else the end), and "room", the tokens
    that the model reads at most.
    """
    special = bool(request.get("special"))
    if "pane" in request:
        context = _open(request).context
        yield {
            "ids": prompts.plain_ids(context.weights, request["texts"], special, bool(request.get("bos"))),
            "prefix": prompts.prefix(context.weights),
            "room": min(context.n_ctx, context.weights.n_ctx_train or context.n_ctx),
        }
        return
    weights = _vocabulary(request["gguf"])
    try:
        yield {"ids": [weights.tokenize(text, special=special) for text in request["texts"]]}
    finally:
        weights.close()


def _prompt(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Show prompts as the model sees them, up to the assistant's turn.

    With `conversations`: {"ids": [ids or {"error"}], "has_template", "stops"}. With `messages`, as for `ask`: {"ids",
    "tokens": [{"id", "text"}], "pieces": [{"text", "plain"}], "left_out", "n_ctx"}.
    """
    if "messages" in request:
        context = _open(request).context
        made = prompts.make(context.weights, request, context.n_ctx)
        yield {
            "ids": made.ids,
            "tokens": prompts.spelled(context.weights, made.ids),
            "pieces": [dataclasses.asdict(piece) for piece in made.pieces],
            "left_out": made.left_out,
            "n_ctx": context.n_ctx,
        }
        return
    weights = _vocabulary(request["gguf"])
    try:
        facts = prompts.facts(weights)
        rows: list[list[int] | dict[str, str]] = []
        for talk in request["conversations"]:
            try:
                turns = [Message(turn["role"], turn["content"]).to_dict() for turn in talk]
                rows.append(prompts.make(weights, {"messages": turns}).ids)
            except (DataError, ModelError) as error:
                rows.append({"error": error.message})
        yield {"ids": rows, "has_template": facts.template is not None, "stops": list(facts.stops.values())}
    finally:
        weights.close()


def _compare(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Compare next-token distributions with reference ones: mean KL(reference || file) and top-1 agreement.

    `rows` are token ids; `reference` is a .npy file of float32 logits, one line per position of all rows in order.
    `adapter` and `strength` as for `ask`.
    """
    import numpy as np

    reference = np.load(request["reference"], mmap_mode="r")
    rows = request["rows"]
    weights = Weights(request["gguf"], n_ctx=max(map(len, rows)))
    try:
        context = Context(weights, max(8, max(map(len, rows))), exact=True)
        context.adapt(str(request.get("adapter") or ""), float(request.get("strength", 1.0)))
        if reference.shape[1] != weights.n_vocab:
            raise ExportError(
                f"The file has {weights.n_vocab} tokens, the model {reference.shape[1]}.", "Export it again."
            )
        total, same, count = 0.0, 0, 0
        for row in rows:
            context.forget()
            p = log_softmax(np.asarray(reference[count : count + len(row)], dtype=np.float64))
            q = log_softmax(context.feed(row, cancelled, logits_from=0).astype(np.float64))
            total += float((np.exp(p) * (p - q)).sum())
            same += int((p.argmax(-1) == q.argmax(-1)).sum())
            count += len(row)
            yield {"done": count}
        context.close()
    finally:
        weights.close()
    yield {"kl": total / count, "top1": same / count, "n": count}


def _about(request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Tell which llama.cpp this is."""
    binding = library()
    yield {
        "version": binding.__version__,
        "gpu": bool(binding.llama_supports_gpu_offload()),
        "system": binding.llama_print_system_info().decode(),
    }
