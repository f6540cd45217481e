"""A run that ends while nobody looks is announced once; and the disk page in a browser."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import disk
import pytest
from filelock import FileLock

from studio import trash
from studio.runs import Run, RunConfig
from studio.ui import live, rail

PORT = 7985
SFT = RunConfig("train", "my <b>rows</b>", "starter", "sft", "/data/rows.jsonl")


def told(scene: live.Scene) -> tuple[list[str], dict[str, str]]:
    drawn = rail.ended(scene)
    going, over = (re.search(f'data-st-{name}="([^"]*)"', drawn) for name in ("going", "over"))
    assert going and over and "<b>" not in drawn
    return json.loads(html.unescape(going[1])), json.loads(html.unescape(over[1]))


def end(run: Run, kind: str) -> None:
    with (run.dir / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"type": kind, "time": 9e9, "error": {}, "result": {}}) + "\n")


@pytest.mark.parametrize(
    ("kind", "said"),
    [("finished", "✓ Finished: my <b>rows</b>"), ("failed", "✕ Failed: my <b>rows</b>"), ("stopped", None)],
)
def test_the_script_is_told_what_goes_and_how_it_ended(home: Path, kind: str, said: str | None) -> None:
    run = disk.write_run(home, "20261124-200001-rows-aaaa", SFT, disk.sft_events(20))
    with FileLock(run.dir / "lock"):
        assert told(live.look()) == ([run.id], {}) and "data-st-notify" in rail.strip(live.look())
    assert told(live.look()) == ([], {run.id: "✕ Interrupted: my <b>rows</b>"})
    end(run, kind)
    assert told(live.look()) == ([], {run.id: said} if said else {})
    assert "data-st-notify" not in rail.strip(live.look()), "nobody is asked while nothing goes"


def test_no_more_than_the_last_few_are_told(home: Path) -> None:
    for number in range(12):
        run = disk.write_run(home, f"20261124-2000{number:02}-rows-aaaa", SFT, disk.sft_events(1))
        end(run, "finished")
    assert len(told(live.look())[1]) == 6


@pytest.fixture
def chrome() -> Iterator[Any]:
    with browser.browser() as made:
        yield made


NOBODY = """() => { document.hasFocus = () => false; window.sent = [];
window.Notification = class { constructor(title, more) { window.sent.push(more.body); }
  static permission = "granted"; static requestPermission() { return Promise.resolve("granted"); } }; }"""


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
@pytest.mark.slow
def test_in_a_browser_the_end_is_announced_and_checkpoints_go_and_come_back(home: Path, chrome: Any) -> None:
    run = disk.write_run(home, "20261124-200001-rows-aaaa", SFT, disk.sft_events(20))
    lock = FileLock(run.dir / "lock")
    lock.acquire()
    (run.dir / "checkpoints" / "step-000020").mkdir(parents=True)
    (run.dir / "checkpoints" / "step-000020" / "model").write_bytes(b"c" * 2_000_000)
    disk.choices(home)
    window = browser.Served(home, PORT)
    try:
        tab = browser.open_tab(chrome.new_context(viewport={"width": 1280, "height": 860}), window.link)
        asked = tab.evaluate("document.documentElement.dataset.stNotify")
        assert tab.is_visible("text=Tell me when it ends") == (asked == "default")
        tab.evaluate(NOBODY)
        assert tab.title() == "Studio"
        (run.dir / "result.json").write_text(json.dumps(disk.SFT_RESULT))
        end(run, "finished")
        lock.release()
        tab.wait_for_function("document.title.startsWith('✓ Finished: my <b>rows</b>')", timeout=20_000)
        assert tab.evaluate("window.sent") == ["✓ Finished: my <b>rows</b>"]
        tab.evaluate("window.dispatchEvent(new Event('focus'))")
        assert tab.title() == "Studio"
        browser.go(tab, "disk")
        tab.wait_for_selector("text=Everything", timeout=60_000)
        tab.click("text=Measure again")
        tab.click("text=Delete checkpoints")
        tab.wait_for_selector(".st-asked")
        tab.click("text=Move to the trash")
        tab.wait_for_selector("button:has-text('Put back')", timeout=20_000)
        assert run.checkpoints() == [] and len(trash.entries()) == 1 and tab.query_selector(".st-asked") is None
        tab.click("button:has-text('Put back')")
        tab.wait_for_selector("text=Nothing is in it", timeout=20_000)
        assert len(run.checkpoints()) == 1 and tab.strangers == [] and tab.dialogs == []
        assert tab.evaluate("window.sent.length") == 1, "an end is told once"
        assert tab.evaluate("document.documentElement.scrollWidth") <= 1280
    finally:
        window.close()
