"""The data page: what its actions change, what it draws of a file, and that nothing in a file can harm it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import gradio as gr
import pytest
from making import write_jsonl
from test_browser import PALE
from test_parts import PAYLOADS

from studio.data import votes
from studio.data.records import Message
from studio.errors import ConfigError, DataError
from studio.methods import METHODS
from studio.render import encode
from studio.ui import (
    choice,
    dataacts,
    datahand,
    datalint,
    datatable,
    dataview,
    datawork,
    examine,
    live,
    looking,
    terminal,
)
from studio.ui.looking import Looking

PORT = 7980
ROWS: list[dict[str, object]] = [{"prompt": f"What is {i}?", "completion": f"A number, {i}."} for i in range(40)]


@pytest.fixture(autouse=True, scope="module")
def _end_the_child() -> Iterator[None]:
    yield
    examine._child.close()


@pytest.fixture
def model(tiny: Path, home: Path) -> Path:
    choice.update(model=str(tiny))
    return tiny


def see(file: Path | str | None = None) -> dict[str, Any]:
    """Open a file and wait until everything about it is there; gives the check's document."""
    if file is not None:
        dataacts.open_file(str(file))
    end = time.monotonic() + 60
    while datawork.work(live.look()):
        look = Looking.at(choice.read())
        for found in (examine.known(look.detect()), examine.known(look.check())):
            if found is not None and "error" in found:
                return found
        assert time.monotonic() < end, datawork.work(live.look())
        time.sleep(0.05)
    return examine.known(Looking.at(choice.read()).check()) or {}


def do(**message: Any) -> None:
    dataacts.act(json.dumps(message))


def page() -> str:
    scene = live.look()
    drawn = (
        datawork.work, dataview.bar, dataview.mapping, dataview.preview, datalint.warnings, datalint.side,
        datalint.split, datatable.tools, datatable.table, dataview.in_use,
    )  # fmt: skip
    return "".join(draw(scene) for draw in drawn)


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def row() -> str:
    """The text of the row that is shown."""
    return re.sub(r"<[^>]+>", "", dataview.preview(live.look()))


def used(step: str = "train") -> dict[str, Any]:
    return live.look().data(step)


def test_votes_of_the_chat_are_opened_as_pairs_or_as_rated_answers(model: Path) -> None:
    assert dataview.voted(live.look()) == "", "without votes there is no way to them"
    asked = [{"role": "user", "content": "What is 2?"}]
    for choice_, edited in (("a", ""), ("b", "An even number."), ("tie", "")):
        votes.add(votes.Vote(asked, votes.Answer("A number."), votes.Answer("Two"), choice_, edited=edited))
    drawn = dataview.voted(live.look())
    assert words(drawn) == "Your votes: 3 pairs 5 rated answers"
    assert "st-votes-preference" in drawn and "st-votes-kto" in drawn
    dataacts.open_votes("preference")
    found = see()
    assert (found["kind"], found["usable"]) == ("preference", 3) and "3 pairs" in words(page())
    dataacts.open_votes("kto")
    found = see()
    assert (found["kind"], found["usable"]) == ("kto", 5)
    dataacts.use()
    assert used("align")["kind"] == "kto" and Path(used("align")["file"]).is_file()
    votes.remove(votes.all()[1].id)
    assert words(dataview.voted(live.look())) == "Your votes: 1 pair 2 rated answers"


def test_a_file_is_shown_with_its_format_row_lengths_split_and_table(model: Path, tmp_path: Path) -> None:
    see(write_jsonl(tmp_path / "rows.jsonl", ROWS))
    drawn = words(page())
    for said in (
        "rows.jsonl",
        "40 conversations",
        "found by its rows",
        "Conversation 1",
        "1 of 40",
        "Length",
        "Held out",
    ):
        assert said in drawn
    assert "Use this data for" not in drawn and "st-learned" in page()
    assert drawn.count("What is") >= 40 and "page 1 of 1" in drawn


