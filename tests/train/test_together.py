"""Two processes on one machine (gloo) learn what one process learns from the doubled batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio import runs, worker

SETTINGS = {
    "quantize_base": "none",
    "gradient_checkpointing": False,
    "epochs": 2,
    "max_length": 128,
    "micro_batch_size": 1,  # several passes, not as many in each process
    "learning_rate": 2e-3,
    "held_out": 0.1,
}
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu"]


def _config(tiny: Path, data: Path, method: str, **settings: Any) -> runs.RunConfig:
    return runs.RunConfig(
        kind="train", method=method, model=str(tiny), data=str(data), title=method, settings={**SETTINGS, **settings}
    )


def _two(config: runs.RunConfig, run: runs.Run | None = None) -> runs.Run:
    run = run or runs.create(config)
    launch = [*LAUNCH, "-m", "studio", "worker", str(run.dir)]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def _one(config: runs.RunConfig) -> runs.Run:
    run = runs.create(config)
    worker.work(run)
    return run


def _figures(run: runs.Run, kind: str) -> list[float]:
    return [item["loss"] for item in run.events() if item["type"] == kind]


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(
    tiny: Path, sft_file: Path, pairs_file: Path, method: str
) -> None:
    data = sft_file if method == "sft" else pairs_file
    two = _two(_config(tiny, data, method, batch_size=4))
    one = _one(_config(tiny, data, method, batch_size=8))
    assert len(_figures(one, "step")) == 9  # 36 of 40 rows, twice, 8 at a time
    for kind in ("step", "evaluated"):
        assert _figures(two, kind) == pytest.approx(_figures(one, kind), abs=1e-4)
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (two, one))
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)
    assert [item["type"] for item in two.events()].count("finished") == 1
    assert two.result() is not None and two.status() == "finished"
