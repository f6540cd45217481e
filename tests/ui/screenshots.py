"""Take the README's pictures: `python tests/ui/screenshots.py HOME [OUT [PAGE ...]]`, HOME: a data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import browser

sys.path.insert(0, str(browser.ROOT))

from studio.ui import choice

PAGES = ("model", "data", "train", "align", "feedback", "evaluate", "lab", "export", "chat", "disk")
QUESTIONS = ("What do you call a young horse?",)


def main(home: Path, out: Path, pages: tuple[str, ...] = PAGES) -> None:
    """Open the window on HOME, make the first assistant if there is none, ask two questions, photograph the pages."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ["STUDIO_HOME"] = str(home)
    choice.update(chat={"asked": {"max_tokens": 64}})  # so that both answers fit the picture
    window = browser.Served(home, 7995)
    try:
        with browser.browser() as chrome:
            size = {"width": 1280, "height": 860}
            light = chrome.new_context(viewport=size, color_scheme="light")
            tab = browser.open_tab(light, window.link)
            if tab.is_visible("text=See the whole path once"):
                make(tab, out)
            if "evaluate" in pages:
                evaluate(tab)
            if {"data", "chat"} & set(pages):
                prepare(tab)
            dark = chrome.new_context(viewport=size, color_scheme="dark", storage_state=light.storage_state())
            for name, context in (("light", light), ("dark", dark)):
                tab = browser.open_tab(context, window.address)
                tab.wait_for_timeout(1500)
                for page in pages:
                    browser.go(tab, page)
                    tab.mouse.move(900, 10)
                    tab.evaluate("document.activeElement.blur()")
                    if page == "feedback" and tab.is_visible("[data-st-ranking]"):
                        tab.keyboard.type("23")  # two of three have a rank
                    tab.wait_for_timeout(300)
                    tab.screenshot(path=str(out / f"{page}-{name}.png"))
                    if page == "model":  # the list stands below what the first assistant did
                        tab.evaluate("document.querySelector('#st-model-name').scrollIntoView({block: 'start'})")
                        tab.wait_for_timeout(300)
                        tab.screenshot(path=str(out / f"models-{name}.png"))
    finally:
        window.close()


def make(tab: Any, out: Path) -> None:
    """Make the first assistant, with a picture of it being taught."""
    tab.click("#st-demo")
    tab.wait_for_selector("text=Making your first assistant", timeout=60_000)
    browser.go(tab, "train")
    tab.wait_for_function(
        "(document.querySelector('.st-strip')?.innerText.match(/step (\\d+)/)?.[1] | 0) >= 60", timeout=600_000
    )
    tab.mouse.move(900, 10)
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_timeout(700)
        tab.screenshot(path=str(out / f"running-{scheme}.png"))
    tab.emulate_media(color_scheme="light")
    browser.go(tab, "model")
    tab.wait_for_selector("text=Your first assistant is made", timeout=1_800_000)


def evaluate(tab: Any) -> None:
    """Evaluate the first assistant on a few items, where nothing was evaluated yet."""
    browser.go(tab, "evaluate")
    tab.wait_for_timeout(1500)
    if not tab.is_visible("#st-evaluate-start"):
        return
    for name in ("Forgetting", "Refusal", "Red team", "Shift"):
        tab.uncheck(f'#st-page-evaluate input[aria-label="{name}"]', force=True)
        tab.wait_for_timeout(700)
    tab.fill("#st-evaluate-n input, #st-evaluate-n textarea", "20")
    tab.click("#st-evaluate-start")
    tab.wait_for_selector("#st-page-evaluate .st-suite", timeout=900_000)


def prepare(tab: Any) -> None:
    """Show a row on the data page, and an answer in both panes of the chat."""
    browser.go(tab, "data")
    tab.click("#st-page-data .st-samples .st-button >> nth=0")
    tab.wait_for_selector(".st-tokens .st-learned", timeout=120_000)
    browser.go(tab, "chat")
    tab.click("#st-chat-clear")
    for count, question in enumerate(QUESTIONS, start=1):
        tab.fill("#st-chat-input textarea, #st-chat-input input", question)
        tab.keyboard.press("Control+Enter")
        tab.wait_for_function(f"document.querySelectorAll('.st-stats').length >= {2 * count}", timeout=120_000)
        tab.wait_for_timeout(1000)


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else root / "assets" / "screenshots"
    main(Path(sys.argv[1]).resolve(), target, tuple(sys.argv[3:]) or PAGES)
