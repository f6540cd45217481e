"""`studio data check` in words and as JSON: what was found, what it asks, what is left out, and what to do."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio.cli.__main__ import run


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = run(["data", "check", *map(str, words)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out


def document(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    code, out = call(capsys, *words, "--json")
    return code, json.loads(out)


def pair(prompt: str, completion: str) -> dict[str, object]:
    return {"prompt": prompt, "completion": completion}


def test_a_check_reads_as_a_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [pair("Why?", "Because\x1b[31m " + "so " * 200), pair("How?", "{{name}} knows."), pair("When?", "")]
    code, text = call(capsys, write_jsonl(tmp_path / "x.jsonl", rows))
    assert code == 2
    for part in (
        "x.jsonl: 3 rows, prompt_completion (sft)",
        "columns: prompt = prompt, completion = completion",
        "    user: Why?\n    assistant: Because\\x1b[31m so so",
        "errors: 1\n  line 3, completion: it is empty",
        "placeholder",
        "--drop-bad leaves",
    ):
        assert part in text, part
    assert "\x1b" not in text and max(map(len, text.splitlines())) < 250


def test_bad_rows_are_left_out_on_request_and_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [pair("a", "b"), pair("a", ""), pair("c", "d"), pair("a", "b")])
    assert document(capsys, path)[0] == 2
    code, found = document(capsys, path, "--drop-bad", "--drop", "duplicate")
    assert (code, found["rows"], found["usable"]) == (0, 4, 2)
    assert found["left_out"] == {"bad": 1, "duplicate": 1} and [e["line"] for e in found["errors"]] == [2]
    code, text = call(capsys, path, "--drop-bad", "--drop", "duplicate")
    assert code == 0 and "left out of 4: duplicate 1, bad 1" in text
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "completion": ""}\n')
    code, found = document(capsys, path, "--drop-bad")
    assert code == 2 and "no row can be used" in [error["problem"] for error in found["errors"]]


def test_an_unclear_file_asks_and_each_answer_it_offers_works(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "a table.csv"
    path.write_text("Question,Best, answer\n".replace("Best, answer", '"Best, answer"') + "Why?,So\n" * 3)
    path.write_text('Question,"Best, answer",Wrong answer\n' + "".join(f"Q{i},A{i},B{i}\n" for i in range(4)))
    code, found = document(capsys, path)
    assert (code, found["kind"]) == (2, "unclear") and found["question"]["text"] and found["question"]["choices"]
    code, text = call(capsys, path)
    assert code == 2
    offered = [shlex.split(line)[3:] for line in text.splitlines() if re.match(r" +studio data check ", line)]
    assert len(offered) == len(found["question"]["choices"])
    for words, choice in zip(offered, found["question"]["choices"], strict=True):
        code, answered = document(capsys, *words)
        assert (code, answered["kind"]) == (0, choice["reading"]["kind"]), words
        assert answered["mapping"] == choice["reading"]["mapping"]


def test_placeholders_are_filled_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "x.jsonl", [pair("Who?", "I am {{name}} of {{place}}."), pair("Who else?", "Nobody.")]
    )
    code, text = call(capsys, path, "--fill", "name=Ada", "--fill", "place=here, there")
    assert code == 0 and "I am Ada of here, there." in text and "placeholder" not in text


def test_with_a_model_the_tokens_are_looked_at_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny: Path
) -> None:
    rows = [pair(f"What is {i}?", "A number.") for i in range(3)]
    path = write_jsonl(
        tmp_path / "x.jsonl", [*rows, pair("Why?", "long " * 900), pair("What is <|im_end|>?", "A mark.")]
    )
    code, found = document(capsys, path, "--model", tiny, "--max-length", 64)
    assert code == 2
    assert [error["line"] for error in found["errors"]] == [4] and found["errors"][0]["remedy"]
    assert {w["code"]: w["lines"] for w in found["warnings"]}["control_tokens"] == [5]
    assert found["statistics"]
    code, found = document(capsys, path, "--model", tiny, "--max-length", 64, "--drop-bad")
    assert code == 0 and sum(found["left_out"].values()) == 1


def test_a_mistyped_path_is_never_asked_for_on_the_hub(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("data/trian.jsonl", tmp_path / "nothing.csv", "nothing"):
        code, found = document(capsys, name)
        assert code == 2 and "no such file" in found["error"]["message"]
    code, found = document(capsys, "org/nothing")
    assert code == 2 and "HF_HUB_OFFLINE" in found["error"]["remedy"]
