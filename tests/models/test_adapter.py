"""An adapter of others is looked at before a library acts on it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from making import make_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from studio.errors import ModelError
from studio.models import adapter, check
from studio.models.check import ModelInfo

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def base(tiny: Path) -> ModelInfo:
    return check.inspect(str(tiny))


@pytest.fixture(scope="module")
def made(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter as PEFT writes it, with two token rows trained."""
    model = AutoModelForCausalLM.from_pretrained(tiny, trust_remote_code=False)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", trainable_token_indices=[2, 3]
    )
    folder = tmp_path_factory.mktemp("adapter") / "a"
    peft.get_peft_model(model, config).save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    target = tmp_path / "adapter"
    target.mkdir()
    for path in made.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_what_peft_writes_is_described(folder: Path, base: ModelInfo) -> None:
    info = adapter.check(folder, base)
    assert (info.r, info.lora_alpha, info.scale, info.tokens) == (4, 8.0, 2.0, [2, 3])
    names = [f"model.layers.{i}.{m}" for i in (0, 1) for m in ("mlp.down_proj", "self_attn.q_proj")]
    assert info.modules == names
    # two layers of q_proj (64 -> 64) and down_proj (128 -> 64), two rows of 64
    assert info.parameters == 2 * (4 * (64 + 64) + 4 * (128 + 64)) + 2 * 64


def test_rank_stabilised_scale(folder: Path, base: ModelInfo) -> None:
    _config(use_rslora=True)(folder)
    assert adapter.check(folder, base).scale == 4.0  # 8 / sqrt(4)


def _config(**change: Any) -> Change:
    def do(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return do


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def do(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")

    return do


_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
_SLIP = io.BytesIO()
with zipfile.ZipFile(_SLIP, "w") as slip:
    slip.writestr("../../evil.txt", "x")


def _eighth_layer(tensors: dict[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if "layers.0.self_attn" in key]:
        tensors[key.replace("layers.0", "layers.7")] = tensors.pop(key)


def _pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        # the named cases: r = 0, r = 10^9, a catastrophic pattern, pickle only, shapes, archives; another base below
        (_config(r=0), "rank is 0"),
        (_config(r=10**9), "rank is 1000000000"),
        (_config(target_modules="(a|a)*" * 20 + "$"), "a pattern can be made so that matching it never ends"),
        (_pickled, "pickle"),
        (_tensors(lambda t: t.update({_A: torch.zeros(4, 32)})), "another base model"),
        (lambda f: (f / "adapter_model.safetensors").write_bytes(_SLIP.getvalue()), "header is damaged"),
        # what else comes in
        (_config(r="4"), "rank is '4'"),
        (_config(r=True), "rank is True"),
        (_config(r=8), "another base model"),
        (_config(lora_alpha=float("inf")), "alpha is inf"),
        (_config(lora_alpha=float("nan")), "alpha is nan"),
        (_config(lora_alpha=None), "alpha is None"),
        (_config(target_modules=["q_proj", "(a+)+$"]), "no list of plain names"),
        (_config(target_modules=[]), "no list of plain names"),
        (_config(target_modules=None), "no list of plain names"),
        (_config(exclude_modules="(a+)+$"), "exclude_modules is the pattern"),
        (_config(auto_mapping={"parent_library": "os", "base_model_class": "x"}), "names code to import"),
        (_config(use_dora=True), "uses DoRA and lacks"),
        (_config(init_lora_weights="pissa"), "began as 'pissa'"),
        (_config(init_lora_weights={"a": 1}), "began as"),
        (_config(modules_to_save=["lm_head"]), "modules_to_save"),
        (_config(rank_pattern={".*": 3}), "rank_pattern"),
        (_config(bias="all"), "bias"),
        (_config(peft_type="IA3"), "'IA3'"),
        (_config(peft_type=["LORA"]), "kind"),
        (_config(trainable_token_indices=[2, "3"]), "trained tokens"),
        (_config(trainable_token_indices={"a": [2, 3], "b": [2, 4]}), "trained tokens"),
        (_config(trainable_token_indices=[2, 3, 4]), "not 3 rows of 64"),
        (_config(trainable_token_indices=None), "not LoRA"),
        (_tensors(lambda t: t.pop(_A)), "only one half"),
        (_tensors(_eighth_layer), "the base lacks"),
        (_tensors(lambda t: t.update({"base_model.model.lm_head.weight": torch.zeros(2, 2)})), "not LoRA"),
        (_tensors(lambda t: t.update({_A: t[_A].to(torch.int8)})), "stored as I8"),
        (_tensors(lambda t: t.clear()), "no LoRA weights"),
        (lambda f: (f / "adapter_model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "adapter_config.json").unlink(), "adapter_config.json is missing"),
        (lambda f: (f / "adapter_config.json").write_text("[]"), "not an object"),
        (lambda f: (f / "modeling.py").write_text("raise SystemExit"), "Python code"),
        (lambda f: _pipe(f / "adapter_config.json"), "not a plain file"),
    ],
)
def test_a_bad_adapter_is_refused_with_the_reason_at_once(
    folder: Path, base: ModelInfo, spoil: Change, says: str
) -> None:
    spoil(folder)
    began = time.monotonic()
    with pytest.raises(ModelError, match=says) as caught:
        adapter.check(folder, base)
    assert caught.value.remedy and time.monotonic() - began < 1


def test_another_base_is_told_by_its_id_and_by_its_shapes(folder: Path, base: ModelInfo, tmp_path: Path) -> None:
    _config(base_model_name_or_path="org/that")(folder)
    adapter.check(folder, base)  # a local folder has no id: the shapes decide
    with pytest.raises(ModelError, match="made for org/that, this base is org/this"):
        adapter.check(folder, dataclasses.replace(base, name="org/this"))
    adapter.check(folder, dataclasses.replace(base, name="Org/That"))
    wide = check.inspect(str(make_model(tmp_path / "wide", hidden_size=128)))
    with pytest.raises(ModelError, match=r"not 2 rows of 128|the base's is"):
        adapter.check(folder, wide)
    short = check.inspect(str(make_model(tmp_path / "short", num_hidden_layers=1)))
    with pytest.raises(ModelError, match=r"model\.layers\.1"):
        adapter.check(folder, short)


@pytest.mark.parametrize("name", ["adapter.zip", "adapter.tar.gz", "adapter"])
def test_archives_are_refused_unopened(tmp_path: Path, base: ModelInfo, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.write_bytes(_SLIP.getvalue())
    with pytest.raises(ModelError, match="opens no archives"):
        adapter.check(path, base)
    assert not list(tmp_path.rglob("evil.txt"))
