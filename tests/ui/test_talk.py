"""Two panes and one engine: answers are kept whoever listens, can be stopped and gone on with, and an error is an
answer too."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spoken

from studio import paths, runs, trash
from studio.errors import InputError, ModelError
from studio.ui import chatacts, chatkept, chatopen, chatpick, chatprep, chatset, chattalks, chatview, choice, live, talk
from studio.ui.chatopen import Who

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture
def run(trained: Path, home: Path) -> Iterator[runs.Run]:
    yield spoken.copy(trained, home)
    talk.unload()


def now(**asked: Any) -> Who:
    return Who.now(live.look(), chatset.Asked(**asked))


def endless(tokens: int) -> Who:
    """Ask for long answers: at no strength the adapter's pane does not stop by itself, as the base does not."""
    choice.update(chat={"strengths": [1.0, 0.0]})
    return now(max_tokens=tokens)


def said(text: str, who: Who | None = None, before: Any = ()) -> list[talk.Turn]:
    return list(talk.answer([*before, {"user": text, "seed": 0}], who or now(max_tokens=12)))[-1]


def until(what: Any) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_both_panes_grow_together_on_one_copy_and_are_kept(run: runs.Run) -> None:
    together = False
    for turns in talk.answer([{"user": "1 + 1?", "seed": 0}], endless(600)):
        answers, stats = turns[0]["answers"], turns[0]["stats"]
        together = together or (all(answers) and not any(stats))
    assert together, "one pane waited for the other"
    assert not talk.busy() and talk.turns() == turns
    base, tuned = turns[0]["who"]
    assert base["sha256"] == tuned["sha256"] and tuned["strength"] == 0 and not base["adapter"] and base["raw"]
    assert "one copy of the weights" in chatview.copies(live.look())


def test_hashes_are_those_of_the_files(run: runs.Run) -> None:
    import hashlib

    (turn,) = said("Hi")
    found = chatopen.known(turn["who"][1])
    gguf, adapter = (hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12] for path in turn["who"][1]["paths"])
    assert (found["sha256"], found["adapter_sha256"]) == (gguf, adapter) and "paths" not in found


