"""A model folder is looked at before anything is loaded from it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio import hardware
from studio.errors import ModelError, Stopped
from studio.models import catalogue, check, family, tensors
from studio.models.shape import Shape


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


def _tokenizer(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        path = folder / "tokenizer.json"
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return do


def _vocabulary(more: dict[str, int]) -> Callable[[Path], None]:
    return _tokenizer(lambda data: data["model"]["vocab"].update(more))  # type: ignore[index]


def _code(folder: Path) -> None:
    _config({"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}})(folder)
    (folder / "modeling.py").write_text("raise SystemExit")


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _raw_header(text: bytes, data: bytes = b"") -> Callable[[Path], None]:
    return lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data) and None


def _doubled(folder: Path) -> None:
    one = '"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'
    _raw_header(("{" + one + "," + one + "}").encode(), b"x")(folder)


def _many(folder: Path) -> None:
    empty = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    _raw_header(json.dumps({str(i): empty for i in range(200_001)}).encode())(folder)


def _narrow(folder: Path) -> None:
    """The first layer's q_proj in 8 bits; its shape stays."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.weight"] = tensors["model.layers.0.self_attn.q_proj.weight"].to(
        torch.float8_e4m3fn
    )
    save_file(tensors, folder / "model.safetensors")


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
        (_config({"vocab_size": 100}), "embedding has 430 x 64 values, config.json says 100 tokens of 64"),
        # the 14 named cases, beside those above: NaNs are looked for on demand, below
        (_config({"model_type": "evil"}), "model_type is 'evil': another model would be loaded"),
        (_config({"model_type": "evil", "architectures": ["EvilForCausalLM"]}), "not an architecture"),
        (_code, "own Python code"),
        (lambda f: _link(f / "config.json", Path("/etc/hostname")), "leaves the model's folder"),
        (lambda f: _link(f / "model.safetensors", Path("/dev/zero")), "leaves the model's folder"),
        (lambda f: _link(f / "README.md", Path("/etc/passwd")), "leaves the model's folder"),
        (lambda f: _link(f / "generation_config.json", f / "nothing"), "link to nothing"),
        (lambda f: _pipe(f / "tokenizer_config.json"), "not a plain file"),
        (lambda f: _pipe(f / "model.safetensors"), "not a plain file"),
        (lambda f: (f / "chat_template.jinja").mkdir(), "not a plain file"),
        (_vocabulary({"far": 9999}), "'far' is token 9999, the model's embedding has 430 rows"),
        # what else comes in
        (_config({"_attn_implementation": "evil/kernel"}), "foreign code"),
        (_config({"model_file": "x.py"}), "foreign code"),
        (_config({"attn_implementation": "evil/kernel"}), "foreign code"),
        (_config({"experts_implementation": "evil/kernel"}), "foreign code"),
        (_config({"_attn_implementation_autoset": "evil/kernel"}), "foreign code"),
        (_config({"text_config": [{"_attn_implementation_internal": "evil/kernel"}]}), "foreign code"),
        (_config({"text_config": {"auto_map": {"AutoModel": "x.Y"}}}), "own Python code"),
        (lambda f: (f / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["x.Y"]}}'), "own Python"),
        (_config({"architectures": "LlamaForCausalLM"}), "does not say what the model is"),
        (_config({"architectures": []}), "does not say what the model is"),
        (_config({"architectures": [["x"]]}), "does not say what the model is"),
        (_config({"model_type": ["llama"]}), "does not say what the model is"),
        (_config({"vocab_size": "430"}), "no usable vocab_size"),
        (_config({"num_hidden_layers": 1 << 40}), "no usable num_hidden_layers"),
        (_config({"num_hidden_layers": 3}), "lack model.layers.2.self_attn.q_proj.weight"),
        (_config({"num_hidden_layers": True}), "no usable num_hidden_layers"),
        (_config({"num_attention_heads": 8, "head_dim": 16}), "q_proj.weight is"),
        (_config({"head_dim": "many"}), "no usable head_dim"),
        (_config({"quantization_config": {"quant_method": "gptq"}}), "quantized already"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "not valid JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{"), "not valid JSON"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter"),
        (lambda f: (f / "tokenizer.json").rename(f / "tokenizer.model"), "not SentencePiece's"),
        (lambda f: (f / "tokenizer.json").write_text("[]"), "not an object"),
        (_tokenizer(lambda t: t.update(model=[])), "no usable vocabulary"),
        (_tokenizer(lambda t: t.update(model={"vocab": {"a": "b"}})), "no usable vocabulary"),
        (_tokenizer(lambda t: t.update(model={"vocab": {"a": -1}})), "no usable vocabulary"),
        (_tokenizer(lambda t: t.update(model={"vocab": [[]]})), "no usable vocabulary"),
        (_tokenizer(lambda t: t.update(added_tokens=[{"content": "x"}])), "no usable vocabulary"),
        (_tokenizer(lambda t: t.update(added_tokens=7)), "no usable vocabulary"),
        (lambda f: (f / "tokenizer_config.json").write_text("[]"), "not an object"),
        (lambda f: (f / "model.safetensors").rename(f / "model.gguf"), "GGUF"),
        (lambda f: (f / "model.safetensors.index.json").write_text("[]"), "not an object"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": 1}}'), "lists no shards"),
        (_index({"a": "model.safetensors"}), "The index lists"),
        (_index({"a": "..\\x.safetensors"}), "outside the folder"),
        (_header(lambda h: h.update(x={"dtype": "BF16", "shape": [-1], "data_offsets": [0, -2]})), "does not fit"),
        (_header(lambda h: h.update(x={"dtype": "BF16", "shape": [2**40, 2**40], "data_offsets": [0, 2]})), "not fit"),
        (_header(lambda h: h.update(x={"dtype": "BF16", "shape": [1] * 99, "data_offsets": [0, 2]})), "does not fit"),
        (_header(lambda h: h.update(x={"dtype": ["BF16"], "shape": [1], "data_offsets": [0, 2]})), "does not fit"),
        (_header(lambda h: h.update(x={"dtype": "BF16", "shape": [True], "data_offsets": [0, 2]})), "does not fit"),
        (_header(lambda h: h.update({"x" * 2000: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})), "not fit"),
        (_doubled, "twice"),
        (_many, "more than 200,000 tensors"),
        (_narrow, "stored as F8_E4M3"),
    ],
)  # fmt: skip
def test_a_bad_folder_is_refused_with_the_reason(folder: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(folder)
    with pytest.raises(ModelError, match=says) as caught:
        check.inspect(str(folder))
    assert caught.value.remedy


def test_a_link_inside_the_folder_and_a_snapshot_of_the_hubs_cache_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    _link(folder / "model.safetensors", Path("weights.safetensors"))
    assert check.inspect(str(folder)).layers == 2
    snapshot = tmp_path / "models--org--name/snapshots" / ("a" * 40)
    blobs = tmp_path / "models--org--name/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder.iterdir():
        shutil.copy(path, blobs / path.name)
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    info = check.inspect(str(snapshot))
    assert (info.name, info.revision) == ("org/name", "a" * 40)
    # huggingface-hub's store of what several repositories share
    shared = tmp_path / "blobs/ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    (blobs / "model.safetensors").rename(shared)
    (blobs / "model.safetensors").symlink_to(Path("../../blobs/ab") / shared.name)
    assert check.inspect(str(snapshot)).layers == 2
    _link(snapshot / "README.md", Path("../../../secret"))
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ModelError, match="leaves the model's folder"):
        check.inspect(str(snapshot))