def test_rows_are_turned_jumped_to_sorted_and_filtered(model: Path, tmp_path: Path) -> None:
    rows = [{**row, "completion": "x" * (i + 1)} for i, row in enumerate(ROWS)]
    see(write_jsonl(tmp_path / "rows.jsonl", rows))
    do(do="row", index=1)
    assert "Conversation 2" in page()
    do(do="line", value="17")
    assert "Conversation 17" in page() and "line 17" in words(page())
    do(do="row", index=10_000)
    assert "Conversation 40" in page()
    do(do="sort", value="longest")
    first = words(datatable.table(live.look())).split("Length")[1]
    assert first.split()[0] == "40"
    do(do="contains", value="is 3")
    see()
    assert "11 rows" in words(datatable.table(live.look()))  # 3 and 30 to 39
    do(do="contains", value="nothing like it")
    see()
    assert "No row fits" in page()
    do(do="all")
    assert "40 rows" in page()
    with pytest.raises(DataError, match="not a number"):
        do(do="line", value="seventeen")


def test_leaving_bad_rows_out_is_counted_used_and_undone(model: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    path.write_text(path.read_text("utf-8") + '{"prompt": "half\n{"prompt": "no answer"}\n', "utf-8")
    see(path)
    drawn = words(page())
    assert "line 41" in drawn and "line 42" in drawn and "Leave the 2 bad rows out" in drawn
    with pytest.raises(DataError, match="repaired first"):
        dataacts.use()
    do(do="fix", code="bad")
    see()
    assert "2 rows Rows that cannot be used are left out" in words(page()) and "Leave the" not in page()
    dataacts.use()
    assert used()["rows"] == 40 and used()["reading"] == {"drop": ["bad"]}
    renderer = encode.load(model)
    turns = [[Message("user", str(row["prompt"])), Message("assistant", str(row["completion"]))] for row in ROWS]
    assert used()["longest"] == max(len(renderer.conversation(both).ids) for both in turns)
    do(do="undo", number=0)
    see()
    assert "Leave the 2 bad rows out" in words(page())
    assert not dataacts.in_use(live.look(), *dataview.ready(live.look()))  # type: ignore[misc]


def test_a_finding_is_repaired_with_one_click_and_undone(model: Path, tmp_path: Path) -> None:
    long = {"prompt": "Tell me more.", "completion": "word " * 30}
    see(write_jsonl(tmp_path / "rows.jsonl", [*ROWS, long]))
    scene = live.look()
    looking.put(scene, "sft", {"max_length": 64})
    see()
    ready = dataview.ready(live.look())
    assert ready is not None
    (item,) = [i for i in datalint.findings(live.look(), *ready) if i["code"] == "too_long"]
    fixes = datalint.fixes_of(item)
    number = next(n for n, fix in enumerate(fixes) if "settings" in fix)
    do(do="fix", code="too_long", number=number)
    wanted = fixes[number]["settings"]["max_length"]
    assert wanted > 64 and choice.get("form")["sft"]["max_length"] == str(wanted)
    see()
    ready = dataview.ready(live.look())
    assert ready is not None and not [i for i in datalint.findings(live.look(), *ready) if i["code"] == "too_long"]
    assert f"max_length = {wanted}" in page()
    do(do="undo", number=0)
    assert choice.get("form")["sft"]["max_length"] == "64"
    see()
    do(do="fix", code="bad")
    see()
    assert "1 row is too long, and nothing of it could be learned: left out" in words(datalint.warnings(live.look()))
    dataacts.use()
    assert used()["reading"] == {"drop": ["bad"]}


def test_placeholders_are_filled_in(model: Path, tmp_path: Path) -> None:
    see(write_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"prompt": "Who are you?", "completion": "I am {{name}}."}]))
    ready = dataview.ready(live.look())
    assert ready is not None
    (item,) = [i for i in datalint.findings(live.look(), *ready) if i["code"] == "placeholder"]
    number = next(n for n, fix in enumerate(datalint.fixes_of(item)) if "fill" in fix)
    with pytest.raises(DataError, match="no text for name"):
        do(do="fix", code="placeholder", number=number, values={})
    do(do="fix", code="placeholder", number=number, values={"name": "Ada"})
    see()
    do(do="row", index=40)
    assert "I am Ada." in row() and "{{name}}" not in page()


def test_an_unclear_file_asks_and_an_answer_settles_it(model: Path, tmp_path: Path) -> None:
    found = see(
        write_jsonl(tmp_path / "rows.jsonl", [{"alpha": f"First {i} text", "beta": f"Then {i}"} for i in range(30)])
    )
    assert found["kind"] == "unclear"
    assert "not clear yet" in page() and "First 0 text" in dataview.mapping(live.look())
    with pytest.raises(DataError, match="not clear"):
        dataacts.use()
    titles = [c["reading"].get("mapping") for c in found["question"]["choices"]]
    do(do="answer", number=titles.index({"alpha": "prompt", "beta": "completion"}))
    assert see()["kind"] == "sft"
    assert "First 0 text" in row()


