"""The lab in a browser: every experiment from a click, and one that is stopped and gone on with."""

from __future__ import annotations

import json
from pathlib import Path
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


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_an_experiment_goes_from_a_click_and_ends_with_a_picture_and_words(name: str, home: Path) -> None:
    shown = f"#st-page-lab .st-left .st-card:has(h2:text-is('{experiments.load(name).title}'))"
    window = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            tab = browser.open_tab(chrome.new_context(viewport={"width": 1280, "height": 900}), window.link, "lab")
            tab.click(f"{card(name)} button:text-is('Start')")
            run = going(tab, name)
            if name == "shift":
                stop_and_go_on(tab, name)
            tab.wait_for_selector(f"{shown} svg:visible", timeout=LONGEST)
            words = tab.inner_text(shown)
            figures = tab.locator("#st-page-lab .st-left .st-card:has(h2:text-is('Figures')) tbody tr").count()
            assert "Traceback" not in tab.content() and tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()
    found = json.loads((run.dir / "result.json").read_text("utf-8"))
    assert found["paragraph"] in words and found["verdict"]["words"] in words
    assert figures == len(found["figures"]) > 0
    assert [one.status() for one in runs.all_runs() if one.config.kind == experiments.KIND] == ["finished"]
