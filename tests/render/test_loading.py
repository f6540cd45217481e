"""A renderer is loaded from what the look at a model folder would let through, and from nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.errors import ModelError
from studio.render import encode

TEMPLATE = "chat_template.jinja"


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def linked(name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder.parent / "outside").write_text("secret")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("../outside")

    return do


def piped(name: str) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return do


def far(folder: Path) -> None:
    """A token that the embedding has no row for."""
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["vocab"]["far"] = 9999
    path.write_text(json.dumps(data))


def typeless(folder: Path) -> None:
    """A tokenizer with a vocabulary, but of no kind that the library knows."""
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0}, "type": "None"}}))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "tokenizer.json").write_text('{"a": 1}'), "no usable vocabulary"),
        (lambda f: (f / "tokenizer.json").write_text("{"), "not valid JSON"),
        (typeless, "tokenizer cannot be loaded"),
        (far, "'far' is token 9999, the model's embedding has 430 rows"),
        (linked("tokenizer.json"), "leaves the model's folder"),
        (linked("config.json"), "leaves the model's folder"),
        (linked(TEMPLATE), "leaves the model's folder"),
        (piped("config.json"), "not a plain file"),
        (piped(TEMPLATE), "not a plain file"),
        (lambda f: (f / TEMPLATE).write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda f: (f / TEMPLATE).write_bytes(b"x" * (5 << 20)), "larger than 4 MB"),
        (lambda f: (f / TEMPLATE).write_text("a\0b"), "NUL"),
        (lambda f: (f / "tokenizer_config.json").write_text("[]"), "not an object"),
    ],
)
def test_a_folder_that_cannot_be_trusted_is_refused_with_a_remedy(
    folder: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=says) as caught:
        encode.load(folder)
    assert caught.value.remedy and caught.value.exit_code == 2


def test_a_folder_that_only_carries_a_tokenizer_loads(folder: Path, tmp_path: Path) -> None:
    """A run's folder: an adapter, and tokens that the base model has no rows for."""
    run = tmp_path / "run"
    run.mkdir()
    far(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, run)
    (run / "adapter_config.json").write_text("{}")
    (run / "adapter_model.safetensors").write_bytes(b"not looked at")
    assert "far" in encode.load(run).tokenizer.get_vocab()
