"""Two panes and one session: answers are kept whoever listens, and an error is an answer too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.chat import session as sessions
from studio.errors import InputError, ModelError
from studio.ui import chatview, talk

BASE = talk.Source("base", "/base.gguf", True, "", "run")
TUNED = talk.Source("tuned", "/tuned.gguf", False, "abc", "run")


class Speaker:
    """Stands for the engine's session in these tests: says three words a pane, waiting to be let on."""

    made: list[Speaker] = []  # noqa: RUF012

    def __init__(self, panes: list[Any]) -> None:
        self.panes, self.asked, self.closed, self.on = panes, [], False, threading.Event()
        Speaker.made.append(self)

    def load(self) -> None:
        if any("broken" in pane.gguf for pane in self.panes):
            raise ModelError("llama.cpp cannot load it.", "Export it again.")

    def ask(self, histories: list[Any], **settings: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(histories)
        for word in ("one ", "two ", "three"):
            for pane in range(len(self.panes)):
                yield {"pane": pane, "text": word}
            self.on.wait(10)
        for pane in range(len(self.panes)):
            yield {"pane": pane, "done": True, "tokens": 3, "stopped": True, "stop_token": "<|im_end|>"}

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def speaker(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[type[Speaker]]:
    Speaker.made.clear()
    monkeypatch.setattr(sessions, "Session", Speaker)
    yield Speaker
    for made in Speaker.made:
        made.on.set()
    talk.unload()


def until(what: Any) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_both_panes_grow_and_are_kept(speaker: type[Speaker]) -> None:
    answering = talk.answer([{"user": "Hi"}], [BASE, TUNED], {})
    next(answering)
    until(lambda: talk.turns()[0]["answers"] == ["one ", "one "])
    speaker.made[0].on.set()
    (turn,) = list(answering)[-1]
    assert turn["answers"] == ["one two three"] * 2 and turn["stats"][0]["stopped"]
    assert not talk.busy() and talk.turns() == [turn]


def test_a_tab_that_is_sent_the_pieces_does_not_look_for_itself(
    speaker: type[Speaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it has drawn the last piece; one that never says so looks again some seconds after the answer's end."""
    assert not talk.hears("tab")
    talk.hear("tab")
    answering = talk.answer([{"user": "Hi"}], [BASE, TUNED], {})
    next(answering)
    assert talk.hears("tab") and not talk.hears("other")
    until(lambda: speaker.made)
    speaker.made[0].on.set()
    list(answering)
    assert talk.hears("tab") and not talk.busy()
    now = time.monotonic()
    with monkeypatch.context() as later:
        later.setattr(time, "monotonic", lambda: now + 60)
        assert not talk.hears("tab")
    talk.heard("tab")
    assert not talk.hears("tab")


def test_a_listener_that_leaves_loses_nothing(speaker: type[Speaker]) -> None:
    answering = talk.answer([{"user": "Hi"}], [BASE, TUNED], {})
    next(answering)
    until(lambda: speaker.made and speaker.made[0].asked)
    answering.close()
    assert talk.busy()
    with pytest.raises(InputError, match="still being given"):
        next(talk.answer([{"user": "Again"}], [BASE, TUNED], {}))
    speaker.made[0].on.set()
    until(lambda: not talk.busy())
    assert talk.turns()[0]["answers"][1] == "one two three"


def test_stop_ends_both_and_says_who_did_it(speaker: type[Speaker]) -> None:
    answering = talk.answer([{"user": "Hi"}], [BASE, TUNED], {})
    next(answering)
    until(lambda: talk.turns()[0]["answers"] == ["one ", "one "])
    talk.stop()
    speaker.made[0].on.set()
    (turn,) = list(answering)[-1]
    assert turn["stats"] == [{"by_user": True}] * 2
    assert "stopped by you" in chatview.pane(1, TUNED, [turn])


def test_a_file_that_cannot_be_loaded_is_said_in_the_panes() -> None:
    broken = talk.Source("x", "/broken.gguf", False, "", "run")
    (turn,) = list(talk.answer([{"user": "Hi"}], [None, broken], {}))[-1]
    assert turn["answers"][0] is None
    shown = chatview.pane(1, broken, [turn])
    assert "llama.cpp cannot load it." in shown and "Export it again." in shown and not talk.busy()


def test_files_are_loaded_once_and_the_base_hears_only_the_question(speaker: type[Speaker]) -> None:
    said: list[talk.Turn] = []
    for question in ("First?", "Second?"):
        answering = talk.answer([*said, {"user": question}], [BASE, TUNED], {})
        next(answering)
        until(lambda: speaker.made and speaker.made[0].asked)
        speaker.made[0].on.set()
        said = list(answering)[-1]
    (made,) = speaker.made
    base, tuned = made.asked[1]
    assert [m["content"] for m in base] == ["Second?"]
    assert [m["content"] for m in tuned] == ["First?", "one two three", "Second?"]
    talk.unload()
    assert made.closed
