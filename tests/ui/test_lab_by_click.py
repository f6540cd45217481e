"""The lab in a browser: every experiment from a click, and one that is stopped and gone on with."""

from __future__ import annotations

import json
from typing import Any

import browser
import pytest

from studio import runs
from studio.lab import experiments

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine"),
]
PORT = 7997
LONGEST = 600_000  # milliseconds; an experiment takes two to four minutes on two idle cores


def card(name: str) -> str:
    """Select the card of an experiment."""
    return f"#st-page-lab .st-lab .st-card:has(h2:text-is('{experiments.load(name).title}'))"


def going(tab: Any, name: str) -> runs.Run:
    """Wait until the experiment goes, and give its run."""
    tab.wait_for_selector(f"{card(name)} .st-pill:text-is('running')", timeout=60_000)
    return max((run for run in runs.all_runs() if run.config.kind == experiments.KIND), key=lambda run: run.id)


def stop_and_go_on(tab: Any, name: str) -> None:
    """Stop the experiment while its first run trains, and go on with it."""
    tab.wait_for_selector("#st-page-lab [role=progressbar]", timeout=60_000)
    tab.click("#st-stop:visible")
    tab.click(f"{card(name)} button:text-is('Resume')", timeout=60_000)
    going(tab, name)


def test_every_experiment_goes_from_a_click_and_ends_with_a_picture_and_words(home: Any) -> None:
    window = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            tab = browser.open_tab(chrome.new_context(viewport={"width": 1280, "height": 900}), window.link, "lab")
            for name in experiments.EXPERIMENTS:
                tab.click(f"{card(name)} button:text-is('Start')")
                run = going(tab, name)
                if name == next(iter(experiments.EXPERIMENTS)):
                    stop_and_go_on(tab, name)
                shown = f"#st-page-lab .st-left .st-card:has(h2:text-is('{experiments.load(name).title}'))"
                tab.wait_for_selector(f"{shown} svg:visible", timeout=LONGEST)
                found = json.loads((run.dir / "result.json").read_text("utf-8"))
                words = tab.inner_text(shown)
                assert found["paragraph"] in words and found["verdict"]["words"] in words
                figures = tab.locator("#st-page-lab .st-left .st-card:has(h2:text-is('Figures')) tbody tr")
                assert figures.count() == len(found["figures"]) > 0
                assert "Traceback" not in tab.content()
            assert tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()
    mine = [run for run in runs.all_runs() if run.config.kind == experiments.KIND]
    assert [run.status for run in mine] == ["finished"] * len(experiments.EXPERIMENTS), (
        "the one stopped was gone on with"
    )
