"""The whole path on the starter: what the project promises of it, measured."""

from __future__ import annotations

from pathlib import Path

import pytest

import studio
from studio.lab import demo

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


def test_settings_are_chosen_on_other_questions_than_those_reported() -> None:
    choose, report = demo.load_questions("choose"), demo.load_questions("report")
    assert len(report) >= 100
    assert not {row["subject"] for row in choose} & {row["subject"] for row in report}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_starter_becomes_an_assistant(seed: int) -> None:
    result = studio.run_demo(seed=seed)
    base, sft, dpo = result["base"], result["sft"], result["dpo"]
    assert base["n"] >= 100
    assert base["knows"] >= 0.90 and base["answers"] <= 0.05
    assert sft["answers"] >= 0.85 and sft["answers_strict"] >= 0.80 and sft["stops"] >= 0.98
    assert dpo["prefers"] >= 0.90 and dpo["prefers"] - sft["prefers"] >= 0.25
    assert dpo["answers"] >= sft["answers"] - 0.05
    assert result["gguf"]["type"] == "Q8_0" and result["gguf"]["kl"] <= 0.05
    assert Path(result["gguf"]["path"]).stat().st_size == result["gguf"]["bytes"]