def test_a_mapping_is_made_column_by_column(model: Path, tmp_path: Path) -> None:
    rows = [{"a": f"Question {i}", "b": f"Good {i}", "c": f"Bad {i}"} for i in range(30)]
    see(write_jsonl(tmp_path / "rows.jsonl", rows))
    for column, role in (("a", "prompt"), ("b", "chosen")):
        do(do="map", column=column, value=role)
        see()
    look = Looking.at(choice.read())
    assert look.draft == {"a": "prompt", "b": "chosen"} and "not whole yet" in dataview.mapping(live.look())
    do(do="map", column="c", value="rejected")
    assert see()["kind"] == "preference"
    look = Looking.at(choice.read())
    assert look.reading == {"mapping": {"a": "prompt", "b": "chosen", "c": "rejected"}} and not look.draft
    assert "as you mapped it" in page() and "rejected" in dataview.preview(live.look())
    with pytest.raises(DataError, match="no such column"):
        do(do="map", column="zzz", value="prompt")
    do(do="as_found")
    assert see()["kind"] == "unclear"


def test_kinds_that_no_method_learns_from_say_so(model: Path, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{**row, "label": i % 2 == 0} for i, row in enumerate(ROWS)]
    see(write_jsonl(tmp_path / "rows.jsonl", rows))
    if not any("kto" in method.kinds for method in METHODS.values()):
        with pytest.raises(DataError, match="KTO training is not here yet"):
            dataacts.use()
    assert "wanted" in words(dataview.preview(live.look())) and "40 labelled answers" in page()


def test_template_and_held_out_share_are_the_settings_of_the_run(model: Path, tmp_path: Path) -> None:
    see(write_jsonl(tmp_path / "rows.jsonl", ROWS))
    assert "&lt;|im_start|&gt;" in dataview.preview(live.look())
    do(do="template", value="plain")
    see()
    assert "&lt;|im_start|&gt;" not in dataview.preview(live.look())
    do(do="held_out", value="25 %")
    see()
    assert "10 conversations with 10 prompts; 30 to learn from" in words(datalint.split(live.look()))
    assert choice.get("form")["sft"] == {"template": "plain", "held_out": "0.25"}
    for wrong in ("lots", "70", "nan", "-1"):
        with pytest.raises(ConfigError):
            do(do="held_out", value=wrong)
    with pytest.raises(ConfigError):
        do(do="template", value="no such family")


def test_the_reading_travels_to_the_run_and_to_the_terminal(model: Path, tmp_path: Path) -> None:
    from studio.methods import METHODS
    from studio.ui.pages.tune import Tune

    path = write_jsonl(tmp_path / "rows.jsonl", [{"a": f"Q {i}", "b": f"A {i}", "n": "x"} for i in range(30)])
    reading = {"mapping": {"a": "prompt", "b": "completion"}, "drop": ["bad", "duplicate"], "fill": {"name": "Ada L"}}
    choice.update(data={"train": {"file": str(path), "kind": "sft", "rows": 30, "reading": reading}})
    tune = Tune("train")
    form = tune.forms["sft"]
    with gr.Blocks():
        form.draw()
    config = tune._config(live.look(), METHODS["sft"], "", form.shown({}))
    assert config.options == {"reading": reading}
    said = terminal.words_of("sft", "m", str(path), "", {}, reading)
    tail = said[said.index(str(path)) + 1 :]
    assert tail == [
        "--map", "a=prompt,b=completion", "--drop-bad", "--drop", "duplicate", "--fill", "name=Ada L",
    ]  # fmt: skip
    from studio.cli.__main__ import parser

    args = parser().parse_args(said)
    from studio.cli.data import reading as read

    assert read(args).to_dict() == reading