def test_an_index_must_list_every_tensor_and_only_shards_count(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    names = sorted(whole)
    halves = {"model-1.safetensors": names[:9], "model-2.safetensors": names[9:]}
    for file, part in halves.items():
        save_file({name: whole[name] for name in part}, folder / file)
    listed = {name: file for file, part in halves.items() for name in part}
    _index(listed)(folder)
    with pytest.raises(ModelError, match="readers disagree"):
        check.inspect(str(folder))
    (folder / "model.safetensors").unlink()
    assert check.inspect(str(folder)).parameters == sum(tensor.numel() for tensor in whole.values())
    _index({name: file for name, file in listed.items() if name != names[-1]})(folder)
    with pytest.raises(ModelError, match=r"it is in model-2\.safetensors"):
        check.inspect(str(folder))
    _index({**listed, "more": "model-1.safetensors"})(folder)
    with pytest.raises(ModelError, match=r"'more' in model-1\.safetensors; it is in no shard"):
        check.inspect(str(folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_nans_and_infinities_are_found_and_counted_on_demand(folder: Path, dtype: torch.dtype) -> None:
    made = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(made, folder / "model.safetensors")
    check.refuse_nan(folder)
    made["model.norm.weight"][3:5] = float("nan")
    made["model.norm.weight"][7] = float("-inf")
    made["model.embed_tokens.weight"][-1, -1] = float("inf")
    save_file(made, folder / "model.safetensors")
    check.inspect(str(folder))
    with pytest.raises(ModelError) as caught:
        check.refuse_nan(folder)
    assert "model.norm.weight: 2 NaN, 1 infinite" in caught.value.message
    assert "model.embed_tokens.weight: 0 NaN, 1 infinite" in caught.value.message
    with pytest.raises(Stopped):
        check.refuse_nan(folder, should_stop=lambda: True)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_are_scanned_too(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.arange(256, dtype=torch.uint8).view(dtype)
    save_file({"all": values}, tmp_path / "x.safetensors")
    ((_, nans, infinite),) = tensors.not_finite(tensors.read_header(tmp_path / "x.safetensors"))
    assert nans == int(values.float().isnan().sum()) and infinite == int(values.float().isinf().sum())


def test_rows_are_read_as_they_are(folder: Path) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        made = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(made, folder / "model.safetensors")
        (embedding,) = (t for t in check.read_tensors(folder) if t.name == "model.embed_tokens.weight")
        read = tensors.read_rows(embedding, [429, 0, 7])
        assert (torch.from_numpy(read) == made[embedding.name][[429, 0, 7]].float()).all()


def test_control_tokens_that_were_never_trained_are_named(folder: Path, tiny_bare: Path) -> None:
    assert check.inspect(str(folder)).untrained == []
    vocabulary = check.read_vocabulary(folder)
    made = load_file(folder / "model.safetensors")
    made["model.embed_tokens.weight"][vocabulary["<|im_end|>"]] *= 0.1
    save_file(made, folder / "model.safetensors")
    assert check.inspect(str(folder)).untrained == ["<|im_end|>"]
    assert check.inspect(str(tiny_bare)).untrained == ["<|im_start|>", "<|im_end|>"], "tokens that it has not at all"


def test_the_card_says_where_template_and_licence_come_from(folder: Path) -> None:
    info = check.inspect(str(folder))
    assert (info.template_source, info.licence) == ("Studio's ChatML", "")
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: 'qwen-research'\n---\n# x")
    template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    info = check.inspect(str(folder))
    assert (info.template, info.template_source) == ("its own", "tokenizer_config.json")
    assert info.licence == "qwen-research"
    (folder / "chat_template.jinja").write_text(template)
    assert check.inspect(str(folder)).template_source == "chat_template.jinja"
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": 7, "chat_template": [3, {"name": "default"}]})
    )
    (folder / "chat_template.jinja").unlink()
    assert check.inspect(str(folder)).template.startswith("none of its own")


def test_what_transformers_writes_by_itself_is_fine(folder: Path) -> None:
    _config({"_attn_implementation_autoset": True, "auto_map": {}})(folder)
    assert check.inspect(str(folder)).exportable


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rope scaling 'dynamic'"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "longrope for Phi-3 only"),
        (
            {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [0, 0]},
            "no_rope_layers = [1, 1] built in, this model has [0, 0]",
        ),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_said_before_training(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    assert check.support("LlamaForCausalLM") == (True, "can be trained and exported")
    _config(changes)(folder)
    info = check.inspect(str(folder))
    assert not info.exportable and "read and previewed" in info.use and said in info.use


def test_a_tokenizer_that_no_gguf_file_can_hold_is_said_before_training(folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text("utf-8"))
    data["model"] = {"type": "WordLevel", "vocab": data["model"]["vocab"], "unk_token": "a"}
    path.write_text(json.dumps(data), "utf-8")
    info = check.inspect(str(folder))
    assert not info.exportable and "tokenizer is of the kind WordLevel" in info.use


def test_five_hundred_mutated_headers_give_model_errors_and_no_hang(folder: Path) -> None:
    """Bytes flipped, put in, taken out, in the header and its length; and values swapped for odd ones."""
    path = folder / "model.safetensors"
    good = path.read_bytes()
    (length,) = struct.unpack("<Q", good[:8])
    chance = random.Random(20)
    odd = [b"null", b"-1", b"1e400", b"[]", b"{}", b'"x"', b"NaN", b"9" * 5000, b"[" * 2000, b"true", b"1.0", b"\xff"]
    refused, began = 0, time.monotonic()
    for _ in range(500):
        data = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(8 + length)
            match chance.randrange(5):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    del data[at : at + chance.randint(1, 9)]
                case 2:
                    data[at:at] = chance.choice(odd)
                case 3:
                    numbers = [m for m in range(8, 8 + length) if data[m : m + 1].isdigit()]
                    data[(spot := chance.choice(numbers)) : spot + 1] = chance.choice(odd)
                case 4:
                    data[:8] = struct.pack("<Q", chance.choice([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1]))
        path.write_bytes(data)
        try:
            check.read_tensors(folder)
        except ModelError as error:
            refused += 1
            assert error.remedy
    assert refused > 400, "flips inside a name are all that passes"
    assert time.monotonic() - began < 30


ODD: list[object] = [None, [], {}, "x", -1, 0, 1.5, True, 1e400, [[]], {"a": []}, ["x"], 10**400, "\x00", 1 << 40]


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "README.md"]
)
def test_odd_values_anywhere_never_give_a_traceback(folder: Path, name: str) -> None:
    path = folder / name
    data = json.loads(path.read_text()) if path.exists() else {}
    if name == "tokenizer_config.json":
        data["chat_template"] = "{{ messages }}"
    spots: list[tuple[str, ...]] = [(), *((key,) for key in data)]
    spots += [("model", key) for key in data.get("model", {})] if name == "tokenizer.json" else []
    for spot in spots:
        for odd in ODD:
            changed = json.loads(json.dumps(data))
            if not spot:
                changed = odd
            elif len(spot) == 1:
                changed[spot[0]] = odd
            else:
                changed[spot[0]][spot[1]] = odd
            path.write_text(json.dumps(changed))
            try:
                info = check.inspect(str(folder))
                hardware.estimate(info)
            except ModelError as error:
                assert error.remedy, (spot, odd)


def test_the_estimate_has_named_parts_that_work_for_an_entry_and_a_checked_model() -> None:
    entry = next(e for e in catalogue.entries() if e.id == "meta-llama/Llama-3.1-8B")
    need = hardware.estimate(entry)
    # by hand: 6,979,321,856 weights in the layers' maps, 4.127 bits each; two embeddings of 128256 x 4096 in bf16
    assert need.weights == pytest.approx((6_979_321_856 * 4.127 / 8 + 2 * 2 * 128256 * 4096) / 2**30)
    # r = 16 on seven maps: 32 x 16 x (2 x 8192 + 2 x 5120 + 3 x 18432) weights: itself, gradient, two averages, 4 bytes
    assert need.adapter == pytest.approx(32 * 16 * (2 * 8192 + 2 * 5120 + 3 * 18432) * 16 / 2**30)
    assert need.logits == 0, "a chunk of them is gone before a layer's backward, which takes more"
    assert need.total == pytest.approx(sum(need.parts().values()))
    assert hardware.estimate(entry, quantize_base="none").weights > 2.4 * need.weights
    assert hardware.estimate(check.inspect("starter")) == hardware.estimate(catalogue.entries()[0])


def test_the_verdict_is_beside_the_gpus_memory_or_the_machines() -> None:
    nothing = hardware.Machine("", "", 2, 0.0, 0.0, "", 0.0, "cpu", "", True, "", "", bf16=False)
    gpu = dataclasses.replace(nothing, ram_gb=64.0, gpu="card", vram_gb=10.0, device="cuda", bf16=True)

    def need(total: float) -> hardware.Estimate:
        return hardware.Estimate(total, 0, 0, 0, 0)

    assert [hardware.verdict(need(t), gpu) for t in (8.4, 8.6, 10.1)] == ["fits", "tight", "too large"]
    cpu = dataclasses.replace(nothing, ram_gb=20.0)
    assert [hardware.verdict(need(t), cpu) for t in (16.9, 17.1, 20.1)] == ["fits", "tight", "too large"]
    small, large = (Shape(16, 2048, 8192, 32, 8, 64, 128256, True), Shape(40, 5120, 17408, 40, 8, 128, 151936, False))
    assert hardware.estimate_here(small, gpu).weights < 1.1, "4 bits on a GPU"
    assert hardware.estimate_here(small, cpu).weights == pytest.approx(4 * 1.2358e9 / 2**30, rel=0.01), "float32"
    assert hardware.estimate_here(large, cpu).weights < 15, "4 bits where float32 would take half of the memory"


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
