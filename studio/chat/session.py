"""Several panes that answer the same message at the same time; each is a GGUF file, all live in one engine process."""

from __future__ import annotations

import dataclasses
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from studio import runs
from studio.child import Child
from studio.errors import StudioError

ENGINE = "studio.chat.engine:handle"
Turn = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Pane:
    """One side of a chat: a name, a GGUF file, and whether it continues raw text (a base) or uses its template."""

    name: str
    gguf: str
    raw: bool = False


class Session:
    """An engine process with the panes' files loaded. Starts at the first question, ends with `close()`."""

    def __init__(self, panes: Sequence[Pane], n_ctx: int = 2048) -> None:
        self.panes, self._n_ctx = list(panes), n_ctx
        # a passive wait leaves the cores to a training run, which costs little when there is none
        self._child = Child(ENGINE, env={"OMP_WAIT_POLICY": "passive"})

    def load(self) -> list[dict[str, Any]]:
        """Load every pane's file and describe it; raises ModelError for a file that llama.cpp cannot load."""
        threads = threads_for(len(self.panes))
        return [
            self._child.ask({"op": "load", "gguf": pane.gguf, "n_ctx": self._n_ctx, "threads": threads}, timeout=600)
            for pane in self.panes
        ]

    def ask(
        self,
        histories: Sequence[Sequence[Turn]],
        *,
        system: str = "",
        temperature: float = 0.0,
        max_tokens: int = 256,
        seed: int = 0,
        **sampling: float,
    ) -> Iterator[dict[str, Any]]:
        """Stream the answers of all panes as they come: {"pane", "text"}, then {"pane", "done", "tokens", ...}.

        `histories` holds one list of turns per pane, ending with the user's. A pane that fails gives {"pane", "error"}.
        Closing the iterator stops all panes within a token.
        """
        self.load()
        box: queue.Queue[dict[str, Any]] = queue.Queue()
        stop = threading.Event()

        def work(index: int, pane: Pane) -> None:
            spoken = system.strip() and not pane.raw  # raw text has no place for a system turn
            turns = ([{"role": "system", "content": system}] if spoken else []) + list(histories[index])
            request = {
                "op": "ask",
                "gguf": pane.gguf,
                "messages": turns,
                "raw": pane.raw,
                "temperature": temperature,
                "max_tokens": max_tokens,
                "seed": seed,
                **sampling,
            }
            answers = self._child.stream(request, timeout=300)
            try:
                for answer in answers:
                    box.put({"pane": index, **answer})
                    if stop.is_set():
                        break
            except StudioError as error:
                box.put({"pane": index, "error": error.to_dict()})
            finally:
                answers.close()  # type: ignore[attr-defined]  # a generator: closing it cancels the request
                box.put({"pane": index, "end": True})

        threads = [threading.Thread(target=work, args=(i, pane), daemon=True) for i, pane in enumerate(self.panes)]
        for thread in threads:
            thread.start()
        try:
            open_panes = len(threads)
            while open_panes:
                item = box.get()
                if item.get("end"):
                    open_panes -= 1
                else:
                    yield item
        finally:
            stop.set()

    def answer(self, pane: int, turns: Sequence[Turn], **options: Any) -> dict[str, Any]:
        """Ask one pane and wait: {"who", "text", "tokens", "stopped", "tokens_per_s"}."""
        text, last = "", {}
        chosen = self.panes[pane]
        request = {"op": "ask", "gguf": chosen.gguf, "messages": list(turns), "raw": chosen.raw, "n_ctx": self._n_ctx}
        for item in self._child.stream({**request, **options}, timeout=300):
            text += item.get("text", "")
            last = item
        return {
            "who": chosen.name,
            "text": text,
            "tokens": last["tokens"],
            "stopped": last["stopped"],
            "tokens_per_s": round(last["tokens_per_s"], 1),
        }

    def close(self) -> None:
        """End the engine process and free its memory."""
        self._child.close()


def threads_for(panes: int) -> int:
    """Choose threads per pane: all cores shared by the panes, one each while a run is training on this machine."""
    cores = os.cpu_count() or 1
    return 1 if runs.computing() else max(1, cores // panes)
