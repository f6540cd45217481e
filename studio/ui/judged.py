"""What sets of judged answers hold now: their records and counts, read again only when their files have changed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from studio.data import preferences
from studio.data.preferences import Record
from studio.feedback import samples
from studio.ui.live import View

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


@functools.lru_cache(maxsize=4)
def _records(folder: Path, version: Stamp) -> list[Record]:
    return preferences.records(folder)


@functools.lru_cache(maxsize=256)
def _counts(folder: Path, pairing: str, version: Stamp) -> dict[str, Any]:
    return preferences.counts(preferences.records(folder), pairing)
