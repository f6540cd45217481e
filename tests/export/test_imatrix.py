"""Importance matrices against inputs that torch sees, and what guards them."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_model, write_jsonl

from studio import runs, worker
from studio.errors import ConfigError, DataError, ExportError, Stopped
from studio.export import ggml, gguf, imatrix, matrixfile, order, quantize
from studio.models import mixture, quants
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide") / "model"
    return make_model(folder, hidden_size=256, intermediate_size=512, num_hidden_layers=2)


def seen_by_torch(base: Path, rows: list[list[int]]) -> dict[str, Any]:
    """Sum the squares of what goes into each linear map of a Llama, under llama.cpp's names."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    names = {
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_output",
        "gate_proj": "ffn_gate",
        "up_proj": "ffn_up",
        "down_proj": "ffn_down",
    }
    sums: dict[str, Any] = {}

    def listen(name: str) -> Any:
        def hook(module: Any, given: Any, _: Any) -> None:
            x = given[0].reshape(-1, given[0].shape[-1]).double()
            sums[name] = sums.get(name, 0) + (x**2).sum(0).numpy()

        return hook

    for at, layer in enumerate(model.model.layers):
        for part, module in layer.named_modules():
            if (kind := part.rpartition(".")[2]) in names:
                module.register_forward_hook(listen(f"blk.{at}.{names[kind]}.weight"))
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([row]))
    return sums


def test_a_matrix_holds_what_torch_sees_of_rows_that_do_not_see_each_other(wide: Path, tmp_path: Path) -> None:
    source = gguf.write(wide, None, tmp_path / "x.gguf", encode.load(wide), name="x", dtype="F32")
    rng = np.random.default_rng(0)
    rows = [rng.integers(4, 300, size).tolist() for size in (40, 3, 17, 200, 120, 90, 61)]
    told: list[dict[str, Any]] = []
    imatrix.make(source, rows, tmp_path / "m.gguf", dataset="rows.jsonl", emit=told.append)
    found = matrixfile.load(tmp_path / "m.gguf")
    wanted = seen_by_torch(wide, rows)
    assert set(found.sums) == set(wanted) and found.dataset == "rows.jsonl"
    for name, sums in wanted.items():
        np.testing.assert_allclose(found.sums[name][0], sums, rtol=1e-3, err_msg=name)
        assert found.counts[name].tolist() == [sum(map(len, rows))]
        np.testing.assert_allclose(found.means()[name][0], sums / sum(map(len, rows)), rtol=1e-3)
    assert told[-1]["done"] == told[-1]["total"] == 531
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.gguf", "x.gguf"]


def write_mixture(path: Path, experts: int = 4, used: int = 2) -> Path:
    """Write a random Mixtral without a vocabulary."""
    from gguf import GGUFWriter

    rng = np.random.default_rng(1)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(32)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(used)
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", (rng.standard_normal(shape) * 0.1).astype(np.float32))

    add("token_embd", 32, 64)
    add("output", 32, 64)
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    for layer in range(2):
        for kind in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{kind}", 64, 64)
        for kind in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{kind}.weight", np.ones(64, np.float32))
        add(f"blk.{layer}.ffn_gate_inp", experts, 64)
        add(f"blk.{layer}.ffn_gate_exps", experts, 96, 64)
        add(f"blk.{layer}.ffn_up_exps", experts, 96, 64)
        add(f"blk.{layer}.ffn_down_exps", experts, 64, 96)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_each_expert_of_a_mixture_is_measured_on_the_tokens_that_came_to_it(tmp_path: Path) -> None:
    rows = [np.random.default_rng(n).integers(0, 32, 50).tolist() for n in range(2)]
    imatrix.make(write_mixture(tmp_path / "x.gguf"), rows, tmp_path / "m.gguf")
    found = matrixfile.load(tmp_path / "m.gguf")
    for layer in range(2):
        router = found.sums[f"blk.{layer}.ffn_gate_inp.weight"]
        gate, up = (found.sums[f"blk.{layer}.ffn_{kind}_exps.weight"] for kind in ("gate", "up"))
        counts = found.counts[f"blk.{layer}.ffn_gate_exps.weight"]
        assert gate.shape == (4, 64) and found.sums[f"blk.{layer}.ffn_down_exps.weight"].shape == (4, 96)
        # Every token goes to two experts with the input that the router sees: the experts' sums are twice the router's.
        np.testing.assert_allclose(gate.sum(0), 2 * router[0], rtol=1e-4)
        np.testing.assert_allclose(gate, up)
        assert counts.sum() == 2 * 100 and len(set(counts.tolist())) > 1
    quantize.quantize(tmp_path / "x.gguf", tmp_path / "q.gguf", "Q4_0", imatrix=tmp_path / "m.gguf")


