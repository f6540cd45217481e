"""One training run, whatever its method: prepared alike, learned offline or online."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any

from studio import events
from studio.methods.base import TrainConfig
from studio.runs import Run
from studio.train import prepare, together


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train and give the run's result. Raises StudioErrors; Stopped after a saved stop."""
    from transformers import set_seed

    from studio.train import memory, model

    began = time.monotonic()
    together.begin(model.device().type == "cpu")
    made = prepare.setup(run, emit, should_stop)
    learn = importlib.import_module(f"studio.train.{made.method.kind}").learn
    made.config = _lowered(made.config, memory.recall(run.dir).get("max_length"))
    while True:
        try:
            result: dict[str, Any] = learn(made)
        except memory.Shorter as shorter:
            made.config = _lowered(made.config, shorter.max_length)
        except Exception as error:
            if not memory.is_full(error):
                raise
            raise memory.ran_out(memory.told(error)) from None
        else:
            return {**result, "chosen": _chosen(made), "seconds": round(time.monotonic() - began, 1)}
        memory.free(model.device())
        (run.dir / "before.json").unlink(missing_ok=True)  # other rows are held out now
        set_seed(made.config.seed)


def _chosen(made: prepare.Setup) -> dict[str, Any]:
    """Say what was chosen for this machine: the same settings elsewhere may be computed otherwise."""
    import torch

    from studio.train import model

    where = model.device().type
    names = ("dtype", "optimizer", "quantize_base", "gradient_checkpointing", "packing", "micro_batch_size")
    told = {name: value for name in names if (value := getattr(made.config, name)) is not None}
    told |= {"device": where, "processes": together.world()}
    if where == "cpu":
        told |= {"threads": torch.get_num_threads(), "instructions": torch.backends.cpu.get_cpu_capability()}
    return told


def _lowered(config: TrainConfig, max_length: int | None) -> TrainConfig:
    """Take shorter rows, where the memory asked for them; as many of them at once as before."""
    return config if max_length is None else dataclasses.replace(config, max_length=min(max_length, config.max_length))
