"""What a run will write, foreseen: beside what it then writes, and refused where the disk is too small."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio import disk, runs, worker
from studio.errors import ExportError, TrainingError
from studio.train import footprint, prepare

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128, "max_steps": 5}


def make(model: Path, data: Path, method: str = "sft", options: Any = None, **settings: Any) -> runs.Run:
    config = runs.RunConfig(
        "train", "t", str(model), method, str(data), settings={**FAST, **settings}, options=options or {}
    )
    return runs.create(config)


def foreseen(run: runs.Run) -> dict[str, int]:
    made = prepare.setup(run, lambda _: None, lambda: False)
    return {need.what: need.bytes for need in footprint.needs(made)}


@pytest.mark.parametrize(
    "settings",
    [{}, {"tuning": "full"}, {"init_lora_weights": "olora"}, {"lora_r": 4}, {"keep_checkpoints": 4}],
    ids=str,
)
def test_what_is_foreseen_is_what_is_written(tiny: Path, sft_file: Path, settings: dict[str, Any]) -> None:
    run = make(tiny, sft_file, save_every=1, **settings)
    said = foreseen(run)
    all_of_them = next(count for what, count in said.items() if "checkpoints" in what)
    worker.work(run)
    kept, stay = disk.held(run.dir / "checkpoints"), settings.get("keep_checkpoints", 2)
    assert len(run.checkpoints()) == stay
    assert stay / (stay + 1) * all_of_them == pytest.approx(kept, abs=1.1e6 * stay) and kept < all_of_them
    left = said.get("the adapter") or said["the model"]
    written = sum(path.stat().st_size for path in run.dir.glob("*/*.safetensors"))
    written += sum(path.stat().st_size for path in run.dir.glob("*.safetensors"))
    assert written == pytest.approx(left, rel=0.05, abs=5e4)
    again = foreseen(runs.Run(run.dir))
    assert again["the file's tokens"] == 0, "they are there already"
    assert next(count for what, count in again.items() if "checkpoints" in what) == all_of_them - kept


def test_a_critic_has_an_adapter_of_its_own_and_an_8_bit_optimizer_takes_half(tiny: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "p.jsonl", [{"prompt": f"What is {i}?"} for i in range(30)])
    runs_ = {name: make(tiny, data, name, {"reward": "sentence"}, max_new_tokens=8) for name in ("rloo", "ppo")}
    one, two = (foreseen(run) for run in runs_.values())
    shape = prepare.setup(runs_["ppo"], lambda _: None, lambda: False).info.shape
    weights = 2 * 16 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))  # layers, rank; q and o, k and v, feed-forward
    assert shape.lora(16) == weights
    assert sorted(one.values())[-1] == 3 * (12 * weights + (1 << 20))
    assert sorted(two.values())[-1] == 3 * (24 * weights + (1 << 20))
    method, config = prepare.METHODS["sft"], prepare.METHODS["sft"].Config()
    small = dataclasses.replace(config, optimizer="adamw_8bit")
    whole, half = (footprint.checkpoint_bytes(method, c, shape, 0) - (1 << 20) for c in (config, small))
    assert (whole, half) == (12 * weights, 6 * weights)


def test_too_small_a_disk_ends_a_run_before_anything_heavy(
    tiny: Path, sft_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = shutil.disk_usage(tiny)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: facts._replace(free=3_000_000))
    seen: list[Any] = []
    run = make(tiny, sft_file, tuning="full")
    with pytest.raises(TrainingError, match=r"too little room: \d+ MB are needed \(3 checkpoints of .*the model .*"):
        worker.work(run, seen.append)
    assert not any(item["type"] in ("step", "evaluated") or item.get("code") == "device" for item in seen)
    assert "STUDIO_HOME" in seen[-1]["error"]["remedy"] and "tuning=lora" in seen[-1]["error"]["remedy"]
    export = runs.create(runs.RunConfig("export", "t", str(tiny), options={"quants": ["Q8_0"]}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: facts._replace(free=100_000))
    with pytest.raises(ExportError, match=r"too little room: .*Q8_0 "):
        worker.work(export)
    with pytest.raises(ExportError, match="the model in 16 bits"):
        worker.work(runs.create(runs.RunConfig("merge", "t", str(tiny))))
