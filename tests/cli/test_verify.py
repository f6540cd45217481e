"""`studio verify`: red with the right line for a file that was tampered with, and green again once mended."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import tampering
from making import make_model, write_jsonl

import studio
from studio import runs, worker
from studio.cli.__main__ import run
from studio.export import gguf as writing
from studio.models import ggufhead
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128}


class Made:
    """A tiny model that was trained and exported: its folder, its run, its data folder, its file."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.base = make_model(folder / "model")
        asked = [f"What is {i} + {i}?" for i in range(40)]
        rows: list[dict[str, object]] = [
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "A sum."}]}
            for text in asked
        ]
        data = write_jsonl(folder / "sft.jsonl", rows)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STUDIO_HOME", str(self.home))
            given = {**FAST, "learning_rate": 5e-3, "epochs": 8}
            self.run = runs.create(runs.RunConfig("train", "t", str(self.base), "sft", str(data), settings=given))
            worker.work(self.run)
            self.document = studio.export_model(str(self.run.dir), quants=["F16"], out=folder / "files")
        self.file = Path(self.document["files"][0]["path"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def good(made: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv("STUDIO_HOME", str(made.home))
    return made


def verify(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["verify", *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def red(document: dict[str, Any]) -> set[str]:
    return {line["name"] for line in document["lines"] if line["ok"] is False}


TAMPERED = {
    "template": (tampering.tamper_template, "prompts"),
    "template, seldom": (tampering.tamper_rare_template, "prompts"),
    "stop token": (tampering.tamper_stop, "stop tokens"),
    "a token": (tampering.tamper_rare_token, "token ids"),
    "BOS flag": (tampering.tamper_bos, "beginning"),
    "one tensor": (tampering.tamper_tensor, "tensors"),
}


def test_a_good_export_is_green_and_its_run_is_found_wherever_the_file_lies(
    good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for path in (good.file, Path(shutil.copyfile(good.file, tmp_path / "moved.gguf"))):
        code, document = verify(capsys, path)
        assert (code, document["ok"], document["model"], red(document)) == (0, True, good.run.id, set())
        assert document["file"] == path.name
        for line in document["lines"]:
            assert {"name", "ok", "value", "limit", "remedy"} <= line.keys()


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_file_is_red_with_the_line_named(
    good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path, what: str
) -> None:
    tamper, name = TAMPERED[what]
    bad = tamper(good.file, tmp_path / "bad.gguf")
    code, document = verify(capsys, bad, "--model", good.run.dir)
    assert (code, document["ok"]) == (3, False)
    assert name in red(document)
    assert all(line["remedy"] for line in document["lines"] if line["ok"] is False)


def test_a_file_without_its_adapter_is_red_with_the_line_named(
    good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plain = writing.write(good.base, None, tmp_path / "plain.gguf", encode.load(good.base), name="x")
    bad = tampering.tamper_adapter(good.file, plain, tmp_path / "bad.gguf")
    code, document = verify(capsys, bad, "--model", good.run.dir)
    assert code == 3 and "adapter" in red(document)


def test_a_file_that_was_changed_in_its_place_is_still_compared_with_its_run(
    good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = good.file.rename(tmp_path / "kept.gguf")
    try:
        tampering.tamper_template(kept, good.file)
        code, document = verify(capsys, good.file)
        assert (code, document["model"]) == (3, good.run.id) and "prompts" in red(document)
    finally:
        kept.replace(good.file)


@pytest.mark.parametrize("what", ["template", "stop token", "BOS flag"])
def test_what_metadata_can_mend_is_mended_in_a_copy(
    good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path, what: str
) -> None:
    bad = TAMPERED[what][0](good.file, tmp_path / "bad.gguf")
    before = bad.read_bytes()
    code, document = verify(capsys, bad, "--model", good.run.dir, "--repair", tmp_path / "mended.gguf")
    assert (code, document["ok"], red(document)) == (0, True, set())
    assert document["file"] == "mended.gguf" and document["repaired"]["path"] == str(tmp_path / "mended.gguf")
    assert TAMPERED[what][1] in document["repaired"]["failed"]
    assert bad.read_bytes() == before
    mended, right = ggufhead.read(tmp_path / "mended.gguf"), ggufhead.read(good.file)
    changed = {key for key in mended.metadata if mended.metadata[key] != right.metadata.get(key)}
    assert changed <= {"tokenizer.ggml.bos_token_id"}  # a BOS that nothing writes
    assert mended.metadata["tokenizer.ggml.add_bos_token"] is False


def test_wrong_weights_cannot_be_mended(good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = tampering.tamper_tensor(good.file, tmp_path / "bad.gguf")
    code, document = verify(capsys, bad, "--model", good.run.dir, "--repair", tmp_path / "mended.gguf")
    assert code == 3 and document["error"]["message"].startswith("Nothing of what fails can be mended")
    assert not (tmp_path / "mended.gguf").exists()


def test_nothing_to_mend_makes_no_copy(good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, document = verify(capsys, good.file, "--repair", tmp_path / "mended.gguf")
    assert (code, document["repaired"]) == (0, None) and list(tmp_path.iterdir()) == []


def test_without_a_model_a_stop_token_is_mended_by_the_files_own_template(
    good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tampering.tamper_stop(good.file, tmp_path / "bad.gguf")
    code, document = verify(capsys, bad)
    assert (code, document["model"], red(document)) == (3, None, {"stop tokens"})
    code, document = verify(capsys, bad, "--repair", tmp_path / "mended.gguf")
    assert (code, document["repaired"]["changed"]) == (0, ["eos", "eot"])
    head = ggufhead.read(tmp_path / "mended.gguf")
    assert head.tokens[head.token("eos")] == head.tokens[head.token("eot")] == "<|im_end|>"


def test_a_stop_token_that_is_no_token_is_said_and_mended(
    good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, end = bytearray(good.file.read_bytes()), ggufhead.read(good.file).spans["tokenizer.ggml.eos_token_id"][1]
    data[end - 4 : end] = b"\xff\xff\xff\xff"
    (tmp_path / "bad.gguf").write_bytes(data)
    code, document = verify(capsys, tmp_path / "bad.gguf")
    assert code == 2 and "eos_token_id' is 4294967295" in document["error"]["message"]
    code, document = verify(
        capsys, tmp_path / "bad.gguf", "--model", good.run.dir, "--repair", tmp_path / "mended.gguf"
    )
    assert (code, document["ok"]) == (0, True)


def test_an_export_run_and_a_model_are_references_too(good: Made, capsys: pytest.CaptureFixture[str]) -> None:
    export = next(run for run in runs.all_runs() if run.config.kind == "export")
    assert verify(capsys, good.file, "--model", export.id)[0] == 0
    code, document = verify(capsys, good.file, "--model", good.base)  # the base: what was trained is not in it
    assert code == 3 and red(document) & {"numbers", "tensors"}


def test_a_vocabulary_without_a_model_is_called_that(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "vocab.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writing.head(writer)
    code, document = verify(capsys, tmp_path / "vocab.gguf")
    assert code == 3 and red(document) == {"loads"}
    assert "a vocabulary without a model" in document["lines"][0]["value"]


def test_what_is_no_model_file_leaves_with_2(good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("no model at all")
    (tmp_path / "huge.gguf").write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63) + bytes(40))
    for name, message in (
        ("text.gguf", "This is no GGUF file"),
        ("huge.gguf", "The name of key 1 takes"),
        ("none.gguf", "There is no such file."),
    ):
        code, document = verify(capsys, tmp_path / name)
        assert code == 2 and document["error"]["message"].startswith(message), name
        assert document["error"]["remedy"] and document["error"]["file"] == str(tmp_path / name)
    assert verify(capsys, good.file, "--model", "no-such-model")[0] == 2


def test_people_read_marks_and_remedies(good: Made, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = tampering.tamper_template(good.file, tmp_path / "bad.gguf")
    assert run(["verify", str(bad), "--model", str(good.run.dir)]) == 3
    text = capsys.readouterr().out
    assert text.startswith("bad.gguf\n") and "  FAILS prompts: " in text and "  ok    token ids: " in text
    assert text.rstrip().endswith(f"compared with {good.run.id}")
