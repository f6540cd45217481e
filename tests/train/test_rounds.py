"""Three rounds on one base: the reference of each is its parent's adapter, frozen, never the bare base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import write_jsonl

from studio import runs, worker
from studio.render import encode
from studio.train import kept, reference

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128}


def train(model: Path, data: Path, method: str, parent: runs.Run | None = None) -> runs.Run:
    start = str(parent.dir) if parent else ""
    settings = {**FAST, "learning_rate": 5e-3, "epochs": 1}
    run = runs.create(runs.RunConfig("train", method, str(model), method, str(data), start, settings))
    worker.work(run)
    return run


def sums(model: Path, adapter: Path | None, sequences: list[tuple[list[int], list[int]]]) -> list[float]:
    """Add up log p of the learned tokens, by transformers and peft alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    found: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=False)
    found = (PeftModel.from_pretrained(found, adapter) if adapter else found).eval()
    made = []
    for ids, labels in sequences:
        with torch.no_grad():
            logps = found(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        wanted = torch.tensor(labels[1:])
        made.append(float(logps[wanted != -100].gather(-1, wanted[wanted != -100, None]).sum()))
    return made


def test_the_reference_of_round_n_is_the_adapter_of_its_parent(
    tiny: Path, sft_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        write_jsonl(
            tmp_path / f"{at}.jsonl",
            [
                {"prompt": f"What is {i} + {at}?", "chosen": f"The sum is {i + at}.", "rejected": "no"}
                for i in range(24)
            ],
        )
        for at in (1, 2)
    ]
    asked: list[tuple[list[Any], Any]] = []

    def seen(name: str, values: Any) -> None:
        asked.append((sequences[-1], values))

    sequences: list[list[Any]] = []
    listed = reference._sequences

    def listing(made: Any, views: Any) -> Any:
        rows = list(listed(made, views))
        sequences.append(rows)
        return iter(rows)

    monkeypatch.setattr(reference, "_sequences", listing)
    monkeypatch.setattr(kept, "write", seen)
    first = train(tiny, sft_file, "sft")
    second = train(tiny, files[0], "dpo", first)
    third = train(tiny, files[1], "dpo", second)
    assert [run.id for run in third.lineage()] == [first.id, second.id, third.id]
    assert len(asked) == 2
    for parent, others, (rows, values) in (
        (first, [None], asked[0]),
        (second, [None, first.adapter, third.adapter], asked[1]),
    ):
        half = len(rows) // 2
        pairs = [(list(row["ids"]), list(row["labels"])) for row in rows]
        assert len(values) == half and encode.IGNORE == -100
        found = np.sort(np.asarray(values).flatten())
        mine = np.sort(sums(tiny, parent.adapter, pairs))
        assert found == pytest.approx(mine, rel=1e-4, abs=1e-3)
        for adapter in others:
            away = np.abs(np.sort(sums(tiny, adapter, pairs)) - found).mean()
            assert away > 1.0, f"nats from {adapter}"
