"""What the next run will be: which method and why, what it starts from, what scores it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import disk
import pytest
from filelock import FileLock

from studio import hardware, jobs, runs
from studio.errors import ConfigError, RunError
from studio.methods import METHODS
from studio.runs import RunConfig
from studio.ui import (
    choice,
    choosing,
    live,
    machines,
    methodview,
    terminal,
)
from studio.ui.forms import Form, simple

SFT, DPO = "20261124-200001-starter-sft-aaaa", "20261124-200002-starter-pairs-bbbb"


@pytest.fixture
def path(home: Path) -> Path:
    """The starter taught and aligned, with data for both pages."""
    disk.whole_path(home, demo=False)
    disk.choices(home)
    return home


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    """An online method of another package."""
    made = dataclasses.replace(METHODS["sft"], name="toy", kind="online", kinds=("prompt",), title="Play (toy)")
    monkeypatch.setitem(METHODS, "toy", made)
    return "toy"


# --- the method ------------------------------------------------------------------------------------------------------


def test_every_method_is_on_one_page_and_the_data_proposes_the_next_one(path: Path) -> None:
    both = {**choosing.of_page("train"), **choosing.of_page("align")}
    assert both.keys() == METHODS.keys() and set(choosing.of_page("train")) == {"sft"}
    scene = live.look()
    assert choosing.method(scene, "align").name == "dpo" and choosing.advice(scene, "align").method == "dpo"
    drawn = methodview.methods(scene, "align")
    titles = [method.title.rpartition(" (")[0] for method in choosing.of_page("align").values()]
    assert all(title in drawn for title in titles) and drawn.index("suggested") < drawn.index(titles[-1])
    assert "needs no reward model" in drawn


def test_the_chosen_method_stays_chosen_and_what_it_needs_is_said(path: Path, toy: str) -> None:
    choosing.keep("align", method=toy)
    choice.update(data={"align": {"file": "/data/a.jsonl", "kind": "text", "rows": 9}, "train": {}})
    scene = live.look()
    assert choosing.method(scene, "align").name == toy
    assert choosing.missing(scene, "align", METHODS[toy]) == "It needs prompts; the chosen file holds texts."
    assert "It needs prompts" in methodview.methods(scene, "align") and "other data" in methodview.methods(
        scene, "align"
    )
    choosing.keep("align", method="gone")
    assert choosing.method(live.look(), "align").name in choosing.of_page("align")


def test_an_online_method_takes_its_prompts_from_trains_conversations(path: Path, toy: str) -> None:
    choice.update(data={"align": {}})
    scene = live.look()
    assert choosing.data(scene, "align", METHODS[toy])["file"] == "/data/starter_sft.jsonl"
    assert choosing.missing(scene, "align", METHODS[toy]) == ""
    assert choosing.data(scene, "align", METHODS["dpo"]) == {}
    assert "pairs" in choosing.missing(scene, "align", METHODS["dpo"])


def test_four_settings_are_shown_and_the_methods_own_come_first() -> None:
    for method in METHODS.values():
        assert len(simple(method.Config)) == 4, method.name
    assert [s.name for s in simple(METHODS["sft"].Config)] == ["learning_rate", "epochs", "batch_size", "max_length"]
    assert "beta" in [s.name for s in simple(METHODS["dpo"].Config)]
    assert len(Form(METHODS["dpo"].Config).settings) > 20


def test_the_memory_follows_the_settings_of_the_method(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = hardware.Machine("Linux", "a CPU", 8, 64.0, 100.0, "a GPU", 12.0, "cuda", "2", True, "0.3", "")
    monkeypatch.setattr(machines, "now", lambda: card)
    choice.update(model="meta-llama/Llama-3.1-8B")
    usual = methodview.memory(live.look(), "train")
    assert "of 12.0 GB" in usual
    choice.update(form={"sft": {"max_length": "8192", "micro_batch_size": "8"}})
    assert "too large" in methodview.memory(live.look(), "train") and "too large" not in usual
    sft = METHODS["sft"]
    assert methodview.settings(live.look(), sft)["micro_batch_size"] == 8
    choice.update(form={"sft": {"max_length": "many", "gradient_checkpointing": "False"}})
    chosen = methodview.settings(live.look(), sft)
    assert chosen["max_length"] == sft.Config().max_length and chosen["gradient_checkpointing"] is False


# --- what it starts from, what scores it -----------------------------------------------------------------------------


def test_a_round_can_start_from_every_finished_run_and_its_lineage_is_said(path: Path) -> None:
    scene = live.look()
    assert [view.id for view in choosing.parents(scene)] == [DPO, SFT]
    parent = choosing.parent(scene, "align")
    assert parent is not None and parent.id == SFT and choosing.parent(scene, "train") is None
    assert choosing.line(scene, scene.line["align"]) == "SFT → DPO"
    choosing.keep("align", parent=DPO)
    assert choosing.parent(live.look(), "align") is scene.line["align"]
    assert f"--parent {DPO}" in terminal.of_next(live.look(), "align")
    choosing.keep("align", parent=choosing.THE_MODEL)
    assert choosing.parent(live.look(), "align") is None


def test_a_run_that_waits_can_be_gone_on_from_but_a_failed_one_cannot(path: Path) -> None:
    config = RunConfig("train", "later", "starter", "sft", "/data/x.jsonl")
    with FileLock(path / "runs" / SFT / "lock"):
        waiting, never = runs.create(config), runs.create(config)
        jobs.submit(waiting)
        offered = [view.id for view in choosing.parents(live.look())]
        assert waiting.id in offered and never.id not in offered
        assert "queued" in choosing.named(live.look(), choosing.parents(live.look())[0])
    with pytest.raises(RunError):
        choosing.start_from(live.View(never, config, status="failed"))


def test_a_run_that_only_scores_is_no_parent_but_a_judge(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "judge", dataclasses.replace(METHODS["dpo"], name="judge", head="reward"))
    config = RunConfig("train", "a judge", "starter", "judge", "/data/x.jsonl")
    disk.write_run(path, "20261124-300000-a-judge-eeee", config, [{"type": "started"}, {"type": "finished"}], {})
    scene = live.look()
    assert [view.id for view in choosing.judges(scene)] == ["20261124-300000-a-judge-eeee"]
    assert [view.id for view in choosing.parents(scene)] == [DPO, SFT]
    assert choosing.scorer(scene, "align") == "20261124-300000-a-judge-eeee"
    kept = choosing.check_scorer(scene, "20261124-300000-a-judge-eeee")
    assert kept == str(path / "runs" / "20261124-300000-a-judge-eeee")
    assert terminal.words_of("rloo", "m", "d", "", {}, {}, kept)[-2:] == ["--reward", "20261124-300000-a-judge-eeee"]


def test_rules_are_checked_before_anything_starts(path: Path, tmp_path: Path) -> None:
    scene, file = live.look(), tmp_path / "rules.py"
    file.write_text("def brief(prompt, answer): return 1.0\n", "utf-8")
    for rule in ("exact", "json", "sentence", "length:20-80", r"regex:^\d+$"):
        assert choosing.check_scorer(scene, f" {rule} ") == rule
        assert terminal.words_of("rloo", "m", "d", "", {}, {}, rule)[-1] == rule
    assert choosing.check_scorer(scene, f"{file}:brief") == f"{file.resolve()}:brief"
    assert terminal.words_of("rloo", "m", "d", "", {}, {}, f"{file}:brief")[-1] == f"{file}:brief"
    for wrong in ("", "exakt", "length:long", "regex:(", "/no/such.py:brief", SFT, "../../etc"):
        with pytest.raises(ConfigError) as caught:
            choosing.check_scorer(scene, wrong)
        assert caught.value.remedy and caught.value.field == "reward"
