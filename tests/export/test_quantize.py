"""Types of files: what is predicted against llama.cpp's own dry run and against files that were made."""

from __future__ import annotations

import ctypes
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_model

from studio.errors import ConfigError, ExportError, Stopped
from studio.export import gguf, matrixfile, packed, quantize
from studio.models import mixture, quants
from studio.render import encode

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

Shapes = list[tuple[str, tuple[int, ...]]]
PLACES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
#: layers, hidden, ffn, heads, shared heads, tied, experts
MODELS = {
    "k-quants": (17, 256, 512, 4, 4, False, 0),
    "tied": (3, 256, 512, 4, 2, True, 0),
    "grouped": (9, 512, 256, 8, 2, False, 0),
    "fallback-576": (8, 576, 1536, 9, 3, True, 0),
    "fallback-64": (4, 64, 160, 4, 2, False, 0),
    "odd-rows": (2, 72, 256, 4, 2, True, 0),
    "70b": (80, 256, 256, 8, 1, False, 0),
    "mixtral": (9, 256, 512, 4, 1, False, 8),
    "four-experts": (9, 256, 512, 4, 4, False, 4),
}


def described(layers: int, hidden: int, ffn: int, heads: int, shared: int, tied: bool, experts: int) -> Any:
    """Give config.json and a checkpoint's shapes of a Llama or a Mixtral."""
    config: dict[str, Any] = {
        "model_type": "mixtral" if experts else "llama",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "tie_word_embeddings": tied,
        "vocab_size": 8,
        **({"num_local_experts": experts} if experts else {}),
    }
    narrow = hidden // heads * shared
    shapes: Shapes = [("model.embed_tokens.weight", (8, hidden)), ("model.norm.weight", (hidden,))]
    shapes += [] if tied else [("lm_head.weight", (8, hidden))]
    for layer in range(layers):
        rows = {"q": hidden, "k": narrow, "v": narrow, "o": hidden}
        shapes += [(f"model.layers.{layer}.self_attn.{n}_proj.weight", (r, hidden)) for n, r in rows.items()]
        shapes.append((f"model.layers.{layer}.input_layernorm.weight", (hidden,)))
        if not experts:
            sizes = {"gate": (ffn, hidden), "up": (ffn, hidden), "down": (hidden, ffn)}
            shapes += [(f"model.layers.{layer}.mlp.{n}_proj.weight", size) for n, size in sizes.items()]
            continue
        moe = f"model.layers.{layer}.block_sparse_moe"
        shapes.append((f"{moe}.gate.weight", (experts, hidden)))
        for expert in range(experts):
            sizes = {"w1": (ffn, hidden), "w3": (ffn, hidden), "w2": (hidden, ffn)}
            shapes += [(f"{moe}.experts.{expert}.{n}.weight", size) for n, size in sizes.items()]
    return config, shapes


