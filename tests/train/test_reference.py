"""The reference is the parent before the first step, asked once: a second run finds it, a changed one does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from little import make, rows
from making import write_jsonl

from studio import runs, worker
from studio.train import adapters, kept, prepare, reference

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "max_length": 128}


def ask(model: Path, data: Path, method: str = "dpo", parent: str = "", **settings: Any) -> tuple[Any, bool]:
    """Ask a run's reference, without the training; gives the training rows' numbers and whether they were there."""
    seen: list[Any] = []
    config = runs.RunConfig("train", "t", str(model), method, str(data), parent=parent, settings={**FAST, **settings})
    made = prepare.setup(runs.create(config), seen.append, lambda: False)
    train, held = prepare.encoded(made).view(made.aside)
    reference.score(made, prepare.load(made), train, held)
    found = any(item.get("code") == "reference" for item in seen)
    asked = any("reference" in item.get("phase", "") for item in seen if item["type"] == "progress")
    assert found != asked and train[0]["ref"] == train.beside["ref"][0].tolist()
    return train.beside["ref"], found


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return write_jsonl(
        tmp_path / "few.jsonl",
        [{"prompt": f"What is {i} + {i}?", "chosen": f"The sum is {2 * i}.", "rejected": str(2 * i)} for i in range(6)],
    )


def test_a_second_run_finds_what_the_first_one_asked(tiny: Path, few: Path, sft_file: Path) -> None:
    (first, found), (again, there) = ask(tiny, few), ask(tiny, few, seed=7)
    assert not found and there and np.array_equal(first, again)
    assert ask(tiny, few, "ipo")[1]  # other methods ask for the same sequences
    parent = runs.create(
        runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings={**FAST, "max_steps": 1})
    )
    worker.work(parent)
    moved, there = ask(tiny, few, parent=str(parent.dir))
    assert not there and not np.array_equal(moved, first)
    assert ask(tiny, few, parent=str(parent.dir))[1]


@pytest.mark.parametrize("change", [{"template": "llama3"}, {"quantize_base": "nf4"}])
def test_whatever_changes_the_numbers_is_asked_again(tiny: Path, few: Path, change: dict[str, Any]) -> None:
    assert not ask(tiny, few)[1]
    assert not ask(tiny, few, **change)[1]


def test_another_pair_in_the_file_is_asked_again(tiny: Path, few: Path) -> None:
    assert not ask(tiny, few)[1]
    few.write_text(few.read_text().replace("What is 3 + 3?", "What is 3 + 4?"))
    assert not ask(tiny, few)[1]


def test_the_numbers_are_those_of_the_parent_however_the_rows_lie(tiny: Path, few: Path) -> None:
    packed, _ = ask(tiny, few)
    for file in kept.root().iterdir():
        file.unlink()
    padded, found = ask(tiny, few, packing=False)
    assert not found and np.abs(packed - padded).max() <= 2e-6 * np.abs(padded).max()


@pytest.mark.parametrize("damage", ["short", "flipped", "empty", "left beside"])
def test_a_damaged_file_is_never_used(tiny: Path, few: Path, damage: str) -> None:
    first, _ = ask(tiny, few)
    (file,) = kept.root().iterdir()
    data = file.read_bytes()
    if damage == "left beside":  # a run was killed before the rename
        file.rename(file.with_name(f".{file.stem}.1.tmp"))
    else:
        broken = {"short": data[:-4], "flipped": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}
        file.write_bytes(broken[damage])
    again, found = ask(tiny, few)
    assert not found and file.read_bytes() == data and np.array_equal(first, again)


def test_what_was_not_used_for_long_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 160 bytes for 8 numbers, and 400 bytes of room: the one that was read last stays."""
    for age, name in enumerate(("a", "b")):
        kept.write(name, np.zeros((4, 2)))
        os.utime(kept.root() / f"{name}.ref", (1000 + age, 1000 + age))
    size = (kept.root() / "a.ref").stat().st_size
    assert kept.read("a") is not None
    monkeypatch.setattr(kept, "MOST_BYTES", int(2.5 * size))
    kept.write("c", np.ones((4, 2)))
    assert sorted(path.stem for path in kept.root().iterdir()) == ["a", "c"]
    values = kept.read("c")
    assert values is not None and values.tolist() == [[1, 1]] * 4


def test_a_new_adapter_is_its_base_whatever_its_seed_and_a_trained_one_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    policy, some = make("llama"), rows((3, 2))

    def named() -> str:
        return kept.key(policy, tmp_path, ["cpu"], some)

    trained = named()
    found = adapters.parameters(policy)
    with torch.no_grad():
        for name, parameter in found.items():
            if name.endswith("lora_B"):
                parameter.zero_()
    new = named()
    assert new != trained
    with torch.no_grad():
        next(parameter for name, parameter in found.items() if name.endswith("lora_A")).add_(1)
    assert named() == new
    with torch.no_grad():
        next(parameter for name, parameter in found.items() if name.endswith("lora_B"))[0, 0] = 1e-6
    assert named() not in (new, trained)
    assert kept.key(policy, tmp_path, ["cuda"], some) != named()
    (tmp_path / "model.safetensors").write_bytes(b"1")
    assert kept.key(policy, tmp_path, ["cpu"], some) != new
