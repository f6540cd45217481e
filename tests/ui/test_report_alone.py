"""report.html in a browser, by itself: no network, no script, and no word so long that the page cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest

from studio.evals import card, report
from studio.evals.suite import Measure, Outcome, Suite

EVIL = "</pre><script>document.title='RUN'</script><img src=http://example.invalid/a onerror=alert(1)>"
LONG = "W" * 3000


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser.browser() as made:
        yield made


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
@pytest.mark.parametrize("width", [1200, 380])
def test_whatever_was_said_the_report_opens_whole_and_stays_within_the_window(
    tmp_path: Path, chrome: Any, width: int
) -> None:
    suite = Suite("fit", "Fit", "Says.", "Much.", (Measure("stops", "ends", "Ends."),), object, lambda _: Outcome())
    said = {"text": LONG, "right": False, "goes_on": LONG}
    along = {"columns": [LONG, "after"], "rows": [{"asked": LONG, "right": LONG, "said": [said, said]}]}
    out = Outcome(notes=[LONG, EVIL], plots={"side_by_side": along})
    for item in range(20):
        out.mark("stops", "before", str(item), 1)
        out.mark("stops", "after", str(item), 0)
    row = {"item": "a", "measure": "stops", "asked": LONG, "before": EVIL, "after": LONG, "marks": {"after": 0.0}}
    document = {"run": "r", "of": LONG, "against": LONG, "through": LONG, "seed": 0, **card.card([(suite, out)])}
    file = tmp_path / "report.html"
    file.write_text(report.page(document, {"fit": [row, {**row, "asked": EVIL}]}), "utf-8")
    context = chrome.new_context(viewport={"width": width, "height": 800}, offline=True)
    tab, odd, asked = context.new_page(), [], []
    tab.on("console", lambda message: odd.append(message.text))
    tab.on("pageerror", lambda error: odd.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert (odd, asked, tab.title()[:13]) == ([], [file.as_uri()], "Evaluation of")
    assert tab.text_content("section h2") == "What got worse"
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    wide = "[...document.querySelectorAll('section')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
    assert tab.evaluate(wide) == 0
    context.close()
