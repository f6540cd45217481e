"""One way to run a helper process: start it, ask it, take its answers; a crash or a hang is an answer too.

Tokenizers, foreign chat templates and llama.cpp run in children, so that the window outlives whatever they do. A child
is `python -m studio.child module:function`; the function is called as `handler(request, cancelled)` and yields answers.
The two sides talk in JSON lines; several requests run at the same time, each in a thread of the child; the child ends
when its standard input does, so it never outlives its parent.
"""

from __future__ import annotations

import collections
import importlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio import errors
from studio.errors import ChildCrashed, StudioError
from studio.redact import redact_logs

Request = dict[str, Any]
Answer = dict[str, Any]
Handler = Callable[[Request, Callable[[], bool]], Iterator[Answer]]

#: How threads of OpenMP wait for each other, for the environment of what computes: asleep, so that the chat, a training
#: and the user's other programs leave each other the cores. GNU's (torch and llama.cpp on Linux) look a thousand times
#: first. Training the starter, against sleeping at once: 0.67 of the time, beside a busy process 1.3 (with GNU's own
#: 300,000 looks about eight).
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
_END = {"end": True}
#: Seconds in which the last lines of a process that ended are read (one it started may hold its output open).
_LAST_LINES = 0.2


class Child:
    """A helper process, started at the first request and again after a crash.

    `target` is "module:function"; `memory_mb` limits its address space where the system can (not on Windows or macOS).
    """

    def __init__(self, target: str, *, memory_mb: int | None = None, env: dict[str, str] | None = None) -> None:
        self._target, self._memory_mb, self._env = target, memory_mb, env or {}
        self._process: subprocess.Popen[bytes] | None = None
        #: Each request that waits, with the process that it was sent to: only its end is the request's.
        self._waiting: dict[int, tuple[subprocess.Popen[bytes], queue.Queue[dict[str, Any]]]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Tell the process id, or None when it is not running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ask(self, request: Request, timeout: float = 60.0) -> Answer:
        """Send a request and give its last answer; raises what the handler raised, or ChildCrashed."""
        last: Answer = {}
        for answer in self.stream(request, timeout):
            last = answer
        return last

    def stream(self, request: Request, timeout: float = 60.0) -> Iterator[Answer]:
        """Send a request and give its answers as they come; closing the iterator cancels it.

        `timeout` is the longest silence in seconds; past it the child is ended and ChildCrashed raised.
        """
        number, box = next(self._numbers), queue.Queue[dict[str, Any]]()
        with self._lock:
            self._waiting[number] = (self._start(), box)
            self._send({"id": number, "request": request})
        finished = False
        try:
            while True:
                try:
                    item = box.get(timeout=timeout)
                except queue.Empty:
                    self.close()
                    raise ChildCrashed(
                        f"A helper process gave no answer within {timeout:g} s and was ended.",
                        "Try again; if it happens with one model or template only, that one is at fault.",
                    ) from None
                if "error" in item:
                    finished = True
                    raise errors.from_dict(item["error"])
                if item.get("end"):
                    finished = True
                    return
                yield item["answer"]
        finally:
            with self._lock:
                self._waiting.pop(number, None)
                if not finished and self.pid:
                    self._send({"cancel": number})

    def close(self) -> None:
        """End the process; the next request starts a new one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        """Give the process that lives, or a new one."""
        if self._process is not None and self.pid:
            return self._process
        root = str(Path(__file__).resolve().parent.parent)
        env = {**os.environ, **self._env, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
        env["PYTHONPATH"] = os.pathsep.join(part for part in (root, env.get("PYTHONPATH", "")) if part)
        self._process = made = subprocess.Popen(
            [sys.executable, "-m", "studio.child", self._target, str(self._memory_mb or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        tail: collections.deque[str] = collections.deque(maxlen=20)
        log = threading.Thread(target=_read_log, args=(made, tail), daemon=True)
        log.start()
        threading.Thread(target=self._read_answers, args=(made, log, tail), daemon=True).start()
        return made

    def _send(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        except (BrokenPipeError, OSError):
            pass  # the reader sees the end of the process and tells every waiting request

    def _read_answers(
        self, process: subprocess.Popen[bytes], log: threading.Thread, tail: collections.deque[str]
    ) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                item = json.loads(line)
            except ValueError:
                continue
            with self._lock:
                _, box = self._waiting.get(item.get("id"), (None, None))
            if box is not None:
                box.put(item)
        code = process.wait()
        log.join(_LAST_LINES)
        with self._lock:  # a new process may have been started meanwhile: what was sent to it goes on
            boxes = [box for sent_to, box in self._waiting.values() if sent_to is process]
        for box in boxes:
            box.put({"error": _crash(code, list(tail))})


def _read_log(process: subprocess.Popen[bytes], tail: collections.deque[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        tail.append(line.decode("utf-8", "replace").rstrip())


def _crash(code: int, tail: list[str]) -> dict[str, Any]:
    memory = any("MemoryError" in line for line in tail)
    why = "it ran out of its memory limit" if memory else f"exit code {code}"
    if code < 0 and not memory:
        why = f"signal {-code}"
    last = next((line for line in reversed(tail) if line.strip()), "")
    return {
        "kind": "ChildCrashed",
        "message": f"A helper process ended unexpectedly ({why}). {last[:200]}".strip(),
        "remedy": "Try again. `studio doctor` checks this machine's llama.cpp and torch.",
    }


def _serve(handler: Handler, memory_mb: int) -> None:
    """Answer requests from standard input until it ends. Runs in the child."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    if memory_mb and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    write_lock, cancelled = threading.Lock(), dict[int, threading.Event]()

    def write(item: dict[str, Any]) -> None:
        data = json.dumps(item).encode() + b"\n"
        with write_lock:
            out.write(data)

    def work(number: int, request: Request, stop: threading.Event) -> None:
        try:
            for answer in handler(request, stop.is_set):
                write({"id": number, "answer": answer})
            write({"id": number, **_END})
        except StudioError as error:
            write({"id": number, "error": error.to_dict()})
        except MemoryError:
            write({"id": number, "error": {"kind": "ChildCrashed", "message": "It needed more memory than allowed."}})
        except BaseException as error:  # somebody else's code may end itself, too
            import traceback

            traceback.print_exc()
            write({"id": number, "error": {"kind": "ChildCrashed", "message": f"{type(error).__name__}: {error}"}})
        finally:
            cancelled.pop(number, None)

    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "cancel" in message:
            if event := cancelled.get(message["cancel"]):
                event.set()
            continue
        stop = cancelled[message["id"]] = threading.Event()
        threading.Thread(target=work, args=(message["id"], message["request"], stop), daemon=True).start()
    os._exit(0)  # a llama.cpp loop in a thread must not keep the process alive


def main(argv: list[str]) -> None:
    """Run the child side: `python -m studio.child module:function memory_mb`."""
    redact_logs()
    module, _, function = argv[0].partition(":")
    handler: Handler = getattr(importlib.import_module(module), function)
    _serve(handler, int(argv[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
