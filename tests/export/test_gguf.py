"""Exported files against transformers and against llama.cpp reading them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tampering
from making import make_model

import studio
from studio import runs, worker
from studio.chat.session import ENGINE
from studio.child import Child
from studio.data.records import Message
from studio.errors import ExportError, ModelError
from studio.export import certificate, gguf, merge, quantize, reference
from studio.export.known import Known, of_run
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128}


def train(model: Path, data: Path, **settings: Any) -> runs.Run:
    given = {**FAST, "learning_rate": 2e-3, **settings}
    run = runs.create(runs.RunConfig("train", "t", str(model), "sft", str(data), settings=given))
    worker.work(run)
    return run


@pytest.fixture
def sft(tiny: Path, sft_file: Path) -> runs.Run:
    return train(tiny, sft_file)


def kl(path: Path, base: Path, adapter: Path | None, renderer: encode.Renderer, folder: Path) -> float:
    """Mean KL of a file to transformers on real token ids, computed by peft and by llama.cpp, not by our merge."""
    import numpy as np
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if len(renderer.tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(renderer.tokenizer), mean_resizing=False)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    text = "<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n<|im_start|>assistant\nThe capital of France is 7."
    row = renderer.tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([row])).logits[0].float().numpy()
    np.save(folder / "reference.npy", logits)
    child = Child(ENGINE)
    try:
        request = {"op": "compare", "gguf": str(path), "rows": [row], "reference": str(folder / "reference.npy")}
        return float(child.ask(request)["kl"])
    finally:
        child.close()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tie_word_embeddings": False, "num_key_value_heads": 4},
        {"head_dim": 32},
        {"attention_bias": True},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ],
    ids=["tied-gqa", "untied", "head-dim", "bias", "llama3-rope", "linear-rope"],
)
@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_a_converted_llama_gives_transformers_logits(tmp_path: Path, config: dict[str, Any], dtype: str) -> None:
    base = make_model(tmp_path / "model", **config)
    renderer = encode.load(base)
    path = gguf.write(base, None, tmp_path / "x.gguf", renderer, name="x", dtype=dtype)
    assert kl(path, base, None, renderer, tmp_path) < 1e-5


def test_an_exported_run_is_the_adapter_on_the_base(sft: runs.Run, tiny: Path, tmp_path: Path) -> None:
    options = {"quants": ["F16", "Q8_0", "Q4_K_M"], "out": str(tmp_path / "out"), "base": True}
    export = runs.create(runs.RunConfig("export", "My Model", str(tiny), parent=str(sft.dir), options=options))
    result = worker.work(export)
    renderer = encode.load(tiny)
    paths = {file["type"]: Path(file["path"]) for file in result["files"]}
    assert kl(paths["F16"], tiny, sft.adapter, renderer, tmp_path) < 1e-5
    assert kl(paths["F16"], tiny, None, renderer, tmp_path) > 1e-3, "the adapter must show"
    assert kl(Path(result["base_file"]), tiny, None, renderer, tmp_path) < 0.01
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["Modelfile"] + [f"my-model-{t}.gguf{s}" for t in paths for s in ("", ".certificate.json", ".certificate.md")]
    )
    for file in result["files"]:
        path = Path(file["path"])
        assert file["bytes"] == path.stat().st_size
        lines = {line["name"]: line for line in json.loads(Path(file["certificate"]).read_text())["lines"]}
        assert all(lines[name]["ok"] for name in ("token ids", "prompts", "stop tokens", "tensors", "adapter"))
        assert lines["numbers"]["ok"] is (None if file["type"] == "Q4_K_M" else True)
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert text.startswith("FROM ./my-model-F16.gguf\n") and 'PARAMETER stop "<|im_end|>"' in text


def test_brand_new_token_rows_reach_the_file(tiny_bare: Path, sft_file: Path, tmp_path: Path) -> None:
    run = train(tiny_bare, sft_file)
    renderer = encode.load(tiny_bare)
    path = gguf.write(tiny_bare, run.adapter, tmp_path / "x.gguf", renderer, name="x")
    assert kl(path, tiny_bare, run.adapter, renderer, tmp_path) < 1e-5


def test_a_merged_folder_loads_in_transformers_and_is_the_adapter_on_the_base(
    sft: runs.Run, tiny: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = merge.write_model(tiny, sft.adapter, tmp_path / "merged", max_shard=40_000)
    assert len(files) > 1
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32), sft.adapter)
    ids = torch.arange(4, 40)[None]
    with torch.no_grad():
        difference = (merged(ids).logits - peft(ids).logits).abs().max()
    assert float(difference) < 0.02  # bf16 rounds the merged weights
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template


def test_a_template_with_generation_marks_is_written_without_them(tiny: Path, tmp_path: Path) -> None:
    """llama.cpp's own programs, and Ollama, refuse a template that has them."""
    import jinja2
    from gguf import GGUFReader

    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}\n{%- if m.role == 'assistant' %}\n"
        "  {%- generation -%}  {{ m.content + '<|im_end|>' }}  {%- endgeneration %}\n"
        "{%- else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    base = Path(shutil.copytree(tiny, tmp_path / "base"))
    (base / "chat_template.jinja").write_text(template)
    renderer = encode.load(base)
    file = gguf.write(base, None, tmp_path / "x.gguf", renderer, name="x", tuned=True)
    field = GGUFReader(file).get_field("tokenizer.chat_template")
    assert field is not None
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(str(field.contents()))
    talk = [Message("user", "a"), Message("assistant", " b "), Message("user", "c")]
    written = plain.render(messages=[turn.to_dict() for turn in talk], add_generation_prompt=True)
    assert written == renderer.template.text(talk, generate=True)
    known = Known("x", base, None, renderer, tuned=True)
    lines = {line["name"]: line["ok"] for line in certificate.make(file, known, None)["lines"]}
    assert lines["prompts"] is True


