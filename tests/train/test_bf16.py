"""bf16 where the device is fast at it: what is chosen, and that it learns what float32 learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import hardware, runs, worker


@pytest.mark.parametrize(
    ("device", "fast", "parameters", "tuning", "expected"),
    [
        ("cuda", True, 6e6, "lora", "bf16"),
        ("cuda", False, 7e9, "lora", "float32"),
        ("mps", True, 6e6, "lora", "bf16"),
        ("cpu", True, 1.35e8, "lora", "bf16"),
        ("cpu", False, 1.35e8, "lora", "float32"),
        ("cpu", True, 6e6, "lora", "float32"),
        ("cpu", True, 1.35e8, "full", "float32"),
        ("cpu", True, 7e9, "lora", "float32"),  # in 4 bits there
    ],
)
def test_bf16_is_chosen_where_it_pays(device: str, fast: bool, parameters: float, tuning: str, expected: str) -> None:
    made = hardware.choose(int(parameters), device=device, memory=24 << 30, bf16=fast, tuning=tuning)
    assert made["dtype"] == expected


def test_the_processor_is_asked_not_tried() -> None:
    """What is chosen must be the same after a resume, so no clock decides."""
    assert hardware.fast_bf16("mps") is True
    flags = Path("/proc/cpuinfo")
    if flags.is_file():
        words = set(flags.read_text("utf-8").split())
        if "avx512_bf16" in words:
            assert hardware.fast_bf16("cpu") is True


def test_an_adapter_learns_in_bf16_what_it_learns_in_float32(tiny: Path, sft_file: Path) -> None:
    found = {}
    for dtype in ("float32", "bf16"):
        settings = {"dtype": dtype, "quantize_base": "none", "batch_size": 8, "learning_rate": 3e-3, "epochs": 3}
        run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=settings))
        found[dtype] = worker.work(run)["heldout"]
    assert found["bf16"]["before"] == pytest.approx(found["float32"]["before"], rel=0.01)
    assert found["float32"]["after"] < 0.9 * found["float32"]["before"]
    assert found["bf16"]["after"] == pytest.approx(found["float32"]["after"], rel=0.02)