def write_empty(path: Path, config: dict[str, Any], shapes: Shapes) -> Path:
    """Write a GGUF file of zeros with llama.cpp's names for these shapes."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(8)
    experts = config.get("num_local_experts", 0)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    for name, shape in shapes:
        found = re.match(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        if found is None:
            top = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm"}
            new = top.get(name, "output")
        elif ".experts." in name:
            kind = {"w1": "gate", "w2": "down", "w3": "up"}[name.split(".")[-2]]
            if ".experts.0." not in name:
                continue
            new, shape = f"blk.{found[1]}.ffn_{kind}_exps", (experts, *shape)
        else:
            new = f"blk.{found[1]}.{PLACES.get(found[2], 'ffn_gate_inp')}"
        kept = np.float32 if len(shape) == 1 or "gate_inp" in new else np.float16
        writer.add_tensor(f"{new}.weight", np.zeros(shape, kept))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dry_run(path: Path, type_: str, imatrix: bool) -> tuple[Counter[str], Counter[str], int]:
    """Ask llama.cpp which type each tensor would get, which fell back to what, and for the bytes of all."""
    lines: list[str] = []
    keep = llama_cpp.llama_log_callback(lambda level, text, _: lines.append((text or b"").decode()))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.dry_run = getattr(llama_cpp, quants.TYPES[type_].constant), True
    entries = (llama_cpp.llama_model_imatrix_data * 2)()
    entries[0].name, entries[0].size = b"any", 1
    entries[0].data = (ctypes.c_float * 1)(1.0)
    if imatrix:
        params.imatrix = entries
    llama_cpp.llama_log_set(keep, None)
    try:
        assert llama_cpp.llama_model_quantize(str(path).encode(), b"/nowhere", ctypes.byref(params)) == 0, lines
    finally:
        from llama_cpp import _logger

        llama_cpp.llama_log_set(_logger.llama_log_callback, ctypes.c_void_p(0))
    log = "".join(lines)
    types, total = Counter[str](), 0
    for line in re.findall(r"\[ *\d+/ *\d+\].+", log):
        shape = [int(n) for n in re.search(r"\[ *(\d[\d, ]*)\], type", line)[1].split(",")]  # type: ignore[index]
        new = re.search(r"\((\w+)\)$", line) or re.search(r"type = +(\w+),", line)
        name = new[1].upper()  # type: ignore[index]
        types[name] += 1
        weights, size = quants.block(name)
        total += int(np.prod(shape)) // weights * size
    return types, Counter(n.upper() for n in re.findall(r"falling back to +(\w+)", log)), total


@pytest.mark.parametrize("name", MODELS)
def test_every_type_is_predicted_as_llama_cpp_would_make_it(tmp_path: Path, name: str) -> None:
    config, shapes = described(*MODELS[name])
    model = mixture.model(config, shapes)
    path = write_empty(tmp_path / "x.gguf", config, shapes)
    for type_ in quants.TYPES:
        for imatrix in (False, True):
            given = imatrix or quants.TYPES[type_].needs_imatrix
            types, fallen, total = dry_run(path, type_, given and quants.TYPES[type_].takes_imatrix)
            found = mixture.predict(type_, model, imatrix)
            assert (found.types, found.fallen) == (types, fallen), (type_, imatrix)
            entries = sum(types.values()) * mixture._ENTRY
            assert found.bytes == total + entries + mixture._HEAD + 8 * mixture._TOKEN, type_


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose rows are multiples of 256."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    return make_model(folder, hidden_size=256, intermediate_size=1024, vocab=700, num_hidden_layers=4)


@pytest.fixture(scope="module")
def sources(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, Path]]]:
    """The folder and the F16 file of a model of each kind of rows."""
    place = tmp_path_factory.mktemp("sources")
    narrow = make_model(place / "narrow", hidden_size=576, intermediate_size=768, num_attention_heads=9)
    folders = {"wide": wide, "narrow": narrow}
    yield {
        key: (folder, gguf.write(folder, None, place / f"{key}.gguf", encode.load(folder), name=key))
        for key, folder in folders.items()
    }


@pytest.mark.parametrize("key", ["wide", "narrow"])
def test_files_are_as_large_as_predicted_and_hold_the_predicted_types(
    sources: dict[str, tuple[Path, Path]], tmp_path: Path, key: str
) -> None:
    folder, source = sources[key]
    model = mixture.of_folder(folder)
    for type_ in ("Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_S", "Q2_K", "TQ1_0"):
        made = quantize.quantize(source, tmp_path / f"{type_}.gguf", type_)
        found = mixture.predict(type_, model)
        assert (made.types, made.fallen) == (found.types, found.fallen)
        assert abs(found.bytes / made.path.stat().st_size - 1) < 0.02, type_
    assert bool(made.fallen) is (key == "narrow")


@pytest.mark.parametrize("key", ["wide", "narrow"])
def test_what_is_written_in_one_pass_is_byte_for_byte_what_llama_cpp_makes(
    sources: dict[str, tuple[Path, Path]], tmp_path: Path, key: str
) -> None:
    from gguf import GGUFReader

    folder = sources[key][0]
    model, renderer = mixture.of_folder(folder), encode.load(folder)
    whole = gguf.write(folder, None, tmp_path / "whole.gguf", renderer, name="x", dtype="F32")
    types = [name for name in quants.TYPES if gguf.writes(name, model) and quants.TYPES[name].tensor in packed.BLOCKS]
    assert {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0", "Q3_K_L", "Q2_K", "IQ4_NL", "IQ4_XS"} <= set(types)
    for type_ in types:
        theirs = quantize.quantize(whole, tmp_path / "theirs.gguf", type_)
        ours = gguf.write(folder, None, tmp_path / "ours.gguf", renderer, name="x", dtype=type_)
        found, wanted = GGUFReader(ours), GGUFReader(theirs.path)
        for name in ("general.file_type", "general.quantization_version"):
            assert found.fields[name].contents() == wanted.fields[name].contents(), (type_, name)
        read = {tensor.name: tensor for tensor in found.tensors}
        assert len(read) == len(wanted.tensors)
        for tensor in wanted.tensors:
            assert read[tensor.name].tensor_type == tensor.tensor_type, (type_, tensor.name)
            assert np.array_equal(read[tensor.name].data, tensor.data), (type_, tensor.name)


def test_blocks_come_back_in_order_whatever_their_type_and_size() -> None:
    draw = np.random.default_rng(0)
    blocks = [draw.normal(size=(rows, 512)).astype(np.float32) for rows in (1, 1500, 3, 700)]
    kinds = ("Q4_K", "Q6_K", "F32", "Q8_0")
    with packed.Packer(kinds) as packer:
        made = list(packer.pack((at, kind, rows) for at, (kind, rows) in enumerate(zip(kinds, blocks, strict=True))))
        alone = [b"".join(part.tobytes() for _, part in packer.pack([(0, kind, row[None])]))
                 for kind, rows in zip(kinds, blocks, strict=True) for row in rows]  # fmt: skip
    assert [key for key, _ in made] == [0, 1, 2, 3]
    assert b"".join(part.tobytes() for _, part in made) == b"".join(alone)


def test_weights_that_are_no_numbers_are_refused_by_name_and_leave_nothing(wide: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(wide, tmp_path / "model")
    tensors = load_file(wide / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][5, 7] = torch.inf
    save_file(tensors, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    out = tmp_path / "files"
    out.mkdir()
    with pytest.raises(ExportError, match=r"layers\.2\.mlp\.up_proj.* holds values that Q4_K cannot"):
        gguf.write(tmp_path / "model", None, out / "x.gguf", encode.load(wide), name="x", dtype="Q4_K_M")
    assert list(out.iterdir()) == []


def test_tensors_that_fell_back_are_told_in_a_sentence(sources: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    made = quantize.quantize(sources["narrow"][1], tmp_path / "x.gguf", "Q4_K_M")
    told = made.to_dict()
    assert told["types"] == {"Q5_0": 11, "F32": 5, "Q8_0": 2, "Q4_K": 1, "Q6_K": 1}
    assert told["fallback"] == sum(told["fallen"].values()) == 12
    assert mixture.told(told["types"], told["fallen"]) == (
        "12 of 20 tensors are Q5_0 or Q8_0: their rows are no multiple of 256."
    )
    assert mixture.told({"Q4_K": 3}, {}) == "" and mixture.told({"Q4_K": 3}, {"Q5_0": 1}).startswith(
        "1 of 3 tensors is"
    )


def test_a_type_that_needs_an_importance_matrix_is_refused_without_one(
    sources: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="IQ2_XXS needs an importance matrix") as caught:
        quantize.quantize(sources["wide"][1], tmp_path / "x.gguf", "IQ2_XXS")
    assert "--imatrix" in caught.value.remedy and list(tmp_path.iterdir()) == []


def test_a_matrix_of_another_model_is_refused(sources: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    names = [f"blk.{layer}.attn_q.weight" for layer in range(4)]
    matrix = matrixfile.Matrix({n: np.ones((1, 64)) for n in names}, {n: np.ones(1, np.int64) for n in names})
    matrixfile.save(matrix, tmp_path / "m.gguf")
    with pytest.raises(ExportError, match="another model's"):
        quantize.quantize(sources["wide"][1], tmp_path / "x.gguf", "Q4_K_M", imatrix=tmp_path / "m.gguf")


def test_each_tensor_is_progress_and_a_stop_ends_the_child_and_leaves_nothing(
    sources: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    events: list[dict[str, Any]] = []
    quantize.quantize(sources["wide"][1], tmp_path / "x.gguf", "Q4_K_M", emit=events.append)
    done = [event["done"] for event in events if event["type"] == "progress"]
    assert done == sorted(done) and done[-1] == events[-1]["total"] == 38
    (tmp_path / "x.gguf").unlink()
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        quantize.quantize(sources["wide"][1], tmp_path / "x.gguf", "Q4_K_M", should_stop=lambda: next(asked))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_type_and_one_for_mixtures_only_are_refused_by_name() -> None:
    assert quants.check(["q4_k_m", "Q4_K_M", "f16"]) == ["Q4_K_M", "F16"] and quants.check([]) == ["Q8_0"]
    with pytest.raises(ConfigError, match="no type 'Q9'"):
        quants.check(["Q9"])
    with pytest.raises(ConfigError, match="mixtures of experts"):
        quants.check(["MXFP4_MOE"], 0)
    assert quants.check(["MXFP4_MOE"], 8) == ["MXFP4_MOE"]


def test_every_type_names_a_constant_of_llama_cpp() -> None:
    assert [name for name, made in quants.TYPES.items() if not hasattr(llama_cpp, made.constant)] == []
    assert quants.TYPES["Q4_K_M"].bits == 4.5 and quants.TYPES["IQ1_S"].bits == 1.5625
