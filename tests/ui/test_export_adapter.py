"""The export page takes the folder of an adapter that was made elsewhere."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_model

from studio import runs
from studio.errors import ModelError, RunError, StudioError
from studio.export import matrixfile
from studio.models import ggufhead
from studio.ui import choice, exportview, live
from studio.ui.pages import export

PICKED: tuple[list[str], list[str], list[str]] = (["F16"], [], [])


def finished(run: runs.Run) -> dict[str, Any]:
    """Wait for a run's end and give its result."""
    end = time.monotonic() + 180
    while run.status() not in ("finished", "failed", "interrupted"):
        assert time.monotonic() < end, run.log.read_text()
        time.sleep(0.2)
    result = run.result()
    assert result is not None, run.log.read_text()
    return result


def test_an_adapter_is_exported_with_its_certificate_where_nothing_was_trained(tiny: Path, foreign: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    choice.update(model=str(tiny))
    assert "made elsewhere" in exportview.going(live.look())
    assert export.begin("", f' "{foreign}" ', "", False, "", "", *PICKED) == ""
    (run,) = runs.all_runs()
    result = finished(run)
    assert result["certificate"]["ok"], run.log.read_text()
    scene = live.look()
    assert "hold" in exportview.files(scene) and "my-lora-F16.gguf" in exportview.paths_card(scene)
    drawn = exportview.command(scene)
    assert "my lora" in drawn and f"--model {tiny}" in drawn


def test_what_is_no_adapter_of_the_picked_model_is_refused_and_starts_nothing(foreign: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No trained run") as caught:
        export.begin("", " ", "", False, "", "", *PICKED)
    assert "adapter" in caught.value.remedy
    with pytest.raises(ModelError, match="No base is picked"):
        export.begin("", str(foreign), "", False, "", "", *PICKED)
    choice.update(model=str(make_model(tmp_path / "wide", hidden_size=128)))
    with pytest.raises(ModelError, match="There is no adapter"):
        export.begin("", str(tmp_path), "", False, "", "", *PICKED)
    with pytest.raises(ModelError, match="the base's is"):
        export.begin("", str(foreign), "", False, "", "", *PICKED)
    assert runs.all_runs() == []


def columns(model: Path) -> dict[str, int]:
    """Give llama.cpp's names of a Llama's linear maps, each with its columns."""
    shape = json.loads((model / "config.json").read_text())
    maps = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"), shape["hidden_size"])
    maps["ffn_down"] = shape["intermediate_size"]
    return {f"blk.{i}.{name}.weight": n for i in range(shape["num_hidden_layers"]) for name, n in maps.items()}


def test_an_importance_matrix_from_a_file_is_read_first_and_then_used(
    tiny: Path, foreign: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    choice.update(model=str(tiny))
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\xff" * 60)
    types = (["Q4_0"], [], [])
    for file, message in (("", "No file"), (str(tmp_path / "none"), "does not open"), (str(bad), "can be used")):
        with pytest.raises(StudioError, match=message) as caught:
            export.begin("", str(foreign), "", False, export.FROM_FILE, file, *types)
        assert caught.value.remedy and "--" not in caught.value.remedy
    assert runs.all_runs() == []
    found = {name: np.ones((1, n)) * 100 for name, n in columns(tiny).items()}
    counts = {name: np.array([100], np.int64) for name in found}
    matrixfile.save(matrixfile.Matrix(found, counts), tmp_path / "matrix.gguf")
    export.begin("", str(foreign), "", False, export.FROM_FILE, f" '{tmp_path}/matrix.gguf' ", *types)
    (run,) = runs.all_runs()
    assert run.config.options["imatrix"] == str(tmp_path / "matrix.gguf")
    result = finished(run)
    head = ggufhead.read(Path(result["files"][0]["path"]))
    assert head.metadata["quantize.imatrix.file"].endswith("matrix.gguf"), "the file says what it was made with"
