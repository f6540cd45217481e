"""A model whose tokenizer is tokenizer.model alone: checked, previewed, trained, exported; its scores in the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf as library
import pytest
from hubserver import HubServer, folder
from making import write_jsonl
from spmodels import BYTE, CONTROL, GEMMA, NORMAL, UNKNOWN, message, trained
from test_adapter_file import ROWS
from test_architectures import compared, make, reference, sample
from test_vocabularies import archive

import studio
from studio import runs, worker
from studio.chat.session import ENGINE
from studio.child import Child
from studio.export import gguf, merge, probes, vocab
from studio.models import check, download, ggufhead, tokenizer
from studio.render import encode, fast, inspect

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


def model_of(data: dict[str, Any]) -> bytes:
    """Write a tokenizer.json's vocabulary as a tokenizer.model: a piece's score is minus the rank of its first pair."""
    rank: dict[str, int] = {}
    for at, pair in enumerate(data["model"]["merges"]):
        rank.setdefault("".join(pair), at)
    special = {token["content"] for token in data["added_tokens"]}
    pieces = []
    for token in sorted(data["model"]["vocab"] | {t["content"]: t["id"] for t in data["added_tokens"]}, key=_id(data)):
        kind = UNKNOWN if token == "<unk>" else CONTROL if token in special else NORMAL
        kind = BYTE if token.startswith("<0x") else kind
        pieces.append((token, -float(rank.get(token, len(rank))) if kind == NORMAL else 0.0, kind))
    return message(pieces)


def _id(data: dict[str, Any]) -> Any:
    ids = data["model"]["vocab"] | {token["content"]: token["id"] for token in data["added_tokens"]}
    return ids.__getitem__


def make_old(folder: Path, kind: str = "Mistral", **config: Any) -> Path:
    """Write a tiny model as older repositories are: no tokenizer.json, a tokenizer_config.json that names tokens."""
    make(folder, kind, **config)
    data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.model").write_bytes(model_of(data))
    (folder / "tokenizer.json").unlink()
    said = {"tokenizer_class": "LlamaTokenizer", "bos_token": {"content": "<s>"}, "eos_token": "</s>", "legacy": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_old(tmp_path_factory.mktemp("old") / "model", sliding_window=None)


def tokens(file: Path, texts: list[str]) -> list[list[int]]:
    child = Child(ENGINE)
    try:
        found: list[list[int]] = child.ask({"op": "tokens", "gguf": str(file), "texts": texts}, timeout=300)["ids"]
        return found
    finally:
        child.close()


def scores_in(file: Path) -> dict[str, float]:
    found = library.GGUFReader(file)
    return dict(
        zip(
            found.fields["tokenizer.ggml.tokens"].contents(),
            found.fields["tokenizer.ggml.scores"].contents(),
            strict=True,
        )
    )


def words(folder: Path, out: Path, scores: dict[str, float]) -> Path:
    """Write a folder's vocabulary alone."""
    rows = max(check.read_vocabulary(folder).values()) + 1
    special = check.special_tokens(folder)
    writer = library.GGUFWriter(out, "llama")
    vocab.add_vocabulary(
        writer, folder, rows, template="", bos=special["bos_token"], eos=None, pad=None, end_of_turn=None, scores=scores
    )
    gguf.head(writer)
    return out


def test_it_is_checked_and_previewed(old: Path, tmp_path: Path) -> None:
    info = check.inspect(str(old))
    assert info.exportable and info.use == "can be trained and exported" and "</s>" in info.stop_tokens
    renderer = encode.load(old)
    assert renderer.document_start == "<s>" and renderer.tokenizer.is_fast
    data = write_jsonl(tmp_path / "sft.jsonl", ROWS)
    asked = {"op": "preview", "data": str(data), "model": str(old), "n": 1}
    (*_, answer) = inspect.handle(asked, lambda: False)
    (shown,) = answer["rows"]
    assert shown["text"].startswith("<s>") and "A sum." in shown["text"] and shown["trained_share"] > 0


def test_without_a_tokenizer_config_the_file_names_bos_and_eos(old: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(old, tmp_path / "model"))
    (folder / "tokenizer_config.json").unlink()
    assert check.special_tokens(folder) == {"bos_token": "<s>", "eos_token": "</s>"}
    assert encode.load(folder).tokenizer.eos_token == "</s>"


