"""Start a worker for a run, ask it to stop, tell whether it lives; let runs wait for their turn.

A worker is `python -m studio worker RUN_DIR`: its own process group, no standard input, its output in the run's log
file (never a pipe: a full pipe stops the work when nobody reads it). It outlives the window that started it.

Runs that compute go one at a time; the others wait in `$STUDIO_HOME/queue.json`. Nothing watches over the queue: the
worker that ends starts the next run, and so does the window's next look, should that worker have been killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from studio import events, paths, runs
from studio.errors import ModelError, RunError
from studio.models import hub

_started: dict[Path, subprocess.Popen[bytes]] = {}


def start(run: runs.Run) -> int:
    """Start a worker and give its process id; RunError when another run is going (one at a time).

    A download, or a look at weights, goes beside a run that computes: one of each.
    """
    config = run.config
    busy = [other for other in runs.running() if other.dir != run.dir and other.config.light == config.light]
    if busy:
        title = busy[0].config.title
        raise RunError(f"“{title}” is running.", "Wait until it ends, or stop it first; one run at a time.")
    if run.alive():
        raise RunError(f"Run {run.id} is already going.", "Wait for it, or stop it first.")
    (run.dir / "stop").unlink(missing_ok=True)
    root = str(Path(__file__).resolve().parent.parent)
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    if not _fetches(config):
        env["HF_HUB_OFFLINE"] = "1"
    env["PYTHONPATH"] = os.pathsep.join(part for part in (root, env.get("PYTHONPATH", "")) if part)
    windows, told = sys.platform == "win32", _told(run)
    with run.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "studio", "worker", str(run.dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            start_new_session=not windows,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) if windows else 0,
        )
    _started[run.dir] = process
    _wait_for_lock(run, process, told)
    if process.poll() and not _told(run):
        _tell_stillborn(run)
    return process.pid


def _tell_stillborn(run: runs.Run) -> None:
    """Write the event that a worker could not: it died before its first one."""
    error = RunError("The worker could not be started.", f"What it said stands in {run.log}.")
    writer = events.Writer(run.dir / "events.jsonl")
    writer(events.event("failed", error=error.to_dict()))
    writer.close()


def _fetches(config: runs.RunConfig) -> bool:
    """Tell whether a run was asked to use the network: a download, a push, a model of the hub that is not here."""
    if config.kind in ("download", "push"):
        return True
    try:
        return bool(config.model) and hub.here(config.model) is None
    except ModelError:
        return False  # the worker says what is wrong with it


def _wait_for_lock(run: runs.Run, process: subprocess.Popen[bytes], told: int, seconds: float = 60.0) -> None:
    """Return once the worker holds its lock, so that whoever looks next sees a running run.

    A worker can be over before that was seen: then it has told something (`told`: the bytes of its events before).
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not run.alive() and _told(run) == told:
        time.sleep(0.05)


def _told(run: runs.Run) -> int:
    try:
        return (run.dir / "events.jsonl").stat().st_size
    except OSError:
        return 0


def stop(run: runs.Run, patience: float = 30.0, wait: bool = False) -> None:
    """Ask a run to stop: it saves and ends at its next step. With `wait`, press harder after `patience` seconds.

    One that waits for its turn leaves the queue.
    Checkpoints are renamed into place whole, so even a kill loses no more than the steps since the last one.
    """
    if leave(run):
        return
    run.ask_to_stop()
    if not wait:
        return
    for signal in ("ask", "terminate", "kill"):
        if signal != "ask":
            for process in _workers(run):
                getattr(process, signal)()
        end = time.monotonic() + patience
        while run.alive() and time.monotonic() < end:
            time.sleep(0.1)
        if not run.alive():
            return


def _workers(run: runs.Run) -> list[psutil.Process]:
    """Find the worker processes of a run by their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "worker" in line and str(run.dir) in line:
            found.append(process)
    return found


def reap() -> None:
    """Collect ended workers that this process started, so that none stays a zombie."""
    for folder, process in list(_started.items()):
        if process.poll() is not None:
            del _started[folder]


def submit(run: runs.Run) -> bool:
    """Start a run, or let it wait behind those that are going or waiting; tell whether it was started."""
    with _queue() as names:
        if run.id not in names:
            names.append(run.id)
    started = drain()
    return started is not None and started.id == run.id


def waiting() -> list[runs.Run]:
    """List the runs that wait for their turn, the next one first."""
    return [run for name in runs.queued() if (run := _listed(name)) is not None]


def leave(run: runs.Run) -> bool:
    """Take a run out of the queue; tell whether it was in it."""
    if run.id not in runs.queued():
        return False
    with _queue() as names:
        if run.id not in names:
            return False
        names.remove(run.id)
    return True


def move_up(run: runs.Run) -> None:
    """Let a waiting run go before the one in front of it."""
    with _queue() as names:
        if (place := names.index(run.id) if run.id in names else 0) > 0:
            names[place - 1 : place + 1] = [names[place], names[place - 1]]


def drain(ended: runs.Run | None = None, patience: float = 60.0) -> runs.Run | None:
    """Start the first waiting run if nothing computes, and give it; `ended` is the caller's own run, just over.

    A run leaves the queue once its worker holds the lock, so that a crash here loses none. One that is gone, has
    finished, or cannot be started does not block those behind it.
    """
    if not runs.queued():
        return None
    try:
        with _queue(patience) as names:
            if ended is not None and ended.id in names:
                names.remove(ended.id)
            while names and not runs.computing():
                run = _listed(names[0])
                if run is not None and run.result() is None and _started_now(run):
                    del names[0]
                    return run
                del names[0]
    except (Timeout, RunError):  # somebody else is at it
        return None
    return None


def _started_now(run: runs.Run) -> bool:
    try:
        start(run)
    except OSError:  # the system gives no process: this run's error, not the queue's
        _tell_stillborn(run)
        return False
    return True


def _listed(name: str) -> runs.Run | None:
    """Give a run of the data folder by its id."""
    run = runs.Run(paths.runs() / Path(name).name)
    return run if (run.dir / "config.json").is_file() else None


@contextmanager
def _queue(patience: float = 60.0) -> Iterator[list[str]]:
    """Hold the queue's lock and give its ids; what was changed is written, whole or not at all, also on an error."""
    with FileLock(paths.home() / "queue.lock", timeout=patience):
        names = runs.queued()
        before = list(names)
        try:
            yield names
        finally:
            if names != before:
                paths.write_text(runs.queue_file(), json.dumps(names) + "\n")
