"""Two panes answer at the same time, through llama.cpp, in a process that may die without taking anything along."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from making import make_model

from studio.chat.session import Pane, Session
from studio.errors import ChildCrashed, ModelError, ToolMissing
from studio.export import gguf
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("gguf")
    made = []
    for seed in (0, 1):
        base = make_model(folder / f"model{seed}", seed=seed)
        (base / "chat_template.jinja").write_text(encode.load(base).source)
        made.append(str(gguf.write(base, None, folder / f"{seed}.gguf", encode.load(base), name=str(seed))))
    return made


@pytest.fixture
def session(files: list[str]) -> Session:
    made = Session([Pane("base", files[0], raw=True), Pane("tuned", files[1])], n_ctx=128)
    yield made
    made.close()


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_both_panes_stream_and_end(session: Session) -> None:
    together = 0
    for _ in range(5):  # so small a model may be through before the other pane's thread has begun
        items = list(session.ask([_user("Hello"), _user("Hello")], max_tokens=100))
        order = [item["pane"] for item in items if "text" in item]
        ends = {item["pane"]: item for item in items if item.get("done")}
        assert set(order) == {0, 1} == set(ends)
        assert all(end["tokens"] <= 100 and end["first_s"] > 0 for end in ends.values())
        last_of_first = len(order) - 1 - order[::-1].index(order[0])
        together += order.index(1 - order[0]) < last_of_first
    assert together, "the second pane always waited for the first to finish"


def test_the_same_seed_gives_the_same_answer_and_the_panes_differ(session: Session) -> None:
    asked = [session.answer(1, _user("Hello"), temperature=1.0, seed=7, max_tokens=12)["text"] for _ in range(2)]
    assert asked[0] == asked[1]
    assert session.answer(0, _user("Hello"), max_tokens=12)["text"] != asked[0]


def test_closing_the_stream_stops_the_engine_at_once(session: Session) -> None:
    stream = session.ask([_user("Hello"), _user("Hello")], max_tokens=100)
    next(stream)
    stream.close()
    answer = session.answer(1, _user("Again"), max_tokens=3)
    assert answer["tokens"] <= 3


def test_a_killed_engine_is_an_error_and_the_next_question_works(session: Session) -> None:
    stream = session.ask([_user("Hello"), _user("Hello")], max_tokens=100)
    next(stream)
    os.kill(session._child.pid, signal.SIGKILL)  # type: ignore[arg-type]
    errors = [item for item in stream if "error" in item]
    assert errors and all(item["error"]["kind"] == ChildCrashed.__name__ for item in errors)
    assert session.answer(0, _user("Hello"), max_tokens=3)["tokens"] <= 3


def test_a_file_that_is_no_model_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    session = Session([Pane("x", str(tmp_path / "bad.gguf"))])
    try:
        with pytest.raises((ModelError, ChildCrashed)) as caught:
            session.load()
        assert caught.value.remedy
    finally:
        session.close()


def test_a_conversation_longer_than_the_context_is_said(session: Session) -> None:
    items = list(session.ask([_user("word " * 300)] * 2, max_tokens=5))
    errors = [item["error"]["message"] for item in items if "error" in item]
    assert len(errors) == 2 and all(text.startswith("The conversation is") for text in errors)


def test_without_llama_cpp_one_line_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise ImportError('not built')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    broken = Session([Pane("x", __file__)])
    try:
        with pytest.raises(ToolMissing) as caught:
            broken.load()
        assert caught.value.remedy == "Install it with: ./run install"
    finally:
        broken.close()
