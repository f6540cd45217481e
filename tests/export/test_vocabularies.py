"""Real vocabularies, as llama.cpp's own archive carries them with probes and the ids that must come out."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import ModelError
from studio.export import vocab
from studio.models import check, splitting

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

_ISOLATED = {"behavior": "Isolated", "invert": False}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, **_ISOLATED}


_DIGITS = {"type": "Digits", "individual_digits": True}
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
#: how the makers of these tokenizers publish them, where reading the vocabulary alone cannot tell
PUBLISHED: dict[str, list[dict[str, Any]]] = {
    "deepseek-coder": [
        _split("[\r\n]"), _split("\\s?\\p{L}+"), _split("\\s?\\p{P}+"), _split(_CJK), _DIGITS, _BYTES
    ],
    "starcoder": [_DIGITS, {**_BYTES, "use_regex": True}],
}  # fmt: skip


@functools.cache
def archive() -> Path:
    """Fetch llama-cpp-python's source archive from the package index, once per machine, and unpack its vocabularies."""
    version = metadata.version("llama-cpp-python")
    folder = Path(tempfile.gettempdir()) / f"studio-tests-llama-cpp-python-{version}"
    done = folder / "models"
    if not done.is_dir():
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python"]
        fetched = subprocess.run([*command, "-d", str(folder), f"llama-cpp-python=={version}"], capture_output=True)
        found = list(folder.glob("*.tar.gz"))
        if fetched.returncode or not found:
            pytest.skip("the package index does not give llama-cpp-python's source archive")
        with tarfile.open(found[0]) as tar:
            for member in tar:
                name = Path(member.name).name
                wanted = name.startswith("ggml-vocab-") or member.name.endswith("src/llama-vocab.cpp")
                if wanted and member.isfile():
                    member.name = f"models/{name}"
                    tar.extract(member, folder, filter="data")
        found[0].unlink()
    return done


def deepseek() -> list[dict[str, Any]]:
    """Give the rules of DeepSeek LLM, with its long list of letters, as llama.cpp's source quotes them."""
    source = (archive() / "llama-vocab.cpp").read_text("utf-8")
    block = source.partition("case LLAMA_VOCAB_PRE_TYPE_DEEPSEEK_LLM:")[2].partition("break;")[0]
    rules = [json.loads(line.strip().rstrip(",")) for line in block.splitlines() if line.strip().startswith('"')]
    return [*(_split(rule) for rule in rules[:-1]), _DIGITS, _BYTES]


def tokenizer(name: str, folder: Path) -> Path:
    """Write a tokenizer.json from a vocabulary of the archive, cutting as its makers publish it."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(archive(), gguf_file=f"ggml-vocab-{name}.gguf").save_pretrained(folder)
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    steps = deepseek() if name == "deepseek-llm" else PUBLISHED.get(name)
    if steps is not None:
        data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    if name == "llama-bpe":
        data["model"]["ignore_merges"] = True
    path.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cutting"),
    [
        ("llama-bpe", "llama-bpe"),
        ("qwen2", "qwen2"),
        ("gpt-2", "gpt-2"),
        ("starcoder", "smollm"),
        ("phi-3", ""),
        ("deepseek-llm", "deepseek-llm"),
        ("deepseek-coder", "deepseek-coder"),
    ],
)
def test_a_real_vocabulary_gives_llama_cpps_own_ids(name: str, cutting: str, tmp_path: Path) -> None:
    import gguf

    folder = tokenizer(name, tmp_path)
    data = check.read_json(folder / "tokenizer.json")
    if cutting:
        assert (splitting.name(data) or vocab.tried(folder)) == cutting
    special = check.special_tokens(folder)
    bos, eos = special["bos_token"], special["eos_token"]
    file = tmp_path / "vocabulary.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    rows = max(check.read_vocabulary(folder).values()) + 1
    vocab.add_vocabulary(writer, folder, rows, template="", bos=bos, eos=eos, pad=None, end_of_turn=None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    probes = (archive() / f"ggml-vocab-{name}.gguf.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    lines = (archive() / f"ggml-vocab-{name}.gguf.out").read_text("utf-8").split("\n")
    wanted = [[int(number) for number in line.split()] for line in lines]
    assert len(probes) == len(wanted) > 40
    child = Child(ENGINE)
    try:
        found = child.ask({"op": "tokens", "gguf": str(file), "texts": probes}, timeout=300)["ids"]
    finally:
        child.close()
    differing = [probe for probe, ours, theirs in zip(probes, found, wanted, strict=True) if ours != theirs]
    assert not [probe for probe in differing if probe], differing


def test_a_cutting_that_llama_cpp_does_not_know_is_refused_with_the_reason(tmp_path: Path) -> None:
    from making import make_model

    make_model(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [_split("[aeiou]"), _BYTES]}
    path.write_text(json.dumps(data), "utf-8")
    assert splitting.name(data) == "" == splitting.problem(data)
    with pytest.raises(ModelError, match="no name for the way"):
        vocab.tried(tmp_path)


def test_a_cutting_without_a_name_is_found_by_trying(tmp_path: Path) -> None:
    """The rule of GPT-2 as an expression of its own, as some write it, is still GPT-2's."""
    from making import make_model

    make_model(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    rule = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [_split(rule), _BYTES]}
    path.write_text(json.dumps(data), "utf-8")
    assert splitting.name(data) == ""
    assert vocab.tried(tmp_path) == "gpt-2"
