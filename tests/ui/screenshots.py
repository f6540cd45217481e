"""Take the README's pictures: `python tests/ui/screenshots.py HOME [OUT]`, HOME being where an assistant was made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import browser

PAGES = ("model", "data", "train", "align", "export", "chat")
QUESTIONS = ("What is the capital of Norway?", "What do you call a young horse?")


def main(home: Path, out: Path) -> None:
    """Open the window on HOME, ask two questions, and photograph every page, light and dark, 1280 px wide."""
    out.mkdir(parents=True, exist_ok=True)
    window = browser.Served(home, 7995)
    try:
        with browser.browser() as chrome:
            size = {"width": 1280, "height": 860}
            light = chrome.new_context(viewport=size, color_scheme="light")
            tab = browser.open_tab(light, window.link)
            prepare(tab)
            dark = chrome.new_context(viewport=size, color_scheme="dark", storage_state=light.storage_state())
            for name, context in (("light", light), ("dark", dark)):
                tab = browser.open_tab(context, window.address)
                tab.wait_for_timeout(1500)
                for page in PAGES:
                    browser.go(tab, page)
                    tab.mouse.move(900, 10)
                    tab.evaluate("document.activeElement.blur()")
                    tab.wait_for_timeout(300)
                    tab.screenshot(path=str(out / f"{page}-{name}.png"))
    finally:
        window.close()


def prepare(tab: Any) -> None:
    """Show a row on the data page, and an answer in both panes of the chat."""
    browser.go(tab, "data")
    tab.click(".st-samples .st-button >> nth=0")
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
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else root / "assets" / "screenshots")
