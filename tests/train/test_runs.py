"""Short real runs on a tiny model: what happens, in which order, and what is left on the disk."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from making import make_model, write_jsonl

from studio import paths, runs, worker
from studio.data.records import Reading
from studio.errors import ConfigError, DataError, ModelError, RunError, Stopped, TrainingError
from studio.train import prepare

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128}


def train(
    model: Path, data: Path, method: str = "sft", parent: str = "", **settings: Any
) -> tuple[runs.Run, list[Any]]:
    seen: list[Any] = []
    config = runs.RunConfig(
        "train", "t", model=str(model), method=method, data=str(data), parent=parent, settings={**FAST, **settings}
    )
    run = runs.create(config)
    worker.work(run, seen.append)
    return run, seen


def test_sft_then_dpo(tiny: Path, sft_file: Path, pairs_file: Path) -> None:
    sft, seen = train(tiny, sft_file, epochs=2, learning_rate=1e-3)
    kinds = [item["type"] for item in seen]
    assert kinds[0] == "started" and kinds[-1] == "finished"
    assert kinds.index("evaluated") < kinds.index("step") < kinds.index("checkpoint")
    steps = [item for item in seen if item["type"] == "step"]
    assert [item["step"] for item in steps] == list(range(1, 11)) and {item["total"] for item in steps} == {10}
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert seen == sft.events()
    assert sft.status() == "finished"
    result = sft.result()
    assert result is not None
    assert result["heldout"]["after"] < result["heldout"]["before"]
    assert set(result["behaviour"]) >= {"n", "changed", "stops_before", "stops_after", "length_before", "length_after"}
    assert (sft.adapter / "adapter_model.safetensors").is_file() and (sft.adapter / "chat_template.jinja").is_file()

    dpo, seen = train(tiny, pairs_file, "dpo", parent=str(sft.dir), learning_rate=1e-3)
    first = next(item for item in seen if item["type"] == "step")
    last = [item for item in seen if item["type"] == "step"][-1]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert last["rewards/margins"] > 0 and last["loss"] < first["loss"]
    assert [run.id for run in dpo.lineage()] == [sft.id, dpo.id]
    assert dpo.result()["parent"] == str(sft.dir)  # type: ignore[index]


def test_new_control_tokens_are_trained_and_said(tiny_bare: Path, sft_file: Path) -> None:
    from safetensors.torch import load_file

    run, seen = train(tiny_bare, sft_file)
    note = next(item for item in seen if item.get("code") == "new_tokens")
    assert "<|im_start|> <|im_end|>" in note["text"]
    weights = load_file(run.adapter / "adapter_model.safetensors")
    rows = next(value for name, value in weights.items() if "trainable_tokens" in name)
    assert rows.shape == (2, 64) and rows[0].tolist() != rows[1].tolist()


def test_four_bits_train_on_a_cpu(tiny: Path, sft_file: Path) -> None:
    run, seen = train(tiny, sft_file, quantize_base="nf4", max_steps=2)
    assert run.status() == "finished"
    assert all(math.isfinite(item["loss"]) for item in seen if item["type"] == "step")


def test_the_same_seed_gives_the_same_adapter(tiny: Path, sft_file: Path) -> None:
    sums = [paths.sha256(train(tiny, sft_file, max_steps=3)[0].adapter / "adapter_model.safetensors") for _ in range(2)]
    assert sums[0] == sums[1]


def test_a_stop_saves_and_a_resume_ends_bit_identical(tiny: Path, sft_file: Path) -> None:
    whole, whole_events = train(tiny, sft_file, epochs=2, lora_dropout=0.1)
    config = whole.config
    run = runs.create(config)
    seen: list[Any] = []
    with pytest.raises(Stopped):
        worker.work(run, seen.append, lambda: sum(item["type"] == "step" for item in seen) >= 4)
    assert run.status() == "stopped" and run.result() is None
    assert [path.name for path in run.checkpoints()][-1] == "step-000004"
    worker.work(run)
    name = "adapter_model.safetensors"
    assert paths.sha256(run.adapter / name) == paths.sha256(whole.adapter / name)

    def losses(items: list[Any]) -> dict[int, float]:
        return {item["step"]: item["loss"] for item in items if item["type"] == "step"}

    assert losses(run.events()) == losses(whole_events)


def test_a_damaged_checkpoint_is_passed_over(tiny: Path, sft_file: Path) -> None:
    run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings={**FAST, "save_every": 1}))
    seen: list[Any] = []
    with pytest.raises(Stopped):
        worker.work(run, seen.append, lambda: sum(item["type"] == "step" for item in seen) >= 3)
    newest = run.checkpoints()[-1]
    (newest / "optimizer.pt").write_bytes((newest / "optimizer.pt").read_bytes()[:-1])
    worker.work(run, seen.append)
    assert any("optimizer.pt" in item.get("text", "") for item in seen if item["type"] == "note")
    assert run.status() == "finished"


def test_two_workers_never_share_a_run(tiny: Path, sft_file: Path) -> None:
    run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=FAST))
    with run.hold(), pytest.raises(RunError, match="already going"):
        worker.work(run)


def test_a_loss_that_is_not_finite_ends_the_run_and_says_so(
    tiny: Path, sft_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.objectives import losses

    monkeypatch.setattr(losses, "sft_loss", lambda logps, mask, n: logps.sum() * float("nan"))
    seen: list[Any] = []
    run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings={**FAST, "held_out": 0}))
    with pytest.raises(TrainingError, match="nan at step 1"):
        worker.work(run, seen.append)
    assert run.status() == "failed" and seen[-1]["error"]["remedy"]
    assert not run.adapter.exists()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"method": "dpo"}, DataError),
        ({"data": "/nowhere.jsonl"}, DataError),
        ({"model": "/nowhere"}, ModelError),
        ({"settings": {"max_length": 16}}, DataError),
        ({"settings": {"learning_rate": "nan"}}, ConfigError),
        ({"method": "magic"}, ConfigError),
        ({"parent": "nobody"}, RunError),
    ],
)
def test_bad_input_ends_as_a_failed_event_with_a_remedy(
    tiny: Path, sft_file: Path, change: dict[str, Any], error: type[Exception]
) -> None:
    values = {"kind": "train", "title": "t", "model": str(tiny), "method": "sft", "data": str(sft_file), **change}
    values["settings"] = {**FAST, **change.get("settings", {})}
    run = runs.create(runs.RunConfig(**values))
    seen: list[Any] = []
    with pytest.raises(error):
        worker.work(run, seen.append)
    assert seen[-1]["type"] == "failed" and seen[-1]["error"]["remedy"]
    assert run.status() == "failed" and not run.adapter.exists() and run.result() is None


def test_rows_that_do_not_fit_are_counted(tiny: Path, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"Q{i}", "completion": "word " * (200 if i == 3 else 2)} for i in range(30)
    ]
    run, seen = train(tiny, write_jsonl(tmp_path / "d.jsonl", rows), max_steps=1)
    text = next(item["text"] for item in seen if item.get("code") == "too_long")
    assert text.startswith("1 rows are longer than 128 tokens") and "lines 4" in text
    counted = json.loads((run.dir / "result.json").read_text())["rows"]
    assert (counted["left_out"], counted["reasons"]) == (1, {"too_long": 1})


def test_a_share_held_out_that_is_not_the_one_asked_for_is_said(tiny: Path, tmp_path: Path) -> None:
    """Two prompts of 20 rows each: one of the two is held out, half of all. With nothing held out patience is idle."""
    rows: list[dict[str, object]] = [{"prompt": f"Q{i % 2}", "completion": f"A{i}"} for i in range(40)]
    data = write_jsonl(tmp_path / "d.jsonl", rows)
    _, seen = train(tiny, data, max_steps=1)
    text = next(item["text"] for item in seen if item.get("code") == "held_out")
    assert text.startswith("Held out are 20 of 40 rows")
    _, seen = train(tiny, data, max_steps=1, held_out=0.0, patience=2)
    assert {"patience"} == {item["code"] for item in seen if item.get("code") in ("patience", "held_out")}


def test_defaults_that_are_for_fewer_rows_are_said(tiny: Path, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"Q{i}", "chosen": "yes", "rejected": "no"} for i in range(5001)]
    data = write_jsonl(tmp_path / "d.jsonl", rows)
    config = runs.RunConfig("train", "t", str(tiny), "dpo", str(data), settings={"max_length": 64})
    for settings, expected in (({}, ["many_rows"]), ({"learning_rate": 1e-5}, [])):
        seen: list[Any] = []
        run = runs.create(dataclasses.replace(config, settings={**config.settings, **settings}))
        prepare.setup(run, seen.append, lambda: False)
        assert [item["code"] for item in seen if item.get("code") == "many_rows"] == expected


def test_bad_rows_are_left_out_when_asked_and_counted(tiny: Path, tmp_path: Path) -> None:
    """Of 30 rows one has no answer and one repeats another: 28 are there to learn from, two of them held out."""
    rows: list[dict[str, object]] = [{"prompt": f"Q{i}", "completion": "" if i == 7 else f"A{i}"} for i in range(29)]
    data = write_jsonl(tmp_path / "d.jsonl", [*rows, rows[0]])
    values = {
        "title": "t",
        "model": str(tiny),
        "method": "sft",
        "data": str(data),
        "settings": {**FAST, "max_steps": 1},
    }
    with pytest.raises(DataError, match="empty"):
        worker.work(runs.create(runs.RunConfig("train", **values)))  # type: ignore[arg-type]
    reading = Reading(drop=("bad", "duplicate")).to_dict()
    run = runs.create(runs.RunConfig("train", **values, options={"reading": reading}))  # type: ignore[arg-type]
    seen: list[Any] = []
    counted = worker.work(run, seen.append)["rows"]
    assert counted["reasons"] == {"bad": 1, "duplicate": 1} and counted["left_out"] == 2
    assert counted["trained"] + counted["held_out"] == 28
    assert {item["code"] for item in seen if item["type"] == "note"} >= {"bad", "duplicate"}


def test_an_answer_is_given_the_room_that_the_rows_take() -> None:
    """Answers of 1 to 100 learned tokens: the 95th takes 95, half again is 142; short ones get 32, long ones 256."""
    from studio.train.offline import answer_room

    rows = [{"text": {"labels": [-100] * 7 + [5] * length}} for length in range(1, 101)]
    assert answer_room(rows) == 142
    assert answer_room(rows[:3]) == 32
    assert answer_room([{"chosen": {"labels": [5] * 1000}, "rejected": {"labels": [5]}}]) == 256


@pytest.mark.parametrize(
    ("device", "parameters", "given", "expected"),
    [
        ("cpu", 6e6, {}, ("none", False)),
        ("cpu", 1e12, {}, ("nf4", True)),
        ("cuda", 1.35e8, {}, ("none", True)),
        ("cuda", 1.7e9, {}, ("nf4", True)),
        ("mps", 7e9, {}, ("none", True)),
        ("cpu", 6e6, {"quantize_base": "nf4", "gradient_checkpointing": True}, ("nf4", True)),
        ("cuda", 7e9, {"quantize_base": "none", "gradient_checkpointing": False}, ("none", False)),
    ],
)
def test_what_is_left_empty_is_chosen_for_device_and_size(
    monkeypatch: pytest.MonkeyPatch, device: str, parameters: float, given: dict[str, Any], expected: tuple[str, bool]
) -> None:
    import torch

    from studio.methods import METHODS
    from studio.train import model

    monkeypatch.setattr(model, "device", lambda: torch.device(device))
    made = model.fill_in(METHODS["sft"].Config(**given), int(parameters))
    assert (made.quantize_base, made.gradient_checkpointing) == expected


def test_rows_that_four_bits_cannot_hold_are_refused_before_training(tmp_path: Path, sft_file: Path) -> None:
    odd = make_model(tmp_path / "odd", intermediate_size=96)
    with pytest.raises(ConfigError, match=r"down_proj has 96 inputs.*no multiple of 64"):
        train(odd, sft_file, quantize_base="nf4")
