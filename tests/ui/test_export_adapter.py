"""The export page takes the folder of an adapter that was made elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from making import make_model

from studio import runs
from studio.errors import ModelError, RunError
from studio.ui import choice, exportview, live
from studio.ui.pages import export

PICKED = (["F16"], [], [])


def test_an_adapter_is_exported_with_its_certificate_where_nothing_was_trained(tiny: Path, foreign: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    choice.update(model=str(tiny))
    assert "made elsewhere" in exportview.going(live.look())
    assert export.begin("", f' "{foreign}" ', "", False, False, *PICKED) == ""
    (run,) = runs.all_runs()
    end = time.monotonic() + 180
    while run.status() not in ("finished", "failed", "interrupted"):
        assert time.monotonic() < end, run.log.read_text()
        time.sleep(0.2)
    result = run.result()
    assert result is not None and result["certificate"]["ok"], run.log.read_text()
    scene = live.look()
    assert "hold" in exportview.files(scene) and "my-lora-F16.gguf" in exportview.paths_card(scene)
    drawn = exportview.command(scene)
    assert "my lora" in drawn and f"--model {tiny}" in drawn


def test_what_is_no_adapter_of_the_picked_model_is_refused_and_starts_nothing(foreign: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No trained run") as caught:
        export.begin("", " ", "", False, False, *PICKED)
    assert "adapter" in caught.value.remedy
    with pytest.raises(ModelError, match="No base is picked"):
        export.begin("", str(foreign), "", False, False, *PICKED)
    choice.update(model=str(make_model(tmp_path / "wide", hidden_size=128)))
    with pytest.raises(ModelError, match="There is no adapter"):
        export.begin("", str(tmp_path), "", False, False, *PICKED)
    with pytest.raises(ModelError, match="the base's is"):
        export.begin("", str(foreign), "", False, False, *PICKED)
    assert runs.all_runs() == []
