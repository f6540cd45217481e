"""Each offline method through a short real run on a tiny model: it improves its own held-out figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio import runs, worker

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "max_length": 128, "held_out": 0.2}


def train(model: Path, data: Path, method: str, **settings: Any) -> tuple[runs.Run, list[Any]]:
    seen: list[Any] = []
    config = runs.RunConfig(
        "train", "t", model=str(model), method=method, data=str(data), settings={**FAST, **settings}
    )
    run = runs.create(config)
    worker.work(run, seen.append)
    return run, seen


@pytest.mark.parametrize("method", ["dpo", "ipo", "kto", "orpo", "simpo"])
def test_a_run_improves_its_held_out_loss_and_plots_both_sides(tiny: Path, pairs_file: Path, method: str) -> None:
    run, seen = train(tiny, pairs_file, method, learning_rate=2e-3, epochs=3, batch_size=8)
    result = run.result()
    assert result is not None
    held = result["heldout"]
    assert held["name"] == "loss" and held["better"] == "lower" and held["n"] >= 8
    assert held["after"] < held["before"]
    last = [item for item in seen if item["type"] == "evaluated"][-1]
    assert {
        f"{what}/{side}" for what in ("rewards", "logps", "length") for side in ("chosen", "rejected")
    } <= last.keys()
    assert last["rewards/margins"] > 0 and last["rewards/accuracies"] > 0.5
    assert last["rewards/margins"] == pytest.approx(last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5)
    assert result["metrics"]["eval_rewards/accuracies"] == last["rewards/accuracies"]
    assert result["metrics"]["eval_loss"] == held["after"]
    style = result["behaviour"]["style"]
    assert style["told"] == 1.0 and style["name"] == "begins with “The”"
