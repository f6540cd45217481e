"""Several processes in one run: `accelerate launch --num_processes 2 -m studio worker RUN_DIR`, or torchrun.

Every process runs the same code on the same data, so that all of them decide alike; each learns its share of a batch,
and the gradients are averaged (train/trainer.py). Only the first one writes and tells. `batch_size` is a process's: of
n processes a step learns from n times as many rows, the same ones as one process with n times the batch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

_T = TypeVar("_T")

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


def launch(count: int, command: Sequence[str]) -> int:
    """Start `python -m studio COMMAND` in so many processes of this machine, and give the exit code."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    return subprocess.call([*torchrun, "-m", "studio", *command])


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