def test_a_version_that_was_not_tried_is_refused_with_the_way_out() -> None:
    with pytest.raises(ExportError, match=r"0\.4\.0 was not tried") as caught:
        ggml.functions("0.4.0")
    assert "0.3.36" in caught.value.remedy and "needs none" in caught.value.remedy


@pytest.mark.parametrize("swap", [("ne", "nb"), ("view_src", "data"), ("src", "op_params"), ("name", "op_params")])
def test_a_struct_that_is_laid_out_in_another_way_is_found_out(
    monkeypatch: pytest.MonkeyPatch, swap: tuple[str, str]
) -> None:
    fields = {name: kind for name, kind in ggml.GGMLTensor._fields_}
    names = [swap[1 - swap.index(name)] if name in swap else name for name in fields]

    class Other(ctypes.Structure):
        _fields_ = tuple((name, fields[name]) for name in names)

    assert ggml.functions() is not None
    monkeypatch.setattr(ggml, "GGMLTensor", Other)
    with pytest.raises(ExportError, match="in another way"):
        ggml.functions()


def test_backends_names_are_taken_off_a_weights_name() -> None:
    assert (
        ggml.plain_name(b"CUDA0#blk.0.attn_k.weight#0")
        == "blk.0.attn_k.weight"
        == ggml.plain_name(b"blk.0.attn_k.weight")
    )


def test_an_expert_that_no_token_came_to_counts_as_one(tmp_path: Path) -> None:
    made = matrixfile.Matrix({"blk.0.x": np.array([[4.0, 8.0], [0, 0]])}, {"blk.0.x": np.array([2, 0])}, "d")
    matrixfile.save(made, tmp_path / "m.gguf")
    assert matrixfile.load(tmp_path / "m.gguf").means()["blk.0.x"].tolist() == [[2, 4], [1, 1]]


def test_the_older_form_is_read_and_damaged_files_are_refused(tmp_path: Path) -> None:
    old = struct.pack("<i", 1) + struct.pack("<i", 7) + b"blk.0.q" + struct.pack("<ii", 10, 2)
    old += struct.pack("<2f", 30.0, 50.0)
    (tmp_path / "old.dat").write_bytes(old)
    assert matrixfile.load(tmp_path / "old.dat").means()["blk.0.q"].tolist() == [[3.0, 5.0]]
    assert imatrix.check(tmp_path / "old.dat") == {"blk.0.q": 2}
    bad = {"cut": old[:-3], "empty": b"", "text": b"hello world, this is no matrix", "gguf": b"GGUF" + b"\xff" * 40}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Exception, match=r"no importance matrix|ended|memory"):
            imatrix.check(tmp_path / name)
    with pytest.raises(ExportError, match="does not open"):
        imatrix.check(tmp_path / "missing")


