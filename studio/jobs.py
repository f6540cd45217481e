"""Start a worker for a run, ask it to stop, tell whether it lives.

A worker is `python -m studio worker RUN_DIR`: its own process group, no standard input, its output in the run's log
file (never a pipe: a full pipe stops the work when nobody reads it). It outlives the window that started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from studio import runs
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
    windows = sys.platform == "win32"
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
    _wait_for_lock(run, process)
    return process.pid


def _fetches(config: runs.RunConfig) -> bool:
    """Tell whether a run was asked to fetch something: a download, or work on a model of the hub that is not here."""
    if config.kind == "download":
        return True
    try:
        return bool(config.model) and hub.here(config.model) is None
    except ModelError:
        return False  # the worker says what is wrong with it


def _wait_for_lock(run: runs.Run, process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Return once the worker holds its lock, so that whoever looks next sees a running run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not run.alive():
        time.sleep(0.05)


def stop(run: runs.Run, patience: float = 30.0, wait: bool = False) -> None:
    """Ask a run to stop: it saves and ends at its next step. With `wait`, press harder after `patience` seconds.

    Checkpoints are renamed into place whole, so even a kill loses no more than the steps since the last one.
    """
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
