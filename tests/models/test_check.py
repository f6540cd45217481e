"""A model folder is looked at before anything is loaded from it."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.errors import ModelError
from studio.models import check, family, hub


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def test_a_good_model_is_described(tiny: Path) -> None:
    info = check.inspect(str(tiny))
    assert (info.architecture, info.layers, info.hidden_size, info.exportable) == ("LlamaForCausalLM", 2, 64, True)
    assert info.template == "none of its own: ChatML is added" and info.end_of_turn == "<|im_end|>"
    rows = info.vocab_size * 64
    layer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 128 + 2 * 64
    assert info.parameters == rows + 2 * layer + 64
    assert (info.dtype, info.bytes) == ("BF16", 2 * info.parameters)


def _config(change: dict[str, object]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return do


def _header(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return do


def _overlap(header: dict[str, object]) -> None:
    names = [name for name in header if name != "__metadata__"]
    header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]  # type: ignore[index]


def _index(weight_map: dict[str, str]) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("[1]"), "not an object"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (_config({"auto_map": {"AutoModel": "x.Y"}}), "own Python code"),
        (_config({"_attn_implementation_internal": "evil/kernel"}), "foreign code"),
        (_config({"hidden_size": "big"}), "no usable hidden_size"),
        (lambda f: (f / "modeling.py").write_text("import os"), "Python code"),
        (_pickle, "pickle"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (_truncate, "cut off"),
        (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"x"), "header is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b"abc"), "too short"),
        (_header(_overlap), "overlap|does not fit"),
        (_index({"a": "../outside.safetensors"}), "outside the folder"),
        (_index({"a": "model-00002.safetensors"}), "missing"),
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
        (_config({"vocab_size": 100}), "embedding has 100 rows"),
    ],
)  # fmt: skip
def test_a_bad_folder_is_refused_with_the_reason(folder: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=says) as caught:
        check.inspect(str(folder))
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["", "../x/y", "a b/c", "nothing", "x/y/z", "C:\\models\\x"])
def test_what_is_no_model_says_what_one_is(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        hub.resolve(name)
    assert "starter" in caught.value.remedy


VOCABULARIES = {
    "llama3": {"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
    "gemma": {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"},
    "chatml": {"<|endoftext|>", "<|im_start|>", "<|im_end|>"},
    "phi3": {"<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"},
}


@pytest.mark.parametrize("name", sorted(VOCABULARIES))
def test_the_family_whose_tokens_a_base_knows_is_chosen_and_its_turn_end_stops_first(name: str) -> None:
    vocabulary = VOCABULARIES[name]
    chosen = family.choose("LlamaForCausalLM", vocabulary)
    assert chosen.name == name == family.identify(chosen.template)
    assert family.stop_tokens(chosen.template, vocabulary, None)[0] == chosen.end_of_turn


def test_a_token_of_another_family_is_no_stop_token_unless_the_template_writes_it() -> None:
    vocabulary = VOCABULARIES["chatml"] | VOCABULARIES["phi3"]
    stops = family.stop_tokens(family.FAMILIES["chatml"].template, vocabulary, "<|endoftext|>")
    assert stops == ["<|im_end|>", "<|endoftext|>"]
