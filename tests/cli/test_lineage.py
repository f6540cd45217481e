"""`studio show`: the line of a run from the base on, what it moved, what came of it, and what is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio import paths, runs
from studio.cli.__main__ import run as command
from studio.errors import RunError


def make(method: str, parent: runs.Run | None = None, kind: str = "train", held: Any = None) -> runs.Run:
    start = str(parent.dir) if parent else ""
    run = runs.create(runs.RunConfig(kind, method or kind, "starter", method, "rows.jsonl", start))
    if held:
        paths.write_text(run.dir / "result.json", json.dumps({"heldout": held}))
    return run


@pytest.fixture
def line() -> list[runs.Run]:
    sft = make("sft", held={"name": "loss", "before": 2.5, "after": 1.25, "n": 56})
    dpo = make("dpo", sft, held={"name": "rewards/accuracies", "before": 0.5, "after": 0.875, "n": 24})
    again = make("dpo", dpo, held={"name": "rewards/accuracies", "before": None, "after": None, "n": 0})
    return [sft, dpo, again]


def show(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert command(["show", *words]) == 0
    return capsys.readouterr().out


def test_a_run_is_shown_with_its_line_up_to_the_base_and_with_its_children(
    capsys: pytest.CaptureFixture[str], line: list[runs.Run]
) -> None:
    sft, dpo, again = line
    export = make("", dpo, "export")
    make("dpo", dpo, "rehearse")
    every = show(capsys, dpo.id, "--tree").splitlines()
    lines = [one for one in every if " data: " not in one]
    assert every[2] == "    data: rows.jsonl (no longer there)" and len(every) == len(lines) + 4
    assert lines[0] == "starter"
    assert lines[1] == f"└ sft: {sft.id} (new)  held-out loss 2.500 -> 1.250 (56 rows)"
    dpo_line = f"  └ dpo: {dpo.id} (new)  held-out rewards/accuracies 0.500 -> 0.875 (24 rows)  <- this run"
    assert lines[2] == dpo_line
    assert set(lines[3:]) == {f"    └ dpo: {again.id} (new)", f"    └ export: {export.id} (new)"}
    assert f"run: {dpo.id}\n" in (whole := show(capsys, dpo.id)) and dpo_line in whole
    document = json.loads(show(capsys, dpo.id, "--json"))
    assert document["lineage"] == [sft.id, dpo.id] and document["base"] == "starter" and document["lost"] is None
    assert [step["heldout"]["after"] for step in document["line"]] == [1.25, 0.875]
    assert {child["run"] for child in document["children"]} == {again.id, export.id}


def test_a_parent_that_was_deleted_is_said(capsys: pytest.CaptureFixture[str], line: list[runs.Run]) -> None:
    sft, dpo, again = line
    with pytest.raises(RunError, match="started from"):
        runs.delete(sft)
    shutil.rmtree(sft.dir)
    lines = [one for one in show(capsys, again.id, "--tree").splitlines() if " data: " not in one]
    assert lines[1] == f"└ {sft.id} (deleted: what came before it is not known)"
    assert lines[2].startswith(f"  └ dpo: {dpo.id}") and lines[3] == f"    └ dpo: {again.id} (new)  <- this run"
    document = json.loads(show(capsys, again.id, "--json"))
    assert document["lost"] == sft.id and document["lineage"] == [dpo.id, again.id]


def test_a_rehearsal_does_not_keep_its_parent_from_being_deleted(line: list[runs.Run]) -> None:
    make("dpo", line[-1], "rehearse")
    runs.delete(line[-1])
    assert not Path(line[-1].dir).exists()


def test_a_run_that_others_need_stays_wherever_these_lie(line: list[runs.Run], tmp_path: Path) -> None:
    """A child outside of the data folder counts as long as it is there; so does a run that a reward run scores."""
    last = line[-1]
    apart = runs.create(runs.RunConfig("train", "t", "starter", "sft", parent=str(last.dir)), tmp_path / "apart")
    with pytest.raises(RunError, match="apart started from"):
        runs.delete(last)
    assert [child.dir for child in runs.children(last)] == [apart.dir]
    shutil.rmtree(apart.dir)
    scored = runs.create(runs.RunConfig("train", "t", "starter", "ppo", options={"reward": str(last.dir)}))
    with pytest.raises(RunError, match=f"{scored.id} has its answers scored by"):
        runs.delete(last)
    assert not runs.children(last)
    runs.delete(scored)
    runs.delete(last)
    assert not last.dir.exists()


def test_neighbours_outside_of_the_data_folder_know_each_other(tmp_path: Path) -> None:
    sft = runs.create(runs.RunConfig("train", "t", "starter", "sft"), tmp_path / "runs" / "sft")
    dpo = runs.create(runs.RunConfig("train", "t", "starter", "dpo", parent=str(sft.dir)), tmp_path / "runs" / "dpo")
    with pytest.raises(RunError, match="dpo started from sft"):
        runs.delete(sft)
    runs.delete(dpo)
    runs.delete(sft)


def test_what_a_rehearsal_left_behind_does_not_count(line: list[runs.Run]) -> None:
    rehearsal = make("dpo", line[-1], "rehearse")
    config = runs.RunConfig("train", "t", "starter", "sft", parent=str(line[-1].dir))
    runs.create(config, rehearsal.dir / "parts" / "train")
    runs.delete(line[-1])


def test_a_run_of_the_same_name_elsewhere_is_another(tmp_path: Path) -> None:
    one, other = (
        runs.create(runs.RunConfig("train", "t", "starter", "sft"), tmp_path / place / "sft") for place in "ab"
    )
    child = runs.create(runs.RunConfig("train", "t", "starter", "dpo", parent=str(one.dir)))
    assert runs.children(other) == [] and [run.dir for run in runs.children(one)] == [child.dir]
