"""What learns and how it begins: whatever the variant, what was trained is what is saved, merged and gone on from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_model

from studio import runs, worker
from studio.errors import ConfigError, Stopped
from studio.export import merge
from studio.train import noise

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128, "held_out": 0.2}
VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True, "learning_rate": 5e-4},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_niter_16": {"init_lora_weights": "pissa_niter_16"},
    "olora": {"init_lora_weights": "olora", "learning_rate": 3e-4},
    "loftq": {"init_lora_weights": "loftq", "quantize_base": "nf4"},
}


def train(model: Path, data: Path, method: str = "sft", parent: str = "", **settings: Any) -> tuple[runs.Run, Any]:
    given = {**FAST, "learning_rate": 1e-3, "lora_r": 4, **settings}
    run = runs.create(runs.RunConfig("train", "t", str(model), method, str(data), parent, given))
    return run, worker.work(run)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(torch.arange(4, 40)[None]).logits[0].float()
    return found


def as_peft_reads_it(base: Path, adapter: Path) -> torch.Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_saved_adapter_is_what_was_trained_and_what_is_merged(name: str, tiny: Path, sft_file: Path) -> None:
    given = VARIANTS[name]
    run, result = train(tiny, sft_file, epochs=2, **given)
    assert result["heldout"]["after"] < result["heldout"]["before"] - 0.1
    kept = {key: value for key, value in given.items() if key == "quantize_base"}
    _, child = train(tiny, sft_file, parent=str(run.dir), max_steps=1, **{**kept, "lora_r": _rank(run)})
    # LoftQ's adapter is saved against the 16-bit base; a child begins on the 4 bits of it
    near = 5e-3 if name == "loftq" else 2e-4
    assert child["heldout"]["before"] == pytest.approx(result["heldout"]["after"], abs=near)

    from transformers import AutoModelForCausalLM

    merge.write_model(tiny, run.adapter, run.dir / "merged")
    merged = AutoModelForCausalLM.from_pretrained(run.dir / "merged", dtype=torch.float32)
    assert torch.allclose(logits(merged), as_peft_reads_it(tiny, run.adapter), atol=0.02)  # 16-bit weights


def _rank(run: runs.Run) -> int:
    import json

    return int(json.loads((run.adapter / "adapter_config.json").read_text("utf-8"))["r"])


def test_nothing_is_moved_before_the_first_step_however_an_adapter_begins(tiny: Path, sft_file: Path) -> None:
    plain = train(tiny, sft_file, max_steps=1)[1]["heldout"]["before"]
    for start in ("pissa", "olora"):
        before = train(tiny, sft_file, max_steps=1, init_lora_weights=start)[1]["heldout"]["before"]
        assert before == pytest.approx(plain, abs=2e-4), start


def test_all_weights_learn_and_the_whole_model_is_gone_on_from(tiny: Path, sft_file: Path, pairs_file: Path) -> None:
    from safetensors.torch import load_file

    run, result = train(tiny, sft_file, epochs=2, tuning="full", learning_rate=5e-4)
    assert result["heldout"]["after"] < result["heldout"]["before"] - 0.1
    assert not run.adapter.exists() and (run.dir / "model" / "chat_template.jinja").is_file()
    old, new = (load_file(folder / "model.safetensors") for folder in (tiny, run.dir / "model"))
    assert all(not torch.equal(old[key].float(), new[key].float()) for key in old)

    dpo, told = train(tiny, pairs_file, "dpo", parent=str(run.dir), max_steps=3)
    first = next(item for item in dpo.events() if item["type"] == "step")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)  # the reference is the parent, not the first base
    assert [step.id for step in dpo.lineage()] == [run.id, dpo.id] and told["parent"] == str(run.dir)
    assert (dpo.adapter / "adapter_model.safetensors").is_file()

    again, _ = train(tiny, pairs_file, "dpo", parent=str(dpo.dir), max_steps=2, tuning="full")
    first = next(item for item in again.events() if item["type"] == "step")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_the_default_rate_of_a_full_run_is_a_tenth_and_said(tiny: Path, sft_file: Path) -> None:
    given = {**FAST, "tuning": "full", "max_steps": 1}
    run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=given))
    worker.work(run)
    notes = {item["code"]: item["text"] for item in run.events() if item["type"] == "note"}
    assert "2e-05" in notes["learning_rate"] and "all weights" in notes["device"]


@pytest.mark.parametrize("given", [{"tuning": "full"}, {"init_lora_weights": "pissa"}, {"neftune_noise_alpha": 5.0}])
def test_a_stopped_run_ends_as_if_it_had_not_been(given: dict[str, Any], tiny: Path, sft_file: Path) -> None:
    from safetensors.torch import load_file

    def weights(run: runs.Run) -> dict[str, torch.Tensor]:
        full = run.dir / "model" / "model.safetensors"
        return load_file(full if full.is_file() else run.adapter / "adapter_model.safetensors")

    whole, _ = train(tiny, sft_file, **given)
    settings = {**FAST, "learning_rate": 1e-3, "lora_r": 4, **given}
    halted = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=settings))
    steps: list[int] = []

    def follow(item: dict[str, Any]) -> None:
        if item["type"] == "step":
            steps.append(item["step"])

    with pytest.raises(Stopped):
        worker.work(halted, follow, lambda: len(steps) >= 2)
    worker.work(halted)
    one, other = weights(whole), weights(halted)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("method", "given", "field"),
    [
        ("sft", {"tuning": "full", "quantize_base": "nf4"}, "quantize_base"),
        ("sft", {"tuning": "full", "use_dora": True}, "use_dora"),
        ("reward", {"tuning": "full"}, "tuning"),
        ("sft", {"init_lora_weights": "loftq"}, "init_lora_weights"),
        ("sft", {"init_lora_weights": "pissa", "quantize_base": "nf4"}, "init_lora_weights"),
        ("sft", {"init_lora_weights": "pissa", "use_rslora": True}, "init_lora_weights"),
        ("dpo", {"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
        ("sft", {"optimizer": "paged_adamw_8bit"}, "optimizer"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(
    method: str, given: dict[str, Any], field: str, tiny: Path, sft_file: Path, pairs_file: Path
) -> None:
    if field == "optimizer" and torch.cuda.is_available():
        pytest.skip("paged optimizers work on CUDA")
    with pytest.raises(ConfigError) as caught:
        train(tiny, sft_file if method == "sft" else pairs_file, method, **given)
    assert caught.value.field == field and caught.value.remedy


def test_bf16_learns_as_float32_does_and_keeps_its_adapter_in_float32(tiny: Path, sft_file: Path) -> None:
    from safetensors.torch import load_file

    run, half = train(tiny, sft_file, dtype="bf16", epochs=2)
    _, exact = train(tiny, sft_file, dtype="float32", epochs=2)
    assert half["heldout"]["after"] == pytest.approx(exact["heldout"]["after"], rel=0.05)
    assert {t.dtype for t in load_file(run.adapter / "adapter_model.safetensors").values()} == {torch.float32}


def test_noise_is_scaled_by_the_length_of_each_sequence_and_gone_afterwards() -> None:
    """Two sequences of 3 and 5 tokens in one row, width 4: at most alpha / sqrt(L d) each."""
    layer = torch.nn.Embedding(10, 4)
    batch = {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]])}
    ids = torch.arange(8)[None]
    plain = layer(ids)
    torch.manual_seed(0)
    with noise.neftune(layer, batch, 6.0):
        moved = (layer(ids) - plain).abs()
    short, long = 6.0 / math.sqrt(3 * 4), 6.0 / math.sqrt(5 * 4)
    assert short / 2 < moved[0, :3].max() <= short and long / 2 < moved[0, 3:].max() <= long
    assert torch.equal(layer(ids), plain)


@pytest.mark.parametrize("given", [{"tuning": "full", "learning_rate": 5e-4}, {"use_dora": True}])
def test_the_exported_file_behaves_as_trained(given: dict[str, Any], tmp_path: Path, sft_file: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    base = make_model(tmp_path / "base", hidden_size=256, intermediate_size=256)
    run, _ = train(base, sft_file, epochs=2, **given)
    options = {"quants": ["Q8_0"], "out": str(tmp_path / "files"), "name": "t"}
    made = worker.work(runs.create(runs.RunConfig("export", "t", str(base), parent=str(run.dir), options=options)))
    lines = {line["name"]: line for line in made["certificate"]["lines"]}
    assert lines["numbers"]["ok"] and lines["prompts"]["ok"], lines  # two epochs do not teach to stop
