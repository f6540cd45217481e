"""The command line is a contract: one JSON document, the right exit code, one message with a remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.cli.__main__ import run

ROOT = Path(__file__).parent.parent.parent
FAST = [
    word
    for value in ("quantize_base=none", "gradient_checkpointing=false", "max_steps=2", "max_length=128")
    for word in ("--set", value)
]


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any, str]:
    code = run([str(word) for word in words])
    out = capsys.readouterr()
    return code, json.loads(out.out) if "--json" in words else out.out, out.err


def test_data_check_gives_its_document(capsys: pytest.CaptureFixture[str], sft_file: Path) -> None:
    code, document, _ = call(capsys, "data", "check", sft_file, "--json")
    assert code == 0
    assert {name: document[name] for name in ("format", "kind", "rows", "errors", "warnings")} == {
        "format": "messages",
        "kind": "sft",
        "rows": 40,
        "errors": [],
        "warnings": [],
    }


def test_data_check_of_a_bad_file_still_prints_its_document_and_leaves_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": ""}\n')
    code, document, _ = call(capsys, "data", "check", tmp_path / "x.jsonl", "--json")
    assert code == 2
    assert [(e["line"], e["field"]) for e in document["errors"]] == [(2, "completion")]


def test_data_preview_gives_ids_and_labels(
    capsys: pytest.CaptureFixture[str], tiny: Path, sft_file: Path, pairs_file: Path
) -> None:
    code, rows, _ = call(capsys, "data", "preview", sft_file, "--model", tiny, "--json", "-n", 2)
    assert code == 0 and len(rows) == 2
    for row in rows:
        learned = [label for label in row["labels"] if label != -100]
        assert len(row["ids"]) == len(row["labels"])
        assert row["trained_share"] == pytest.approx(len(learned) / len(row["ids"]))
        assert row["text"].startswith("<|im_start|>user\nWhat is ")
    code, rows, _ = call(capsys, "data", "preview", pairs_file, "--model", tiny, "--json", "-n", 1)
    assert code == 0 and set(rows[0]) == {"chosen", "rejected", "common_prefix"}
    chosen, rejected, shared = rows[0]["chosen"]["ids"], rows[0]["rejected"]["ids"], rows[0]["common_prefix"]
    assert chosen[:shared] == rejected[:shared] and chosen[shared] != rejected[shared]


def test_the_path_from_data_to_a_file_that_chats(
    capsys: pytest.CaptureFixture[str], tiny: Path, sft_file: Path, pairs_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    code, sft, _ = call(
        capsys, "train", "sft", "--model", tiny, "--data", sft_file, "--out", tmp_path / "sft", *FAST, "--json"
    )
    assert code == 0
    assert set(sft) >= {"run", "dir", "parent", "metrics", "heldout", "behaviour", "seconds"} and sft["parent"] is None
    code, dpo, _ = call(capsys, "train", "dpo", "--data", pairs_file, "--parent", tmp_path / "sft", *FAST, "--json")
    assert code == 0 and dpo["parent"] == str(tmp_path / "sft")
    code, shown, _ = call(capsys, "show", dpo["run"], "--json")
    assert code == 0 and shown["lineage"] == ["sft", dpo["run"]] and shown["status"] == "finished"
    code, made, _ = call(capsys, "export", dpo["dir"], "--quant", "F16", "--out", tmp_path / "out", "--json")
    red = {line["name"] for line in made["certificate"]["lines"] if line["ok"] is False}
    assert code == (3 if red else 0) and red <= {"ending", "adapter"}, "two steps teach a random model little"
    assert set(made["files"][0]) >= {"path", "type", "bytes", "sha256", "certificate"}
    code, said, _ = call(
        capsys, "chat", made["files"][0]["path"], "--prompt", "Hi", "--max-tokens", 4, "--against", dpo["dir"], "--json"
    )
    assert code == 0
    assert all(set(a) >= {"who", "text", "tokens", "stopped", "tokens_per_s"} for a in said["answers"])
    assert [a["who"] for a in said["answers"]] == [Path(dpo["dir"]).name, "tuned"]
    against = ["chat", dpo["dir"], "--prompt", "Hi", "--max-tokens", 4, "--against", "base", "--json"]
    code, said, _ = call(capsys, *against, "--strength", 0.5, "--temperature", 1, "--top-k", 5, "--min-p", 0.1)
    base, tuned = (a["identity"] for a in said["answers"])
    assert code == 0 and base["sha256"] == tuned["sha256"], "base and run have a copy of the weights each"
    assert base["raw"] and not base["adapter"] and tuned["adapter"] and tuned["strength"] == 0.5
    code, _, _ = call(capsys, "merge", dpo["dir"], "--out", tmp_path / "merged", "--json")
    assert code == 0 and (tmp_path / "merged" / "model.safetensors").is_file()
    code, listed, _ = call(capsys, "runs", "--json")
    assert code == 0 and dpo["run"] in [row["run"] for row in listed]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["train", "sft", "--model", "MODEL", "--data", "nothing.jsonl"], "DataError"),
        (["train", "sft", "--model", "/nowhere", "--data", "DATA"], "ModelError"),
        (["train", "sft", "--model", "MODEL", "--data", "DATA", "--set", "epocs=1"], "ConfigError"),
        (["train", "sft", "--model", "MODEL", "--data", "DATA", "--set", "learning_rate=nan"], "ConfigError"),
        (["train", "sft", "--model", "MODEL", "--data", "DATA", "--set", "epochs"], "ConfigError"),
        (["train", "sft", "--data", "DATA"], "ConfigError"),
        (["train", "magic", "--data", "DATA"], "ConfigError"),
        (["train", "dpo", "--data", "DATA", "--parent", "nobody"], "RunError"),
        (["export", "/nowhere"], "ModelError"),
        (["export", "MODEL", "--quant", "Q9"], "ConfigError"),
        (["chat", "nothing.gguf", "--prompt", "x"], "ModelError"),
        (["show", "nobody"], "RunError"),
        (["stop", "nobody"], "RunError"),
        (["delete", "nobody"], "RunError"),
        (["models", "check", "DATA"], "ModelError"),
        (["data", "preview", "DATA"], "ConfigError"),
        (["frobnicate"], "ConfigError"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_the_users_mistakes_leave_with_2_and_say_what_to_do(
    capsys: pytest.CaptureFixture[str], tiny: Path, sft_file: Path, words: list[str], kind: str
) -> None:
    given = [{"MODEL": str(tiny), "DATA": str(sft_file)}.get(word, word) for word in words]
    code, document, err = call(capsys, *given, "--json")
    assert code == 2
    assert document["error"]["kind"] == kind and document["error"]["message"] and document["error"]["remedy"]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "unknown", "remedy"),
    [
        ("train sft --data x --max-steps 3", "--max-steps", "A setting is given as --set max_steps=3. "),
        ("train dpo --data x --beta=0.2", "--beta", "A setting is given as --set beta=0.2. "),
        ("eval x --pressure 2", "--pressure", "A setting is given as --set SUITE.pressure=2. "),
        ("runs --all", "--all", ""),
    ],
)
def test_a_setting_given_as_an_option_is_answered_with_how_it_is_given(
    capsys: pytest.CaptureFixture[str], words: str, unknown: str, remedy: str
) -> None:
    code, document, _ = call(capsys, *words.split(), "--json")
    verb = f"studio {words.split()[0]}"
    assert (code, document["error"]["message"]) == (2, f"{verb} knows no {unknown}.")
    assert document["error"]["remedy"] == f"{remedy}See: {verb} --help"


def test_a_failed_start_leaves_no_run_behind(
    capsys: pytest.CaptureFixture[str], tiny: Path, sft_file: Path, home: Path
) -> None:
    call(capsys, "train", "sft", "--model", tiny, "--data", sft_file, "--set", "epochs=0")
    assert not list((home / "runs").glob("*")) if (home / "runs").exists() else True


def test_standard_output_holds_the_document_and_nothing_else(tiny: Path, sft_file: Path, home: Path) -> None:
    words = ["train", "sft", "--model", str(tiny), "--data", str(sft_file), *FAST, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "studio", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "STUDIO_HOME": str(home)},
    )
    assert json.loads(done.stdout)["behaviour"]["n"] >= 1
    assert "Training [" in done.stderr and "Traceback" not in done.stderr


def test_help_lists_every_setting_of_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["train", "--help"])
    text = capsys.readouterr().out
    assert "beta" in text and "label_smoothing" in text and "warmup_ratio" in text
