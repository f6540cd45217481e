"""What the next run will be: which method and why, what it starts from, what scores it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import disk
import pytest
from filelock import FileLock
from test_parts import see

from studio import hardware, jobs, runs
from studio.errors import ConfigError, RunError
from studio.methods import METHODS
from studio.runs import RunConfig
from studio.ui import (
    choice,
    choosing,
    live,
    looking,
    machines,
    methodview,
    parts,
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


def test_the_memory_is_counted_for_the_longest_row_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card has room for 4 rows of 1,024 tokens, or all 16 of a batch where these have 64 at most."""
    card = hardware.Machine("Linux", "a CPU", 8, 64.0, 100.0, "a GPU", 12.0, "cuda", "2", True, "0.3", "")
    monkeypatch.setattr(machines, "now", lambda: card)
    choice.update(model="meta-llama/Llama-3.1-8B")

    def drawn(longest: int | None, **form: str) -> str:
        by = looking.counted_by(live.look(), METHODS["sft"])
        used = {**choice.get("data")["train"], "longest": longest, "counted_by": by}
        choice.update(data={**choice.get("data"), "train": used}, form={"sft": form})
        return methodview.memory(live.look(), "train")

    for longest, form in (
        (64, {"max_length": "64", "micro_batch_size": "16"}),
        (512, {"max_length": "512", "micro_batch_size": "8"}),
    ):
        note = parts.note(f"Counted for the longest row of the data, {longest:,} tokens.")
        short = drawn(longest, max_length="1024")
        assert note in short and short.replace(note, "") == drawn(None, **form)
    assert drawn(4000, max_length="1024") == drawn(None, max_length="1024") != drawn(64, max_length="1024")
    drawn(64, max_length="1024")
    choice.update(model="meta-llama/Llama-3.2-1B")  # whose tokens were not counted
    assert "Counted for" not in methodview.memory(live.look(), "train")


def test_many_rows_are_said_to_want_smaller_steps_until_the_rate_was_set(path: Path) -> None:
    pairs = {**choice.get("data")["align"], "rows": 60_000}
    choice.update(data={**choice.get("data"), "align": pairs}, method={"align": "dpo"})
    assert "60,000 pairs are many" in methodview.methods(live.look(), "align")
    choice.update(form={"dpo": {"learning_rate": "2e-5"}})
    assert "pairs are many" not in methodview.methods(live.look(), "align")


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


# --- what was typed --------------------------------------------------------------------------------------------------


def test_what_was_typed_stays_with_another_method_where_it_means_the_same(path: Path) -> None:
    typed = {"learning_rate": "3e-5", "batch_size": "8", "beta": "0.3", "lora_dropout": "0.1"}
    choice.update(form={"dpo": typed, "rloo": {"batch_size": "32"}})
    choosing.choose(live.look(), "align", "simpo")
    shared = {name: value for name, value in typed.items() if name != "beta"}  # SimPO's beta is another thing
    assert choosing.method(live.look(), "align").name == "simpo" and choosing.saved(live.look(), "simpo") == shared
    choosing.choose(live.look(), "align", "rloo")  # has no dropout, and a batch size that was typed for it
    assert choosing.saved(live.look(), "rloo") == {"learning_rate": "3e-5", "batch_size": "32"}
    choosing.choose(live.look(), "align", "ppo")
    assert "learning_rate" in choosing.saved(live.look(), "ppo")
    said = see(methodview.typed(live.look(), "align")).text
    assert "Learning rate 3e-5" in said and "Batch size (rows) 32, not" in said
    choosing.forget(live.look(), "align")
    assert choosing.saved(live.look(), "ppo") == {} and methodview.typed(live.look(), "align") == ""
    assert choosing.saved(live.look(), "dpo") == {"beta": "0.3", "lora_dropout": "0.1"}
    with pytest.raises(RunError):
        choosing.choose(live.look(), "align", "sft")


def test_what_is_wrong_is_said_at_its_field_and_offers_no_command(path: Path) -> None:
    choosing.keep("align", method="rloo", reward="exakt")
    choice.update(form={"rloo": {"learning_rate": "fast", "epochs": "1", "kl_coef": "-1"}})
    found = choosing.problems(live.look(), "align")
    assert set(found) == {"learning_rate", "kl_coef", "reward"} and found["kl_coef"] == "-1.0 is below 0"
    seen = see(methodview.wrong(live.look(), "align"))
    places = [value for name, value in seen.attributes if name == "data-st-wrong"]
    assert places == ["st-rloo-learning_rate", "st-rloo-kl_coef", "st-align-reward"]
    assert terminal.of_next(live.look(), "align") == ""
    choice.update(form={"rloo": {}})
    choosing.keep("align", reward="sentence")
    assert (
        choosing.problems(live.look(), "align") == {}
        and "--reward sentence" in see(terminal.of_next(live.look(), "align")).text
    )


def test_a_run_can_be_set_up_again_and_a_judge_leads_to_what_learns_from_it(path: Path) -> None:
    config = RunConfig(
        "train", "again", "starter", "rloo", "/d", str(path / "runs" / SFT), {"kl_coef": 0.2}, {"reward": "json"}
    )
    disk.write_run(path, "20261124-300000-again-eeee", config, [{"type": "started"}, {"type": "finished"}], {})
    judge = RunConfig("train", "judge", "starter", "reward", "/d")
    disk.write_run(path, "20261124-300001-judge-eeee", judge, [{"type": "started"}, {"type": "finished"}], {})
    again = next(view for view in live.look().views if view.config.title == "again")
    choosing.repeat(live.look(), "align", again)
    scene = live.look()
    parent = choosing.parent(scene, "align")
    assert choosing.method(scene, "align").name == "rloo" and choosing.saved(scene, "rloo") == {"kl_coef": 0.2}
    assert parent is not None and parent.id == SFT and choosing.scorer(scene, "align") == "json"
    assert choosing.unfolded(scene, "align")
    choosing.score_with(scene, "align", choosing.judges(scene)[0])
    assert choosing.scorer(live.look(), "align") == "20261124-300001-judge-eeee"
    assert choosing.method(live.look(), "align").kind == "online"
