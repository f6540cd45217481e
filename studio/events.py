"""The only progress channel: one JSON line per event, written by a worker, read by everything that shows progress.

A reader ignores a last line without its newline (it is still being written); a writer that opens an old file cuts such
a line off first, so that a killed worker leaves nothing half-written behind. After a resume steps repeat: the last
wins.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio.redact import redact

Event = dict[str, Any]
Emit = Callable[[Event], None]

#: type -> what it carries beside "type" and "time" (seconds since the epoch)
TYPES = {
    "started": "kind, title, attempt",
    "progress": "phase, done, total, unit, rate (units/s), seconds_left: any long work, also before and after training",
    "step": "step, total, loss, learning_rate, epoch, tokens_per_s, seconds_left, and the method's own metrics",
    "evaluated": "step, loss, and the method's own metrics on held-out rows",
    "sample": "step, prompt, text: the same prompt as it learns",
    "note": "text, level (info or warning), code: something the user should know",
    "checkpoint": "step, path",
    "finished": "result",
    "failed": "error: kind, message, file, line, field, remedy",
    "stopped": "step",
}
TERMINAL = ("finished", "failed", "stopped")


def event(type: str, **values: Any) -> Event:
    """Make an event; an unknown type is our mistake."""
    assert type in TYPES, type
    return {"type": type, "time": time.time(), **values}


class Writer:
    """Append events to a file; call it like a function. One writer at a time (the run's lock sees to that)."""

    def __init__(self, path: Path) -> None:
        _cut_half_line(path)
        self._file = path.open("a", encoding="utf-8")

    def __call__(self, item: Event) -> None:
        """Write one event and hand it to the system at once."""
        self._file.write(redact(json.dumps(item, ensure_ascii=False, allow_nan=True)) + "\n")
        self._file.flush()
        if item["type"] in TERMINAL or item["type"] == "checkpoint":
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cut_half_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


class Follower:
    """Read an event file a piece at a time: `read()` gives what is new since the last call."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset = path, 0

    def read(self) -> list[Event]:
        """Give the complete events written since the last call; a line that is not JSON is passed over."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        self._offset += end
        return list(_parse(data[:end]))


def read(path: Path) -> list[Event]:
    """Give every complete event of a file."""
    return Follower(path).read()


def _parse(data: bytes) -> Iterator[Event]:
    for line in data.splitlines():
        try:
            item = json.loads(line)
        except ValueError:
            continue
        if isinstance(item, dict) and item.get("type") in TYPES:
            yield item


class Progress:
    """Emit `progress` events for one phase of long work, at most a few a second, with rate and time left.

    `step(n)` adds n; the caller's `should_stop` is asked at every step and raises `Stopped` through `check`.
    """

    def __init__(self, emit: Emit, phase: str, total: int, unit: str = "") -> None:
        self._emit, self._phase, self._total, self._unit = emit, phase, total, unit
        self._done, self._start, self._last = 0, time.monotonic(), 0.0
        self._send()

    def step(self, amount: int = 1) -> None:
        """Add to what is done and tell it, unless the last telling was a moment ago."""
        self._done += amount
        now = time.monotonic()
        if self._done >= self._total or now - self._last >= 0.3:
            self._last = now
            self._send()

    def _send(self) -> None:
        elapsed = time.monotonic() - self._start
        rate = self._done / elapsed if elapsed > 0 and self._done else None
        left = (self._total - self._done) / rate if rate else None
        self._emit(
            event(
                "progress",
                phase=self._phase,
                done=self._done,
                total=self._total,
                unit=self._unit,
                rate=rate,
                seconds_left=left,
            )
        )
