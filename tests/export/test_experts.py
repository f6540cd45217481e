"""Mixtures of experts: what is read and refused of them, what of them learns, and the files that come of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tampering
from making import write_jsonl
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_adapter_file import ROWS, kl, peft_logits
from test_architectures import CASES, compared, make, reference, sample

import studio
from studio import hardware, runs, worker
from studio.cli import doctor
from studio.errors import ConfigError, ModelError
from studio.export import adapter, certificate, gguf, merge
from studio.export import reference as numbers
from studio.export.known import of_run
from studio.models import check, ggufhead, mixture
from studio.models.shape import Shape
from studio.render import encode

KINDS = ("qwen3-moe", "mixtral")
FAST = {
    "quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 200,
    "learning_rate": 5e-3, "epochs": 8,
}  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, config = CASES[request.param]
    return make(tmp_path_factory.mktemp(request.param) / "model", kind, **config)


@pytest.fixture
def qwen(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, config = CASES["qwen3-moe"]
    return make(tmp_path / "qwen", kind, **config)


def train(base: Path, folder: Path, **settings: Any) -> runs.Run:
    data = write_jsonl(folder / "sft.jsonl", ROWS)
    run = runs.create(runs.RunConfig("train", "t", str(base), "sft", str(data), settings={**FAST, **settings}))
    worker.work(run)
    return run


def changed(folder: Path, **config: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **config}), "utf-8")
    return folder


# --- What is read, and what is refused before training ---


def test_a_mixture_can_be_trained_and_it_is_said_what_of_it_learns(base: Path) -> None:
    info = check.inspect(str(base))
    assert info.exportable and info.use.startswith("can be trained (attention alone learns, the experts")
    assert info.parameters == pytest.approx(info.shape.parameters, rel=0.005)  # but for the norms of q and k
    row = doctor._model(str(base))
    assert row["ok"] and "attention alone learns" in row["found"]


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("qwen3-moe", {"norm_topk_prob": False}, "norm_topk_prob = True built in, this model has False"),
        ("qwen3-moe", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen3-moe", {"attention_bias": True}, "attention_bias"),
        ("qwen3-moe", {"hidden_act": "gelu"}, "hidden_act = 'silu' built in, this model has 'gelu'"),
        ("mixtral", {"sliding_window": 64}, "sliding_window = None built in, this model has 64"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_said_before_training(
    kind: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    name, config = CASES[kind]
    folder = make(tmp_path / "model", name, **{**config, **changes})
    info = check.inspect(str(folder))
    assert not info.exportable and said in info.use
    assert said in doctor._model(str(folder))["found"] and not doctor._model(str(folder))["ok"]
    with pytest.raises(ModelError, match="not trained either"):
        train(folder, tmp_path)


def test_a_window_as_long_as_the_context_is_none(tmp_path: Path) -> None:
    kind, config = CASES["mixtral"]
    assert check.inspect(str(make(tmp_path / "model", kind, **config, sliding_window=256))).exportable


@pytest.mark.parametrize("changes", [{"decoder_sparse_step": 2}, {"mlp_only_layers": [1]}])
def test_a_model_with_plain_layers_between_is_read_and_not_trained(changes: dict[str, Any], tmp_path: Path) -> None:
    kind, config = CASES["qwen3-moe"]
    info = check.inspect(str(make(tmp_path / "model", kind, **config, **changes)))
    assert not info.exportable and next(iter(changes)) in info.use and "read and previewed" in info.use


def _weights(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return do


def _fused(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, save_original_format=False)


DOWN = "model.layers.1.mlp.experts.{}.down_proj.weight"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_weights(lambda found: found.pop(DOWN.format(2))), "lack model.layers.1.mlp.experts.2.down_proj"),
        (_weights(lambda found: found.update({DOWN.format(5): found[DOWN.format(0)].clone()})), "there are 5 in a"),
        (lambda folder: changed(folder, num_local_experts=4), "is (5, 64), config.json says (4, 64)"),
        (lambda folder: changed(folder, num_experts_per_tok=6), "A token asks 6 experts"),
        (lambda folder: changed(folder, num_experts_per_tok=0), "no usable num_experts_per_tok"),
        (lambda folder: changed(folder, num_local_experts=None), "no usable num_local_experts"),
        (lambda folder: changed(folder, moe_intermediate_size=48), "config.json says (48, 64)"),
        (_fused, "holds the experts of a layer in one"),
    ],
)
def test_experts_that_are_not_what_config_json_promises_are_refused(
    damage: Callable[[Path], object], said: str, qwen: Path
) -> None:
    damage(qwen)
    with pytest.raises(ModelError) as caught:
        check.inspect(str(qwen))
    assert said in caught.value.message and caught.value.remedy


def test_all_weights_of_a_mixture_do_not_learn(qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="router would unlearn") as caught:
        train(qwen, tmp_path, tuning="full")
    assert caught.value.field == "tuning" and "lora" in caught.value.remedy


# --- What a run of it takes ---


def test_memory_counts_all_experts_and_an_adapter_on_attention() -> None:
    """Qwen3-30B-A3B as its config.json has it: 30.53e9 weights, its makers say."""
    config = {
        "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
        "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "num_experts": 128, "num_experts_per_tok": 8, "tie_word_embeddings": False,
    }  # fmt: skip
    shape = Shape.of(config, 151936)
    assert (shape.experts, shape.used, shape.ffn) == (128, 8, 768)
    assert shape.parameters == pytest.approx(30.532e9, rel=1e-4)
    full = hardware.estimate(shape, quantize_base="none", lora_r=16)
    assert full.weights == pytest.approx(2 * 30.532e9 / 2**30, rel=1e-3), "16 bits a weight, asked or not"
    # q: 2048 -> 4096, o the other way, k and v: 2048 -> 512; weight, gradient and two averages of 4 bytes
    assert full.adapter * 2**30 == pytest.approx(48 * 16 * (2 * 6144 + 2 * 2560) * 16)
    # 4 bits hold attention alone: 48 x (2 x 2048 x 4096 + 2 x 2048 x 512) of 30.5e9
    small = hardware.estimate(shape, quantize_base="nf4", lora_r=16)
    assert (full.weights - small.weights) * 2**30 == pytest.approx(48 * 18.874e6 * (2 - 4.127 / 8), rel=1e-3)
    card = hardware.Machine("", "", 2, 64.0, 100.0, "card", 80.0, "cuda", "2", True, "", "", bf16=True)
    assert hardware.chosen_on(card, shape, {})["quantize_base"] == "none"


# --- Trained, and in files ---


def test_a_trained_mixture_is_certified_in_every_type_and_a_changed_expert_is_seen(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    run = train(base, tmp_path)
    assert [event for event in run.events() if event.get("code") == "experts"]
    with safe_open(run.adapter / "adapter_model.safetensors", "pt") as opened:
        layers = {key.partition(".lora_")[0].rpartition(".")[2] for key in opened.keys() if ".lora_" in key}  # noqa: SIM118
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj"}
    made = studio.export_model(str(run.dir), quants=["F16", "Q8_0", "Q4_K_M"], out=tmp_path / "files")
    red = [line for line in made["certificate"]["lines"] if line["ok"] is False]
    assert made["certificate"]["ok"] and not red
    foreseen = mixture.of_folder(base)
    assert foreseen.experts == check.inspect(str(base)).shape.experts
    for file in made["files"]:
        told = mixture.predict(file["type"], foreseen)
        found = {tensor.name: tensor.type_name for tensor in ggufhead.read(Path(file["path"])).tensors}
        assert {found[name] for name in found if "ffn_gate_inp" in name} == {"F32"}
        assert sorted(found.values()) == sorted(type_ for type_, count in told.types.items() for _ in range(count))
    known = of_run(run)
    good = Path(made["files"][0]["path"])
    for name in ("blk.1.ffn_down_exps.weight", "blk.0.ffn_gate_inp.weight"):
        bad = tampering.tamper_tensor(good, tmp_path / "bad.gguf", name)
        lines = certificate.make(bad, known, numbers.make(known, tmp_path))["lines"]
        assert "tensors" in {line["name"] for line in lines if line["ok"] is False}


def test_its_adapter_is_the_same_merged_beside_and_in_transformers(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    run = train(base, tmp_path)
    renderer = encode.load(base)
    row = sample(check.inspect(str(base)).vocab_size)[1]
    logits = peft_logits(run, row)
    merged = gguf.write(base, run.adapter, tmp_path / "merged.gguf", renderer, name="x", dtype="F32")
    assert kl(merged, None, logits, row, tmp_path) < 1e-5
    plain = gguf.write(base, None, tmp_path / "base.gguf", renderer, name="x", dtype="F32")
    assert kl(plain, None, logits, row, tmp_path) > 1e-3, "the adapter must show"
    chat = gguf.write(base, run.adapter, tmp_path / "chat.gguf", renderer, name="x", dtype="F32", rows_only=True)
    lora = adapter.write(base, run.adapter, tmp_path / "lora.gguf", rows_in_base=True)
    assert kl(chat, lora, logits, row, tmp_path) < 1e-5
    files = merge.write_model(base, run.adapter, tmp_path / "folder", max_shard=100_000)
    assert len(files) > 1 and check.inspect(str(tmp_path / "folder")).exportable
    ours = reference(tmp_path / "folder", [row])
    assert np.abs(ours - logits).mean() < 0.02  # bf16 rounds the merged weights, and here or there an expert changes
    again = gguf.write(tmp_path / "folder", None, tmp_path / "again.gguf", renderer, name="x", dtype="F32")
    assert compared(again, [row], ours, tmp_path) < 1e-5


def test_an_adapter_of_others_on_single_experts_is_merged_and_has_no_file_of_its_own(
    base: Path, tmp_path: Path
) -> None:
    """Libraries that know the experts of a checkpoint as layers put adapters on them."""
    run = train(base, tmp_path, epochs=1)
    folder = Path(shutil.copytree(run.adapter, tmp_path / "adapter"))
    source = next(name for name in merge.Merged(base).names if ".layers.1." in name and ".experts.2." in name)
    layer, (out, wide) = source.removesuffix(".weight"), merge.Merged(base).shape(source)
    rng, config = np.random.default_rng(0), json.loads((folder / "adapter_config.json").read_text("utf-8"))
    import torch

    halves = {"A": (config["r"], wide), "B": (out, config["r"])}
    found = load_file(folder / "adapter_model.safetensors")
    for half, shape in halves.items():
        key = f"base_model.model.{layer}.lora_{half}.weight"
        found[key] = torch.from_numpy(rng.normal(0, 0.1, shape).astype(np.float32))
    save_file(found, folder / "adapter_model.safetensors")
    before, after = merge.Merged(base, run.adapter), merge.Merged(base, folder)
    assert [name for name in before.names if not torch.equal(before.tensor(name), after.tensor(name))] == [source]
    with pytest.raises(ModelError, match="no place in GGUF") as caught:
        adapter.write(base, folder, tmp_path / "lora.gguf", rows_in_base=True)
    assert "merged" in caught.value.remedy
