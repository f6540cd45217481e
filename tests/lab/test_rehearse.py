"""Rehearsals on a tiny model: what they tell, what they leave, and that the end of a run breaks at its beginning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

import studio
from studio import runs
from studio.cli.__main__ import run as command
from studio.errors import DataError, TrainingError
from studio.lab import few
from studio.train import footprint

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

FAST = ["--set", "quantize_base=none", "--set", "gradient_checkpointing=false", "--set", "max_length=128"]


def settings() -> dict[str, Any]:
    return dict(word.split("=") for word in FAST[1::2])


def test_a_rehearsal_tells_what_the_whole_run_takes_and_leaves_only_that(
    capsys: pytest.CaptureFixture[str], tiny: Path, sft_file: Path
) -> None:
    words = ["train", "sft", "--model", str(tiny), "--data", str(sft_file), *FAST]
    assert command([*words, "--rehearse", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == {"whole": 40, "rehearsed": 22, "held_out": 2}
    assert found["steps"] == 5, "38 rows twice, 16 at a time"
    parts = {name: value for name, value in found["seconds"].items() if name not in ("total", "train")}
    assert found["seconds"]["total"] == pytest.approx(sum(parts.values()), abs=0.5) and parts["export"] > 0
    assert 0.1 < found["memory"]["train_gb"] < found["memory"]["have_gb"]
    assert found["disk"]["peak_gb"] > found["disk"]["run_gb"] > 0 and found["disk"]["free_gb"] > 0
    assert [set(answer) for answer in found["answers"]] == [{"prompt", "text", "stopped"}] * 2
    assert "The whole run takes about" in found["said"]
    run = runs.find(found["run"])
    assert run.config.kind == "rehearse" and run.status() == "finished" and len(runs.all_runs()) == 1
    assert not (run.dir / "parts").exists() and not run.adapter.exists()
    assert command([*words, "--rehearse"]) == 0
    assert "22 of 40 rows went through training, export and three questions." in capsys.readouterr().out
    assert command(["runs"]) == 0
    assert "  rehearse sft  finished  " in capsys.readouterr().out


@pytest.mark.parametrize("method", ["dpo", "reward", "kto", "rloo"])
def test_every_kind_of_method_is_rehearsed_from_a_parent(
    tiny: Path, sft_file: Path, pairs_file: Path, tmp_path: Path, method: str
) -> None:
    first = studio.train_model("sft", data=sft_file, model=str(tiny), settings={**settings(), "max_steps": 2})
    rated = [{"prompt": f"What is {i}?", "completion": f"It is {i}.", "label": i % 20 == 0} for i in range(100)]
    file = write_jsonl(tmp_path / "rated.jsonl", rated) if method == "kto" else pairs_file
    more = {"max_new_tokens": 8, "batch_size": 8} if method == "rloo" else {}
    found = studio.train_model(
        method,
        data=file,
        parent=first["dir"],
        reward="sentence" if method == "rloo" else "",
        settings={**settings(), **more},
        rehearse=True,
    )
    assert found["parent"] == first["dir"] and found["seconds"]["learning"] > 0
    assert found["seconds"]["reference"] > 0 or method in ("reward", "rloo")
    if method == "reward":
        assert found["answers"] == [] and found["certificate"] is None and found["seconds"]["export"] == 0
    else:
        assert found["answers"] and found["seconds"]["export"] > 0
    assert [run.config.kind for run in runs.all_runs()].count("rehearse") == 1
    runs.delete(runs.find(first["run"]))  # nothing needs it


def test_what_breaks_at_the_end_breaks_in_the_rehearsal_with_the_same_words(
    tiny: Path, pairs_file: Path, tmp_path: Path
) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text("def score(prompt, answer, reference, stopped):\n    return [][0]\n")
    given: dict[str, Any] = {
        "data": pairs_file,
        "model": str(tiny),
        "reward": f"{rule}:score",
        "settings": {**settings(), "max_new_tokens": 8, "batch_size": 8},
    }
    said = []
    for rehearse in (True, False):
        with pytest.raises(DataError) as caught:
            studio.train_model("rloo", **given, rehearse=rehearse)
        said.append(caught.value.message.partition("(The prompt")[0])
    assert said[0] == said[1] and "index out of range" in said[0]
    failed = next(run for run in runs.all_runs() if run.config.kind == "rehearse")
    assert failed.status() == "failed" and not (failed.dir / "parts").exists()


def test_a_disk_too_small_for_run_and_files_together_is_said(
    tiny: Path, sft_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.train_model("sft", data=sft_file, model=str(tiny), settings=settings(), rehearse=True)  # tokens are there
    facts = shutil.disk_usage(tiny)
    monkeypatch.setattr(footprint, "_SMALL", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: facts._replace(free=1_850_000))  # enough for either alone
    with pytest.raises(TrainingError, match=r"too little room.*GGUF files"):
        studio.train_model("sft", data=sft_file, model=str(tiny), settings=settings(), rehearse=True)


def test_rows_are_written_so_that_the_run_reads_what_the_file_says(tiny: Path, tmp_path: Path) -> None:
    from studio.data import dataset
    from studio.data.records import Reading

    rows: list[dict[str, object]] = [
        {"question": f"What is {i}?", "better": f"It is {i}.", "worse": "no", "system": "Be short."} for i in range(30)
    ]
    file = write_jsonl(tmp_path / "odd.jsonl", rows)
    mapping = {"question": "prompt", "better": "chosen", "worse": "rejected", "system": "system"}
    config = runs.RunConfig("rehearse", "t", str(tiny), "dpo", str(file), options={"reading": {"mapping": mapping}})
    from studio.train import prepare

    made = prepare.setup(runs.create(config), lambda _: None, lambda: False)
    few.write(made, [3, 7, 21], tmp_path / "few.jsonl")
    read = dataset.load(tmp_path / "few.jsonl", Reading.from_dict(few.reading(made)))
    whole = list(made.data.records())
    for number, record in zip([3, 7, 21], read.records(), strict=True):
        for part in ("prompt", "chosen", "rejected"):
            assert getattr(record, part) == getattr(whole[number], part)
