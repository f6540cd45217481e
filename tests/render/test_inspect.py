"""The child behind the data page: rows as the model sees them, pages of rows, and how it stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio.child import Child
from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Text
from studio.errors import DataError, StudioError
from studio.render import encode, inspect, rows, show
from studio.render.encode import IGNORE, Renderer

USER, ANSWER = Message("user", "What do cows eat?"), Message("assistant", "Cows eat grass.")


@pytest.fixture(scope="module")
def renderer(tiny: Path) -> Renderer:
    return encode.load(tiny)


def ask(**request: Any) -> dict[str, Any]:
    (*_, last) = inspect.handle(request, lambda: False)
    return last


def said(side: dict[str, Any], name: str) -> str:
    return "".join(piece["text"] for piece in side["pieces"] if piece.get(name))


def test_a_row_shows_all_its_tokens_and_which_are_learned(renderer: Renderer) -> None:
    found = show.row(renderer, Conversation((USER, ANSWER), 7))
    side = found["sides"]["text"]
    whole = renderer.conversation((USER, ANSWER))
    assert [token for piece in side["pieces"] for token in piece["ids"]] == whole.ids
    assert "".join(piece["text"] for piece in side["pieces"]) == whole.text
    assert said(side, "learned") == "Cows eat grass.<|im_end|>" and said(side, "end_of_turn") == "<|im_end|>"
    assert (found["line"], found["parts"], found["left_out"], side["dropped"]) == (7, 1, "", 0)
    assert side["learned"] == sum(label != IGNORE for label in whole.labels)


def test_a_character_of_several_tokens_is_one_piece(renderer: Renderer) -> None:
    found = show.row(renderer, Conversation((USER, Message("assistant", "Moo 🐄!"))))
    pieces = found["sides"]["text"]["pieces"]
    (cow,) = [piece for piece in pieces if "🐄" in piece["text"]]
    assert len(cow["ids"]) > 1 and cow["learned"]
    assert sum(len(piece["ids"]) for piece in pieces) == found["sides"]["text"]["count"]


def test_what_had_to_go_is_struck_out_and_not_counted(renderer: Renderer) -> None:
    talk = (Message("user", "An old question that is long."), Message("assistant", "An old answer."), USER, ANSWER)
    short = len(renderer.conversation((USER, ANSWER)).ids)
    whole = len(renderer.conversation(talk).ids)
    found = show.row(renderer, Conversation(talk), max_length=short)
    side = found["sides"]["text"]
    assert "old question" in said(side, "dropped") and "cows" not in said(side, "dropped")
    assert side["count"] == short and side["dropped"] == whole - short and not found["left_out"]
    assert said(side, "learned") == "Cows eat grass.<|im_end|>"


def test_a_row_that_never_fits_is_shown_whole_and_called_left_out(renderer: Renderer) -> None:
    found = show.row(renderer, Conversation((USER, ANSWER)), max_length=4)
    assert found["left_out"] == "too_long" and "Cows eat grass." in said(found["sides"]["text"], "learned")


def test_a_long_text_becomes_several_rows_that_follow_each_other(renderer: Renderer) -> None:
    text = "The capital of France is Paris. The capital of Japan is Tokyo. " * 4
    whole = renderer.encode([encode.plans(renderer, Text(text))[0]["text"]])[0]
    first = show.row(renderer, Text(text), max_length=10)
    assert first["parts"] == -(-len(whole.ids) // 10)
    shown = [show.row(renderer, Text(text), max_length=10, part=part) for part in range(first["parts"])]
    pieces = [piece for found in shown for piece in found["sides"]["text"]["pieces"]]
    assert "".join(piece["text"] for piece in pieces) == whole.text
    assert all(piece.get("learned") for piece in pieces)


def test_a_pair_is_two_sides_with_what_they_share(renderer: Renderer) -> None:
    found = show.row(renderer, Preference((USER,), (ANSWER,), (Message("assistant", "Meat."),)))
    chosen, rejected = found["sides"]["chosen"], found["sides"]["rejected"]
    assert said(chosen, "learned") == "Cows eat grass.<|im_end|>" and said(rejected, "learned") == "Meat.<|im_end|>"
    shared = [[t for p in side["pieces"] for t in p["ids"]][: found["common_prefix"]] for side in (chosen, rejected)]
    assert shared[0] == shared[1] and found["common_prefix"] >= len(renderer.prompt([USER]))


def test_a_rated_answer_carries_its_label_and_a_prompt_its_opening(renderer: Renderer) -> None:
    rated = show.row(renderer, Rated((USER,), (ANSWER,), False))
    assert rated["label"] is False and said(rated["sides"]["completion"], "learned").startswith("Cows")
    side = show.row(renderer, Prompt((USER,)))["sides"]["prompt"]
    assert side["learned"] == 0 and said(side, "opening") == "<|im_start|>assistant\n"


def test_a_very_long_row_is_sent_from_its_two_ends(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "SHOWN", 5)
    pieces = show.row(renderer, Conversation((USER, ANSWER)))["sides"]["text"]["pieces"]
    count = len(renderer.conversation((USER, ANSWER)).ids)
    assert len(pieces) == 11 and pieces[5] == {"gap": count - 10}


def test_the_command_line_gets_text_ids_labels_and_share(tiny: Path, tmp_path: Path) -> None:
    sft = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "What do cows eat?", "completion": "Cows eat grass."}] * 4)
    made = ask(op="preview", data=str(sft), model=str(tiny), n=3)["rows"]
    assert len(made) == 3
    row = made[0]
    trained = [label for label in row["labels"] if label != -100]
    assert len(row["ids"]) == len(row["labels"]) and trained == [
        i for i, label in zip(row["ids"], row["labels"], strict=True) if label != -100
    ]
    assert row["trained_share"] == pytest.approx(len(trained) / len(row["ids"]))
    assert row["marked"].replace("⟦", "").replace("⟧", "") == row["text"]
    assert "⟦Cows eat grass.<|im_end|>⟧" in row["marked"]
    kto = [{"prompt": "Hi?", "completion": "Hello.", "label": n % 2 == 0} for n in range(4)]
    rated = ask(op="preview", data=str(write_jsonl(tmp_path / "k.jsonl", kto)), model=str(tiny), n=2)["rows"]
    assert [row["label"] for row in rated] == [True, False]
    pairs = [{"prompt": "Hi?", "chosen": "Hello.", "rejected": "What?"}]
    (pair,) = ask(op="preview", data=str(write_jsonl(tmp_path / "p.jsonl", pairs)), model=str(tiny))["rows"]
    assert set(pair) == {"chosen", "rejected", "common_prefix"}
    assert pair["chosen"]["ids"][: pair["common_prefix"]] == pair["rejected"]["ids"][: pair["common_prefix"]]


@pytest.mark.parametrize("request_", [{"op": "preview", "n": 0}, {"op": "measure", "max_length": -5}])
def test_a_number_of_rows_or_tokens_below_one_is_refused(tiny: Path, tmp_path: Path, request_: dict[str, Any]) -> None:
    file = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "Hi?", "completion": "Hello."}])
    with pytest.raises(StudioError, match="less than 1") as caught:
        ask(data=str(file), model=str(tiny), **request_)
    assert caught.value.exit_code == 2 and caught.value.remedy


def test_a_preview_of_a_bad_file_names_the_line(tiny: Path, tmp_path: Path) -> None:
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"prompt": "Hi?", "completion": ""}])
    with pytest.raises(DataError) as caught:
        ask(op="preview", data=str(bad), model=str(tiny))
    assert caught.value.line == 1 and caught.value.field == "completion" and caught.value.remedy


@pytest.fixture
def many(tmp_path: Path) -> Path:
    made: list[dict[str, object]] = [
        {"prompt": f"Question {i}", "completion": "x" * (i % 7 + 1) + (" needle" if i % 40 == 3 else "")}
        for i in range(130)
    ]
    return write_jsonl(tmp_path / "many.jsonl", made)


def test_rows_come_fifty_a_page_in_any_order(many: Path) -> None:
    last = ask(op="rows", data=str(many), page=2)
    assert (last["total"], last["pages"], len(last["rows"])) == (130, 3, 30)
    assert [row["index"] for row in last["rows"]] == list(range(100, 130)) and last["rows"][0]["line"] == 101
    longest = ask(op="rows", data=str(many), sort="longest")["rows"]
    sizes = [row["characters"] for row in longest]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == len("Question 83") + len("xxxxxxx needle")
    assert ask(op="rows", data=str(many), sort="shortest")["rows"][0]["prompt"] == "Question 0"
    assert ask(op="rows", data=str(many), page=99)["page"] == 2


def test_rows_are_found_by_text_and_by_line(many: Path) -> None:
    found = ask(op="rows", data=str(many), contains="NEEDLE")
    assert [row["index"] for row in found["rows"]] == [3, 43, 83, 123]
    both = ask(op="rows", data=str(many), contains="needle", lines=[4, 5, 124])
    assert [row["line"] for row in both["rows"]] == [4, 124]
    assert ask(op="rows", data=str(many), contains="nowhere")["total"] == 0


def test_a_search_says_when_there_are_more(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "FOUND", 10)
    found = ask(op="rows", data=str(many), contains="question")
    assert found["total"] == 10 and found["more"]


def test_a_row_is_found_by_its_line_though_bad_lines_stand_before_it(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = [json.dumps({"prompt": f"Question {i}", "completion": "Yes."}) for i in range(3)]
    path.write_text("\n".join([good[0], "{broken", good[1], good[2]]) + "\n", "utf-8")
    row = ask(op="row", data=str(path), model=str(tiny), line=3)
    assert row["index"] == 1 and row["line"] == 3
    with pytest.raises(DataError, match="There is no row 9"):
        ask(op="row", data=str(path), model=str(tiny), index=8)


def test_held_out_rows_are_counted_with_their_prompts(tmp_path: Path) -> None:
    twice = [{"prompt": f"Question {i // 2}", "completion": f"Answer {i}."} for i in range(80)]
    found = ask(op="split", data=str(write_jsonl(tmp_path / "a.jsonl", twice)), held_out=0.1, seed=0)
    assert found["rows"] == 80 and found["held_out"] == 2 * found["prompts"] > 0
    assert ask(op="split", data=str(tmp_path / "a.jsonl"), held_out=0.0, seed=0)["held_out"] == 0


def test_the_first_rows_say_what_a_mapping_makes_of_them(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"alpha": f"one {i}", "beta": f"two {i}"} for i in range(9)])
    found = ask(op="detect", data=str(path), reading={"mapping": {"alpha": "prompt", "beta": "completion"}})
    assert found["columns"] == ["alpha", "beta"] and found["raw"][0] == {"alpha": "one 0", "beta": "two 0"}
    assert found["kind"] == "sft" and [turn["role"] for turn in found["read"][0]["turns"]] == ["user", "assistant"]
    half = ask(op="detect", data=str(path), reading={"mapping": {"alpha": "chosen"}})
    assert half["problem"]["remedy"] and half["read"] == [] and half["columns"] == ["alpha", "beta"]


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    assert ask(op="check", data=str(path))["rows"] == 1
    write_jsonl(path, [{"prompt": "a", "completion": "b"}] * 3)
    assert ask(op="check", data=str(path))["rows"] == 3


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child("studio.render.inspect:handle")
    yield made
    made.close()


def test_a_long_check_tells_how_far_it_is_and_stops_when_nobody_listens(child: Child, tmp_path: Path) -> None:
    line = json.dumps({"prompt": "What?", "completion": "word " * 200}) + "\n"
    path = tmp_path / "long.jsonl"
    path.write_text(line * 30_000, "utf-8")
    stream = child.stream({"op": "check", "data": str(path)})
    first = next(stream)
    assert first["progress"]["total"] > first["progress"]["done"] >= 0
    stream.close()  # type: ignore[attr-defined]
    small = write_jsonl(tmp_path / "small.jsonl", [{"prompt": "a", "completion": "b"}])
    assert child.ask({"op": "check", "data": str(small)}, timeout=20)["rows"] == 1


def test_a_hostile_file_is_an_answer_and_the_child_lives_on(child: Child, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for content in (b"", b"\xff\xfe{\0}", b"[" * 20_000, b'{"a": NaN}', b"\0\0\0\0", b'{"prompt": 1}'):
        path.write_bytes(content)
        try:
            found = child.ask({"op": "check", "data": str(path)}, timeout=30)
            assert not found["ok"], content
        except StudioError as error:
            assert error.remedy and type(error) is not StudioError and "Traceback" not in error.message, content
    pid = child.pid
    assert pid is not None and child.ask({"op": "detect", "data": str(path)}, timeout=30)["columns"] == ["prompt"]
    assert child.pid == pid
