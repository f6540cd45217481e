"""A mended copy: what was to change has changed, and every other byte of meaning is the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from making import make_model

from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import ExportError, ModelError, Stopped
from studio.export import gguf as writing
from studio.export import repair
from studio.models import ggufhead
from studio.render import encode


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    base = make_model(folder / "model")
    (base / "chat_template.jinja").write_text(encode.load(base).source)
    return writing.write(base, None, folder / "x.gguf", encode.load(base), name="x")


def contents(path: Path) -> dict[str, tuple[Any, list[str]]]:
    """What gguf's own reader finds: each key with its value and its types."""
    reader = gguf.GGUFReader(path)
    return {
        key: (field.contents(), [kind.name for kind in field.types])
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }


def test_only_what_was_asked_for_changes(source: Path, tmp_path: Path) -> None:
    pad = ggufhead.read(source).tokens.index("<|pad|>")
    made = repair.repair(
        source, tmp_path / "made.gguf", template="{{ 'ö' * 999 }}", eos=pad, bos=0, add_bos=True, pad=0
    )
    before, after = contents(source), contents(made)
    changed = {
        "tokenizer.chat_template": ("{{ 'ö' * 999 }}", ["STRING"]),
        "tokenizer.ggml.eos_token_id": (pad, ["UINT32"]),
        "tokenizer.ggml.bos_token_id": (0, ["UINT32"]),  # new
        "tokenizer.ggml.padding_token_id": (0, ["UINT32"]),
        "tokenizer.ggml.add_bos_token": (True, ["BOOL"]),
    }
    assert "tokenizer.ggml.bos_token_id" not in before
    assert after == {**before, **changed}
    ours, theirs = gguf.GGUFReader(made), gguf.GGUFReader(source)
    assert [(t.name, t.tensor_type, list(t.shape)) for t in ours.tensors] == [
        (t.name, t.tensor_type, list(t.shape)) for t in theirs.tensors
    ]
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert int(one.data_offset) % ours.alignment == 0
        assert one.data.tobytes() == other.data.tobytes(), one.name
    assert [path.name for path in tmp_path.iterdir()] == ["made.gguf"]


def test_a_copy_with_nothing_changed_is_the_file(source: Path, tmp_path: Path) -> None:
    assert repair.repair(source, tmp_path / "same.gguf").read_bytes() == source.read_bytes()


def test_odd_values_and_another_alignment_stay_as_they_are(tmp_path: Path) -> None:
    """Types that a re-encoding loses: 8-bit numbers, an empty array's type, a float32 that is no round decimal."""
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "llama")
    writer.add_custom_alignment(256)
    writer.add_int8("x.small", -7)
    writer.add_uint64("x.large", 2**64 - 1)
    writer.add_float32("x.third", 1 / 3)
    writer.add_array("x.numbers", [1, 2, 3])
    writer.add_token_list(["a", "b", "c"])
    writer.add_key_value("tokenizer.ggml.eos_token_id", 1, gguf.GGUFValueType.INT32)
    writer.add_tensor("a.weight", np.arange(5, dtype=np.float32))
    writer.add_tensor("b.weight", np.arange(64, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = repair.repair(tmp_path / "odd.gguf", tmp_path / "made.gguf", template="x" * 300, eos=2)
    before, after = contents(tmp_path / "odd.gguf"), contents(made)
    assert after.pop("tokenizer.chat_template") == ("x" * 300, ["STRING"])
    assert after.pop("tokenizer.ggml.eos_token_id") == (2, ["INT32"])  # the key's own type
    del before["tokenizer.ggml.eos_token_id"]
    assert after == before
    for one, other in zip(gguf.GGUFReader(made).tensors, gguf.GGUFReader(tmp_path / "odd.gguf").tensors, strict=True):
        assert int(one.data_offset) % 256 == 0 and one.data.tobytes() == other.data.tobytes()


def test_llama_cpp_uses_what_was_written(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    head = ggufhead.read(source)
    stop = head.tokens.index("b")
    template = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    made = repair.repair(source, tmp_path / "made.gguf", template=template, eos=stop, eot=stop)
    talk = [{"role": "user", "content": "a"}]
    child = Child(ENGINE)
    try:
        answer = child.ask({"op": "prompt", "gguf": str(made), "conversations": [talk]})
        assert [[head.tokens[token] for token in row] for row in answer["ids"]] == [["<|im_start|>", "a"]]
        assert "b" in answer["stops"]
        assert child.ask({"op": "load", "gguf": str(made), "n_ctx": 64})["has_template"]
    finally:
        child.close()


def test_a_file_whose_stop_token_is_none_of_its_tokens_can_be_mended(source: Path, tmp_path: Path) -> None:
    data, head = bytearray(source.read_bytes()), ggufhead.read(source)
    end = head.spans["tokenizer.ggml.eos_token_id"][1]
    data[end - 4 : end] = b"\xff\xff\xff\x7f"
    (tmp_path / "bad.gguf").write_bytes(data)
    with pytest.raises(ModelError, match="eos_token_id"):
        ggufhead.read(tmp_path / "bad.gguf")
    made = repair.repair(tmp_path / "bad.gguf", tmp_path / "made.gguf", eos=head.token("eos"))
    assert made.read_bytes() == source.read_bytes()
    with pytest.raises(ModelError, match="eos_token_id"):  # not mended: no copy that no program takes
        repair.repair(tmp_path / "bad.gguf", tmp_path / "other.gguf", template="x")
    assert not (tmp_path / "other.gguf").exists()


def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shutil.copyfile(source, tmp_path / "x.gguf").read_bytes()
    (tmp_path / "link.gguf").symlink_to(tmp_path / "x.gguf")
    for name in ("x.gguf", "link.gguf"):
        with pytest.raises(ExportError, match="already"):
            repair.repair(tmp_path / "x.gguf", tmp_path / name, template="x")
    with pytest.raises(ExportError, match="no folder"):
        repair.repair(source, tmp_path / "none" / "x.gguf", template="x")
    with pytest.raises(ModelError, match="There is no token 9999"):
        repair.repair(source, tmp_path / "y.gguf", eos=9999)
    with pytest.raises(Stopped):
        repair.repair(source, tmp_path / "y.gguf", template="x", should_stop=lambda: True)
    monkeypatch.setattr(repair.disk, "free", lambda folder: 1000)
    with pytest.raises(ExportError, match="too little room"):
        repair.repair(source, tmp_path / "y.gguf", template="x")
    monkeypatch.undo()
    monkeypatch.setattr(os, "replace", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ExportError, match="disk is full"):
        repair.repair(source, tmp_path / "y.gguf", template="x")
    assert (tmp_path / "x.gguf").read_bytes() == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.gguf", "x.gguf"]
