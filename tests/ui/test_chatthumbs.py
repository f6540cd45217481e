"""Thumbs below open answers: whose answer to which conversation is kept, what Retry notes, what the page draws."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spoken

from studio import runs
from studio.data import preferences, thumbs
from studio.errors import DataError, InputError
from studio.ui import chatacts, chatset, chatthumbs, chatview, choice, live, talk
from studio.ui.chatopen import Who
from studio.ui.pages import chat

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
ASKED = chatset.Asked(max_tokens=12)


@pytest.fixture
def run(trained: Path, home: Path) -> Iterator[runs.Run]:
    yield spoken.copy(trained, home)
    talk.unload()


def ask(text: str, **more: Any) -> list[talk.Turn]:
    """Ask the engine."""
    return list(talk.answer([*talk.turns(), {"user": text, "seed": 0, **more}], Who.now(live.look(), ASKED)))[-1]


def buttons(index: int) -> list[dict[str, Any]]:
    """Give the messages of a pane's thumbs as the page has them, with whether each is pressed."""
    body = chatview.body(index, live.look(), talk.turns())
    found = re.findall(r'<button[^>]*st-thumb[^>]*data-st-send="([^"]*)"[^>]*aria-pressed="(\w+)"', body)
    return [{**json.loads(html.unescape(text)), "pressed": pressed == "true"} for text, pressed in found]


def press(index: int, number: int) -> None:
    chatacts.act(buttons(index)[number], Who.now(live.look(), ASKED), "")


def retry(asked: chatset.Asked = ASKED, system: str = "") -> None:
    values = dataclasses.astuple(asked)
    shown = list(chat.again(SimpleNamespace(session_hash="a tab"), "", system, *values))
    assert not [item[2] for item in shown if isinstance(item[2], str) and "role=" in item[2]], "an error was drawn"


def test_a_thumb_keeps_the_answer_its_conversation_and_who_gave_it(run: runs.Run) -> None:
    spoken.tell("1 + 1?", system="Be brief.")
    said = spoken.tell("2 + 2?")
    assert [len(buttons(index)) for index in (0, 1)] == [4, 4]
    press(1, 2)  # up, on the second answer of the right pane
    press(0, 1)  # down, on the first of the left one
    right, left = thumbs.found().values()
    asked = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": said[0]["answers"][1]}]
    assert right.prompt == [*asked, {"role": "user", "content": "2 + 2?"}] == talk.history(said, 1)
    assert right.answers[0].text == said[1]["answers"][1] and right.labels == [True]
    assert right.answers[0].identity["adapter_sha256"] == "bb" and "paths" not in right.answers[0].identity
    assert right.seed == 5 and (left.about["arm"], right.about["arm"]) == ("aa", "bb")
    assert left.prompt == [{"role": "user", "content": "1 + 1?"}]  # a base goes on with the text, each time afresh
    assert left.answers[0].text == said[0]["answers"][0] and left.labels == [False]
    assert [one["pressed"] for one in buttons(1)] == [False, False, True, False]
    rows = preferences.named("thumbs", "kto").read_text("utf-8").splitlines()
    assert [json.loads(row)["label"] for row in rows] == [True, False]


def test_a_thumb_is_changed_and_taken_back_and_is_still_there_when_the_conversation_is_taken_up(run: runs.Run) -> None:
    spoken.tell("1 + 1?")
    press(1, 0)
    press(1, 1)
    assert [record.labels for record in thumbs.found().values()] == [[False]]
    said = talk.turns()
    talk.keep([])
    assert buttons(1) == []
    talk.keep(said)
    assert [one["pressed"] for one in buttons(1)] == [False, True]
    press(1, 1)
    assert thumbs.found() == {} and not any(one["pressed"] for one in buttons(1))


def test_a_tab_that_shows_what_is_no_longer_there_puts_no_thumb_on_something_else(run: runs.Run) -> None:
    spoken.tell("1 + 1?")
    old = buttons(1)[0]
    talk.keep([])
    spoken.tell("5 + 5?")
    for message in (old, {**buttons(1)[0], "turn": 7}, {**buttons(1)[0], "turn": "0"}, {**old, "answer": ""}):
        with pytest.raises(InputError, match="not there any more"):
            chatacts.act(message, Who.now(live.look(), ASKED), "")
    with pytest.raises(InputError, match="no such pane"):
        chatacts.act({**buttons(1)[0], "pane": 2}, Who.now(live.look(), ASKED), "")
    assert thumbs.found() == {}


def test_blind_answers_unfinished_ones_and_errors_have_no_thumbs(run: runs.Run) -> None:
    spoken.tell("1 + 1?", blind={"order": [0, 1], "choice": "", "on": ""})
    assert buttons(0) == buttons(1) == []
    who = talk.turns()[0]["who"]
    for answers, stats in ((["", "x"], [{"tokens": 0}, None]), ([None, "x"], [None, {"error": {"message": "no"}}])):
        talk.keep([{"user": "1 + 1?", "answers": answers, "stats": stats, "who": who}])
        assert buttons(0) == buttons(1) == []


