"""What sets of judged answers hold now: their records and counts, read again only when their files have changed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.data import preferences
from studio.data.preferences import Record
from studio.feedback import samples
from studio.ui.live import View

#: What a row of each kind is called, one and many.
WORDS = {"preference": ("pair", "pairs"), "kto": ("rated answer", "rated answers"), "sft": ("answer", "answers")}
Stamp = tuple[tuple[int, int], ...]


def stamp(folder: Path) -> Stamp:
    """Give something that changes with a set's records and samples."""
    found = []
    for file in (preferences.FILE, samples.FILE):
        try:
            stat = (folder / file).stat()
            found.append((stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append((0, 0))
    return tuple(found)


def records(view: View) -> list[Record]:
    """Give a set's records."""
    return _records(view.run.dir, stamp(view.run.dir))


def counts(view: View) -> dict[str, Any]:
    """Count what a set gives, as `preferences.counts` does."""
    return _counts(view.run.dir, str(view.config.options.get("pairing") or "all"), stamp(view.run.dir))


def first(view: View) -> str:
    """Name the first kind of rows that a set gives, "" for none."""
    found = counts(view)
    return next((kind for kind in preferences.KINDS if found[kind]), "")


def doubt(view: View) -> str:
    """Say why a set should not be trained on without a second look; "" where there is nothing against it."""
    result = view.result()
    if result.get("usable") is not False:
        return ""
    told = (result.get("report") or {}).get("warnings") if isinstance(result.get("report"), Mapping) else None
    return str(told[0]) if told else "What came out did not pass its own checks."


@functools.lru_cache(maxsize=4)
def _records(folder: Path, version: Stamp) -> list[Record]:
    return preferences.records(folder)


@functools.lru_cache(maxsize=256)
def _counts(folder: Path, pairing: str, version: Stamp) -> dict[str, Any]:
    return preferences.counts(preferences.records(folder), pairing)
