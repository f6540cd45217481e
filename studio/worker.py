"""One run of any kind from start to finish; an error becomes a `failed` event.

`run(run, emit, should_stop)` is the one door: the command line calls it in process, `jobs` starts `python -m studio
worker RUN_DIR`, tests pass `emit=list.append`. It is also what `accelerate launch` and `torchrun` start.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from studio import events, paths, runs
from studio.awake import awake
from studio.child import WAITING
from studio.errors import ConfigError, OutOfMemory, Stopped, StudioError, TrainingError
from studio.redact import redact_logs
from studio.runs import Run, RunConfig
from studio.train import together

Job = Callable[..., dict[str, Any]]

#: What a run can be, and the function that does it: (run, emit, should_stop) -> result; the lab's also get `start`.
KINDS = {
    "train": "studio.train.job:run",
    "merge": "studio.export.job:merge",
    "export": "studio.export.job:export",
    "push": "studio.export.push:push",
    "feedback": "studio.feedback.job:run",
    "eval": "studio.evals.job:run",
    "rehearse": "studio.lab.rehearse:run",
    "demo": "studio.lab.demo:run",
    "recipe": "studio.lab.rounds:run",
    "lab": "studio.lab.experiments:run",
    "download": "studio.models.job:download",
    "check": "studio.models.job:check_numbers",
}
_STARTS_RUNS = ("demo", "rehearse", "recipe", "lab")


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Do a run and give its result, which is also written to result.json. Raises StudioErrors after telling them.

    Every error reaches `emit` as a `failed` event (a stop as `stopped`); what is not a StudioError is our fault and is
    logged with its traceback.
    """
    config = run.config
    attempt = 1 + sum(item["type"] == "started" for item in run.events())
    quiet()
    emit(events.event("started", kind=config.kind, title=config.title, attempt=attempt))
    try:
        result = _job(config)(run, emit, should_stop, **_extra(config, emit, should_stop))
    except Stopped as error:
        emit(events.event("stopped", step=_last_step(run), text=error.message))
        raise
    except StudioError as error:
        with suppress(OSError):  # where the disk is full, what failed is still told
            emit(events.event("failed", error=error.to_dict()))
        raise
    except MemoryError:
        full = OutOfMemory("The machine's memory ran out.", "Close other programs, or set a smaller micro_batch_size.")
        emit(events.event("failed", error=full.to_dict()))
        raise full from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise _ours(run, error, emit) from error
        have = shutil.disk_usage(run.dir).free / 1e9
        whole = "The last checkpoint is whole." if config.kind == "train" else "What was finished is whole."
        disk = TrainingError(
            f"The disk is full ({have:.2f} GB free). {whole}", f"Free some, then: studio resume {run.name}"
        )
        with suppress(OSError):
            emit(events.event("failed", error=disk.to_dict()))
        raise disk from None
    except Exception as error:
        raise _ours(run, error, emit) from error
    if together.first():
        paths.write_text(run.dir / "result.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    emit(events.event("finished", result=result))
    return result


def _ours(run: Run, error: Exception, emit: events.Emit) -> StudioError:
    """Tell an error that is our fault: in words as an event, with its traceback in the log."""
    with run.log.open("a", encoding="utf-8") as file:
        traceback.print_exc(file=file)
    made = StudioError(
        f"Something went wrong in Studio itself: {type(error).__name__}: {str(error)[:300]}",
        f"The details are in {run.log}. Please report them.",
    )
    emit(events.event("failed", error=made.to_dict()))
    return made


def work(run_: Run, emit: events.Emit | None = None, should_stop: Callable[[], bool] | None = None) -> dict[str, Any]:
    """Hold the run's lock, write its events (and pass them on to `emit`), and do it.

    Of several processes (train/together.py) the first one does that; the others do the run with it and say nothing.
    """
    if (count := together.wanted(run_.config)) > 1:
        return together.launch(count, run_, emit or (lambda item: None), should_stop or (lambda: False))
    if not together.first():
        return run(run_, lambda item: None, lambda: False)
    with run_.hold():
        writer = events.Writer(run_.dir / "events.jsonl")

        def tell(item: events.Event) -> None:
            writer(item)
            if emit is not None:
                emit(item)

        def stop() -> bool:
            return run_.should_stop() or (should_stop is not None and should_stop())

        try:
            with awake(f"{run_.config.kind}: {run_.config.title}"):
                return run(run_, tell, stop)
        finally:
            writer.close()


def _job(config: RunConfig) -> Job:
    if config.kind not in KINDS:
        raise ConfigError(f"There is no kind of run {config.kind!r}.", f"Choose one of: {', '.join(KINDS)}.")
    module, _, name = KINDS[config.kind].partition(":")
    job: Job = getattr(importlib.import_module(module), name)
    return job


def _extra(config: RunConfig, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Hand jobs that start other runs the function that does it, so that the lab need not know the worker.

    One that is there already in the place `out` is gone on with; `watch` sees all of its events.
    """
    if config.kind not in _STARTS_RUNS:
        return {}

    def start(child: RunConfig, part: str, out: Path | None = None, watch: events.Emit | None = None) -> dict[str, Any]:
        there = out is not None and (out / "config.json").is_file()
        made = runs.Run(out.resolve()) if out is not None and there else runs.create(child, out)
        (made.dir / "stop").unlink(missing_ok=True)

        def pass_on(item: events.Event) -> None:
            if watch is not None:
                watch(item)
            if item["type"] in ("progress", "step", "evaluated", "sample", "note"):
                emit({**item, "part": part})

        return work(made, pass_on, should_stop)

    return {"start": start}


def _last_step(run_: Run) -> int:
    return next((item["step"] for item in reversed(run_.events()) if item["type"] == "step"), 0)


def quiet() -> None:
    """Nothing is fetched or reported behind the user's back, and libraries keep their progress bars to themselves.

    Called before torch is loaded, which reads how its threads are to wait.
    """
    about = {
        **WAITING,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "BITSANDBYTES_NOWELCOME": "1",
    }
    for name, value in about.items():
        os.environ.setdefault(name, value)
    redact_logs()