def test_a_stop_while_measuring_leaves_nothing(wide: Path, tmp_path: Path) -> None:
    source = gguf.write(wide, None, tmp_path / "x.gguf", encode.load(wide), name="x")
    with pytest.raises(Stopped):
        imatrix.make(source, [[5] * 512] * 4, tmp_path / "m.gguf", should_stop=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def quiet(_: object) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def trained(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    place = tmp_path_factory.mktemp("trained")
    rows: list[dict[str, object]] = [
        {"prompt": f"What is {i} + {i}?", "completion": f"The sum of both is {2 * i}."} for i in range(60)
    ]
    fast = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128}
    config = runs.RunConfig(
        "train", "t", str(wide), "sft", str(write_jsonl(place / "rows.jsonl", rows)), settings={**fast, "max_steps": 4}
    )
    run = runs.create(config, place / "run")
    worker.work(run)
    return run


def export(trained: runs.Run, **options: Any) -> runs.Run:
    return runs.create(runs.RunConfig("export", "x", trained.config.model, parent=str(trained.dir), options=options))


def test_a_type_that_needs_a_matrix_gets_one_of_the_runs_training_rows(
    trained: runs.Run, wide: Path, tmp_path: Path
) -> None:
    renderer = encode.load(wide)
    made = order.Order.of(export(trained, quants=["IQ2_XS", "Q4_K_M"]), wide, renderer, quiet, lambda: False)
    assert (made.matrix, made.weighted, made.source) == ("auto", ["IQ2_XS"], "F16")
    assert made.rows is not None and len(made.rows.training) == 57 and made.rows.held_out
    row = renderer.tokenizer.decode(made.rows.training[0])
    assert row.startswith("<|im_start|>user\nWhat is ") and "The sum of both is" in row

    def write(path: Path, type_: str) -> None:
        gguf.write(wide, trained.adapter, path, renderer, name="x", dtype=type_)

    made.make(tmp_path, "x", write, quiet, lambda: False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-IQ2_XS.gguf", "x-Q4_K_M.gguf", "x-imatrix.gguf"]
    model = mixture.of_folder(wide)
    assert made.about("IQ2_XS")["types"] == mixture.predict("IQ2_XS", model).types
    assert made.result() == {"imatrix": str(tmp_path / "x-imatrix.gguf")}
    matrix = matrixfile.load(tmp_path / "x-imatrix.gguf")
    assert matrix.dataset == "rows.jsonl" and len(matrix.sums) == 14
    from gguf import GGUFReader

    said = GGUFReader(tmp_path / "x-IQ2_XS.gguf").fields
    assert said["quantize.imatrix.dataset"].contents() == "rows.jsonl"
    assert said["quantize.imatrix.entries_count"].contents() == 14
    assert "quantize.imatrix.dataset" not in GGUFReader(tmp_path / "x-Q4_K_M.gguf").fields

    again = export(trained, quants=["Q4_K_M", "Q8_0", "F16"], imatrix=str(tmp_path / "x-imatrix.gguf"))
    brought = order.Order.of(again, wide, renderer, quiet, lambda: False)
    assert brought.weighted == ["Q4_K_M"] and brought.rows is None


def test_a_model_alone_or_rows_that_are_gone_are_refused_before_anything_is_made(
    trained: runs.Run, wide: Path, tmp_path: Path
) -> None:
    renderer = encode.load(wide)
    alone = runs.create(runs.RunConfig("export", "x", str(wide), options={"quants": ["IQ2_XS"]}))
    with pytest.raises(ConfigError, match="importance matrix of IQ2_XS needs the rows") as caught:
        order.Order.of(alone, wide, renderer, quiet, lambda: False)
    assert "--imatrix FILE" in caught.value.remedy
    data = Path(trained.config.data)
    away = data.rename(tmp_path / "away.jsonl")
    try:
        with pytest.raises(DataError, match="cannot be read"):
            order.Order.of(export(trained, quants=["IQ2_XS"]), wide, renderer, quiet, lambda: False)
        fine = order.Order.of(export(trained, quants=["Q8_0"]), wide, renderer, quiet, lambda: False)
        assert fine.source == "" and fine.rows is None
    finally:
        away.rename(data)


def test_types_that_need_a_matrix_are_those_that_llama_cpp_refuses_without(wide: Path, tmp_path: Path) -> None:
    source = gguf.write(wide, None, tmp_path / "x.gguf", encode.load(wide), name="x")
    refused = set()
    for type_ in quants.TYPES:
        try:
            quantize.quantize(source, tmp_path / "q.gguf", type_)
        except ExportError:
            refused.add(type_)
    assert refused == {name for name, made in quants.TYPES.items() if made.needs_imatrix}
