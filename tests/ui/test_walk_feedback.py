"""The whole way in a browser: people rank, a run learns from it, an evaluation says what that changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import browser
import disk
import pytest
from making import write_jsonl

import studio
from studio import runs
from studio.data import preferences
from studio.evals import job
from studio.ui import choice, evalset, starter

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine"),
]
PORT = 7983
PROMPTS = 5
STEPS = 3


@pytest.fixture
def sampled(home: Path, tmp_path: Path) -> tuple[str, str]:
    """Teach the starter for a few steps and sample answers to five prompts; give the run and the set."""
    settings = {"max_steps": 20, "quantize_base": "none"}
    taught = studio.train_model("sft", data=starter.sample("train"), model="starter", settings=settings)["run"]
    rows: list[dict[str, object]] = [{"prompt": question} for question in starter.questions(2 * PROMPTS)]
    drawn = {"answers_from": taught, "temperature": "0.7,1.2,1.6", "max_tokens": 24, "limit": PROMPTS}
    made = studio.make_feedback("rank", data=write_jsonl(tmp_path / "asked.jsonl", rows), settings=drawn)
    assert made["samples"] == PROMPTS
    return taught, made["run"]


def rank(tab: Any) -> None:
    """Rank all prompts by keys: always the second best, the first next, the last left out, which is the last place."""
    tab.click("#st-page-feedback button:has-text('Rank the answers')")
    for _ in range(PROMPTS):
        tab.wait_for_selector("[data-st-ranking]")
        sample = tab.get_attribute("[data-st-ranking]", "data-st-ranking")
        for key in "21":
            tab.keyboard.press(key)
        tab.wait_for_selector("[data-st-rank-save]:enabled")
        tab.keyboard.press("Enter")
        tab.wait_for_selector(f"[data-st-ranking='{sample}']", state="detached", timeout=60_000)
    tab.wait_for_selector(f"text=All {PROMPTS} ranked, person", timeout=60_000)
    tab.click("button:has-text('Go to the set')")


def train(tab: Any) -> None:
    """Train on what was ranked, as the set's filled button offers it; only the number of steps is typed."""
    tab.click("#st-page-feedback .st-filled:has-text('Train with DPO')")
    tab.wait_for_selector("#st-page-align", state="visible")
    tab.wait_for_selector("#st-align-start:enabled", timeout=60_000)
    tab.click("#st-page-align .st-drawer button:visible")
    field = tab.locator("#st-dpo-max_steps input:visible, #st-dpo-max_steps textarea:visible")
    field.fill(str(STEPS))
    field.blur()
    tab.click("#st-align-start")
    tab.wait_for_selector("#st-page-align >> text=Next: Export", timeout=300_000)


def evaluate(tab: Any, of: str) -> None:
    """Evaluate the new run with one suite on a few items."""
    browser.go(tab, "evaluate")
    who = tab.locator("#st-evaluate-of input")
    assert who.input_value().startswith("SFT → DPO"), "the newest run stands there, also one made since"
    who.fill(of)
    who.press("Enter")
    for suite in (suite for name, suite in evalset.suites().items() if name in evalset.FIRST and name != "fit"):
        card = f"#st-page-evaluate .st-eval-suites .st-source:has([aria-label='{suite.title}'])"
        tab.click(f"{card} label")
        tab.wait_for_selector(f"{card}:not(.st-chosen)", timeout=60_000)
    tab.locator("#st-evaluate-n :is(input, textarea)").fill("8")
    tab.locator("#st-evaluate-n :is(input, textarea)").blur()
    tab.click("#st-evaluate-start:enabled")
    tab.wait_for_selector("text=Open report.html", timeout=300_000)


def test_five_rankings_train_a_run_and_an_evaluation_says_what_changed(home: Path, sampled: tuple[str, str]) -> None:
    taught, asked = sampled
    disk.choices(home, data={})
    choice.update(form={"dpo": {"quantize_base": "none", "batch_size": "4"}})
    window = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            context = chrome.new_context(viewport={"width": 1280, "height": 900})
            tab = browser.open_tab(context, window.link, "feedback")
            rank(tab)
            train(tab)
            tuned = next(run for run in runs.all_runs() if run.config.method == "dpo")
            evaluate(tab, tuned.id)
            heads = tab.locator("#st-page-evaluate .st-card h2").all_inner_texts()
            with context.expect_page() as opened:
                tab.click("text=Open report.html")
            report = opened.value
            report.wait_for_selector("h1")
            told = [report.title(), *report.locator("h2").all_inner_texts()]
            assert "Traceback" not in tab.content() and tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()
    ranked = preferences.records(runs.find(asked).dir)
    assert len(ranked) == PROMPTS and all(record.by["kind"] == "person" for record in ranked)
    for record in ranked:
        seen = [record.ranks[place] for place in record.about["order"]]
        assert seen == [2, 1, 3][: len(seen)]
    assert Path(tuned.config.data).parent == runs.find(asked).dir and Path(tuned.config.parent).name == taught
    steps = [event["step"] for event in tuned.events() if event["type"] == "step"]
    assert steps[-1] == STEPS
    (evaluation,) = [run for run in runs.all_runs() if run.config.kind == job.KIND]
    options = evaluation.config.options
    assert (options["of"], options["against"], options["suites"]) == (tuned.name, taught, ["fit"])
    found = json.loads((evaluation.dir / "result.json").read_text("utf-8"))
    assert found["tested"] > 0 and found["suites"]["fit"]["figures"][0]["sides"]["after"]["n"] <= 8
    worse = "Got worse" if found["worse"] else "Nothing got worse beyond chance"
    assert heads[0] == worse, "what got worse stands first"
    assert "worse" in told[1].lower(), told
