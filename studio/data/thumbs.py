"""Thumbs of the Chat page: what somebody thought of an answer, whose it was being known.

They go to one set of judged answers (preferences.py), the newest of the source `thumbs`; its name on a command line is
`thumbs`. A record an answer, as a trial's (trial.py), labelled by the thumb that was given last, so that it trains by
KTO. An answer that was asked for again is kept too, as `about["regenerated"]`: who does so liked it little, or was
curious, so it is no label and gives no row. With neither a thumb nor that there is no record.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
from pathlib import Path
from typing import Any

from studio import events, paths, runs
from studio.data import preferences, votes
from studio.data.preferences import Record
from studio.data.trial import RATINGS, conversation_of
from studio.errors import ConfigError
from studio.runs import Run, RunConfig

SOURCE = preferences.THUMBS
TITLE = "thumbs of the chat"
_BY = {"kind": "person", "name": "thumbs"}
_lock = threading.Lock()


def rate(record: Record, rating: str) -> None:
    """Put a thumb up or down on an answer, or take it back (RATINGS); the one before no longer counts.

    `record` has the prompt, one answer, its seed and an id of its own. Raises ConfigError, and DataError where it
    cannot be written.
    """
    if rating not in RATINGS:
        raise ConfigError(f"{rating[:40]!r} is no rating.", f"Choose one of {', '.join(RATINGS)}.", field="rating")
    with _lock:
        before = found().get(record.id)
        _keep(record, RATINGS[rating], bool(before and before.about.get("regenerated")))


def again(record: Record) -> None:
    """Note that an answer was asked for again; a thumb that it has stays. Raises DataError."""
    with _lock:
        before = found().get(record.id)
        _keep(record, before.labels[0] if before else None, True)


def found() -> dict[str, Record]:
    """Give what is kept, by the records' ids."""
    run = current()
    if run is None:
        return {}
    try:
        stat = (run.dir / preferences.FILE).stat()
    except OSError:
        return {}
    return _records(run.dir, stat.st_mtime_ns, stat.st_size)


def current() -> Run | None:
    """Give the set that thumbs go to, None before the first one (or after it was deleted)."""
    folder = paths.runs()
    return _current(folder, folder.stat().st_mtime_ns)  # which changes when a run comes or goes


@functools.lru_cache(maxsize=2)
def _current(folder: Path, changed: int) -> Run | None:
    return preferences.newest(SOURCE)


@functools.lru_cache(maxsize=2)
def _records(folder: Path, changed: int, size: int) -> dict[str, Record]:
    return {record.id: record for record in preferences.records(folder)}


def _keep(record: Record, label: bool | None, regenerated: bool) -> None:
    """Write what is to be known of an answer, and what the set gives from now on."""
    run, nothing = current(), label is None and not regenerated
    if nothing:
        if run is None or record.id not in found():
            return
        preferences.remove(run.dir, record.id)
    else:
        run = run or _begin()
        answer = record.answers[0]
        about: dict[str, Any] = {"arm": votes.key(answer.identity), "conversation": conversation_of(record.prompt)}
        about["regenerated"] = regenerated
        preferences.add(run.dir, dataclasses.replace(record, labels=[label], by=_BY, about=about))
    _tell(run)


def _begin() -> Run:
    """Begin the set. Nobody works on it: it is finished from the beginning, and grows, as rankings do."""
    run = runs.create(RunConfig(preferences.KIND, TITLE, options={"source": SOURCE}))
    writer = events.Writer(run.dir / "events.jsonl")
    writer(events.event("finished", result=_tell(run)))
    writer.close()
    _current.cache_clear()  # somebody may have looked while it was being made
    return run


def _tell(run: Run) -> dict[str, Any]:
    counts = preferences.counts(preferences.records(run.dir))
    result = {"run": run.id, "dir": str(run.dir), "source": SOURCE, **counts}
    paths.write_text(run.dir / "result.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result
