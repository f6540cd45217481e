"""Render chat templates that came with a model in a child: at most 2 s a conversation and 512 MB, whatever they do.

A template is a program. The sandbox keeps it from Python's insides, but not from running for ever or from filling the
memory; a child with limits does. It stays warm, and takes many conversations at a time.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio.child import Child
from studio.errors import ChildCrashed, ModelError
from studio.render import sandbox

SECONDS = 2.0
MEMORY_MB = 512
_START_SECONDS = 60.0
_AT_ONCE = 0.25  # answers are sent in parcels of so many seconds

_child = Child("studio.render.foreign:handle", memory_mb=MEMORY_MB)
_one_at_a_time = threading.Lock()


def work(setup: dict[str, Any], jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Do the jobs of `sandbox.answers` in the child. Raises ModelError when the template overruns its limits."""
    if len(setup["source"].encode("utf-8", "replace")) > sandbox.MAX_TEMPLATE_BYTES:
        raise ModelError("The chat template is larger than 64 KB.", sandbox.CHOOSE)
    done: list[dict[str, Any]] = []
    with _one_at_a_time:
        if _child.pid is None:
            _child.ask({"jobs": []}, _START_SECONDS)
        try:
            for answer in _child.stream({"setup": setup, "jobs": list(jobs)}, SECONDS):
                done += answer["done"]
        except ChildCrashed as error:
            _child.close()
            raise ModelError(
                f"The chat template was stopped: a conversation may take {SECONDS:g} s and {MEMORY_MB} MB. "
                f"({error.message})",
                sandbox.CHOOSE,
            ) from None
    return done


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Answer in the child: {"done": [answers]} again and again until all jobs are done."""
    if not request["jobs"]:
        return
    done: list[dict[str, Any]] = []
    sent = time.monotonic()
    _alarm(SECONDS)
    try:
        for answer in sandbox.answers(request["setup"], request["jobs"]):
            _alarm(SECONDS)
            done.append(answer)
            if time.monotonic() - sent > _AT_ONCE:
                yield {"done": done}
                done, sent = [], time.monotonic()
        yield {"done": done}
    finally:
        _alarm(0)


def _alarm(seconds: float) -> None:
    """Have the system end this process: the parent may be gone, and a long sum in C hears nothing else."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)
