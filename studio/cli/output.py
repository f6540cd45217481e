"""What the command line prints: one JSON document, or words; progress and everything else go to standard error."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from studio import events
from studio.errors import StudioError


class Out:
    """Standard output as a contract: with `as_json`, exactly one document."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, document: Any, text: str) -> None:
        """Print the result: the document as JSON, or the text for people."""
        print(json.dumps(_finite(document), indent=1, ensure_ascii=False, allow_nan=False) if self.as_json else text)

    def error(self, error: StudioError) -> None:
        """Print an error: as the JSON document, or in words on standard error."""
        if self.as_json:
            print(json.dumps({"error": error.to_dict()}, indent=1, ensure_ascii=False))
        print(f"studio: {error}", file=sys.stderr)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null says that there is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


class Ticker:
    """Show events as they come, on standard error: one live line in a terminal, few lines elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last_line, self._last_time, self._phase = "", 0.0, ""

    def __call__(self, item: events.Event) -> None:
        """Show one event."""
        if item["type"] in ("step", "progress"):
            self._bar(item)
        elif item["type"] == "note":
            self._say(("! " if item.get("level") in ("warning", "alarm") else "") + item["text"])
        elif item["type"] == "evaluated" and self._live:
            self._say(f"held out: {_figures(item)} at step {item['step']}")
        elif item["type"] == "started":
            self._say(item["title"])

    def close(self) -> None:
        """Leave the live line behind."""
        if self._live and self._last_line:
            print(file=sys.stderr)

    def _bar(self, item: events.Event) -> None:
        if item["type"] == "step":
            phase, done, total = "Training", item["step"], item["total"]
            facts = f"{_figures(item)}  {item['tokens_per_s']:.0f} tokens/s"
        else:
            phase, done, total = item["phase"], item["done"], item["total"]
            facts = f"{item['rate']:.1f} {item['unit']}/s" if item.get("rate") else ""
            if item["unit"] == "bytes":
                done, total = (round(count / 1e6, 1) for count in (done, total))
                facts = f"MB  {item['rate'] / 1e6:.1f} MB/s" if item.get("rate") else "MB"
        left = f"{_span(item['seconds_left'])} left" if item.get("seconds_left") else ""
        filled = round(20 * done / total) if total else 0
        line = f"{phase} [{'#' * filled}{'.' * (20 - filled)}] {done}/{total}  {facts}  {left}".rstrip()
        now = time.monotonic()
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + line[:width].ljust(min(width, len(self._last_line))), end="", file=sys.stderr, flush=True)
            self._last_line = line
        elif phase != self._phase or done >= total or now - self._last_time > 15:
            print(line, file=sys.stderr, flush=True)
            self._last_time = now
        if self._live and phase != self._phase and self._phase:
            print(file=sys.stderr)
        self._phase = phase

    def _say(self, text: str) -> None:
        self.close()
        self._last_line = ""
        print(text, file=sys.stderr, flush=True)


def _figures(item: events.Event) -> str:
    """Say what a step or a measurement is about: the score and the distance from the parent, else the loss."""
    names = ("score", "kl") if "score" in item else ("loss",)
    return "  ".join(f"{name} {item[name]:.3f}" for name in names if name in item)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """Lay rows out in columns."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
