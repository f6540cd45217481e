"""Every architecture that we export, as a tiny random model: llama.cpp's logits are transformers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import TEXT, make_model, write_jsonl

import studio
from studio import runs, worker
from studio.chat.session import ENGINE
from studio.child import Child
from studio.export import gguf, quantize
from studio.models import check
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

PHI3 = ["<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|system|>", "<|end|>", "<|user|>"]
GEMMA = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]


def make_pieces(folder: Path, special: list[str], *, scheme: str, strips: bool = False, bos: str = "<s>") -> int:
    """Write a SentencePiece-like tokenizer.json, as real ones are: BPE on characters with bytes to fall back on."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    space = "\u2581"
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement=space, prepend_scheme="always", split=True)
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(
        TEXT * 4, trainers.BpeTrainer(vocab_size=520, special_tokens=first, show_progress=False)
    )
    state = json.loads(trained.to_str())
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ", 1)) for m in state["model"]["merges"]]
    made = Tokenizer(models.BPE(state["model"]["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", space)
    if scheme == "first":
        made.pre_tokenizer = pre_tokenizers.Metaspace(replacement=space, prepend_scheme="first", split=False)
    else:
        steps = [normalizers.Prepend(space), replace] if scheme == "always" else [replace]
        made.normalizer = normalizers.Sequence(steps)
    made.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.add_special_tokens([AddedToken(token, rstrip=strips, normalized=False, special=True) for token in special])
    made.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
    )
    from transformers import PreTrainedTokenizerFast

    ends = {"eos_token": "<eos>"} if "<eos>" in special else {"eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=made, bos_token=bos, unk_token="<unk>", **ends).save_pretrained(folder)
    return made.get_vocab_size()


def make(folder: Path, kind: str, **config: Any) -> Path:
    """Write a tiny random model of an architecture; weights of the size of a trained model's, norms off their start."""
    import torch
    import transformers

    make_model(folder)
    size = 512
    tokens = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
    if kind in ("Gemma", "Gemma2", "Gemma3"):
        size = make_pieces(folder, GEMMA, scheme="never", bos="<bos>")
    elif kind == "Phi3":
        size = make_pieces(folder, PHI3, scheme="always", strips=True)
    elif kind in ("Mistral", "Mixtral"):
        size = make_pieces(folder, ["[INST]", "[/INST]"], scheme="first")
    else:
        size = len(check.read_vocabulary(folder))
    values: dict[str, Any] = {
        "vocab_size": size, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, **tokens, **config,
    }  # fmt: skip
    name = "Gemma3TextConfig" if kind == "Gemma3" else f"{kind}Config"
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, name)(**values))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
# llama.cpp takes the long factors where the context, which it rounds up to 256, is longer than the original one
LONG = {
    "original_max_position_embeddings": 512,
    "short_factor": [1.0 + i / 8 for i in range(8)],
    "long_factor": [2.0 + i for i in range(8)],
}
QWEN_EXPERTS = {"num_experts": 5, "num_experts_per_tok": 3, "moe_intermediate_size": 32}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("Llama", {"num_key_value_heads": 4}),
    "llama3": ("Llama", rope("llama3", **LLAMA3)),
    "smollm2": ("Llama", {"tie_word_embeddings": True}),
    "yarn": ("Llama", rope("yarn", factor=4.0, original_max_position_embeddings=64)),
    "mistral": ("Mistral", {"head_dim": 32, "sliding_window": None}),
    "qwen2": ("Qwen2", {}),
    "qwen2-tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "qwen3-moe": ("Qwen3Moe", {"head_dim": 32, "norm_topk_prob": True, **QWEN_EXPERTS}),
    "mixtral": ("Mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    "gemma": ("Gemma", {"head_dim": 16}),
    "gemma2": ("Gemma2", {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64}),
    "gemma3": ("Gemma3", {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16, "num_hidden_layers": 7}),
    "phi3": ("Phi3", {"num_key_value_heads": 4}),
    "phi3.5-longrope": (
        "Phi3",
        {"max_position_embeddings": 4096, "original_max_position_embeddings": 512, **rope("longrope", **LONG)},
    ),
    "phi4-mini": ("Phi3", {"tie_word_embeddings": True, **rope("default", partial_rotary_factor=0.75)}),
    "smollm3": ("SmolLM3", {}),
    "olmo2": ("Olmo2", {}),
}


