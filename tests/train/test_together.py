"""Two processes on one machine (gloo) learn what one process learns from the doubled batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio import events, runs, train_model, worker
from studio.errors import DataError, Stopped

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


@pytest.mark.parametrize(
    "method", ["sft", "dpo", "kto", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ipo", "orpo", "reward"))]
)
def test_two_processes_have_the_losses_of_one_with_the_doubled_batch(
    tiny: Path, sft_file: Path, pairs_file: Path, method: str
) -> None:
    data = sft_file if method == "sft" else pairs_file
    if method != "dpo":
        two = _two(_config(tiny, data, method, batch_size=4))
    else:
        told: list[events.Event] = []
        settings = {**SETTINGS, "batch_size": 4}
        done = train_model(method, data=data, model=str(tiny), settings=settings, processes=2, emit=told.append)
        two = runs.find(done["dir"])
        assert told == two.events() and done == two.result()
    one = _one(_config(tiny, data, method, batch_size=8))
    rows = 80 if method == "kto" else 40  # a pair is two answers
    assert len(_figures(one, "step")) == 2 * 0.9 * rows / 8
    for kind in ("step", "evaluated"):
        assert _figures(two, kind) == pytest.approx(_figures(one, kind), abs=1e-4)
    ours, theirs = (load_file(run.adapter / "adapter_model.safetensors") for run in (two, one))
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)
    assert [item["type"] for item in two.events()].count("finished") == 1
    assert two.result() is not None and two.status() == "finished"


def test_a_base_spread_over_two_processes_learns_and_is_saved_as_a_whole_one(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = Path(__file__).with_name("sharded.py")
    places = os.pathsep.join((str(Path(__file__).parents[2]), str(Path(__file__).parent)))
    env = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, str(script), str(tmp_path)], capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    for rank in (0, 1):
        found = json.loads((tmp_path / f"found-{rank}.json").read_text("utf-8"))
        assert max(map(max, found.values())) < 1e-5


def test_the_settings_for_a_spread_base_are_read_by_accelerate() -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    config = load_config_from_file(str(Path(__file__).parents[2] / "assets" / "accelerate" / "fsdp_qlora.yaml"))
    assert config.distributed_type == DistributedType.FSDP
    assert config.fsdp_config["fsdp_version"] == 2 and config.num_processes == 2


def test_an_error_and_a_stop_of_two_processes_are_told_as_those_of_one(
    tiny: Path, sft_file: Path, pairs_file: Path
) -> None:
    with pytest.raises(DataError, match="preference"):
        train_model("sft", data=pairs_file, model=str(tiny), settings={"max_steps": 1}, processes=2)
    steps: list[events.Event] = []

    def tell(item: events.Event) -> None:
        steps.extend([item] if item["type"] == "step" else [])

    settings = {**SETTINGS, "epochs": 90}
    with pytest.raises(Stopped, match="Stopped at step"):
        train_model(
            "sft",
            data=sft_file,
            model=str(tiny),
            settings=settings,
            processes=2,
            emit=tell,
            should_stop=lambda: bool(steps),
        )
    run = runs.all_runs()[0]
    assert run.status() == "stopped" and run.checkpoints()
