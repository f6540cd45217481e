"""Several panes that answer the same message at the same time; all live in one engine process, and panes of the same
file share its weights."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from studio import runs
from studio.chat import identity
from studio.child import WAITING, Child
from studio.errors import StudioError

ENGINE = "studio.chat.engine:handle"
Turn = dict[str, Any]
#: The longest silence of the engine in seconds: a long question on a slow machine, a large file to load.
_SILENCE, _LOADING = 300.0, 600.0
_names = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Pane:
    """One side of a chat: a name and a GGUF file, with a LoRA adapter on it if there is one.

    `raw`: the question is text that is gone on with (a base). `strength` times the adapter as it was trained: 0 is the
    base. `template`: a family's name or a Jinja text in place of the file's own.
    """

    name: str
    gguf: str
    raw: bool = False
    adapter: str = ""
    strength: float = 1.0
    template: str = ""


class Session:
    """An engine process with the panes' files loaded. Starts at the first question, ends with `close()`.

    `device` is `auto` (layers go to the GPU as far as they fit) or `cpu`.
    """

    def __init__(self, panes: Sequence[Pane], n_ctx: int = 2048, device: str = "auto") -> None:
        self.panes, self._n_ctx, self._device = list(panes), n_ctx, device
        # a passive wait leaves the cores to a training run, which costs little when there is none
        self._child = Child(ENGINE, env=WAITING)

    def about(self) -> dict[str, Any]:
        """Tell which llama.cpp answers: {"version", "gpu", "system"}. Raises ToolMissing where there is none."""
        return self._child.ask({"op": "about"}, timeout=_LOADING)

    def load(self) -> list[dict[str, Any]]:
        """Load every pane's file and describe it; raises ModelError for a file that llama.cpp cannot load.

        {"name", "has_template", "thinks", "stops", "n_ctx", "n_ctx_train", "type", "device", "reason", "shared"}:
        `device` as `CPU` or `CUDA0, 30 of 30 layers`, `reason` why not all of it is on a GPU, `shared` how many panes
        are on these weights so far.
        """
        busy = bool(runs.computing())
        requests = [self._request("load", index, busy=busy) for index in range(len(self.panes))]
        return [self._child.ask(request, timeout=_LOADING) for request in requests]

    def ask(
        self,
        histories: Sequence[Sequence[Turn]],
        *,
        system: str = "",
        temperature: float = 0.0,
        max_tokens: int | None = 256,
        seed: int = 0,
        **options: Any,
    ) -> Iterator[dict[str, Any]]:
        """Stream the answers of all panes as they come: {"pane", "text"}, then {"pane", "done", "tokens", ...}.

        `histories` holds one list of turns per pane, ending with the user's. A pane that fails gives {"pane", "error"}.
        Closing the iterator stops all panes within a token. `options`, and what `done` tells: see `stream`.
        """
        self.load()
        box: queue.Queue[dict[str, Any]] = queue.Queue()
        stop = threading.Event()
        asks = [f"{os.getpid()}-{next(_names)}" for _ in self.panes]
        options |= {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        threads = threads_for(len(self.panes))

        def work(index: int, pane: Pane) -> None:
            spoken = system.strip() and not pane.raw  # raw text has no place for a system turn
            turns = ([{"role": "system", "content": system}] if spoken else []) + list(histories[index])
            items = self.stream(index, turns, ask=asks[index], threads=threads, **options)
            try:
                for item in items:
                    box.put({"pane": index, **item})
                    if stop.is_set():
                        break
            except StudioError as error:
                box.put({"pane": index, "error": error.to_dict()})
            finally:
                items.close()  # type: ignore[attr-defined]  # a generator: closing it cancels the request
                box.put({"pane": index, "end": True})

        workers = [threading.Thread(target=work, args=(i, pane), daemon=True) for i, pane in enumerate(self.panes)]
        for worker in workers:
            worker.start()
        open_panes = len(workers)
        try:
            while open_panes:
                item = box.get()
                if item.get("end"):
                    open_panes -= 1
                else:
                    yield item
        finally:
            stop.set()
            if open_panes:
                self.stop(asks)

    def stream(self, pane: int, turns: Sequence[Turn], **options: Any) -> Iterator[dict[str, Any]]:
        """Stream one pane's answer: {"text"} pieces, then {"done", ...}; closing the iterator stops it.

        `options`: temperature, top_p, top_k, min_p, repeat_penalty, frequency_penalty, presence_penalty, seed,
        max_tokens (None: as many as there is room for), stop (texts that end the answer), template, template_args
        (variables for the template, as enable_thinking), overflow ("shift": leave out the oldest turns when there is no
        room, else that is an error), `continue` (the last turn is an unfinished answer, with the `ids` that its `done`
        told), strength, logprobs (how many alternatives to each token: see `answers.stream`). `done` tells {"tokens",
        "tokens_per_s", "first_s", "stopped", "stop_token", "cancelled", "why", "ids", "prompt_tokens", "reused",
        "left_out"}; see `why` for the reasons.
        """
        options = {"threads": threads_for(1), **options}
        return self._child.stream(self._request("ask", pane, messages=list(turns), **options), timeout=_SILENCE)

    def stop(self, asks: Sequence[str]) -> None:
        """Stop answers that were asked for with `ask` names; they end with `cancelled`."""
        if self._child.pid is not None:
            with contextlib.suppress(StudioError):  # an engine that died has stopped
                self._child.ask({"op": "stop", "asks": list(asks)}, timeout=_SILENCE)

    def answer(self, pane: int, turns: Sequence[Turn], **options: Any) -> dict[str, Any]:
        """Ask one pane and wait: {"who", "text", "tokens", "stopped", "tokens_per_s"}, and what `done` tells beside."""
        text, last = "", dict[str, Any]()
        for item in self.stream(pane, turns, **options):
            text += item.get("text", "")
            last = item
        speed = round(last.pop("tokens_per_s"), 1)
        del last["done"]
        return {"who": self.panes[pane].name, "text": text, "tokens_per_s": speed, **last}

    def prompt(self, pane: int, turns: Sequence[Turn], **options: Any) -> dict[str, Any]:
        """Show what the model reads: {"ids", "tokens": [{"id", "text"}], "pieces": [{"text", "plain"}], "left_out"}.

        `plain` pieces are what people wrote where it looks like a control token, and was not made one.
        """
        return self._child.ask(self._request("prompt", pane, messages=list(turns), **options), timeout=_LOADING)

    def tokens(self, pane: int, texts: Sequence[str], *, bos: bool = True) -> dict[str, Any]:
        """Tokenise plain texts by a pane's file: {"ids", "prefix", "room"}; see `engine`."""
        return self._child.ask(self._request("tokens", pane, texts=list(texts), bos=bos), timeout=_LOADING)

    def scores(
        self,
        pane: int,
        turns: Sequence[Turn],
        text: str = "",
        ids: Sequence[int] = (),
        like: int | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Tell how likely this pane finds an answer to `turns`, token by token; see `answers.scores`.

        The answer is `ids`, or `text`. `like` asks after the prompt as another pane reads it, so that the two differ
        by what was trained only; both must be of one vocabulary.
        """
        if like is not None and like != pane:
            options["prompt_ids"] = self.prompt(like, turns, **options)["ids"]
        request = self._request("scores", pane, messages=list(turns), text=text, ids=list(ids), **options)
        return self._child.ask({**request, "threads": threads_for(1)}, timeout=_LOADING)

    def weigh(self, pane: int, turns: Sequence[Turn], words: Sequence[str], **options: Any) -> list[float]:
        """Tell how likely this pane begins its answer to `turns` with each of the words; see `answers.weigh`."""
        request = self._request("weigh", pane, messages=list(turns), words=list(words), **options)
        found: list[float] = self._child.ask({**request, "threads": threads_for(1)}, timeout=_LOADING)["p"]
        return found

    def set_strength(self, pane: int, strength: float) -> None:
        """Set how strong a pane's adapter is from the next question on; 0 is the base."""
        self.change(pane, strength=strength)

    def apply(self, pane: int) -> None:
        """Set a pane's adapter in the engine now; without it the next question does so."""
        self._child.ask(self._request("adapt", pane, threads=0), timeout=_LOADING)

    def change(self, pane: int, **parts: Any) -> None:
        """Change a pane from the next question on: adapter (another checkpoint), strength, raw, template, name."""
        self.panes[pane] = dataclasses.replace(self.panes[pane], **parts)

    def identity(self, pane: int) -> dict[str, Any]:
        """Tell who a pane is.

        {"name", "engine", "file", "sha256", "bytes", "adapter", "adapter_sha256", "strength", "raw", "type", "context",
        "device"}; hashes are the first 12 digits. Reads the whole file the first time.
        """
        chosen = self.panes[pane]
        told = self._child.ask(self._request("load", pane), timeout=_LOADING)
        return {
            "name": chosen.name,
            "engine": "llama.cpp",
            "file": Path(chosen.gguf).name,
            "sha256": identity.sha256(chosen.gguf)[: identity.SHORT],
            "bytes": os.path.getsize(chosen.gguf),
            "adapter": Path(chosen.adapter).name if chosen.adapter else "",
            "adapter_sha256": identity.sha256(chosen.adapter)[: identity.SHORT] if chosen.adapter else "",
            "strength": chosen.strength if chosen.adapter else 0.0,
            "raw": chosen.raw or not (told["has_template"] or chosen.template),  # without one it is asked in plain text
            "type": told["type"],
            "context": told["n_ctx"],
            "device": told["device"],
        }

    def _request(self, op: str, index: int, **parts: Any) -> dict[str, Any]:
        pane = self.panes[index]
        about = {"raw": pane.raw, "adapter": pane.adapter, "strength": pane.strength, "template": pane.template}
        place = {"op": op, "gguf": pane.gguf, "pane": str(index), "n_ctx": self._n_ctx, "device": self._device}
        return {**place, **about, **parts}

    def close(self) -> None:
        """End the engine process and free its memory."""
        self._child.close()


def why(done: dict[str, Any]) -> str:
    """Say in words why an answer ended."""
    return {
        "end": f"stopped by itself at {done['stop_token']}",
        "stop": f"stopped at the text {done['stop_token']!r}",
        "limit": f"reached the limit of {done['tokens']} tokens",
        "context": f"the context is full ({done['prompt_tokens'] + done['tokens']} tokens)",
        "cancelled": "stopped by you",
    }[done["why"]]


def threads_for(panes: int) -> int:
    """Choose threads per pane: all cores shared by the panes, half of them while a run is training on this machine."""
    cores = os.cpu_count() or 1
    return max(1, (cores // 2 if runs.computing() else cores) // panes)
