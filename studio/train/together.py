"""Several processes in one run: `studio train ... --processes 2`; `torchrun` and `accelerate launch` start them too.

Every process runs the same code on the same data, so that all of them decide alike; each learns its share of a batch,
and the gradients are averaged (train/trainer.py). Only the first one writes and tells. `batch_size` is a process's: of
n processes a step learns from n times as many rows, the same ones as one process with n times the batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from studio import errors, events
from studio.runs import Run, RunConfig

_T = TypeVar("_T")
_LOOK = 0.2

#: The others wait so long while the first one works alone, writing a model for instance.
PATIENCE = timedelta(hours=6)


def world() -> int:
    """Count the processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Give this process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def first() -> bool:
    """Tell whether this process is the one that writes and tells."""
    return rank() == 0


def local_rank() -> int:
    """Give this process's number on its machine: its card's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def wanted(config: RunConfig) -> int:
    """Count the processes that a run was asked to learn in (its option `processes`), to be started by this one.

    So a run that is resumed, or is a recipe's step, learns as it did at first. 1 where something else started several.
    """
    count = config.options.get("processes", 1) if config.kind == "train" else 1
    return int(count) if "WORLD_SIZE" not in os.environ else 1


def asked() -> int:
    """Give the processes that `accelerate launch --cpu` was asked for where it started only this one (it does so).

    It says nothing about them in the environment, so that its own command line is read.
    """
    import psutil

    if "WORLD_SIZE" in os.environ or os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true":
        return 1
    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return 1
    names = ("--num_processes", "--num-processes")
    found = [word.partition("=")[2] for word in words if word.startswith(tuple(f"{name}=" for name in names))]
    found += [value for name, value in pairwise(words) if name in names]
    return int(found[-1]) if found and found[-1].isdigit() else 1


def launch(count: int, run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Do a run in so many processes of this machine, tell what it tells, and give its result. Raises its error."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    follower = events.Follower(run.dir / "events.jsonl")
    follower.read()
    failed: dict[str, Any] = {}
    stopped = ""
    with run.log.open("ab") as log:
        command = [*torchrun, "-m", "studio", "worker", str(run.dir)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        while True:
            over = process.poll() is not None
            for item in follower.read():
                emit(item)
                failed = item["error"] if item["type"] == "failed" else failed
                stopped = item["text"] if item["type"] == "stopped" else stopped
            if over:
                break
            if should_stop() and not run.should_stop():
                run.ask_to_stop()
            time.sleep(_LOOK)
    result = run.result()
    if process.returncode == 0 and result is not None:
        return result
    if failed:
        raise errors.from_dict(failed)
    if stopped:
        raise errors.Stopped(stopped, f"Go on with: studio resume {run.name}")
    raise errors.TrainingError("The processes of the run ended before it was done.", f"What they said is in {run.log}.")


def sharded() -> bool:
    """Tell whether the base is spread over the processes (FSDP), so that none of them can write an answer alone."""
    return world() > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def begin(on_cpu: bool) -> None:
    """Let the processes find each other, before anything is computed."""
    if world() > 1:
        import accelerate

        accelerate.PartialState(cpu=on_cpu, timeout=PATIENCE)


def share(items: Sequence[_T], of: int | None = None) -> list[_T]:
    """Give the items that a process (this one) takes: every n-th."""
    return [items[at] for at in range(rank() if of is None else of, len(items), world())]


def gather(mine: Any) -> list[Any]:
    """Give what every process gave, in their order."""
    if world() == 1:
        return [mine]
    import torch.distributed as dist

    found: list[Any] = [None] * world()
    dist.all_gather_object(found, mine)
    return found


def agreed(mine: Any) -> Any:
    """Give what the first process gave: what only it can know, such as a wish to stop that came in between."""
    return gather(mine)[0]


def wait() -> None:
    """Wait until every process is here."""
    gather(None)