def test_a_trained_model_is_certified_and_its_scores_are_the_files_own(old: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "sft.jsonl", ROWS)
    given = {
        "quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 200,
        "learning_rate": 5e-3, "epochs": 8,
    }  # fmt: skip
    run = runs.create(runs.RunConfig("train", "t", str(old), "sft", str(data), settings=given))
    worker.work(run)
    made = studio.export_model(str(run.dir), quants=["F16"], out=tmp_path / "files")
    lines = {line["name"]: line for line in made["certificate"]["lines"]}
    assert made["certificate"]["ok"], [line for line in lines.values() if line["ok"] is False]
    assert all(lines[name]["ok"] for name in ("token ids", "prompts", "ending", "numbers", "tensors", "adapter"))
    file = Path(made["files"][0]["path"])
    own, found = tokenizer.scores(old), scores_in(file)
    assert len(own) > 100 and own.items() <= found.items()
    assert max(score for token, score in found.items() if token not in own) < min(own.values())
    # and merged, as a folder for other programs
    merge.write_model(old, run.adapter, tmp_path / "merged")
    again = encode.load(tmp_path / "merged")
    texts = list(probes.TEXTS)
    assert vocab.ids(again.tokenizer, texts) == vocab.ids(encode.load(old).tokenizer, texts) == tokens(file, texts)


def test_a_base_is_converted_with_transformers_logits_and_merged_with_a_tokenizer_json(
    old: Path, tmp_path: Path
) -> None:
    file = gguf.write(old, None, tmp_path / "x.gguf", encode.load(old), name="x", dtype="F32")
    rows = sample(check.inspect(str(old)).vocab_size)
    assert compared(file, rows, reference(old, rows), tmp_path) < 1e-5
    assert ggufhead.read(file).metadata["tokenizer.ggml.add_space_prefix"] is True
    merge.write_model(old, None, tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "tokenizer.json").read_text("utf-8")) == tokenizer.read(old)


@pytest.mark.parametrize("settings", [{}, GEMMA], ids=["llama", "gemma"])
def test_scores_and_ranks_give_the_ids_of_sentencepiece(settings: dict[str, Any], tmp_path: Path) -> None:
    path = trained(tmp_path / "tokenizer.model", **settings)
    from sentencepiece import SentencePieceProcessor

    theirs = SentencePieceProcessor(model_file=str(path))
    texts = [text for text in probes.TEXTS if text and "\u2581" not in text]
    texts += ["a" * 37, "  " * 9 + "x", "\n\n\n y <table> <tabl", "</s> <unk> <s>"]
    wanted = [theirs.encode(text) for text in texts]
    own = words(tmp_path, tmp_path / "own.gguf", tokenizer.scores(tmp_path))
    ranks = words(tmp_path, tmp_path / "ranks.gguf", {})
    assert scores_in(own) != scores_in(ranks)
    assert tokens(own, texts) == wanted
    assert tokens(ranks, texts) == wanted


def test_a_repository_without_tokenizer_json_is_fetched_whole(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
        server.add("org/old", folder(old))
        assert check.inspect("org/old").exportable
        seen = len(server.seen)
        info = check.inspect("org/old")
        assert len(server.seen) == seen, "it is here, whole"
        assert (Path(info.folder) / "tokenizer.model").read_bytes() == (old / "tokenizer.model").read_bytes()


@pytest.mark.slow
def test_llama_2s_own_vocabulary_gives_its_ids(tmp_path: Path) -> None:
    """As llama.cpp's archive carries it, with probes; SentencePiece itself is asked where it is installed."""
    found = library.GGUFReader(archive() / "ggml-vocab-llama-spm.gguf")
    listed = (found.fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type"))
    (tmp_path / "tokenizer.model").write_bytes(message(zip(*listed, strict=True)))
    given = (archive() / "ggml-vocab-llama-spm.gguf.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    lines = (archive() / "ggml-vocab-llama-spm.gguf.out").read_text("utf-8").split("\n")
    wanted = [[int(number) for number in line.split()] for line in lines][: len(given)]
    assert len(given) > 40 and vocab.ids(fast.load(tmp_path), given) == wanted
    assert tokens(words(tmp_path, tmp_path / "own.gguf", tokenizer.scores(tmp_path)), given) == wanted
    assert tokens(words(tmp_path, tmp_path / "ranks.gguf", {}), given) == wanted
    spm = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    assert [theirs.encode(text) for text in given] == wanted
