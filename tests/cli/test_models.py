"""`studio models`: the list beside what this machine has, and what its words do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from studio import hardware
from studio.cli.__main__ import run
from studio.models import catalogue


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    code = run([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def test_the_list_has_every_model_with_its_memory_in_parts_and_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code, found, _ = call(capsys, "models", "--json")
    assert code == 0 and [item["id"] for item in found] == [entry.id for entry in catalogue.entries()]
    for item in found:
        assert item["verdict"] in ("fits", "tight", "too large")
        assert sum(item["memory_gb"].values()) == pytest.approx(item["total_gb"], abs=0.02)
    starter = found[0]
    assert (starter["id"], starter["verdict"], starter["exportable"]) == ("starter", "fits", True)
    assert set(starter["memory_gb"]) == {"weights", "adapter and optimizer", "activations", "logits", "overhead"}
    code, found, _ = call(capsys, "models", "qwen", "14B", "--json")
    assert code == 0 and {item["id"] for item in found} == {"Qwen/Qwen2.5-14B", "Qwen/Qwen3-14B-Base"}


def test_the_table_names_what_is_refused_and_what_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "phi"]) == 0
    text = capsys.readouterr().out
    assert "refused: own code" in text and "trains" in text
    assert run(["models", "no-such-thing"]) == 0
    assert "studio models get org/name" in capsys.readouterr().out


def test_check_reads_all_weights_only_when_asked(capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    code, facts, _ = call(capsys, "models", "check", tiny, "--json")
    assert (code, facts["nan"], facts["exportable"], facts["revision"]) == (0, None, True, "")
    code, facts, err = call(capsys, "models", "check", tiny, "--nan", "--json")
    assert (code, facts["nan"]) == (0, False) and "Looking for NaNs" in err


def test_check_tries_the_models_own_template(capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{% for %}")
    code, facts, _ = call(capsys, "models", "check", folder, "--json")
    assert code == 0 and "mistake in line 1" in facts["template_problem"]
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    code, document, _ = call(capsys, "models", "check", folder, "--json")
    assert code == 2 and "UTF-8" in document["error"]["message"]


@pytest.mark.parametrize("words", [("get",), ("check",), ("get", "a/b", "c/d"), ("check", "no-such-folder")])
def test_words_that_do_not_fit_are_the_users_fault(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, document, err = call(capsys, "models", *words, "--json")
    assert code == 2 and document["error"]["remedy"] and "Traceback" not in err


def test_a_starter_is_got_without_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    code, document, _ = call(capsys, "models", "get", "starter", "--json")
    assert code == 0 and Path(document["folder"], "config.json").is_file() and document["bytes"] > 12_000_000
    assert hardware.machine().ram_gb > 0
