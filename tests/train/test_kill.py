"""kill -9 at random moments, then resume: the final adapter is bit-identical to the uninterrupted run's."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from studio import events, jobs, runs
from studio.paths import sha256

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")

SETTINGS = {
    "quantize_base": "none",
    "gradient_checkpointing": False,
    "batch_size": 4,
    "epochs": 6,
    "max_length": 128,
    "save_every": 3,
    "lora_dropout": 0.1,
}


def _wait(run: runs.Run, until_step: int | None, seconds: float = 300) -> None:
    """Wait for a step to be told, or for the end of the run."""
    follower, end = events.Follower(run.dir / "events.jsonl"), time.monotonic() + seconds
    while time.monotonic() < end:
        for item in follower.read():
            if item["type"] in events.TERMINAL or (until_step is not None and item.get("step", -1) >= until_step):
                return
        time.sleep(0.01)
    raise AssertionError(run.log.read_text())


def _run_killed(config: runs.RunConfig, kills: int, seed: int) -> tuple[runs.Run, int]:
    chance, run, killed = random.Random(seed), runs.create(config), 0
    while True:
        pid = jobs.start(run)
        if killed == kills:
            _wait(run, None)
            os.waitpid(pid, 0)
            return run, killed
        _wait(run, chance.randrange(1, 50))
        time.sleep(chance.random() * 0.2)
        if run.result() is not None:
            return run, killed
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        jobs.reap()
        assert run.status() == "interrupted"
        killed += 1


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_killed_and_resumed_run_ends_as_if_nothing_had_happened(tiny: Path, sft_file: Path, kills: int) -> None:
    config = runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=SETTINGS)
    whole, _ = _run_killed(config, 0, 0)
    survivor, killed = _run_killed(config, kills, seed=kills)
    assert killed == kills and survivor.status() == "finished", survivor.log.read_text()
    name = "adapter_model.safetensors"
    assert sha256(survivor.adapter / name) == sha256(whole.adapter / name)
    assert len([item for item in survivor.events() if item["type"] == "started"]) == killed + 1
