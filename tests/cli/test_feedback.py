"""`studio feedback`: flags follow from each source's settings; one JSON document; what `show` and `resume` do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from scripted import Reply, Scripted

from studio import config, runs
from studio.cli.__main__ import parser, run
from studio.feedback import job

SOURCES = ("judge", "rejection", "rules")


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    code = run([str(word) for word in words])
    out = capsys.readouterr()
    return code, json.loads(out.out) if "--json" in words else out.out, out.err


@pytest.mark.parametrize("source", SOURCES)
def test_every_setting_of_a_source_is_a_flag(source: str) -> None:
    words = ["feedback", source, "--data", "x.jsonl"]
    values: dict[str, str] = {}
    for s in config.settings(job.module(source).Config):
        name = f"--{s.name.replace('_', '-')}"
        values[s.name] = "true" if s.type is bool else str(s.low if s.low is not None else "1")
        words += [name] if s.type is bool else [name, values[s.name]]
    args = parser().parse_args(words)
    for name, value in values.items():
        assert str(getattr(args, f"set_{name}")).lower() == value


def test_rules_give_one_document_and_leave_with_0(capsys: pytest.CaptureFixture[str], pairs_file: Path) -> None:
    words = ("feedback", "rules", "--data", pairs_file, "--rule", "sentence", "--limit", 6, "--json")
    code, document, _ = call(capsys, *words)
    assert code == 0 and document["source"] == "rules" and document["records"] == document["preference"] == 6
    assert document["report"]["agreement"]["file"]["share"] == 1.0
    code, text, _ = call(capsys, "show", document["run"])
    assert code == 0 and "Agrees with what the file says: 100%" in text and "6 records: 6 pairs" in text


def test_a_judge_s_report_is_said_with_its_warning_and_how_to_train(
    capsys: pytest.CaptureFixture[str], pairs_file: Path
) -> None:
    with Scripted(lambda turns: Reply("A", probs={"A": 0.8, "B": 0.2})) as server:
        code, text, told = call(capsys, "feedback", "judge", "--data", pairs_file, "--judge", server.name, "--limit", 8)
        assert code == 0 and "Train on it" not in text, "nothing is left to train on"
        assert "dropped: 8 (the two orders disagree)" in text and "no better than chance" in text + told
        code, document, _ = call(
            capsys, "feedback", "judge", "--data", pairs_file, "--judge", server.name, "--limit", 8, "--json"
        )
    assert code == 0 and document["usable"] is False and document["report"]["swap"]["share"] == 0.0
    assert document["by"]["identity"]["endpoint"].startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("rules", "--rule", "nonsense"), "reward"),
        (("rules",), "rule"),
        (("judge",), "judge"),
        (("judge", "--judge", "x.gguf", "--margin", "0.9"), "margin"),
        (("rejection", "--answers-from", "x.gguf", "--reward", "json", "-n", "31"), "n"),
        (("judge", "--judge", "http://example.invalid/v1#m"), "allow_endpoint"),
    ],
)
def test_a_wrong_setting_leaves_with_2_and_no_run(
    capsys: pytest.CaptureFixture[str], pairs_file: Path, words: tuple[str, ...], field: str
) -> None:
    code, document, _ = call(capsys, "feedback", words[0], "--data", pairs_file, *words[1:], "--json")
    assert code == 2 and document["error"]["field"] == field and document["error"]["remedy"]
    assert runs.all_runs() == []


def test_a_stopped_set_goes_on_with_resume(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"Q{i}", "chosen": "Yes it is.", "rejected": "no"} for i in range(6)]
    data = write_jsonl(tmp_path / "p.jsonl", rows)
    made = runs.create(job.asked("rules", data, {"rule": "sentence"}))
    made.ask_to_stop()
    code, _, _ = call(capsys, "worker", made.dir)
    assert code == 130 and made.status() == "stopped"
    code, document, _ = call(capsys, "resume", made.id, "--json")
    assert code == 0 and document["records"] == 6
