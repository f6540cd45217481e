"""Early stopping: the best measurement is found, its checkpoint kept, and a run with patience ends with it."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from making import write_jsonl
from safetensors.torch import load_file

from studio import runs, worker
from studio.methods.base import Figure
from studio.train import checkpoint
from studio.train.best import Best

LOSS, SCORE = Figure(), Figure("score", higher=True)


def test_the_first_of_the_best_is_the_best(tmp_path: Path) -> None:
    seen = Best(tmp_path, LOSS, patience=2)
    assert [seen.add(step, value) for step, value in ((1, 3.0), (2, 2.0), (3, 2.0), (4, math.nan))] == [
        True,
        True,
        False,
        False,
    ]
    assert seen.best == (2, 2.0) and seen.over
    assert not Best(tmp_path, LOSS).over, "without patience nothing ends"
    higher = Best(tmp_path, SCORE, patience=1)
    assert higher.add(1, 0.5) and not higher.add(2, 0.4) and higher.over


def test_a_resumed_run_forgets_what_comes_again(tmp_path: Path) -> None:
    first = Best(tmp_path, LOSS, patience=2)
    for step, value in ((1, 2.0), (2, 1.0), (3, 1.5), (4, 1.6)):
        first.add(step, value)
    again = Best(tmp_path, LOSS, patience=2)
    again.resume(3)
    assert first.over and not again.over and again.best == (2, 1.0)
    assert not again.add(4, 1.2) and again.over


def test_the_best_checkpoint_is_never_pruned(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.place(tmp_path, step).mkdir()
    seen = Best(tmp_path, LOSS)
    for step, value in ((2, 1.0), (3, 2.0), (7, 0.5)):
        seen.add(step, value)
    checkpoint.prune(tmp_path, 2, seen.spare())
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000002", "step-000004", "step-000005"]


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """Rows without a rule: what is learned by heart of some makes the others ever less likely."""
    drawn = random.Random(1)
    rows: list[dict[str, object]] = [
        {"prompt": f"What is {at}?", "completion": "".join(drawn.choices("abcdefghij", k=8))} for at in range(40)
    ]
    return write_jsonl(tmp_path / "rows.jsonl", rows)


def asked(model: Path, data: Path, **settings: Any) -> runs.Run:
    given = {"quantize_base": "none", "batch_size": 4, "max_length": 128, "held_out": 0.2, "eval_every": 1}
    steep = {"learning_rate": 0.02, "warmup_ratio": 0.0, "lr_scheduler": "constant", "max_steps": 60, "epochs": 100}
    return runs.create(
        runs.RunConfig("train", "t", str(model), "sft", str(data), settings={**given, **steep, **settings})
    )


def measured(run: runs.Run) -> dict[int, float]:
    return {item["step"]: item["loss"] for item in run.events() if item["type"] == "evaluated" and item["step"]}


def test_a_run_with_patience_ends_early_and_with_its_best(tiny: Path, spoiled: Path) -> None:
    run = asked(tiny, spoiled, patience=3)
    result = worker.work(run)
    figures, best = measured(run), result["best"]
    last = max(figures)
    assert last < 60, "it would go on to step 60"
    assert best["figure"] == pytest.approx(min(figures.values())) and figures[best["step"]] == best["figure"]
    assert last == best["step"] + 3
    assert result["heldout"]["after"] == pytest.approx(best["figure"], rel=1e-5)
    kept = load_file(checkpoint.place(run.dir / "checkpoints", best["step"]) / "adapter_model.safetensors")
    ended = load_file(run.adapter / "adapter_model.safetensors")
    assert kept.keys() == ended.keys() and all(torch.equal(kept[name], ended[name]) for name in kept)
    assert any(item.get("code") == "best" and f"step {best['step']}" in item["text"] for item in run.events())


def test_patience_survives_a_stop(tiny: Path, spoiled: Path) -> None:
    whole = asked(tiny, spoiled, patience=3)
    expected = worker.work(whole)["best"]
    run = asked(tiny, spoiled, patience=3)
    middle = expected["step"] + 1
    with pytest.raises(Exception, match="Stopped at step"):
        worker.work(run, should_stop=lambda: any(i["type"] == "step" and i["step"] >= middle for i in run.events()))
    assert worker.work(run)["best"] == expected
    assert max(measured(run)) == max(measured(whole))


def test_without_patience_the_last_step_is_what_the_run_ends_with(tiny: Path, spoiled: Path) -> None:
    run = asked(tiny, spoiled, max_steps=6, save_every=1)
    result = worker.work(run)
    assert "best" not in result and max(measured(run)) == 6
