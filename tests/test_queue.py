"""Runs that compute go one at a time; the others wait, and neither a failure nor a kill holds them up."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from studio import jobs, runs
from studio.cli.__main__ import run as main
from studio.runs import Run, RunConfig

LONG = {"quantize_base": "none", "max_length": 128, "epochs": 100, "batch_size": 2, "held_out": 0.0}
BAD = RunConfig("nonsense", "fails at once")


def made(count: int, config: RunConfig = BAD) -> list[Run]:
    return [runs.create(config) for _ in range(count)]


def wait(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, [(run.id, run.status(), run.log.read_text()) for run in runs.all_runs()]
        time.sleep(0.05)


def test_while_something_computes_runs_wait_in_the_order_they_came_in(home: Path) -> None:
    busy, first, second, third = made(4)
    with FileLock(busy.dir / "lock"):
        assert [jobs.submit(run) for run in (first, second, third)] == [False] * 3
        assert jobs.submit(second) is False  # asked twice, it stands there once
        assert [run.id for run in jobs.waiting()] == [first.id, second.id, third.id]
        assert {run.status() for run in (first, second, third)} == {"queued"} and busy.status() == "running"
        jobs.move_up(third)
        assert runs.queued() == [first.id, third.id, second.id]
        jobs.move_up(first)  # the first stays where it is
        assert runs.queued() == [first.id, third.id, second.id]
        assert jobs.leave(third) and not jobs.leave(third)
        assert [run.id for run in jobs.waiting()] == [first.id, second.id] and third.status() == "new"
        assert jobs.drain() is None
    assert json.loads(runs.queue_file().read_text("utf-8")) == [first.id, second.id]


def test_a_download_does_not_hold_the_queue_up(home: Path) -> None:
    (light,) = made(1, RunConfig("download", "beside", "org/name"))
    (run,) = made(1)
    with FileLock(light.dir / "lock"):
        assert jobs.submit(run)
    wait(lambda: run.status() == "failed")


def test_a_failed_run_starts_the_next_and_one_that_is_gone_is_passed_over(home: Path) -> None:
    busy, first, gone, second = made(4)
    with FileLock(busy.dir / "lock"):
        for run in (first, gone, second):
            jobs.submit(run)
        runs.delete(gone)
    assert (started := jobs.drain()) is not None and started.id == first.id
    wait(lambda: second.status() == "failed")  # nobody looked: the first's worker started it
    assert first.status() == "failed" and runs.queued() == []


def test_a_broken_queue_file_counts_as_none(home: Path) -> None:
    (run,) = made(1)
    for text in ("{half", '{"a": 1}', '["../../etc", 3, null]'):
        runs.queue_file().write_text(text, "utf-8")
        assert jobs.waiting() == [] and jobs.drain() is None
    assert jobs.submit(run) and runs.queued() == []
    wait(lambda: run.status() == "failed")


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_after_a_kill_the_next_look_starts_the_next_and_a_stop_starts_it_by_itself(
    home: Path, tiny: Path, sft_file: Path
) -> None:
    def training() -> RunConfig:
        return RunConfig("train", "long", str(tiny), "sft", str(sft_file), settings=LONG)

    killed, stopped, last = (runs.create(training()) for _ in range(3))
    assert jobs.submit(killed)
    pid = jobs._started[killed.dir].pid
    assert not jobs.submit(stopped) and not jobs.submit(last)
    assert killed.status() == "running" and stopped.status() == last.status() == "queued"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert killed.status() == "interrupted" and stopped.status() == "queued"
    assert (started := jobs.drain()) is not None and started.id == stopped.id
    assert len(runs.computing()) == 1
    jobs.stop(stopped)
    wait(lambda: last.alive() and not runs.queued())
    assert stopped.status() == "stopped" and runs.queued() == []
    jobs.stop(last, patience=60, wait=True)
    assert not runs.computing()


def test_the_terminal_lists_stops_and_deletes_what_waits(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy, first, second = made(3)
    with FileLock(busy.dir / "lock"):
        jobs.submit(first)
        jobs.submit(second)
        assert main(["runs", "--json"]) == 0
        listed = {item["run"]: item for item in json.loads(capsys.readouterr().out)}
        assert [(listed[run.id]["status"], listed[run.id]["place"]) for run in (first, second, busy)] == [
            ("queued", 1),
            ("queued", 2),
            ("running", None),
        ]
        assert main(["runs"]) == 0 and "queued (2.)" in capsys.readouterr().out
        assert main(["stop", first.id]) == 0 and "no longer waits" in capsys.readouterr().out
        assert first.status() == "new" and runs.queued() == [second.id]
        assert main(["delete", second.id]) == 0 and runs.queued() == []