def test_a_tab_that_is_sent_the_pieces_does_not_look_for_itself(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has drawn the last piece; one that never says so looks again some seconds after the answer's end."""
    assert not talk.hears("tab")
    talk.hear("tab")
    answering = talk.answer([{"user": "Hi", "seed": 0}], now(max_tokens=12))
    next(answering)
    assert talk.hears("tab") and not talk.hears("other")
    list(answering)
    assert talk.hears("tab") and not talk.busy()
    later = time.monotonic() + 60
    with monkeypatch.context() as clock:
        clock.setattr(time, "monotonic", lambda: later)
        assert not talk.hears("tab")
    talk.heard("tab")
    assert not talk.hears("tab")


def test_a_listener_that_leaves_loses_nothing(run: runs.Run) -> None:
    answering = talk.answer([{"user": "Hi", "seed": 0}], endless(300))
    next(answering)
    answering.close()
    assert talk.busy()
    with pytest.raises(InputError, match="still being given"):
        next(talk.answer([{"user": "Again", "seed": 0}], now()))
    until(lambda: not talk.busy())
    assert all(talk.turns()[0]["answers"]) and all(told["tokens"] for told in talk.turns()[0]["stats"])


def test_stop_ends_both_and_what_is_there_can_be_gone_on_with(run: runs.Run) -> None:
    answering = talk.answer([{"user": "Hi", "seed": 0}], endless(1900))
    until(lambda: all(next(answering)[0]["answers"]))
    talk.stop()
    (turn,) = list(answering)[-1]
    assert [told["why"] for told in turn["stats"]] == ["cancelled"] * 2
    assert all(told["tokens"] < 1900 for told in turn["stats"])
    assert "stopped by you" in chatview.body(1, live.look(), [turn]) and talk.unfinished(turn, 1)
    before, had, other = turn["answers"][1], turn["stats"][1]["tokens"], turn["answers"][0]
    (turn,) = list(talk.answer([turn], endless(9), only=1))[-1]
    assert turn["answers"][1].startswith(before) and turn["answers"][0] == other
    assert turn["stats"][1]["tokens"] == had + 9 == len(turn["stats"][1]["ids"])


def test_an_answer_that_went_on_is_the_one_given_at_once(run: runs.Run) -> None:
    (whole,) = said("2 + 1?", endless(20))
    (half,) = said("2 + 1?", endless(8))
    (both,) = list(talk.answer([half], endless(12), only=1))[-1]
    assert both["stats"][1]["ids"] == whole["stats"][1]["ids"] and both["answers"][1] == whole["answers"][1]


def test_what_has_ended_cannot_be_gone_on_with() -> None:
    turn = {"user": "Hi", "answers": ["a", "b"], "stats": [{"why": "end", "ids": [1]}, {"error": {"message": "x"}}]}
    assert not talk.unfinished(turn, 0) and not talk.unfinished(turn, 1)


def test_a_refused_file_is_said_in_its_pane_and_the_other_one_answers(run: runs.Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\0" * 100)
    choice.update(chat={"files": [str(bad)], "left": f"file:{bad}"})
    (turn,) = said("Hi")
    assert turn["stats"][0]["error"]["remedy"] and turn["stats"][1]["tokens"]
    shown = chatview.body(0, live.look(), [turn])
    assert 'role="alert"' in shown and "What to do" in shown and not talk.busy()


def test_an_engine_that_dies_is_an_error_and_the_next_question_works(run: runs.Run) -> None:
    answering = talk.answer([{"user": "Hi", "seed": 0}], endless(1900))
    until(lambda: all(next(answering)[0]["answers"]))
    opened = chatopen.opened()
    assert opened is not None
    os.kill(opened.session._child.pid, signal.SIGKILL)  # type: ignore[arg-type]
    (turn,) = list(answering)[-1]
    assert all("ended unexpectedly" in told["error"]["message"] for told in turn["stats"])
    (turn,) = said("Hi")
    assert all(told["tokens"] for told in turn["stats"])


def test_the_base_hears_only_the_question_and_the_tuned_one_all_that_it_said(run: runs.Run) -> None:
    first = {"user": "First?", "answers": ["one", "two"], "stats": [None, None]}
    failed = {"user": "Failed?", "answers": ["", "half an ans"], "stats": [None, {"error": {"message": "x"}}]}
    talk_ = [first, failed, {"user": "Second?", "system": "Be kind."}]
    assert [turn["content"] for turn in talk.history(talk_, 0, raw=True)] == ["Second?"]
    assert [turn["content"] for turn in talk.history(talk_, 1)] == ["Be kind.", "First?", "two", "Second?"]


def test_a_checkpoint_and_a_strength_change_who_answers(run: runs.Run) -> None:
    steps = [path.name for path in run.checkpoints()]
    assert len(steps) == 2
    (end,) = said("1 + 1?")
    chatpick.pick_step("right", steps[0])
    (early,) = said("1 + 1?")
    assert early["who"][1]["name"].endswith("step 4") and chatopen.opened() is not None
    hashes = {chatopen.known(turn["who"][1])["adapter_sha256"] for turn in (end, early)}
    assert len(hashes) == 2

    def likely(opened: chatopen.Opened) -> float:
        asked = [{"role": "user", "content": "1 + 1?"}]
        return opened.session.scores(opened.at(1), asked, ids=[100])["tokens"][0]["p"]

    before = talk.look(now(), likely)
    choice.update(chat={"strengths": [1.0, 0.5]})
    (weak,) = said("1 + 1?", Who.now(live.look(), chatset.Asked(max_tokens=12)))
    assert weak["who"][1]["strength"] == 0.5 and "× 0.5" in chatview.body(1, live.look(), [weak])
    assert abs(talk.look(now(), likely) / before - 1) > 0.01


def test_another_template_is_used_and_marked(run: runs.Run) -> None:
    said("Hi")
    choice.update(chat={"templates": ["", "llama3"]})
    who = now(max_tokens=4)

    def read(opened: chatopen.Opened) -> str:
        turns = [{"role": "user", "content": "Hi"}]
        return "".join(piece["text"] for piece in opened.session.prompt(opened.at(1), turns)["pieces"])

    assert "<|start_header_id|>" in talk.look(who, read)
    assert "Llama 3" in chatview.head(1, live.look()) and "not its own" in chatview.head(1, live.look())


def test_files_once_made_are_known_without_a_child_until_something_changes(
    run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = now().wanted(1)
    assert wanted is not None and chatprep.known(wanted) is None
    made = chatprep.make(wanted)
    monkeypatch.setattr(chatprep, "_borrowed", lambda: pytest.fail("a child was asked"))
    assert chatprep.make(wanted) == made == chatprep.known(wanted)
    weights = run.adapter / "adapter_model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert chatprep.known(wanted) is None


def test_a_run_that_goes_on_speaks_by_its_newest_checkpoint(run: runs.Run) -> None:
    """Its adapter folder is not there yet, so base and template come from what was asked."""
    import shutil

    shutil.rmtree(run.adapter)
    (run.dir / "events.jsonl").write_text('{"type": "started", "time": 1}\n{"type": "stopped", "time": 2}\n', "utf-8")
    source = chatpick.chosen(live.look())[1]
    assert source is not None and not source.whole and source.step == run.checkpoints()[-1].name
    (turn,) = said("1 + 1?")
    assert turn["stats"][1]["tokens"] and not turn["who"][1]["raw"]


def test_what_a_browser_sends_is_looked_up_and_never_a_path(run: runs.Run, tmp_path: Path) -> None:
    before = chatpick.chosen(live.look())
    chatpick.pick("left", f"file:{tmp_path / 'x.gguf'}")
    chatpick.pick("left", "run:../../etc")
    chatpick.pick("nowhere", "base")
    chatpick.pick_step("right", "../adapter")
    assert chatpick.chosen(live.look()) == before
    with pytest.raises(InputError, match="neither a file nor a folder"):
        chatpick.open_place("left", str(tmp_path / "none.gguf"), "")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    with pytest.raises(ModelError):
        chatpick.open_place("left", str(tmp_path / "bad.gguf"), "")
    said("Hi")
    (adapter,) = (paths.home() / "base").glob("*-lora.gguf")
    with pytest.raises(InputError, match="adapter"):
        chatpick.open_place("left", str(adapter), "")
    assert chatpick.chosen(live.look()) == before
    (whole,) = (paths.home() / "base").glob("*Q8_0.gguf")
    chatpick.open_place("left", str(whole), "")
    assert chatpick.chosen(live.look())[0].file == str(whole)  # type: ignore[union-attr]


def test_conversations_are_put_aside_forked_and_taken_up_again() -> None:
    turns = [{"user": f"{i}?", "answers": ["a", f"b{i}"], "stats": [None, None]} for i in range(3)]
    talk.keep(turns)
    chattalks.fork(2)
    assert talk.turns() == turns[:2]
    ((name, title),) = chattalks.listed()
    assert title == "0?, 3 questions"
    chattalks.take(name)
    assert talk.turns() == turns and [title for _, title in chattalks.listed()] == ["0?, 2 questions"]
    chattalks.begin()
    assert talk.turns() == [] and len(chattalks.listed()) == 2
    for wrong in ("../window", "none"):
        with pytest.raises(InputError):
            chattalks.take(wrong)
    with pytest.raises(InputError):
        chattalks.fork(1)


def test_settings_are_checked_and_said_as_they_count() -> None:
    values = {**dict.fromkeys(chatset.NAMES), **{f.name: f.default for f in chatset.FIELDS}}
    with pytest.raises(InputError, match="temperature"):
        chatset.read([*{**values, "temperature": "hot"}.values()])
    asked = chatset.read([*{**values, "temperature": "0.7", "leave_out_oldest": True, "thinking": "off"}.values()])
    options = chatset.options(asked, thinks=True)
    assert (options["temperature"], options["overflow"]) == (0.7, "shift")
    assert options["template_args"] == {"enable_thinking": False}
    assert "template_args" not in chatset.options(asked, thinks=False)
    line = " ".join(chatset.line(asked, "Be kind.", False))
    assert "temperature 0.7" in line and "top-p 0.95" in line and "with a system prompt" in line
    assert "top-p" not in " ".join(chatset.line(chatset.Asked(), "", False))


def test_an_earlier_conversation_gets_a_name_that_stays_with_it() -> None:
    talk.keep([{"user": "First?", "answers": ["a", "b"], "stats": [None, None]}])
    chattalks.begin()
    ((name, _),) = chattalks.listed()
    chattalks.rename(name, "  About \n firsts " + "x" * 200)
    ((same, title),) = chattalks.listed()
    assert same == name and title.startswith("About firsts xx") and len(title) == 80
    chattalks.take(name)
    assert talk.turns()[0]["user"] == "First?"
    chattalks.fork(1)
    ((name, again),) = chattalks.listed()
    assert again == title and "title" not in talk.turns()[0], "a fork is another conversation"
    chattalks.rename(name, " ")
    assert chattalks.listed()[0][1] == "First?"


def test_deleting_a_conversation_is_asked_first_and_can_be_taken_back() -> None:
    who = now()
    talk.keep([{"user": "<b>Secret</b>?", "answers": ["a", "b"], "stats": [None, None]}])
    chattalks.begin()
    ((name, _),) = chattalks.listed()
    assert chatkept.card(live.look()) == "" and chatkept.count() == 1
    chatacts.act({"do": "kept"}, who, "")
    with pytest.raises(InputError, match="Nothing was deleted"):
        chatacts.act({"do": "forget", "name": name}, who, "")
    chatacts.act({"do": "ask-kept", "value": name}, who, "")
    drawn = chatkept.card(live.look())
    assert "alertdialog" in drawn and "Move to the trash" in drawn and "<b>Secret" not in drawn
    chatacts.act({"do": "forget", "name": name}, who, "")
    assert chattalks.listed() == [] and chatkept.card(live.look()) == "" and chatkept.count() == 0
    (entry,) = trash.entries()
    assert entry.what == "chat: <b>Secret</b>?"
    trash.restore(entry.id)
    assert [kept[0] for kept in chattalks.listed()] == [name]
    chatacts.act({"do": "kept"}, who, "")
    for wrong in ("../window", "gone"):
        with pytest.raises(InputError, match="not there"):
            chatacts.act({"do": "ask-kept", "value": wrong}, who, "")
