"""Formats are found by their rows and read right; what is wrong is named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio.data import dataset, split
from studio.data.records import Conversation, Message, Preference, Reading
from studio.errors import DataError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
SHARE = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
ANSWER = (Message("user", "Hi"), Message("assistant", "Hello."))


@pytest.mark.parametrize(
    ("row", "name", "expected"),
    [
        ({"messages": CHAT}, "messages", ANSWER),
        ({"conversations": CHAT}, "messages", ANSWER),
        ({"messages": [{**CHAT[0], "content": [{"type": "text", "text": "Hi"}]}, CHAT[1]]}, "messages", ANSWER),
        (
            {"messages": [CHAT[0], {**CHAT[1], "weight": 0}, *CHAT]},
            "messages",
            (ANSWER[0], Message("assistant", "Hello.", False), *ANSWER),
        ),
        ({"id": 7, "conversations": SHARE}, "sharegpt", ANSWER),
        ({"conversations": SHARE, "system": "Be kind."}, "sharegpt", (Message("system", "Be kind."), *ANSWER)),
        ({"instruction": "Hi", "input": "", "output": "Hello."}, "alpaca", ANSWER),
        (
            {"instruction": "Add", "input": "1, 2", "output": "3"},
            "alpaca",
            (Message("user", "Add\n\n1, 2"), Message("assistant", "3")),
        ),
        (
            {"instruction": "Hi", "input": "", "output": "Hello.", "history": [["A", "B"]]},
            "alpaca",
            (Message("user", "A"), Message("assistant", "B"), *ANSWER),
        ),
        ({"prompt": "Hi", "completion": "Hello."}, "prompt_completion", ANSWER),
        ({"prompt": [CHAT[0]], "completion": [CHAT[1]]}, "prompt_completion", ANSWER),
    ],
)
def test_a_conversation_is_read_from_every_format(
    tmp_path: Path, row: dict[str, Any], name: str, expected: tuple[Message, ...]
) -> None:
    found = dataset.load(write_jsonl(tmp_path / "misleading.csv.jsonl", [row]))
    assert (found.format, found.kind, found.rows) == (name, "sft", 1)
    assert list(found.records()) == [Conversation(expected, 1)]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."},
        {"prompt": CHAT[:1], "chosen": [CHAT[1]], "rejected": [{"role": "assistant", "content": "Go."}]},
        {"chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "Go."}]},
        {"prompt": CHAT[:1], "chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "Go."}]},
        {"conversations": SHARE[:1], "chosen": SHARE[1], "rejected": {"from": "gpt", "value": "Go."}},
    ],
)
def test_a_pair_is_read_from_every_format(tmp_path: Path, row: dict[str, Any]) -> None:
    found = dataset.load(write_jsonl(tmp_path / "x.jsonl", [row]))
    go = (Message("assistant", "Go."),)
    assert list(found.records()) == [Preference(ANSWER[:1], ANSWER[1:], go, 1)]


GOOD = json.dumps({"messages": CHAT})


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (GOOD + '\n{"messages": [{"role": "user", "con', 2, "not valid JSON"),
        (GOOD + "\n" + GOOD.replace("assistant", "asistant"), 2, "unknown role"),
        (GOOD + "\n" + GOOD.replace('"role": "assistant", ', ""), 2, "role is missing"),
        (GOOD + "\n" + GOOD.replace("Hello.", "  "), 2, "answer is empty"),
        (GOOD + "\n" + GOOD.replace('"Hello."', "12"), 2, "expected text, found int"),
        (GOOD + "\n" + GOOD.replace('"Hello."', "NaN"), 2, "NaN"),
        (GOOD + "\n" + GOOD.replace('"Hello."', "9" * 5000), 2, "not valid JSON"),
        (GOOD + "\n" + GOOD.replace('"Hello."', '"a", "content": "b"'), 2, "stands twice"),
        (GOOD + "\n" + "[" * 20000 + "]" * 20000, 2, "nested"),
        (GOOD + "\n[1]", 2, "must be a JSON object"),
        (GOOD + "\n" + GOOD.replace("Hello", "He\0llo"), 2, "NUL"),
        (GOOD + '\n{"messages": []}', 2, "expected a list"),
        (GOOD + "\n" + json.dumps({"messages": CHAT[:1]}), 2, "nothing to learn"),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) and "{" not in value else None,
)
def test_a_bad_line_is_named_and_dropped_only_on_request(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=says) as caught:
        dataset.load(path)
    assert caught.value.line == line and caught.value.remedy
    found = dataset.load(path, Reading(drop=("bad",)))
    assert len(list(found.records())) == 1 and found.errors.count == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"[]", "no rows"),
        (GOOD.encode("utf-16"), "UTF-16"),
        (b'{"a": 1}\n', "not clear"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        dataset.load(path)
    assert caught.value.file == str(path) and caught.value.remedy


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + GOOD.encode().replace(b"Hello", b"H\xe9llo") + b"\n")
    with pytest.raises(DataError, match="not UTF-8") as caught:
        dataset.load(path)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + GOOD.encode() + b"\n",
        GOOD.encode() + b"\r\n\r\n" + GOOD.encode(),
        f"[{GOOD},\n {GOOD}]".encode(),
        json.dumps(json.loads(GOOD), indent=2).encode(),
    ],
    ids=["bom", "crlf and a blank line", "array in .jsonl", "one object over many lines"],
)
def test_files_as_people_save_them_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / ("x.json" if data.startswith(b"{\n") else "x.jsonl")
    path.write_bytes(data)
    assert next(dataset.load(path).records()).messages == ANSWER  # type: ignore[union-attr]


def test_chosen_equal_to_rejected_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the same"):
        dataset.load(write_jsonl(tmp_path / "x.jsonl", [{"prompt": "Hi", "chosen": "A", "rejected": "A"}]))


def test_placeholders_and_an_assistant_that_speaks_first_are_warned_of(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"messages": [CHAT[1], *CHAT]},
        {"messages": [CHAT[0], {"role": "assistant", "content": "I am {{name}}."}]},
    ]
    codes = {w["code"]: w["lines"] for w in dataset.check(write_jsonl(tmp_path / "x.jsonl", rows)).warnings.to_list()}
    assert codes == {"assistant_first": [1], "placeholder": [2]}


def test_a_text_for_a_placeholder_that_no_row_holds_is_told_of(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"prompt": "Who?", "completion": "{{name}} by {{ maker }}."}])
    told = {w["code"]: w for w in dataset.check(path, Reading(fill={"nme": "Ada", "maker": "Us"})).warnings.to_list()}
    assert told["unused_fill"]["title"] == "No row holds {{nme}}"
    assert told["unused_fill"]["problem"] == "The placeholders in the rows are {{name}}, {{maker}}."
    told = {w["code"]: w for w in dataset.check(path, Reading(fill={"name": "Ada"})).warnings.to_list()}
    assert set(told) == {"placeholder"} and told["placeholder"]["names"] == ["maker"]
    told = {w["code"]: w for w in dataset.check(path, Reading(fill={"name": "Ada", "maker": "Us"})).warnings.to_list()}
    assert told == {}


def test_equal_questions_are_never_on_both_sides_of_a_split() -> None:
    records = [Conversation((Message("user", f"Q{i % 40}"), Message("assistant", str(i))), i) for i in range(200)]
    held = split.held_out(records, 0.1, seed=3)
    assert 1 <= len(held) <= 20
    asked = [record.messages[0] for record in records]
    assert not {asked[i] for i in held} & {asked[i] for i in range(200) if i not in held}
    assert split.held_out(records, 0.1, seed=3) == held
    assert split.held_out(records, 0.0, seed=3) == set()


def test_rows_that_are_bare_lists_of_messages_are_conversations(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps(CHAT)}\n{json.dumps(CHAT)}\n")
    assert list(dataset.load(path).records()) == [Conversation(ANSWER, 1), Conversation(ANSWER, 2)]
    path.write_text(json.dumps([CHAT, CHAT]))
    assert list(dataset.load(path).records()) == [Conversation(ANSWER, 1), Conversation(ANSWER, 2)]
    path.write_text(json.dumps(CHAT))
    assert list(dataset.load(path).records()) == [Conversation(ANSWER, 1)]
