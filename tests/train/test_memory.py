"""Memory that runs out: told from other errors, walked down without a change of what is learned, ended in words.

A failing allocation is a real one, asked for in the step of a method of its own: methods are what others may add.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_model, write_jsonl

from studio import events, runs, worker
from studio.errors import OutOfMemory
from studio.methods import METHODS, sft
from studio.methods.base import StepOutput
from studio.train import heap, memory, peak

CPU = torch.device("cpu")
PLAIN = {"quantize_base": "none", "batch_size": 8, "max_length": 128, "micro_batch_size": 8, "max_steps": 4}


def too_much() -> None:
    torch.empty(1 << 60, dtype=torch.uint8)


def sft_run(model: Path, data: Path, method: str = "sft", **settings: Any) -> runs.Run:
    return runs.create(
        runs.RunConfig("train", "t", str(model), method, str(data), settings={**PLAIN, "held_out": 0.1, **settings})
    )


def done(run: runs.Run) -> tuple[dict[str, Any], list[events.Event]]:
    result = worker.work(run)
    return result, run.events()


def notes(told: list[events.Event]) -> list[str]:
    return [item["text"] for item in told if item["type"] == "note" and item.get("code") == "memory"]


def losses(told: list[events.Event]) -> list[float]:
    return [item["loss"] for item in told if item["type"] == "step"]


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any], int], bool]], str]:
    """Add a method that is SFT, but asks for too much where `fails(batch, number of the call)` says so."""

    def add(fails: Callable[[dict[str, Any], int], bool]) -> str:
        calls: list[int] = []

        def step(policy: Any, batch: Any, config: Any, num_items: Any = None) -> StepOutput:
            if torch.is_grad_enabled():
                calls.append(1)
                if fails(batch, len(calls)):
                    too_much()
            return sft.step(policy, batch, config, num_items)

        monkeypatch.setitem(METHODS, "fragile", dataclasses.replace(sft.METHOD, name="fragile", step=step))
        return "fragile"

    return add


def tokens(batch: dict[str, Any]) -> int:
    return int(batch["input_ids"].numel())


# --- what an error says ----------------------------------------------------------------------------------------------


def test_running_out_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as refused:
        too_much()
    assert memory.is_full(refused.value)
    said = (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    )
    assert all(memory.is_full(error) for error in said)
    others = (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        OSError(28, "full"),
    )
    assert not any(memory.is_full(error) for error in others)


def test_a_step_that_slows_down_counts_only_beside_a_full_card() -> None:
    pace = memory.Pace()
    assert not any(pace.jumped(1.0, 100) for _ in range(5))
    assert not pace.jumped(2.9, 100) and not pace.jumped(9.0, 1000), "more tokens take longer"
    assert pace.jumped(3.5, 100)
    gib = 1 << 30
    assert memory.spilled(9 * gib, 4 * gib, 8 * gib) and memory.spilled(7 * gib, gib // 10, 8 * gib)
    assert not memory.spilled(7 * gib, gib, 8 * gib)


def test_the_peak_is_what_was_held_at_once() -> None:
    with peak.Peak(CPU) as seen:
        block = torch.ones(40 << 20, dtype=torch.uint8)
        del block
        heap.give_back()
        torch.ones(8 << 20, dtype=torch.uint8)
    assert 38 << 20 < seen.above < 80 << 20


# --- the ladder ------------------------------------------------------------------------------------------------------


def test_fewer_tokens_at_once_learn_the_same(tiny: Path, sft_file: Path, fragile: Any) -> None:
    _, whole = done(sft_run(tiny, sft_file))
    _, parts = done(sft_run(tiny, sft_file, fragile(lambda batch, _: tokens(batch) > 90)))
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    said = notes(parts)
    # 8 rows of 128 tokens, halved until a pass has 90 at most; glibc's own rung comes first
    halved = [text for text in said if "tokens are in memory at once" in text]
    assert len(halved) >= 2 and "512 tokens" in halved[0]
    assert all(
        "A step still learns from 8 rows" in text and "You had set micro_batch_size=8" in text for text in halved
    )


def test_a_step_that_runs_out_half_way_is_dropped_whole(tiny: Path, sft_file: Path, fragile: Any) -> None:
    few = {"micro_batch_size": 1}
    _, smooth = done(sft_run(tiny, sft_file, **few))
    passes = sum(1 for _ in smooth if _["type"] == "step")
    result, rough = done(sft_run(tiny, sft_file, fragile(lambda batch, call: call == 6), **few))
    assert passes == 4 and losses(rough) == pytest.approx(losses(smooth), rel=1e-5)
    assert len(notes(rough)) >= 1 and result["metrics"]["loss"] == pytest.approx(losses(smooth)[-1], rel=1e-5)


def test_a_resumed_run_begins_where_it_was_lowered_to(tiny: Path, sft_file: Path, fragile: Any) -> None:
    run = sft_run(tiny, sft_file, fragile(lambda batch, _: tokens(batch) > 90), save_every=1)
    with pytest.raises(Exception, match="Stopped at step"):
        worker.work(run, should_stop=lambda: any(item["type"] == "step" for item in run.events()))
    first = len(notes(run.events()))
    worker.work(run)
    assert first >= 2 and not any("Memory ran out" in text for text in notes(run.events())[first:])


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Six of twenty-four rows are long."""
    rows: list[dict[str, object]] = [
        {"prompt": f"{at}" + " a b c d e f g h" * (6 if at % 4 == 0 else 1), "completion": "x y"}
        for at in range(10, 34)
    ]
    return write_jsonl(tmp_path / "rows.jsonl", rows)


