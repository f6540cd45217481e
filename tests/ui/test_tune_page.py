"""Train and Align in headless Chromium: the method, its defaults, the queue, two runs compared; one window for all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import browser
import disk
import pytest
from filelock import FileLock

from studio import runs
from studio.methods import METHODS
from studio.models import catalogue
from studio.runs import RunConfig
from studio.ui import choice, live

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine"),
]
PORT = 7994
ALIGN = "#st-page-align"
OTHER = "20261124-210000-other-pairs-eeee"
RATE = f"{ALIGN} .st-form:visible :is(input, textarea) >> nth=0"


def wait(what: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def test_a_method_is_chosen_queued_and_two_runs_are_compared(home: Path) -> None:
    disk.whole_path(home, demo=False)
    disk.choices(home)
    config = RunConfig("train", "other <b>pairs", "starter", "dpo", "/data/none.jsonl", settings={"beta": 0.3})
    other = disk.write_run(
        home, OTHER, config, [*disk.dpo_events(), {"type": "finished", "result": {}}], disk.SFT_RESULT
    )
    window = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            context = chrome.new_context(viewport={"width": 1280, "height": 900})
            tab = browser.open_tab(context, window.link, "align")
            _methods(tab)
            _compared(tab)
            _queue(tab, other)
            assert "Traceback" not in tab.content() and tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()


def _methods(tab: Any) -> None:
    """The proposal is chosen at first; another method brings its own defaults, what was typed stays and is said."""
    tab.click(f"{ALIGN} .st-fold button")
    tab.wait_for_selector(f"{ALIGN} .st-method.st-chosen >> text=suggested")
    another = next(m for m in METHODS.values() if "preference" in m.kinds and m.name not in ("dpo", "reward"))
    assert "tau" in another.Config.__dataclass_fields__  # it has a setting that DPO has not
    _choose(tab, another, "Tau")
    assert tab.is_hidden(f"{ALIGN} .st-form:visible >> text=Beta")
    asked = catalogue.settings("starter", another.name)
    assert tab.input_value(RATE) == f"{asked.get('learning_rate', another.Config().learning_rate):g}"
    tab.wait_for_selector(f"{ALIGN} .st-settings code:has-text('train {another.name} --model starter')")
    tab.fill(RATE, "fast")
    tab.press(RATE, "Tab")
    tab.wait_for_selector(f"{ALIGN} .st-field[data-st-problem*='not a number'] [aria-invalid=true]")
    tab.wait_for_selector("#st-align-start:disabled")
    assert tab.locator(f"{ALIGN} .st-settings code").count() == 0  # no command that would not run
    tab.fill(RATE, "0.00003")
    tab.press(RATE, "Tab")
    tab.wait_for_selector(f"{ALIGN} .st-settings code:has-text('learning_rate=0.00003')")
    tab.wait_for_selector("#st-align-start:enabled")
    assert tab.locator(f"{ALIGN} [data-st-problem]").count() == 0
    _choose(tab, METHODS["dpo"], "Beta")
    wait(lambda: tab.input_value(RATE) == "0.00003")
    tab.wait_for_selector(f"{ALIGN} .st-typed:has-text('You set: Learning rate 0.00003')")
    tab.click(f"{ALIGN} .st-typed button")
    usual = catalogue.settings("starter", "dpo").get("learning_rate", METHODS["dpo"].Config().learning_rate)
    wait(lambda: tab.input_value(RATE) == f"{usual:g}")
    _choose(tab, another, "Tau")
    tab.fill(RATE, "0.00003")
    tab.press(RATE, "Tab")
    tab.wait_for_selector(f"{ALIGN} .st-settings code:has-text('learning_rate=0.00003')")
    tab.reload()
    tab.wait_for_selector(f"{ALIGN} .st-form:visible >> text=Tau", timeout=90_000)
    wait(lambda: tab.input_value(RATE) == "0.00003")


def _choose(tab: Any, method: Any, shows: str) -> None:
    tab.click(f"{ALIGN} .st-method:has-text('{method.title.rpartition(' (')[0]}') button")
    tab.wait_for_selector(f"{ALIGN} .st-form:visible >> text={shows}")


def _compared(tab: Any) -> None:
    """A run of the table is shown; two ticked ones stand beside each other."""
    rows = f"{ALIGN} .st-history tbody tr"
    assert tab.locator(rows).count() == 2 and "other <b>pairs" in tab.inner_text(f"{rows} >> nth=0")
    tab.click(f"{rows} >> nth=1 >> .st-row-name")
    tab.wait_for_selector(f"{rows}.st-chosen:has-text('starter pairs')")
    for place in (0, 1):
        tab.click(f"{rows} >> nth={place} >> .st-tick")
        wait(lambda place=place: len(choice.get("compare").get("align") or []) == place + 1)
    tab.wait_for_selector(f"{ALIGN} >> text=What was set differently")
    assert "0.3" in tab.inner_text(f"{ALIGN} tr:has(td:text-is('Beta'))")
    tab.click(f"{ALIGN} button:has-text('Close')")
    tab.wait_for_selector(f"{ALIGN} >> text=What was set differently", state="detached")


def _queue(tab: Any, busy: runs.Run) -> None:
    """While a run goes, Start lets the next ones wait; they are moved, taken out, and begin when it has ended."""
    with FileLock(busy.dir / "lock"):
        with (busy.dir / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"type": "started"}\n{"type": "step", "step": 1, "total": 9, "loss": 0.5}\n')
        tab.wait_for_selector("#st-align-start:has-text('Add to the queue')", timeout=60_000)
        for count in (1, 2):
            tab.click("#st-align-start")
            tab.wait_for_selector(f".st-strip >> text={count} waiting", timeout=60_000)
        first, second = runs.queued()
        assert live.look().queue[0].config.settings == {"learning_rate": 3e-5}
        assert tab.locator(f"{ALIGN} .st-queue li").count() == 2
        tab.click(f"{ALIGN} .st-queue li >> nth=1 >> button >> nth=0")
        wait(lambda: runs.queued() == [second, first])
        moved = f"{ALIGN} .st-queue li:last-child [data-st-send*='{first}']"
        tab.locator(moved).first.wait_for(timeout=60_000)  # the window draws it after the disk has it
        tab.click(f"{ALIGN} .st-queue li >> nth=1 >> text=Remove")
        wait(lambda: runs.queued() == [second])
        tab.wait_for_selector(".st-strip >> text=1 waiting")
        assert live.find(first) is None
    wait(lambda: runs.find(second).status() == "failed")  # its file is not there: it was started, and says so
    tab.wait_for_selector(f"{ALIGN} [role=alert]:visible", timeout=60_000)
    assert runs.queued() == []