def reference(folder: Path, rows: list[list[int]]) -> np.ndarray[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return np.concatenate([model(torch.tensor([row])).logits[0].float().numpy() for row in rows])


def compared(file: Path, rows: list[list[int]], logits: np.ndarray[Any, Any], folder: Path) -> float:
    np.save(folder / "reference.npy", logits)
    child = Child(ENGINE)
    try:
        request = {"op": "compare", "gguf": str(file), "rows": rows, "reference": str(folder / "reference.npy")}
        return float(child.ask(request)["kl"])
    finally:
        child.close()


def sample(size: int) -> list[list[int]]:
    """Give two rows of ids all over the vocabulary, the second longer than the sliding windows."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, size, 24).tolist(), rng.integers(3, size, 100).tolist()]


@pytest.mark.parametrize("case", CASES)
def test_a_converted_model_gives_transformers_logits(case: str, tmp_path: Path) -> None:
    kind, config = CASES[case]
    base = make(tmp_path / "model", kind, **config)
    info = check.inspect(str(base))
    assert info.exportable, info.use
    rows = sample(info.vocab_size)
    logits = reference(base, rows)
    renderer = encode.load(base)
    limits = {"F32": 1e-5, "BF16": 1e-3} if case in ("llama3", "qwen3", "mixtral") else {"F32": 1e-5}
    for dtype, limit in limits.items():
        file = gguf.write(base, None, tmp_path / f"{dtype}.gguf", renderer, name=case, dtype=dtype)
        assert compared(file, rows, logits, tmp_path) < limit, dtype


#: What transformers reads back whole; of other files it takes defaults for what it does not look for.
READ_BACK = ("llama2", "smollm2", "qwen2", "qwen2-tied")


@pytest.mark.parametrize("case", READ_BACK)
def test_transformers_reads_the_file_back(case: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    kind, config = CASES[case]
    base = make(tmp_path / "model", kind, **config)
    gguf.write(base, None, tmp_path / "x.gguf", encode.load(base), name=case, dtype="F32")
    rows = sample(check.inspect(str(base)).vocab_size)[:1]
    model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="x.gguf", dtype=torch.float32)
    with torch.no_grad():
        found = model.eval()(torch.tensor(rows)).logits[0].numpy()
    assert np.abs(found - reference(base, rows)).max() < 1e-3


#: A family of each kind of vocabulary and of norms; the others when there is time.
SOON = ("mistral", "qwen3-moe", "gemma2", "phi3")


@pytest.mark.parametrize(
    "case", [case if case in SOON else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_trained_model_of_every_architecture_is_certified(case: str, tmp_path: Path) -> None:
    kind, config = CASES[case]
    base = make(tmp_path / "model", kind, **config)
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": f"What is {i} + {i}?"}, {"role": "assistant", "content": "A sum."}]}
        for i in range(40)
    ]
    data = write_jsonl(tmp_path / "sft.jsonl", rows)
    given = {
        "quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 200,
        "learning_rate": 5e-3, "epochs": 8,
    }  # fmt: skip
    run = runs.create(runs.RunConfig("train", "t", str(base), "sft", str(data), settings=given))
    worker.work(run)
    made = studio.export_model(str(run.dir), quants=["F16"], out=tmp_path / "files")
    lines = {line["name"]: line for line in made["certificate"]["lines"]}
    assert made["certificate"]["ok"], [line for line in lines.values() if line["ok"] is False]
    assert all(lines[name]["ok"] for name in ("token ids", "prompts", "ending", "numbers", "tensors", "adapter"))


@pytest.mark.parametrize("case", ["llama3", "gemma", "phi3", "qwen3-moe"])
def test_q8_0_in_one_pass_is_llama_cpps_own_q8_0(case: str, tmp_path: Path) -> None:
    from gguf import GGUFReader

    kind, config = CASES[case]
    base = make(tmp_path / "model", kind, **config)
    whole = gguf.write(base, None, tmp_path / "whole.gguf", encode.load(base), name=case, dtype="F32")
    theirs = quantize.quantize(whole, tmp_path / "theirs.gguf", "Q8_0")
    ours = gguf.write(base, None, tmp_path / "ours.gguf", encode.load(base), name=case, dtype="Q8_0")
    found = {tensor.name: tensor for tensor in GGUFReader(ours).tensors}
    wanted = {tensor.name: tensor for tensor in GGUFReader(theirs.path).tensors}
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].tensor_type == tensor.tensor_type, name
        assert np.array_equal(found[name].data, tensor.data), name
