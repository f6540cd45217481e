"""A LoRA as GGUF on its base is what peft computes; what such a file cannot hold is refused with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_model, write_jsonl

import studio
from studio import runs, worker
from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import ExportError
from studio.export import adapter, chatfiles, gguf
from studio.models import ggufhead
from studio.render import encode
from studio.train.prepare import Trained

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

ROWS: list[dict[str, object]] = [
    {"messages": [{"role": "user", "content": f"What is {i} + {i}?"}, {"role": "assistant", "content": "A sum."}]}
    for i in range(40)
]


def train(folder: Path, *, control: bool = True, **settings: Any) -> runs.Run:
    base = make_model(folder / "model", control=control, num_key_value_heads=2)
    data = write_jsonl(folder / "sft.jsonl", ROWS)
    given = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128}
    given |= {"learning_rate": 5e-3, "epochs": 4, **settings}
    run = runs.create(runs.RunConfig("train", "t", str(base), "sft", str(data), settings=given))
    worker.work(run)
    return run


def peft_logits(run: runs.Run, row: list[int]) -> np.ndarray[Any, Any]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = Trained.of(run)
    renderer = encode.load(made.base)
    model = AutoModelForCausalLM.from_pretrained(made.base, dtype=torch.float32)
    if len(renderer.tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(renderer.tokenizer), mean_resizing=False)
    model = PeftModel.from_pretrained(model, run.adapter).eval()
    with torch.no_grad():
        return model(torch.tensor([row])).logits[0].numpy()


def kl(file: Path, lora: Path | None, logits: np.ndarray[Any, Any], row: list[int], folder: Path) -> float:
    np.save(folder / "logits.npy", logits)
    child = Child(ENGINE)
    request = {"op": "compare", "gguf": str(file), "rows": [row], "reference": str(folder / "logits.npy")}
    try:
        return float(child.ask({**request, "adapter": str(lora or "")})["kl"])
    finally:
        child.close()


@pytest.mark.parametrize(("control", "settings"), [(True, {}), (True, {"use_rslora": True}), (False, {})])
def test_the_adapters_file_on_the_bases_file_is_the_trained_model(
    tmp_path: Path, control: bool, settings: dict[str, Any]
) -> None:
    """`control` False: the template's tokens are new, and their rows are in the base's file."""
    run = train(tmp_path, control=control, **settings)
    made = Trained.of(run)
    renderer = encode.load(made.base)
    row = renderer.tokenizer("What is 3 + 3? A sum.<|im_end|>")["input_ids"]
    logits = peft_logits(run, row)
    base = gguf.write(
        made.base, made.adapter, tmp_path / "base.gguf", renderer, name="x", dtype="F32", tuned=True, rows_only=True
    )
    lora = adapter.write(made.base, run.adapter, tmp_path / "lora.gguf", rows_in_base=True)
    assert kl(base, lora, logits, row, tmp_path) < 1e-5
    assert kl(base, None, logits, row, tmp_path) > 1e-3
    assert ggufhead.read(lora).metadata["general.type"] == "adapter"
    if not control:
        with pytest.raises(ExportError, match="rows of 2 control tokens"):
            adapter.write(made.base, run.adapter, tmp_path / "alone.gguf")
        assert not (tmp_path / "alone.gguf").exists()


def test_dora_has_no_adapter_file_and_is_merged_for_the_chat(tmp_path: Path) -> None:
    run = train(tmp_path, use_dora=True)
    with pytest.raises(ExportError, match="DoRA") as caught:
        adapter.write(Trained.of(run).base, run.adapter, tmp_path / "lora.gguf")
    assert "merged" in caught.value.remedy
    files = chatfiles.of_run(Trained.of(run))
    assert files.adapter is None and "DoRA" in files.note and files.gguf.is_file()


def test_an_export_writes_base_and_adapter_as_two_files_and_proves_them_together(tmp_path: Path) -> None:
    run = train(tmp_path)
    made = studio.export_model(str(run.dir), quants=["Q8_0"], adapter=True, out=tmp_path / "files")
    two = made["adapter"]
    (line,) = [line for line in made["certificate"]["lines"] if line["file"] == Path(two["path"]).name]
    assert line["name"] == "adapter" and line["ok"] is True
    text = Path(two["modelfile"]).read_text("utf-8")
    assert f"FROM ./{Path(two['base']).name}\nADAPTER ./{Path(two['path']).name}\n" in text
    with pytest.raises(ExportError, match="no adapter"):
        studio.export_model(str(tmp_path / "model"), quants=["Q8_0"], adapter=True, out=tmp_path / "other")
