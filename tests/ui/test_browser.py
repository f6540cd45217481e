"""The window in headless Chromium: nothing of a model runs in it, and no reload, second tab or crash loses anything."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import disk
import pytest

from studio.ui import choice, live, starter, talk
from studio.ui.rail import EVERY as PAGES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine"),
]
PORT = 7990


#: Notes every length that the two answers pass through (what stands there before the first piece is no answer).
WATCH = """window.grown = [[], []];
new MutationObserver(() => [0, 1].forEach((i) => {
  const answer = document.querySelector(`#st-pane-${i} .st-answer:not(:has(.st-muted))`);
  const length = answer ? answer.innerText.length : 0;
  if (length && window.grown[i].at(-1) !== length) window.grown[i].push(length);
})).observe(document.body, { childList: true, subtree: true, characterData: true });"""


@pytest.fixture
def chrome() -> Iterator[Any]:
    with browser.browser() as made:
        yield made


@pytest.fixture
def served(home: Path) -> Iterator[browser.Served]:
    window = browser.Served(home, PORT)
    yield window
    window.close()


def wait(seconds: float, what: Any) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def test_nothing_of_a_model_runs_or_leaves(home: Path, chrome: Any) -> None:
    from test_parts import PAYLOADS

    disk.whole_path(home)
    disk.choices(home)
    wicked = "\n".join(PAYLOADS)
    talk.keep([{"user": wicked, "answers": [wicked, wicked], "stats": [None, {"stopped": True, "stop_token": wicked}]}])
    result = home / "runs" / "20261124-200001-starter-sft-aaaa" / "result.json"
    made = json.loads(result.read_text("utf-8"))
    made["behaviour"]["examples"] = [{"prompt": p, "before": p, "after": p} for p in PAYLOADS[:4]]
    made["advice"] = wicked
    result.write_text(json.dumps(made), "utf-8")
    window = browser.Served(home, PORT)
    try:
        tab = browser.open_tab(chrome.new_context(), window.link)
        for page in PAGES:
            browser.go(tab, page)
            assert "Traceback" not in tab.inner_text("body")
        browser.go(tab, "chat")
        assert "<script>alert(1)</script>" in tab.inner_text("#st-pane-1")
        inside = "section :is(script, iframe, form, object, embed, style, meta, base, link, img)"
        assert tab.evaluate(f"document.querySelectorAll('{inside}').length") == 0
        fixed = (
            "[...document.querySelectorAll('.st-page *')].filter(e => getComputedStyle(e).position === 'fixed').length"
        )
        assert tab.evaluate(fixed) == 0
        assert tab.dialogs == [] and tab.strangers == []
    finally:
        window.close()


def test_every_page_can_be_used_with_the_keyboard(home: Path, chrome: Any) -> None:
    disk.whole_path(home)
    disk.choices(home)
    window = browser.Served(home, PORT)
    try:
        tab = browser.open_tab(chrome.new_context(), window.link)
        for page in PAGES:
            browser.go(tab, page)
            reached = set()
            tab.evaluate("document.activeElement.blur()")
            for _ in range(45):
                tab.keyboard.press("Tab")
                at = tab.evaluate(
                    "(() => { const e = document.activeElement, s = getComputedStyle(e), b = e.getBoundingClientRect();"
                    " return [e.innerText || e.placeholder || e.tagName, s.outlineStyle, b.width * b.height] })()"
                )
                reached.add(str(at[0]).split("\n")[0])
                assert at[2] > 0, f"{page}: an invisible stop, {at}"
            assert {"Model", "Data", "Train", "Align", "Export", "Chat"} <= reached, page
            buttons = "[...document.querySelectorAll('.st-filled, button.primary')]"
            filled = tab.evaluate(f"{buttons}.filter(e => e.offsetParent).map(e => e.innerText)")
            assert len(filled) <= 1 and set(filled) <= reached, (page, filled)
    finally:
        window.close()


#: Texts whose contrast with what lies behind them is below 4.5 (disabled buttons aside), as "text: contrast".
PALE = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode()); ) {
    const e = node.parentElement;
    if (!node.textContent.trim() || !e.offsetParent || e.closest("[disabled], script, style")) continue;
    const svg = e.closest("svg"), style = getComputedStyle(e);
    if (Number(style.fontSize.replace("px", "")) === 0 || style.color === "rgba(0, 0, 0, 0)") continue;
    const a = light(parse(svg ? style.fill : style.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.add(`${node.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return [...found];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(home: Path, chrome: Any, scheme: str) -> None:
    disk.whole_path(home)
    disk.choices(home)
    talk.keep([{"user": "Hi", "answers": ["a", "b"], "stats": [{"tokens": 3}, {"stopped": True, "stop_token": "x"}]}])
    window = browser.Served(home, PORT)
    try:
        tab = browser.open_tab(chrome.new_context(color_scheme=scheme), window.link)
        for page in PAGES:
            browser.go(tab, page)
            assert tab.evaluate(PALE) == [], page
    finally:
        window.close()


def test_a_dropped_file_is_kept_under_a_safe_name(
    home: Path, chrome: Any, served: browser.Served, tiny: Path, sft_file: Path, tmp_path: Path
) -> None:
    choice.update(model=str(tiny))
    dropped = tmp_path / "CON my <b>rows.jsonl"
    dropped.write_bytes(sft_file.read_bytes())
    tab = browser.open_tab(chrome.new_context(), served.link, "data")
    tab.set_input_files("#st-data-drop input[type=file]", str(dropped))
    tab.wait_for_selector(".st-tokens .st-learned", timeout=120_000)
    (kept,) = (home / "data").iterdir()
    assert kept.name == "con-my-brows.jsonl" and kept.read_bytes() == sft_file.read_bytes()
    wait(10, lambda: tab.input_value("#st-data-path input, #st-data-path textarea") == str(kept))
    assert sum(path.stat().st_size for path in (home / "uploads").rglob("*") if path.is_file()) == 0


def test_wrong_input_gets_cause_and_remedy(home: Path, chrome: Any, served: browser.Served, tmp_path: Path) -> None:
    tab = browser.open_tab(chrome.new_context(), served.link)
    tab.fill("#st-model-name input, #st-model-name textarea", "/no/such/model")
    tab.click("#st-model-check")
    tab.wait_for_selector("[role=alert]:visible")
    assert "There is no model" in tab.inner_text("[role=alert]:visible") and "What to do" in tab.inner_text(
        "[role=alert]:visible"
    )
    browser.go(tab, "data")
    tab.fill("#st-data-path input, #st-data-path textarea", str(tmp_path / "none.jsonl"))
    tab.click("#st-data-open")
    tab.wait_for_selector("#st-page-data [role=alert]")
    assert "There is no file" in tab.inner_text("#st-page-data [role=alert]")
    assert "Traceback" not in tab.content() and tab.strangers == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal to one process")
def test_ctrl_c_ends_the_window_though_a_tab_is_open(home: Path, chrome: Any, served: browser.Served) -> None:
    browser.open_tab(chrome.new_context(), served.link)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(20) == 130


def test_what_is_typed_ticked_or_chosen_in_a_form_is_there_again_after_a_reload(
    home: Path, chrome: Any, served: browser.Served
) -> None:
    tab = browser.open_tab(chrome.new_context(), served.link, "train")
    drawer = tab.locator("#st-page-train .st-form:visible .st-drawer > button")
    drawer.click()

    def kept(name: str) -> Any:
        return choice.get("form").get("sft", {}).get(name)

    tab.fill("#st-sft-learning_rate :is(input, textarea)", "0.0003")
    tab.keyboard.press("Tab")  # a field is kept when it is left
    wait(20, lambda: kept("learning_rate") == "0.0003")
    tab.check("#st-sft-use_rslora input")
    wait(20, lambda: kept("use_rslora") is True)
    tab.click("#st-sft-lr_scheduler input")
    tab.click("#st-sft-lr_scheduler [role=option]:has-text('linear')")
    wait(20, lambda: kept("lr_scheduler") == "linear")
    tab.reload()
    tab.wait_for_selector("#st-page-train", state="visible")
    drawer.click()
    tab.wait_for_selector("#st-sft-use_rslora input:checked")
    assert tab.input_value("#st-sft-learning_rate :is(input, textarea)") == "0.0003"
    assert tab.input_value("#st-sft-lr_scheduler input") == "linear"


@pytest.mark.slow
def test_a_reload_a_second_tab_and_a_crash_lose_nothing(
    home: Path, tiny: Path, sft_file: Path, chrome: Any, served: browser.Served
) -> None:
    with sft_file.open("a", encoding="utf-8") as file:  # a run that is still going at the end, however fast the machine
        for number in range(40, 800):
            talk_ = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": f"{number}."}]
            file.write(json.dumps({"messages": talk_}) + "\n")
    settings = {"quantize_base": "none", "epochs": "100", "batch_size": "2", "max_length": "128"}
    choice.update(form={"sft": settings})
    context = chrome.new_context()
    tab = browser.open_tab(context, served.link)
    tab.fill("#st-model-name input, #st-model-name textarea", str(tiny))
    tab.click("#st-model-check")
    wait(60, lambda: choice.read().get("model") == str(tiny))
    browser.go(tab, "data")
    tab.fill("#st-data-path input, #st-data-path textarea", str(sft_file))
    tab.click("#st-data-open")
    tab.wait_for_selector(".st-tokens .st-learned", timeout=120_000)
    assert tab.evaluate("getComputedStyle(document.querySelector('.st-end_of_turn')).fontWeight") == "700"
    tab.click("#st-data-use")
    browser.go(tab, "train")
    tab.click("#st-train-start:enabled")
    tab.wait_for_selector(".st-strip [role=progressbar]", timeout=60_000)
    tab.wait_for_selector("#st-page-train polyline >> visible=true", timeout=180_000)

    tab.reload()
    tab.wait_for_selector("#st-page-train polyline >> visible=true", timeout=60_000)
    assert "step" in tab.inner_text(".st-strip") and tab.is_visible("#st-stop")

    other = browser.open_tab(context, served.address, "chat")
    assert "step" in other.inner_text(".st-strip") and other.is_visible("#st-stop")
    browser.go(other, "train")
    other.click("#st-page-train .st-fold button")
    other.wait_for_selector("#st-train-start:has-text('Add to the queue')")

    run = live.look().running
    assert run is not None
    served.kill()
    before = live.look().running
    assert before is not None and before.run.alive()
    again = browser.Served(home, PORT)
    try:
        assert again.address == served.address
        reached = (live.look().running or before).last_step()
        shown = "document.querySelector('.st-strip')?.innerText.match(/step ([\\d,]+)/)?.[1].replaceAll(',', '')"
        tab.wait_for_function(f"({shown} | 0) > {(reached or {}).get('step', 0)}", timeout=60_000)
        tab.click("#st-stop")
        tab.wait_for_selector("#st-train-resume", state="visible", timeout=60_000)
        other.wait_for_selector("#st-train-resume", state="visible", timeout=60_000)
        tab.click("#st-train-resume")
        tab.wait_for_selector("#st-stop", state="visible", timeout=60_000)
        stopped = (live.look().views[0].last_step() or {})["step"]
        wait(120, lambda: (live.look().views[0].last_step() or {})["step"] > stopped)
        tab.click("#st-stop")
        tab.wait_for_selector("#st-train-resume", state="visible", timeout=60_000)
        (view,) = live.look().views
        assert view.status == "stopped" and view.checkpoint is not None
        assert "Traceback" not in tab.content() and tab.strangers == [] and other.strangers == []
    finally:
        again.close()


@pytest.mark.slow
@pytest.mark.skipif(not starter.here(), reason="the starter's weights are not there")
def test_from_the_first_screen_to_a_streamed_answer_in_both_panes(
    home: Path, chrome: Any, served: browser.Served, tmp_path: Path
) -> None:
    tab = browser.open_tab(chrome.new_context(viewport={"width": 1280, "height": 860}), served.link)
    tab.click("#st-demo")
    tab.wait_for_selector("text=Making your first assistant", timeout=60_000)
    tab.wait_for_selector("#st-page-model polyline >> visible=true", timeout=300_000)
    tab.reload()
    tab.wait_for_selector("#st-page-model polyline >> visible=true", timeout=60_000)
    tab.wait_for_selector("text=Your first assistant is made", timeout=1_800_000)
    assert "questions that no training row contains" in tab.inner_text("#st-page-model")
    browser.go(tab, "chat")
    choice.update(chat={"asked": {"max_tokens": 400}})
    tab.reload()
    tab.wait_for_selector(".st-chips button", timeout=60_000)
    for tries in range(1, 6):  # the starter's whole answer takes less than a second: the page may draw it at once
        if tries > 1:  # the answer of the try before would be seen to shrink
            tab.click("#st-chat-clear")
            tab.wait_for_selector(".st-stats", state="detached", timeout=60_000)
        tab.click(".st-chips button >> nth=0")
        tab.evaluate(WATCH)
        tab.keyboard.press("Control+Enter")
        tab.wait_for_function("document.querySelectorAll('.st-stats').length >= 2", timeout=120_000)
        base, tuned = tab.evaluate("window.grown")
        assert tuned, "the tuned model did not answer"
        if base[:1] != base[-1:]:  # else it was drawn whole at first, by the look that other tabs have
            assert base == sorted(base), "an answer shrank"
            break
        assert tries < 5, "the base's answer never streamed"
    assert "stopped at" in tab.inner_text("#st-pane-1") and "tokens/s" in tab.inner_text("#st-pane-0")
    said = tab.inner_text("#st-pane-1 .st-answer")
    tab.reload()
    tab.wait_for_selector("#st-pane-1 .st-answer", timeout=60_000)
    assert tab.inner_text("#st-pane-1 .st-answer") == said
    tab.click("#st-chat-retry")  # an answer that is still being given does not come back after New
    tab.wait_for_timeout(200)
    tab.click("#st-chat-clear")
    tab.wait_for_selector("#st-chat-send", state="visible", timeout=60_000)
    tab.wait_for_selector(".st-answer", state="detached", timeout=60_000)
    tab.wait_for_timeout(2000)
    assert tab.locator(".st-answer").count() == 0
    for page in PAGES:
        browser.go(tab, page)
        tab.screenshot(path=str(tmp_path / f"{page}.png"))
        assert "Traceback" not in tab.inner_text("body")
    assert tab.strangers == [] and tab.dialogs == []


@pytest.mark.slow
def test_an_evaluation_is_read_from_what_got_worse_to_the_answers_and_the_report(home: Path, chrome: Any) -> None:
    import evaluated

    disk.whole_path(home)
    disk.choices(home)
    run = evaluated.write(home)
    window = browser.Served(home, PORT)
    try:
        tab = browser.open_tab(chrome.new_context(), window.link, "evaluate")
        page = "#st-page-evaluate"
        tab.wait_for_selector(f"{page} .st-got-worse")
        heads = tab.locator(f"{page} section h2").all_inner_texts()
        assert heads[:3] == ["Got worse", "Got better", "No significant difference"]
        assert "75.0" in tab.inner_text(f"{page} .st-got-worse") and "1 worse" in tab.inner_text(".st-nav-evaluate")
        assert "Sycophancy" in tab.inner_text(f"{page} .st-suite h2")
        tab.select_option(f'{page} select[aria-label="Answers with which mark"]', "no")
        tab.wait_for_selector(f"{page} .st-foot:has-text('8 answers')")
        tab.click(f"{page} .st-tabs button:has-text('Red team')")
        tab.wait_for_selector(f"{page} .st-suite h2:has-text('Red team')")
        tab.click(f"{page} .st-records summary >> nth=0")
        assert not tab.is_visible("text=here is how")
        tab.click("text=Show the text; it may offend")
        assert tab.is_visible("text=here is how")
        with tab.expect_popup() as opened:
            tab.click("text=Open report.html")
        opened.value.wait_for_selector("text=What got worse")
        assert opened.value.url == f"{window.address}report/{run.id}"
        tab.click("text=New evaluation")
        tab.wait_for_selector("#st-evaluate-start", state="visible")
        tab.uncheck(f'{page} input[aria-label="Fit"]', force=True)
        tab.wait_for_function("""!document.querySelector('input[aria-label="Fit"]').checked""")
        wait(10, lambda: "fit" not in choice.get("evaluate").get("suites", ["fit"]))
        assert tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()