def test_a_hostile_file_is_drawn_as_text(model: Path, tmp_path: Path) -> None:
    wicked = [{"prompt": text, "completion": text + " {{name}}"} for text in PAYLOADS]
    see(write_jsonl(tmp_path / "a<b>.jsonl", [*ROWS, *wicked]))
    do(do="mapping")
    for index in range(len(ROWS), len(ROWS) + len(PAYLOADS)):
        do(do="row", index=index)
        drawn = page()
        assert not re.search(r"<(script|img|iframe|form|style|object|embed|svg (?!class)|a )", drawn)
        assert "a<b>" not in drawn
    strange = write_jsonl(tmp_path / "b.jsonl", [{PAYLOADS[0]: "one", 'x" onerror="y': "two"}] * 30)
    see(strange)
    drawn = page()
    assert "<script" not in drawn and 'x" onerror' not in drawn


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfea\0", b"\0\0\0", b"[" * 20_000, b'{"a": NaN}', b"{}\n", b"\x89PNG\r\n"]
)
def test_a_wrong_file_gets_cause_and_remedy(model: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    see(path)
    drawn = words(page())
    assert "Traceback" not in drawn and "made a mistake" not in drawn
    assert "could not be read" in drawn or "to repair first" in drawn or "not clear yet" in drawn
    with pytest.raises(DataError):
        dataacts.use()


def test_messages_that_nobody_draws_do_nothing(model: Path, tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"do": "nothing"}', '{"do": ["row"]}', "null"):
        assert dataacts.act(text) == ""
    see(write_jsonl(tmp_path / "rows.jsonl", ROWS))
    before = choice.read()
    for message in ({"do": "undo", "number": 7}, {"do": "line", "value": ""}):
        do(**message)
    with pytest.raises(DataError):
        do(do="fix", code="secret", number=3)
    assert choice.read() == before


def test_reading_can_be_stopped_and_taken_up_again(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text((json.dumps({"prompt": "What?", "completion": "word " * 300}) + "\n") * 60_000, "utf-8")
    dataacts.open_file(str(path))
    end = time.monotonic() + 60
    while not ((going := examine.going("check")) and going.progress.get("done")):
        datawork.work(live.look())
        assert time.monotonic() < end
        time.sleep(0.02)
    drawn = datawork.work(live.look())
    assert "MB" in drawn and "progressbar" in drawn and "Stop" in drawn
    do(do="stop")
    assert "Reading was stopped" in datawork.work(live.look())
    do(do="again")
    assert "Reading long.jsonl" in datawork.work(live.look())
    do(do="stop")


def test_rows_written_by_hand_become_a_file(home: Path) -> None:
    pairs = [["", ""], ["Hi?", "Hello <b>."], [None, "  "]]
    datahand.keep("Prompt, answer", "../My rows", pairs, [])
    (path,) = (home / "data").iterdir()
    assert path.name == "my-rows.jsonl" and Looking.at(choice.read()).file == str(path)
    assert json.loads(path.read_text("utf-8")) == {"prompt": "Hi?", "completion": "Hello <b>."}
    datahand.keep("Prompt, better, worse", "My rows", [], [["Hi?", "Hello.", "What?"]])
    assert json.loads((home / "data" / "my-rows-2.jsonl").read_text("utf-8"))["rejected"] == "What?"
    with pytest.raises(DataError) as caught:
        datahand.read([["Hi?", "Hello."], ["Half", " "]], ["prompt", "completion"])
    assert (caught.value.line, caught.value.field) == (2, "completion")
    with pytest.raises(DataError, match="Nothing is written"):
        datahand.keep("Prompt, answer", "x", [["", ""]], [])


def test_a_hundred_thousand_rows_stay_responsive(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(100_000):
            file.write(f'{{"prompt": "Question {i} of many", "completion": "Answer {"x" * (i % 50)}"}}\n')
    dataacts.open_file(str(path))
    look = Looking.at(choice.read())
    examine.ask(look.check())
    examine.ask(look.rows(None))
    for change in (
        {"page": 1999},
        {"sort": "longest"},
        {"sort": "turns", "page": 3},
        {"sort": "shortest", "page": 777},
    ):
        began = time.monotonic()
        assert len(examine.ask(look.changed(**change).rows(None))["rows"]) == 50
        assert time.monotonic() - began < 2.0, change  # alone 0.1 s; the machine is shared


def _fill(tab: Any, selector: str, text: str) -> None:
    tab.fill(f"{selector} textarea, {selector} input", text)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser.browser() as made:
        yield made


@pytest.fixture
def tab(home: Path, model: Path, chrome: Any) -> Iterator[Any]:
    window = browser.Served(home, PORT)
    try:
        made = browser.open_tab(chrome.new_context(), window.link, "data")
        yield made
        assert "Traceback" not in made.content() and made.strangers == [] and made.dialogs == []
    finally:
        window.kill()


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
def test_in_the_browser_a_bad_file_is_repaired_and_used_with_the_keyboard_too(tab: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    path.write_text(path.read_text("utf-8") + '{"prompt": "half\n', "utf-8")
    _fill(tab, "#st-data-path", str(path))
    tab.click("#st-data-open")
    tab.wait_for_selector(".st-tokens .st-learned", timeout=60_000)
    assert tab.is_disabled("#st-data-use") and "line 41" in tab.inner_text("#st-page-data")
    tab.wait_for_selector(".st-rows")
    for scheme in ("dark", "light"):
        tab.emulate_media(color_scheme=scheme)
        tab.wait_for_timeout(500)
        assert tab.evaluate(PALE) == [], scheme
    size = tab.viewport_size
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.set_viewport_size(size)
    tab.click("text=Leave the 1 bad row out")
    tab.wait_for_selector("text=Undo", timeout=60_000)
    tab.focus("[aria-label='next row']")
    for number in (2, 3):
        tab.keyboard.press("Enter")
        tab.wait_for_selector(f"text=Conversation {number}", timeout=20_000)
    tab.fill("[aria-label='Show rows that contain this text']", "is 39")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("text=1 row, length in characters", timeout=20_000)
    tab.click(".st-rows .st-place")
    tab.wait_for_selector("text=Conversation 40", timeout=20_000)
    tab.select_option("[aria-label='Chat template']", "plain")
    tab.wait_for_function("!document.querySelector('.st-tokens')?.innerText.includes('im_start')", timeout=30_000)
    tab.click("#st-data-use:enabled")
    tab.wait_for_selector("text=Next: Train")
    assert used()["rows"] == 40 and used()["reading"] == {"drop": ["bad"]}
    browser.go(tab, "train")
    tab.wait_for_selector("#st-page-train :text('--set template=plain --drop-bad')")


def _write(tab: Any, cell: str, text: str) -> None:
    """Write into a cell of a table; a script is at times faster than the cell opens, so it tries again."""
    from playwright.sync_api import TimeoutError as TooLate

    for wait in (5_000, 5_000, 30_000):
        tab.dblclick(cell)
        tab.wait_for_timeout(300)
        tab.keyboard.press("Control+A")
        tab.keyboard.type(text)
        tab.keyboard.press("Enter")
        try:
            tab.wait_for_selector(f"{cell} :text('{text}')", timeout=wait)
            return
        except TooLate:
            continue
    raise AssertionError(f"{text!r} could not be written")


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
def test_in_the_browser_a_question_is_answered_and_rows_are_written_by_hand(
    tab: Any, tmp_path: Path, home: Path
) -> None:
    rows = [{"alpha": f"First {i} text", "beta": f"Then {i}"} for i in range(30)]
    _fill(tab, "#st-data-path", str(write_jsonl(tmp_path / "rows.jsonl", rows)))
    tab.click("#st-data-open")
    tab.wait_for_selector(".st-asks", timeout=60_000)
    tab.select_option("[aria-label='What the column alpha is']", "prompt")
    tab.wait_for_selector(":is(.st-tokens, .st-pill:text('not whole yet'))", timeout=60_000)
    tab.select_option("[aria-label='What the column beta is']", "completion")
    tab.wait_for_selector(".st-tokens .st-learned", timeout=60_000)
    assert "as you mapped it" in tab.inner_text(".st-file")
    tab.click("text=Write rows by hand")
    for cell, text in ((0, "Who are you?"), (1, "I am Ada.")):
        _write(tab, f"#st-hand-2 [data-testid=cell-0-{cell}]", text)
    tab.wait_for_timeout(500)
    tab.click("#st-hand-save")
    tab.wait_for_selector("text=my-rows.jsonl", timeout=60_000)
    (path,) = (home / "data").iterdir()
    assert json.loads(path.read_text("utf-8")) == {"prompt": "Who are you?", "completion": "I am Ada."}
    tab.wait_for_selector(".st-rows :text('I am Ada.')")
    assert not tab.is_visible("#st-hand-save")
    tab.click("#st-data-use:enabled", timeout=60_000)
    tab.wait_for_selector("text=Next: Train")
    assert used()["file"] == str(path)
