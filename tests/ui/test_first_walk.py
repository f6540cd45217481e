"""What a first walk stumbled over: where a click leads, what waits, what an experiment left behind."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import browser
import disk
import pytest

from studio.lab.experiments.base import MADE
from studio.runs import RunConfig
from studio.train import advice
from studio.ui import chatpick, choice, evalform, exportview, feedbackset, live, plots, rail
from studio.ui.evalview import DO
from studio.ui.live import Scene
from studio.ui.pages import disk as disk_page
from studio.ui.pages import export, model

PORT = 7978
LATER = "20261124-300000-starter-sft-eeee"


@pytest.fixture
def path(home: Path) -> Path:
    """The starter taught, aligned and exported."""
    disk.whole_path(home, demo=False)
    disk.choices(home)
    return home


def waiting(count: int) -> Scene:
    """Give the scene in which so many runs wait and none goes."""
    scene = live.look()
    return dataclasses.replace(scene, queue=scene.views[:1] * count)


def test_what_is_being_started_does_not_wait_for_itself(path: Path) -> None:
    assert "is being started" in rail.strip(waiting(1)) and "waiting" not in rail.strip(waiting(1))
    assert "2 waiting" in rail.strip(waiting(3))


def test_the_first_assistant_is_not_begun_twice_while_it_waits(path: Path) -> None:
    assert model._button(live.look())["interactive"] and not model._button(waiting(1))["interactive"]


def test_what_an_experiment_trained_is_not_the_newest_run_of_the_user(path: Path) -> None:
    config = RunConfig("train", f"{MADE}learn to answer, seed 0", "starter", "sft", "/data/x.jsonl")
    ended = [{"type": "started"}, {"type": "finished"}]
    made = disk.write_run(path, LATER, config, ended, disk.SFT_RESULT)
    scene = live.look()
    assert made.id in [view.id for view in scene.of_step("train")], "it is there"
    assert scene.line["train"].config.title == "starter sft"
    assert next(title for title, _ in feedbackset.who(scene)).startswith("SFT → DPO")
    talking = [source for source in chatpick.sources(scene) if source.run]
    assert not any(MADE in source.label for source in talking[:1])


def test_a_suite_is_ticked_without_filling_the_form_anew(path: Path) -> None:
    """What is typed while a tick is on its way stays: only the field SET fills all inputs again."""
    drawn = evalform.cards(live.look())
    assert set(re.findall(r'data-st-to="([^"]*)"', drawn)) == {DO}


def test_an_export_names_its_run_and_is_offered_again_once_another_was_trained(path: Path) -> None:
    scene = live.look()
    assert "starter pairs" in exportview.files(scene) and "st-filled" in exportview.onward(scene)
    assert export._start(scene)["value"] == "Export again"
    config = RunConfig("train", "starter pairs", "starter", "dpo", "/data/starter_pairs.jsonl")
    ended = [{"type": "started"}, {"type": "finished"}]
    disk.write_run(path, "20261124-300001-starter-pairs-ffff", config, ended, disk.SFT_RESULT)
    scene = live.look()
    assert "st-filled" not in exportview.onward(scene)
    assert export._start(scene)["value"] == "Export" and export._start(scene)["variant"] == "primary"


def test_the_settings_of_an_export_are_there_again_after_a_reload(path: Path) -> None:
    usual = ["", "", False, "", "", ["Q8_0"], [], []]
    assert export._kept(live.look()) == usual
    mine = ["/a/lora", "/out", True, "auto", "", ["Q8_0", "Q4_K_M"], [], ["F16"]]
    export._keep(*mine)
    assert export._kept(live.look()) == mine
    choice.update(export={"quality": "yes", "matrix": "none such", "recommended": ["Q9_9"], "small": None, "other": []})
    assert export._kept(live.look()) == ["/a/lora", "/out", False, "", "", [], [], []]


def test_a_curve_of_one_step_has_one_tick_at_its_end() -> None:
    drawn = plots.lines([plots.Series("loss", [(1.0, 0.7)])], x_end=1, label="loss")
    assert re.findall(r">(\d+(?: steps?)?)</text>", drawn)[-2:] == ["0", "1 step"]
    assert ">67</text>" in plots.lines([plots.Series("loss", [(1.0, 0.7)])], x_end=134, label="loss")


def test_what_did_not_change_is_said_in_words() -> None:
    changed = {"n": 11, "changed": 0.0, "stops_after": 1.0, "length_before": 7, "length_after": 7}
    assert advice.closing(changed, {}, False)[0].startswith("None of 11 answers changed")


def test_one_thing_in_the_trash_is_deleted_in_the_singular(path: Path) -> None:
    from studio import stock

    stock.delete("run:20261124-200003-first-assistant-cccc", False)
    assert "1 thing, " in disk_page._ask_empty({}) and "is deleted for good" in disk_page._ask_empty({})


def test_questions_without_answers_are_answered_by_the_newest_run(path: Path) -> None:
    scene = live.look()
    newest = feedbackset.who(scene)[0][1]
    assert Path(feedbackset.file(scene)).name == feedbackset.SAMPLE
    assert feedbackset.begins(scene, "rules")[feedbackset.ANSWERS] == newest
    feedbackset.keep(data="/data/answered.jsonl")
    assert feedbackset.begins(live.look(), "rules")[feedbackset.ANSWERS] == ""


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
def test_what_a_click_brings_is_in_sight(path: Path) -> None:
    def seen(tab: Any, what: str) -> None:
        inside = "(b => b && b.bottom > 0 && b.top < innerHeight)(document.querySelector(%r)?.getBoundingClientRect())"
        tab.wait_for_function(inside % what, timeout=20_000)

    window = browser.Served(path, PORT)
    try:
        with browser.browser() as chrome:
            narrow = chrome.new_context(viewport={"width": 390, "height": 844})
            tab = browser.open_tab(narrow, window.link, "feedback")
            faults: list[str] = []
            tab.on("pageerror", lambda error: faults.append(str(error)))
            tab.click("#st-page-feedback .st-sources button:has-text('A constitution')")
            seen(tab, "#st-page-feedback .st-settings .st-head")
            tab.click("button:has-text('Add a principle')")
            tab.wait_for_selector(".st-principle")
            tab.click("[data-st-principle-save]")
            tab.wait_for_selector("#st-page-feedback [role=alert]")
            seen(tab, "#st-page-feedback [role=alert]")
            assert "“Title” is empty" in tab.inner_text("#st-page-feedback [role=alert]")
            assert faults == []
    finally:
        window.close()
