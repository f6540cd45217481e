"""The run that makes a set of judged answers: one kind of run, one function a source.

options: `source` (SOURCES), and what the source's own Config declares.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from studio import events
from studio.data import preferences
from studio.errors import ConfigError
from studio.runs import Run

#: source -> the function that fills a set: (run, emit, should_stop) -> what the result says beside the counts.
SOURCES: dict[str, str] = {
    "rank": "studio.feedback.rank:make",
}


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Fill a set and count what it gives.

    {"run", "dir", "source", "records", "dropped": {reason: n}, "preference", "kto", "sft": rows of each kind}
    """
    source = str(run.config.options.get("source") or "")
    if source not in SOURCES:
        raise ConfigError(f"There is no source {source!r}.", f"Choose one of: {', '.join(SOURCES)}.", field="source")
    module, _, name = SOURCES[source].partition(":")
    told = getattr(importlib.import_module(module), name)(run, emit, should_stop)
    return {
        "run": run.id,
        "dir": str(run.dir),
        "source": source,
        **preferences.counts(preferences.records(run.dir)),
        **told,
    }
