"""bf16: where it is chosen, where it is only said that it is quick, and that it learns what float32 learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio import hardware, runs, worker
from studio.train import prepare


@pytest.mark.parametrize(
    ("device", "fast", "parameters", "tuning", "expected"),
    [
        ("cuda", True, 6e6, "lora", "bf16"),
        ("cuda", False, 7e9, "lora", "float32"),
        ("mps", True, 6e6, "lora", "bf16"),
        ("cpu", True, 1.35e8, "lora", "float32"),
        ("cpu", False, 1.35e8, "lora", "float32"),
    ],
)
def test_bf16_is_chosen_on_gpus_only(device: str, fast: bool, parameters: float, tuning: str, expected: str) -> None:
    made = hardware.choose(int(parameters), device=device, memory=24 << 30, bf16=fast, tuning=tuning)
    assert made["dtype"] == expected


def test_a_processor_that_is_fast_at_it_is_said_for_a_base_of_some_size(
    tiny: Path, sft_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(**settings: Any) -> str:
        seen: list[Any] = []
        given = {"quantize_base": "none", "max_steps": 1, "batch_size": 4, **settings}
        worker.work(
            runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=given)), seen.append
        )
        return str(next(item["text"] for item in seen if item.get("code") == "device"))

    assert "bf16" not in said()
    monkeypatch.setattr(prepare, "BF16_FROM", 1000)
    for fast in (True, False):
        monkeypatch.setattr(prepare, "fast_bf16", lambda device, fast=fast: fast)
        assert ("dtype=bf16 takes about half of the time" in said()) is fast
    assert "dtype=bf16" not in said(dtype="float32")


def test_an_adapter_learns_in_bf16_what_it_learns_in_float32(tiny: Path, sft_file: Path) -> None:
    found = {}
    for dtype in ("float32", "bf16"):
        settings = {"dtype": dtype, "quantize_base": "none", "batch_size": 8, "learning_rate": 3e-3, "epochs": 3}
        run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=settings))
        found[dtype] = worker.work(run)["heldout"]
    assert found["bf16"]["before"] == pytest.approx(found["float32"]["before"], rel=0.01)
    assert found["float32"]["after"] < 0.9 * found["float32"]["before"]
    assert found["bf16"]["after"] == pytest.approx(found["float32"]["after"], rel=0.02)