def test_all_rungs_in_their_order_and_then_an_error_with_a_remedy(tiny: Path, uneven: Path, fragile: Any) -> None:
    run = sft_run(tiny, uneven, fragile(lambda batch, call: True))
    with pytest.raises(OutOfMemory) as ended:
        worker.work(run)
    assert "smaller model" in ended.value.remedy and "allocate" in ended.value.message
    said = " ".join(notes(run.events()))
    order = ["tokens are in memory at once", "Activations are recomputed", "positions at a time", "tokens long"]
    places = [said.index(words) for words in order]
    assert places == sorted(places)
    assert run.events()[-1]["error"]["kind"] == "OutOfMemory"


def test_rows_become_shorter_when_nothing_else_is_left(tiny: Path, uneven: Path, fragile: Any) -> None:
    run = sft_run(tiny, uneven, fragile(lambda batch, _: max(batch["segments"].lengths) > 90), cut="none", save_every=4)
    result, told = done(run)
    assert any("Rows are at most" in text and "begins again" in text for text in notes(told))
    rows = result["rows"]
    left_out = rows["reasons"]["too_long"]
    assert left_out == 6 and rows["trained"] + rows["held_out"] == 18
    assert any(item.get("code") == "too_long" and "6 rows" in item["text"] for item in told if item["type"] == "note")


def test_recomputed_activations_and_a_small_chunk_change_nothing(tiny: Path, sft_file: Path) -> None:
    run = sft_run(tiny, sft_file)
    run.dir.mkdir(exist_ok=True)
    (run.dir / memory.KEPT).write_text(json.dumps({"chunk": 16, "gradient_checkpointing": True, "room": 64}))
    _, lowered = done(run)
    _, usual = done(sft_run(tiny, sft_file))
    assert losses(lowered) == pytest.approx(losses(usual), rel=1e-5)


LIMITED = """
    import json, resource, sys
    import psutil, torch, peft, transformers.trainer
    from pathlib import Path
    from studio import runs, worker

    torch.set_num_threads(1)
    model, data, megabytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    limit = psutil.Process().memory_info().vms + megabytes * (1 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    given = {"quantize_base": "none", "batch_size": 32, "micro_batch_size": 32, "max_length": 128, "max_steps": 2}
    run = runs.create(runs.RunConfig("train", "t", model, "sft", data, settings={**given, "held_out": 0.05}))
    try:
        worker.work(run)
        error = ""
    except Exception as found:
        error = f"{type(found).__name__}: {found}"
    told = [item for item in run.events() if item["type"] in ("note", "step")]
    print(json.dumps({"error": error, "told": told}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process's memory are Linux's")
def test_under_a_real_limit_a_run_goes_lower_and_ends_well(tmp_path: Path) -> None:
    wide = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 8}
    model = make_model(tmp_path / "model", **wide)
    rows: list[dict[str, object]] = [
        {"prompt": "once upon a time " * 20 + str(at), "completion": "the mouse saw the sea " * 6} for at in range(80)
    ]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    found = {}
    for megabytes in (8000, 700):
        words = [sys.executable, "-c", textwrap.dedent(LIMITED), str(model), str(data), str(megabytes)]
        child = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
        assert child.returncode == 0, child.stderr[-2000:]
        found[megabytes] = json.loads(child.stdout.splitlines()[-1])
        assert not found[megabytes]["error"], found[megabytes]["error"]
    free, tight = (found[size]["told"] for size in (8000, 700))
    assert losses(tight) == pytest.approx(losses(free), rel=1e-4) and len(losses(free)) == 2
    said = notes(tight)
    assert any("Memory ran out" in text and "A step still learns from 32 rows" in text for text in said), said
    assert any("A trial pass of" in text and "estimated" in text for text in said), said
    assert not any("Memory ran out" in text for text in notes(free))
