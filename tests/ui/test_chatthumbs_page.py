"""Thumbs in headless Chromium: by key and by touch, named for who hears the page, and open on the Data page at last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
import spoken

from studio.data import thumbs

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine"),
]
PORT = 7965
UP, DOWN = (f'#st-pane-1 button[aria-label="{word} answer: right pane, question 2"]' for word in ("Good", "Bad"))


@pytest.fixture
def window(trained: Path, home: Path) -> Iterator[browser.Served]:
    spoken.copy(trained, home)
    spoken.tell("1 + 1?")
    spoken.tell("2 + 2?")
    served = browser.Served(home, PORT)
    yield served
    served.close()


def labels() -> list[bool | None]:
    return [record.labels[0] for record in thumbs.found().values()]


def pressed(tab: Any, button: str, is_: str) -> None:
    tab.wait_for_selector(f"{button}[aria-pressed={is_}]", timeout=30_000)


def test_thumbs_are_given_by_key_and_by_touch_and_are_rows_on_the_data_page(window: browser.Served) -> None:
    with browser.browser() as chrome:
        tab = browser.open_tab(chrome.new_context(viewport={"width": 1280, "height": 860}), window.link, "chat")
        tab.wait_for_selector(UP, timeout=30_000)
        named = tab.locator(".st-thumb").evaluate_all("all => all.map((b) => b.ariaLabel)")
        assert len(set(named)) == len(named) == 8  # two panes, two answers, two thumbs
        tab.focus(UP)
        tab.keyboard.press("Enter")
        pressed(tab, UP, "true")
        assert labels() == [True]
        assert tab.evaluate("document.activeElement.ariaLabel") == "Good answer: right pane, question 2"
        tab.keyboard.press("Tab")
        tab.keyboard.press("Space")
        pressed(tab, DOWN, "true")
        pressed(tab, UP, "false")
        assert labels() == [False] and tab.evaluate("document.activeElement.ariaLabel").startswith("Bad answer")
        tab.keyboard.press("Space")
        pressed(tab, DOWN, "false")
        assert labels() == []
        tab.keyboard.press("Space")
        pressed(tab, DOWN, "true")
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.click('[aria-label="Good answer: left pane, question 1"]')
        pressed(tab, '[aria-label="Good answer: left pane, question 1"]', "true")
        assert sorted(map(bool, labels())) == [False, True]
        sizes = tab.locator(".st-thumb").evaluate_all(
            "all => all.map((b) => b.getBoundingClientRect()).map((r) => [r.width, r.height, r.right])"
        )
        assert all(width >= 24 and height >= 24 and right <= 390 for width, height, right in sizes)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        browser.go(tab, "data")
        tab.click("#st-page-data button:has-text('thumbs of the chat: 2 rated answers')")
        tab.wait_for_selector("#st-page-data >> text=rated-2-", timeout=60_000)
        assert "Traceback" not in tab.content() and tab.strangers == [] and tab.dialogs == []
