"""`studio data convert|split|preview`: nothing replaced unasked, half-written, or obeyed by a terminal."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio.cli.__main__ import run
from studio.cli.datacheck import SLOW_MB
from studio.data import dataset, writers

ROWS: list[dict[str, object]] = [
    {"prompt": f"Q{number}", "chosen": f"A{number}", "rejected": f"B{number}"} for number in range(40)
]
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return write_jsonl(tmp_path / "in.jsonl", ROWS)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    code = run(["data", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, json.loads(out)


def convert(capsys: pytest.CaptureFixture[str], source: Path, out: object, *more: object) -> tuple[int, Any]:
    return call(capsys, "convert", source, "--to", "kto", "--out", out, *more)


def refused(answer: tuple[int, Any]) -> str:
    code, document = answer
    error = document["error"]
    assert (code, error["kind"], error["field"]) == (2, "ConfigError", "out") and error["remedy"]
    return str(error["message"] + " " + error["remedy"])


def test_a_file_is_replaced_only_when_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "out.csv"
    assert convert(capsys, source, out)[1]["rows"] == 80
    out.write_text("mine")
    assert "--force" in refused(convert(capsys, source, out)) and out.read_text() == "mine"
    assert convert(capsys, source, out, "--force")[0] == 0
    assert out.read_text().count("\n") == 81 and os.listdir(out.parent) == ["out.csv"]


def test_the_file_that_is_read_is_not_replaced_even_then(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    before = source.read_bytes()
    for force in ((), ("--force",)):
        said = refused(convert(capsys, source, source, *force))
        assert "file that is read" in said and "--force" not in said
    assert source.read_bytes() == before


@needs_links
@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_never_followed(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path, there: bool, force: tuple[str, ...]
) -> None:
    target, link, parts = tmp_path / "target.jsonl", tmp_path / "link.jsonl", tmp_path / "parts"
    if there:
        target.write_text("mine")
    link.symlink_to(target)
    assert "link" in refused(convert(capsys, source, link, *force))
    parts.mkdir()
    (parts / "heldout.jsonl").symlink_to(target)
    assert "link" in refused(call(capsys, "split", source, "--out", parts, *force))
    (tmp_path / "way").symlink_to(tmp_path / "made" if there else tmp_path / "nowhere")
    assert "link" in refused(call(capsys, "split", source, "--out", tmp_path / "way", *force))
    assert (target.read_text() == "mine") if there else not target.exists()
    assert os.listdir(parts) == ["heldout.jsonl"] and not os.listdir(tmp_path / "made")


@needs_links
def test_a_pipe_is_not_replaced(capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "made" / "out.jsonl")
    assert "plain file" in refused(convert(capsys, source, tmp_path / "made" / "out.jsonl", "--force"))


def test_a_missing_folder_is_said_and_not_made(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    assert "does not exist" in refused(convert(capsys, source, tmp_path / "nowhere" / "x.jsonl"))
    assert "does not exist" in refused(call(capsys, "split", source, "--out", tmp_path / "nowhere" / "parts"))
    assert "is not a folder" in refused(call(capsys, "split", source, "--out", source))
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "made"]


def test_a_split_makes_its_folder_or_adds_to_one_and_replaces_nothing_unasked(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path
) -> None:
    assert call(capsys, "split", source, "--out", tmp_path / "parts")[0] == 0
    assert sorted(os.listdir(tmp_path / "parts")) == ["heldout.jsonl", "train.jsonl"]
    (tmp_path / "made" / "notes.txt").write_text("mine")
    (tmp_path / "made" / "heldout.jsonl").write_text("mine")
    assert "--force" in refused(call(capsys, "split", source, "--out", tmp_path / "made"))
    assert sorted(os.listdir(tmp_path / "made")) == ["heldout.jsonl", "notes.txt"]
    code, done = call(capsys, "split", source, "--out", tmp_path / "made", "--force")
    assert code == 0 and (tmp_path / "made" / "heldout.jsonl").read_text().count("\n") == done["heldout"]["rows"] == 2


def test_a_split_into_the_folder_one_stands_in(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "made")
    assert call(capsys, "split", source, "--out", ".")[0] == 0
    assert sorted(os.listdir(".")) == ["heldout.jsonl", "train.jsonl"]


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\x1b[2Jb", "con", "NUL", "com1.old", "\ud800"])
def test_names_that_no_system_takes_are_refused(
    capsys: pytest.CaptureFixture[str], source: Path, tmp_path: Path, name: str
) -> None:
    said = refused(convert(capsys, source, f"{tmp_path}/made/{name}.jsonl"))
    said += refused(call(capsys, "split", source, "--out", f"{tmp_path}/made/{name}"))
    assert said.isprintable() and not os.listdir(tmp_path / "made")


def test_an_empty_name_is_none(capsys: pytest.CaptureFixture[str], source: Path) -> None:
    refused(convert(capsys, source, ""))
    refused(call(capsys, "split", source, "--out", ""))


@pytest.mark.parametrize("words", [["convert", "--to", "kto", "--out", "made/out.jsonl"], ["split", "--out", "parts"]])
def test_ctrl_c_leaves_with_130_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    written = []

    def interrupted(row: dict[str, Any]) -> bytes:
        written.append(row)
        if len(written) == 5:
            raise KeyboardInterrupt
        return json.dumps(row).encode() + b"\n"

    (tmp_path / "in.jsonl").write_text(json.dumps(ROWS))  # an array: both verbs write each row anew
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writers, "line", interrupted)
    code, document = call(capsys, words[0], source, *words[1:])
    assert (code, document["error"]["kind"], len(written)) == (130, "Stopped", 5)
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "made"] and not os.listdir(tmp_path / "made")


@pytest.mark.parametrize("words", [["convert", "--to", "kto", "--out", "out.jsonl"], ["split", "--out", "parts"]])
def test_long_work_shows_how_far_it_is_and_short_work_does_not(
    capsys: pytest.CaptureFixture[str],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["data", words[0], str(source), *words[1:]]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(dataset.Dataset, "size", SLOW_MB * 1_000_000 + 1)
    assert run(["data", words[0], str(source), *words[1:], "--force"]) == 0
    assert "Writing [####################] 40/40" in capsys.readouterr().err


def test_a_preview_in_words_shows_what_a_terminal_would_obey(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path
) -> None:
    row: dict[str, object] = {"prompt": "One\nline\x1b[31m", "completion": "\x07 \u202eevil"}
    path = write_jsonl(tmp_path / "x.jsonl", [row])
    assert run(["data", "preview", str(path), "--model", str(tiny)]) == 0
    text = capsys.readouterr().out
    assert "One\nline\\x1b[31m" in text and "\\x07 \\u202eevil" in text and "⟦" in text
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("number", [-1, 0, 1001, 10**30])
def test_a_preview_shows_one_row_to_a_thousand(
    capsys: pytest.CaptureFixture[str], tiny: Path, sft_file: Path, number: int
) -> None:
    code, document = call(capsys, "preview", sft_file, "--model", tiny, "-n", number)
    assert (code, document["error"]["kind"], document["error"]["field"]) == (2, "ConfigError", "n")


@pytest.mark.parametrize("number", [-5, 0])
def test_the_longest_row_of_a_check_has_a_token_at_least(
    capsys: pytest.CaptureFixture[str], tiny: Path, sft_file: Path, number: int
) -> None:
    code, document = call(capsys, "check", sft_file, "--model", tiny, "--max-length", number)
    assert (code, document["error"]["kind"], document["error"]["field"]) == (2, "ConfigError", "max_length")
