"""The real window in a real browser: `Served` is a window in a process of its own, `open_tab` counts strangers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


class Served:
    """`studio app` in a process of its own, and the link that it printed; `offline`: the hub is not asked."""

    def __init__(self, home: Path, port: int, *, offline: bool = True) -> None:
        env = {**os.environ, "STUDIO_HOME": str(home), "PYTHONUNBUFFERED": "1"}
        env |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "studio", "app", "--no-browser", "--port", str(port)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = next(line for line in self.process.stdout if "Studio is at" in line)
        self.link = line.split()[-1]
        self.address = self.link.split("?")[0]

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End it as Ctrl+C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


def chromium() -> str | None:
    """Give the path of a Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=chromium(), args=ARGS)
        try:
            yield made
        finally:
            made.close()


def open_tab(context: Any, address: str, page: str = "model") -> Any:
    """Open a tab on a page; `strangers` collects requests that leave the window, `dialogs` what scripts pop up."""
    tab = context.new_page()
    tab.strangers, tab.dialogs = [], []
    inside = (address.split("/?")[0].rstrip("/") + "/", "data:", "blob:")
    tab.on("request", lambda r: None if r.url.startswith(inside) else tab.strangers.append(r.url))
    tab.on("dialog", lambda d: (tab.dialogs.append(d.message), d.dismiss()))
    tab.goto(address)
    tab.wait_for_selector(".st-rail", timeout=90_000)
    go(tab, page)
    return tab


def go(tab: Any, page: str) -> None:
    """Go to a page as the rail does."""
    tab.click(f".st-nav-{page}")
    tab.wait_for_selector(f"#st-page-{page}", state="visible")
    tab.wait_for_timeout(300)
