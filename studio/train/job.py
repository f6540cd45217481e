"""One training run, whatever its method: prepared alike, learned offline or online."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from studio import events
from studio.errors import OutOfMemory
from studio.runs import Run
from studio.train import prepare, together


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train and give the run's result. Raises StudioErrors; Stopped after a saved stop."""
    import torch

    from studio.train import model

    began = time.monotonic()
    together.begin(model.device().type == "cpu")
    made = prepare.setup(run, emit, should_stop)
    try:
        learn = importlib.import_module(f"studio.train.{made.method.kind}").learn
        result: dict[str, Any] = learn(made)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"The device's memory ran out: {str(error).splitlines()[0][:200]}",
            "Set a smaller micro_batch_size or max_length; batch_size stays as it is.",
        ) from None
    return {**result, "seconds": round(time.monotonic() - began, 1)}
