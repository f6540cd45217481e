"""Models as runs: a download, and a look at every number of the weights. They go beside a run that computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.errors import ModelError
from studio.events import Emit
from studio.models import check, hub
from studio.models.ask import describe
from studio.runs import Run


def download(run: Run, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Fetch the run's model; taken up again, it goes on where it ended.

    Gives {"folder", "revision", "bytes", "seconds", "facts", "problem"}: `facts` as a check of the model says them, or
    the `problem` that keeps it from being used.
    """
    began = time.monotonic()
    folder = hub.resolve(run.config.model, emit, should_stop)
    facts, problem = None, None
    try:
        facts = describe(check.inspect(str(folder)))
    except ModelError as error:
        problem = error.to_dict()
    return {
        "folder": str(folder),
        "revision": hub.revision(folder),
        "bytes": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        "seconds": time.monotonic() - began,
        "facts": facts,
        "problem": problem,
    }


def check_numbers(run: Run, emit: Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Read all weights of the run's model; ModelError names those that are not numbers."""
    folder = hub.resolve(run.config.model, emit, should_stop)
    check.refuse_nan(folder, emit, should_stop)
    return {"folder": str(folder), "bytes": sum(Path(file).stat().st_size for file in check.weight_files(folder))}