def test_a_template_that_refuses_a_system_turn_is_certified(tiny: Path, tmp_path: Path) -> None:
    """As Gemma 2's does: training puts a system text into the first question, and so does the chat."""
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    base = Path(shutil.copytree(tiny, tmp_path / "base"))
    (base / "chat_template.jinja").write_text(template)
    renderer = encode.load(base)
    file = gguf.write(base, None, tmp_path / "x.gguf", renderer, name="x", tuned=True)
    found = certificate.make(file, Known("x", base, None, renderer, tuned=True), None)
    (prompts,) = (line for line in found["lines"] if line["name"] == "prompts")
    assert prompts["ok"] is True and prompts["value"].startswith("12 of 12") and "first question" in prompts["value"]
    with pytest.raises(ExportError, match="no place for a system text"):
        studio.export_model(str(base), quants=["F16"], system="Be brief.", out=tmp_path / "files")


def test_a_merged_folder_stops_where_the_run_does_in_transformers(sft: runs.Run, tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merge.write_model(tiny, sft.adapter, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.eos_token == "<|endoftext|>"
    names = [tokenizer.convert_ids_to_tokens(index) for index in model.generation_config.eos_token_id]
    assert names == ["<|im_end|>", "<|endoftext|>"]
    plain = AutoModelForCausalLM.from_pretrained(tiny)
    assert plain.generation_config.eos_token_id == 0  # the base's: an answer would never end there


def test_an_output_layer_that_is_stored_twice_has_the_trained_rows_too(
    tiny_bare: Path, sft_file: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    base = Path(shutil.copytree(tiny_bare, tmp_path / "base"))
    weights = load_file(base / "model.safetensors")
    assert "lm_head.weight" not in weights
    run = train(base, sft_file)
    merge.write_model(base, run.adapter, tmp_path / "once")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    merge.write_model(base, run.adapter, tmp_path / "twice")
    once, twice = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("once", "twice"))
    assert torch.equal(once.lm_head.weight, twice.lm_head.weight)


def test_a_file_with_another_template_or_tensor_turns_the_certificate_red(
    sft: runs.Run, tiny: Path, tmp_path: Path
) -> None:
    known = dataclasses.replace(of_run(sft), questions=[])
    good = gguf.write(tiny, sft.adapter, tmp_path / "good.gguf", known.renderer, name="x")
    numbers = reference.make(known, tmp_path)

    def red(path: Path) -> set[str]:
        made = certificate.make(path, known, numbers)
        return {line["name"] for line in made["lines"] if line["ok"] is False}

    assert red(good) == set()
    plain = gguf.write(tiny, None, tmp_path / "plain.gguf", known.renderer, name="x")
    assert red(plain) == {"prompts", "stop tokens", "numbers", "tensors", "adapter"}
    other = gguf.write(tiny, sft.adapter, tmp_path / "other.gguf", encode.load(tiny, "phi3"), name="x")
    assert red(other) == {"prompts"}
    for type_ in ("Q8_0", "Q4_K_M"):  # rows of 64 fall back to types of 5 bits and more
        small = quantize.quantize(good, tmp_path / f"{type_}.gguf", type_).path
        assert red(small) == set()
        for name in ("blk.0.attn_q.weight", "blk.1.ffn_down.weight", "token_embd.weight"):
            bad = tampering.tamper_tensor(small, tmp_path / f"{type_}-bad.gguf", name)
            assert "tensors" in red(bad)


def test_an_adapter_of_another_base_is_refused(sft: runs.Run, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", hidden_size=32)
    with pytest.raises(ModelError, match="base"):
        merge.Merged(other, sft.adapter)


@pytest.mark.parametrize("setting", ["use_dora", "modules_to_save", "rank_pattern"])
def test_what_cannot_be_merged_is_refused_with_the_reason(
    tiny: Path, sft: runs.Run, tmp_path: Path, setting: str
) -> None:
    shutil.copytree(sft.adapter, tmp_path / "adapter")
    config = json.loads((sft.adapter / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, setting: ["x"]}))
    with pytest.raises(ModelError, match=setting):
        merge.Merged(tiny, tmp_path / "adapter")


def test_a_failed_export_leaves_nothing_half_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = encode.load(tiny)
    block = merge.Merged.block

    def broken(self: merge.Merged, name: str, *rows: int) -> Any:
        value = block(self, name, *rows)
        return value * float("inf") if name == "model.layers.1.mlp.up_proj.weight" else value

    monkeypatch.setattr(merge.Merged, "block", broken)
    with pytest.raises(ExportError, match=r"up_proj.weight holds values"):
        gguf.write(tiny, None, tmp_path / "x.gguf", renderer, name="x")
    assert list(tmp_path.iterdir()) == []


def test_quantizing_a_damaged_file_is_an_error_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 40)
    with pytest.raises(Exception, match=r"llama\.cpp|ended") as caught:
        quantize.quantize(tmp_path / "bad.gguf", tmp_path / "out.gguf", "Q8_0")
    assert not isinstance(caught.value, subprocess.SubprocessError) and sys.exc_info()[0] is None
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]
