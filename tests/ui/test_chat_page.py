"""The chat page in headless Chromium: two panes at the same time, stop, votes by key, strength, errors as cards."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import psutil
import pytest
import spoken

from studio.data import votes
from studio.ui import choice

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine"),
]
PORT = 7960
INPUT = "#st-chat-input textarea, #st-chat-input input"
#: At no strength the adapter's pane does not stop by itself, as the base does not.
LONG, ENDLESS = {"max_tokens": 8000, "context": 8192}, {"strengths": [1.0, 0.0]}
#: Notes how long both answers are, and how many have ended, whenever the page changes.
WATCH = """window.seen = [];
new MutationObserver(() => {
  const answer = (i) => document.querySelector(`#st-pane-${i} .st-answer:not(:has(.st-muted))`);
  const text = [0, 1].map((i) => answer(i)?.innerText.length || 0);
  window.seen.push([...text, document.querySelectorAll(".st-stats").length]);
}).observe(document.body, { childList: true, subtree: true, characterData: true });"""


@pytest.fixture
def window(trained: Path, home: Path) -> Iterator[browser.Served]:
    spoken.copy(trained, home)
    served = browser.Served(home, PORT)
    yield served
    served.close()


@pytest.fixture
def tab(window: browser.Served) -> Iterator[Any]:
    with browser.browser() as chrome:
        context = chrome.new_context(viewport={"width": 1280, "height": 860})
        opened = browser.open_tab(context, window.link, "chat")
        yield opened
        assert "Traceback" not in opened.content() and opened.strangers == [] and opened.dialogs == []


def ask(tab: Any, text: str) -> None:
    tab.fill(INPUT, text)
    tab.keyboard.press("Control+Enter")


def ended(tab: Any, count: int) -> None:
    tab.wait_for_function(f"document.querySelectorAll('.st-stats').length >= {count}", timeout=60_000)


def settings(tab: Any, **asked: Any) -> None:
    """Put settings where the drawer keeps them, and load the page again."""
    choice.update(chat={"asked": asked, **(ENDLESS if asked == LONG else {"strengths": [1.0, 1.0]})})
    tab.reload()
    tab.wait_for_selector("#st-head-1 select", timeout=60_000)
    tab.wait_for_selector(f"#st-chat-counts >> text=at most {asked['max_tokens']:,} of", timeout=60_000)
    tab.wait_for_timeout(1000)  # the fields of the closed drawer are filled by an event of their own


def test_both_panes_stream_together_and_stop_at_once(tab: Any, home: Path) -> None:
    settings(tab, **LONG)
    tab.evaluate(WATCH)
    ask(tab, "1 + 1?")
    tab.wait_for_function("window.seen.some(([a, b, ends]) => a && b && !ends)", timeout=120_000)
    tab.keyboard.press("Escape")
    ended(tab, 2)
    assert [tab.inner_text(f"#st-pane-{i} .st-stats").count("stopped by you") for i in (0, 1)] == [1, 1]
    tab.wait_for_selector("#st-chat-send", state="visible")
    turn = json.loads((home / "chat.json").read_text("utf-8"))[0]
    assert all(told["tokens"] < LONG["max_tokens"] for told in turn["stats"])
    before = tab.inner_text("#st-pane-1 .st-answer")
    tab.click("#st-pane-1 [aria-label='Continue, right']")
    tab.wait_for_function(f"document.querySelector('#st-pane-1 .st-answer').innerText.length > {len(before) + 40}")
    tab.keyboard.press("Escape")
    tab.wait_for_selector("#st-chat-send", state="visible", timeout=60_000)
    assert tab.inner_text("#st-pane-1 .st-answer").startswith(before[:20])


def test_strength_and_checkpoint_change_who_answers(tab: Any) -> None:
    settings(tab, max_tokens=8)
    ask(tab, "1 + 1?")
    ended(tab, 2)
    tab.wait_for_function("/× 1 ·/.test(document.querySelector('#st-head-1 code').innerText)", timeout=30_000)
    tab.wait_for_function("/[0-9a-f]{6} × 1$/.test(document.querySelector('#st-pane-1 .st-by').innerText)")
    first = tab.inner_text("#st-pane-1 .st-by")
    assert "one copy of the weights" in tab.inner_text("#st-chat-bar")
    tab.fill("#st-head-1 input[type=range]", "0.5")
    tab.dispatch_event("#st-head-1 input[type=range]", "change")
    tab.wait_for_function("/× 0.5 ·/.test(document.querySelector('#st-head-1 code').innerText)", timeout=30_000)
    tab.click("#st-chat-retry")
    tab.wait_for_function("/× 0.5$/.test(document.querySelector('#st-pane-1 .st-by')?.innerText)", timeout=60_000)
    finished = tab.inner_text("#st-head-1 code")
    tab.select_option("#st-head-1 [aria-label='Checkpoint, right pane']", "step-000004")
    tab.wait_for_function(  # half a second: until then the head names who was there, and that is who answers
        "before => document.querySelector('#st-head-1 code').innerText !== before", arg=finished, timeout=60_000
    )
    ask(tab, "2 + 2?")
    ended(tab, 4)
    hashes = [text.split(" ")[2] for text in tab.locator("#st-pane-1 .st-by").all_inner_texts()]
    assert hashes[0] == first.split(" ")[2] != hashes[1]


def test_a_vote_by_key_lands_in_the_store_but_not_while_somebody_writes(tab: Any, home: Path) -> None:
    settings(tab, max_tokens=8)
    tab.click("[aria-label='Blind votes']")
    tab.wait_for_selector("#st-head-0 >> text=Who this is shows after the vote")
    ask(tab, "1 + 1?")
    tab.wait_for_selector(".st-vote", timeout=60_000)
    assert "sums" not in tab.inner_text(".st-panes") and "tokens/s" not in tab.inner_text(".st-panes")
    tab.fill(INPUT, "21")
    tab.focus(INPUT)
    tab.keyboard.press("1")
    tab.wait_for_timeout(500)
    assert votes.all() == [] and tab.input_value(INPUT) == "211"
    tab.evaluate("document.activeElement.blur()")
    tab.keyboard.press("2")
    tab.wait_for_selector(".st-revealed", timeout=30_000)
    (vote,) = votes.all()
    assert vote.choice == "b" and vote.prompt == [{"role": "user", "content": "1 + 1?"}]
    assert {vote.a.identity["adapter"] == "", vote.b.identity["adapter"] == ""} == {True, False}
    assert "sums" in tab.inner_text(".st-panes") and "of 1 vote" in tab.inner_text("#st-chat-bar")


def test_errors_are_cards_and_the_window_lives(tab: Any, window: browser.Served, tmp_path: Path) -> None:
    settings(tab, **LONG)
    ask(tab, "1 + 1?")
    tab.wait_for_selector("#st-pane-0 .st-answer:not(:has(.st-muted))", timeout=60_000)
    for child in psutil.Process(window.process.pid).children(recursive=True):
        if "studio.chat.engine:handle" in child.cmdline():
            os.kill(child.pid, signal.SIGKILL)
    tab.wait_for_selector("#st-pane-1 [role=alert]", timeout=30_000)
    assert "What to do" in tab.inner_text("#st-pane-1 [role=alert]")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    tab.select_option("#st-head-0 [aria-label='Left pane']", "other")
    tab.fill("#st-open-0 input", str(tmp_path / "bad.gguf"))
    tab.click("#st-open-0 button:has-text('Open')")
    tab.wait_for_selector("#st-chat-trouble [role=alert]", timeout=30_000)
    settings(tab, max_tokens=8)
    ask(tab, "And 2 + 2?")
    ended(tab, 2)
    tab.click("button:has-text('What did training change')")
    tab.wait_for_selector(".st-heat", timeout=30_000)
    tab.focus(".st-h >> nth=0")
    tab.keyboard.press("ArrowRight")
    told = tab.inner_text(".st-says")
    assert "→" in told and told == tab.get_attribute(".st-h >> nth=1", "data-st-says")
    tab.click("button:has-text('Prompt as the model sees it')")
    tab.wait_for_selector(".st-ids", timeout=30_000)
    assert "<|im_start|>" in tab.inner_text(".st-looked")


def test_the_first_answer_comes_soon_after_the_page_is_opened(trained: Path, home: Path) -> None:
    """The files are made while the window is open on another page; then the page loads them when it is opened."""
    spoken.copy(trained, home)
    choice.update(chat={"asked": {"max_tokens": 8}})
    served = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            tab = browser.open_tab(chrome.new_context(), served.link)
            end = time.monotonic() + 120
            while len(json.loads(_text(home / "cache" / "chatfiles.json") or "{}")) < 2:
                assert time.monotonic() < end, "the files were not made ahead"
                time.sleep(0.2)
            tab.click(".st-nav-chat")
            tab.wait_for_selector("#st-head-1 code:has-text('adapter')", timeout=30_000)  # loaded, nothing was asked
    finally:
        served.close()


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""
