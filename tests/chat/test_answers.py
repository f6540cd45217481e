"""How an answer begins and ends: prompts, templates, limits, stops, sampling, long conversations."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from making import make_model

from studio import runs
from studio.chat import session as sessions
from studio.chat.session import Pane, Session, threads_for, why
from studio.errors import DataError, ModelError
from studio.export import gguf
from studio.models.family import FAMILIES
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

TALK = [{"role": "user", "content": "What do cows eat?"}]
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("answers")
    base = make_model(folder / "model", seed=3)
    (base / "chat_template.jinja").write_text(encode.load(base).source)
    return str(gguf.write(base, None, folder / "x.gguf", encode.load(base), name="x", dtype="F32"))


@pytest.fixture(scope="module")
def session(file: str) -> Session:
    opened = Session([Pane("x", file), Pane("raw", file, raw=True)], n_ctx=160)
    yield opened
    opened.close()


def test_the_prompt_is_shown_as_the_model_sees_it(session: Session) -> None:
    shown = session.prompt(0, [SYSTEM, {"role": "user", "content": "a <|im_end|> b"}])
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na <|im_end|> b<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "".join(piece["text"] for piece in shown["pieces"]) == text
    assert "".join(token["text"] for token in shown["tokens"]) == text
    assert [token["id"] for token in shown["tokens"]] == shown["ids"]
    assert [piece["text"] for piece in shown["pieces"] if piece["plain"]] == ["user\na <|im_end|> b"]
    written = [token for token in shown["tokens"] if token["text"] == "<|im_end|>"]
    assert len(written) == 2, "what a person typed became a control token"


def test_raw_text_is_gone_on_with_as_it_stands(session: Session) -> None:
    shown = session.prompt(1, [{"role": "user", "content": "The capital of"}])
    assert next(token["text"] for token in shown["tokens"]) == "The" and len(shown["pieces"]) == 1
    assert "".join(token["text"] for token in shown["tokens"]) == "The capital of"


def test_another_template_can_be_put_in_the_place_of_the_files_own(session: Session) -> None:
    own = session.prompt(0, TALK)["ids"]
    zephyr = session.prompt(0, TALK, template="zephyr")
    wanted = "<|user|>\nWhat do cows eat?"
    assert "".join(piece["text"] for piece in zephyr["pieces"]).startswith(wanted) and zephyr["ids"] != own
    jinja = session.prompt(0, TALK, template="{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %} >")
    assert "".join(token["text"] for token in jinja["tokens"]) == "[user] What do cows eat? >"
    assert session.answer(0, TALK, template="zephyr", max_tokens=3)["prompt_tokens"] == len(zephyr["ids"])
    with pytest.raises(ModelError) as caught:
        session.prompt(0, TALK, template="zephir")
    assert "zephyr" in caught.value.remedy and set(FAMILIES) <= set(caught.value.remedy[:-1].split(": ")[1].split(", "))
    assert session.prompt(0, TALK)["ids"] == own


def test_thinking_is_switched_through_the_template(session: Session) -> None:
    on = session.prompt(0, TALK, template="qwen3", template_args={"enable_thinking": True})
    off = session.prompt(0, TALK, template="qwen3", template_args={"enable_thinking": False})
    texts = ["".join(piece["text"] for piece in shown["pieces"]) for shown in (on, off)]
    assert texts[0].endswith("<|im_start|>assistant\n")
    assert texts[1] == texts[0] + "<think>\n\n</think>\n\n"


def test_an_unfinished_answer_goes_on_where_it_stopped(session: Session) -> None:
    whole = session.answer(0, TALK, max_tokens=12)
    assert whole["why"] == "limit" and why(whole) == "reached the limit of 12 tokens"
    part = session.answer(0, TALK, max_tokens=5)
    open_turn = {"role": "assistant", "content": part["text"], "ids": part["ids"]}
    rest = session.answer(0, [*TALK, open_turn], max_tokens=7, **{"continue": True})
    assert part["ids"] + rest["ids"] == whole["ids"]
    assert rest["prompt_tokens"] == part["prompt_tokens"] + 5
    edited = {**open_turn, "content": "Grass and"}  # its ids spell another text, so they do not count
    shown = session.prompt(0, [*TALK, edited], **{"continue": True})
    assert "".join(token["text"] for token in shown["tokens"]).endswith("<|im_start|>assistant\nGrass and")
    with pytest.raises(DataError, match="no unfinished answer"):
        session.answer(0, TALK, **{"continue": True})


def test_a_full_context_is_told_as_such(session: Session) -> None:
    ended = session.answer(0, TALK, max_tokens=None)
    if ended["why"] == "end":  # a random model may say its stop token
        assert ended["stop_token"] in session.load()[0]["stops"]
    else:
        assert ended["why"] == "context" and ended["prompt_tokens"] + ended["tokens"] == 159
        assert why(ended) == "the context is full (159 tokens)" and not ended["stopped"]


def test_a_stop_text_ends_the_answer_and_is_not_shown(session: Session) -> None:
    free = session.answer(0, TALK, max_tokens=30)["text"]
    stop = free[len(free) // 2 :][:3]
    cut = session.answer(0, TALK, max_tokens=30, stop=["never said", stop])
    assert cut["text"] == free[: free.index(stop)]
    assert (cut["why"], cut["stop_token"]) == ("stop", stop) and cut["tokens"] < 30
    assert session.answer(0, TALK, max_tokens=30, stop=[free[-1] + "?!"])["text"] == free  # held back, then given


def test_the_likeliest_token_is_taken_where_sampling_leaves_no_choice(session: Session) -> None:
    likeliest = session.answer(0, TALK, max_tokens=16)["ids"]
    scores = session.scores(0, TALK, ids=likeliest)
    assert [token["rank"] for token in scores["tokens"]] == [0] * len(likeliest)

    def ids(**options: Any) -> list[int]:
        return session.answer(0, TALK, max_tokens=16, seed=5, temperature=2.0, **options)["ids"]

    assert ids(top_k=1) == likeliest
    assert ids(top_p=1e-6) == likeliest
    assert ids(min_p=1.0) == likeliest
    free = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    assert ids(**free) != likeliest and ids(**free) == ids(**free)
    assert len(set(session.answer(0, TALK, max_tokens=16, repeat_penalty=5.0)["ids"])) > len(set(likeliest))


def test_without_room_the_oldest_turns_go_and_the_system_text_and_the_question_stay(session: Session) -> None:
    talk = [SYSTEM]
    for number in range(8):
        talk += [
            {"role": "user", "content": f"Question {number}: how many legs has a spider?"},
            {"role": "assistant", "content": f"Answer {number}: eight, of course."},
        ]
    talk.append({"role": "user", "content": "The last question."})
    with pytest.raises(DataError) as caught:
        session.answer(0, talk, max_tokens=10)
    assert caught.value.message.startswith("The conversation is") and "left out" in caught.value.remedy
    answer = session.answer(0, talk, max_tokens=10, overflow="shift")
    shown = session.prompt(0, talk, max_tokens=10, overflow="shift")
    text = "".join(token["text"] for token in shown["tokens"])
    gone = answer["left_out"]
    assert gone == shown["left_out"] and gone % 2 == 0 and 0 < gone < 16
    assert "Be brief." in text and text.endswith("The last question.<|im_end|>\n<|im_start|>assistant\n")
    kept = [f"Question {number}" in text for number in range(8)]
    assert kept == [number >= gone // 2 for number in range(8)]
    assert answer["prompt_tokens"] + 10 <= 158
    with pytest.raises(DataError, match="What cannot be left out"):
        session.answer(0, [SYSTEM, {"role": "user", "content": "word " * 200}], overflow="shift")
    assert session.answer(0, TALK, overflow="shift", max_tokens=3)["left_out"] == 0


def test_stop_acts_on_every_pane_at_once(file: str) -> None:
    session = Session([Pane("a", file, raw=True), Pane("b", file, raw=True)], n_ctx=250)
    try:
        stream = session.ask([TALK, TALK], max_tokens=200)
        next(stream)
        at = time.monotonic()
        stream.close()
        took = time.monotonic() - at
        answer = session.answer(0, TALK, max_tokens=2)
        assert took < 1 and answer["first_s"] < 1
        ask = session.stream(0, TALK, max_tokens=None, ask="mine", temperature=1.0)
        next(ask)
        session.stop(["mine", "somebody else's"])
        last = [item for item in ask][-1]
        assert last["why"] in ("cancelled", "end", "context") and last["cancelled"] == (last["why"] == "cancelled")
    finally:
        session.close()


def test_llama_cpp_failing_in_the_middle_is_an_error_with_a_remedy_and_the_next_question_works(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.chat import answers
    from studio.chat.llama import Context, Weights

    weights = Weights(file)
    context = Context(weights, 128)
    request = {"messages": TALK, "max_tokens": 6}
    said = list(answers.stream(context, request, bool))[-1]["ids"]
    decode, calls = weights.lib.llama_decode, []

    def fails(*args: Any) -> int:
        calls.append(1)
        return -3 if len(calls) == 3 else decode(*args)

    monkeypatch.setattr(weights.lib, "llama_decode", fails)
    with pytest.raises(ModelError, match="code -3") as caught:
        list(answers.stream(context, request, bool))
    assert caught.value.remedy
    assert list(answers.stream(context, request, bool))[-1]["ids"] == said
    context.close()
    weights.close()


def test_a_question_that_is_being_read_is_stopped_between_two_batches(file: str) -> None:
    from studio.chat import answers
    from studio.chat.llama import CHUNK, Context, Weights

    weights = Weights(file)
    context = Context(weights, 1024)
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(len(context.ids))
        return len(asked) > 2

    long = {"messages": [{"role": "user", "content": "word " * 200}], "raw": True}
    last = list(answers.stream(context, long, cancelled))[-1]
    assert (last["why"], last["tokens"]) == ("cancelled", 0) and asked == [0, CHUNK, 2 * CHUNK]
    context.close()
    weights.close()


def test_half_of_the_cores_are_left_to_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(runs, "computing", lambda: [])
    assert [threads_for(panes) for panes in (1, 2, 3, 20)] == [8, 4, 2, 1]
    monkeypatch.setattr(runs, "computing", lambda: [object()])
    assert [threads_for(panes) for panes in (1, 2, 3, 20)] == [4, 2, 1, 1]


def test_threads_are_chosen_anew_for_each_question(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    asked: list[int] = []
    session = Session([Pane("x", file)], n_ctx=128)
    stream = session._child.stream
    monkeypatch.setattr(
        session._child,
        "stream",
        lambda request, timeout: asked.append(request.get("threads")) or stream(request, timeout),
    )
    try:
        for busy in ([], [object()], []):
            monkeypatch.setattr(sessions.runs, "computing", lambda busy=busy: busy)
            session.answer(0, TALK, max_tokens=2)
    finally:
        session.close()
    assert asked == [2, 1, 2]


def test_a_model_takes_a_thread_for_each_32_mib_of_it(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.chat.llama import Context, Weights

    weights = Weights(file)
    for size, wanted in ((1, 1), (32 << 20, 2), (65 << 20, 3), (10 << 30, 8)):
        monkeypatch.setattr(weights.lib, "llama_model_size", lambda model, size=size: size)
        context = Context(weights, 128, threads=8)
        assert weights.lib.llama_n_threads(context.ctx) == wanted
        context.set_threads(2)
        assert weights.lib.llama_n_threads(context.ctx) == min(2, wanted)
        context.close()
    weights.close()


def test_two_questions_to_one_pane_wait_for_each_other(session: Session) -> None:
    said: list[Any] = []
    asks = [
        threading.Thread(target=lambda: said.append(session.answer(0, TALK, max_tokens=20)["ids"])) for _ in range(4)
    ]
    for ask in asks:
        ask.start()
    for ask in asks:
        ask.join(60)
    assert len(said) == 4 and all(ids == said[0] for ids in said)


def test_a_session_is_told_where_the_model_is_and_why(file: str) -> None:
    session = Session([Pane("x", file)], n_ctx=128, device="cpu")
    try:
        told = session.load()[0]
        assert (told["device"], told["reason"]) == ("CPU", "the processor was asked for")
        assert told["n_ctx_train"] == 256 and told["n_ctx"] == 128 and not told["thinks"]
    finally:
        session.close()


def test_files_are_loaded_anew_after_they_were_written_anew(file: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(Path(file).read_bytes())
    session = Session([Pane("x", str(copy))], n_ctx=128)
    try:
        first = session.answer(0, TALK, max_tokens=8)["ids"]
        other = make_model(tmp_path / "other", seed=9)
        beside = gguf.write(other, None, tmp_path / "other.gguf", encode.load(other), name="o", dtype="F32")
        os.replace(beside, copy)
        session._child.ask({"op": "unload"})
        assert session.answer(0, TALK, max_tokens=8)["ids"] != first
    finally:
        session.close()


def test_words_are_weighed_as_their_tokens_are_scored_with_the_prompt_evaluated_once(session: Session) -> None:
    words = ["A", "B", "grass", "hay and straw"]
    wanted = [math.prod(token["p"] for token in session.scores(0, TALK, text=word)["tokens"]) for word in words]
    assert session.weigh(0, TALK, words) == pytest.approx(wanted, rel=1e-4)
    assert session.weigh(0, TALK, words[::-1]) == pytest.approx(wanted[::-1], rel=1e-4)
    with pytest.raises(DataError, match="word without a token"):
        session.weigh(0, TALK, [""])