def test_the_same_answer_in_two_conversations_is_one_only_where_all_before_is_the_same(run: runs.Run) -> None:
    spoken.tell("1 + 1?")
    said = spoken.tell("2 + 2?")
    fork, other = chatthumbs.ids(said[:1], 1), chatthumbs.ids([{**said[0], "user": "3 + 3?"}, said[1]], 1)
    mine = chatthumbs.ids(said, 1)
    assert fork == mine[:1] and len({*mine, *other}) == 4
    base = chatthumbs.ids([{**said[0], "user": "3 + 3?"}, said[1]], 0)
    assert base[1] == chatthumbs.ids(said, 0)[1], "a base reads the question alone"
    for change in ({"system": "Be brief."}, {"answers": ["a", "b"]}):
        assert chatthumbs.ids([said[0], {**said[1], **change}], 1)[1] != mine[1]
    weaker = [said[1]["who"][0], {**said[1]["who"][1], "strength": 0.5}]
    assert chatthumbs.ids([said[0], {**said[1], "who": weaker}], 1)[1] != mine[1]


def test_retry_is_noted_where_the_same_model_is_asked_the_same_and_is_no_label(run: runs.Run) -> None:
    (first,) = ask("1 + 1?")
    assert chatthumbs.compared() == ""
    drawn = dataclasses.replace(ASKED, temperature=1.5, seed=1)
    press(1, 0)
    assert "SFT <b>1 of 1</b>" in chatthumbs.compared() and "Base: little <b>0 of 0</b>" in chatthumbs.compared()
    retry(drawn)
    assert "Asked again: 2." in chatthumbs.compared()
    noted = {record.answers[0].text: record for record in thumbs.found().values()}
    assert set(noted) == set(first["answers"]) and all(r.about["regenerated"] for r in noted.values())
    assert noted[first["answers"][1]].labels == [True] and noted[first["answers"][0]].labels == [None]
    assert len(preferences.rows("kto", list(thumbs.found().values()))) == 1
    assert not any(one["pressed"] for one in buttons(1)), "the new answer has no thumb yet"
    second = talk.turns()[0]
    assert second["seed"] == 1 and second["answers"] != first["answers"]
    choice.update(chat={"strengths": [1.0, 0.5]})  # to see what that does: only the left pane is asked the same again
    retry(drawn)
    assert talk.turns()[0]["seed"] == 2 and talk.turns()[0]["answers"][0] != second["answers"][0]
    assert len(thumbs.found()) == 3
    retry(drawn, system="Be brief.")
    assert len(thumbs.found()) == 3
    choice.update(chat={"left": f"run:{run.id}", "strengths": [0.5, 1.0]})
    ask("2 + 2?")
    assert "SFT, right <b>1 of 1</b>" in chatthumbs.compared()


def test_an_answer_is_given_again_also_where_that_cannot_be_noted(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise DataError("It could not be written: the disk is full.", "Make room.")

    said, scene = spoken.tell("1 + 1?"), live.look()
    who = Who.now(scene, ASKED)
    said[0]["who"] = [
        {**facts, "name": source.name} for facts, source in zip(said[0]["who"], who.sources, strict=True) if source
    ]
    told: list[str] = []
    monkeypatch.setattr(preferences, "add", full)
    monkeypatch.setattr(chatthumbs.log, "warning", lambda text, *about: told.append(text % about))
    chatthumbs.again(said, who)
    assert len(told) == 2 and "could not be noted: It could not be written" in told[0]


def test_the_bar_says_how_many_went_up_and_whether_one_is_liked_better() -> None:
    def judged(arm: str, label: bool | None, again: bool = False) -> preferences.Record:
        about = {"arm": arm, "conversation": "x", "regenerated": again}
        return preferences.Record([], [], labels=[label], about=about)

    one = [judged("SFT", True), judged("Base", None, True)]
    assert chatthumbs._said(one, ["Base", "SFT"]) == (
        '<span class="st-rate" role="status">Thumbs up: Base <b>0 of 0</b>, SFT <b>1 of 1</b> '
        '<span class="st-muted">Asked again: 1.</span></span>'
    )
    # by hand, confidence sequences at level 0.025: of 1 of 1 above 0.0125, of 0 of 1 below 0.9875
    both = chatthumbs._said([*one, judged("Base", False)], ["Base", "SFT"])
    assert "No difference is shown yet: Base against SFT -100 points (-100 to +98)." in both
    assert "against" not in chatthumbs._said([judged("<b>", True)], ["<b>"])
    assert "&lt;b&gt; <b>1 of 1</b>" in chatthumbs._said([judged("<b>", True)], ["<b>"])
