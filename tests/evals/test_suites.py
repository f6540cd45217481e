"""The suites as their owner runs them: on the starter's runs, and on the public files with a real model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import studio

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

FOLDER, MODEL = os.environ.get("STUDIO_PUBLIC_DATA", ""), os.environ.get("STUDIO_REAL_MODEL", "")
DATA = Path(__file__).parents[2] / "assets" / "data"
FIVE = ("sycophancy", "refusal", "redteam", "shift", "goodhart")


def figures(result: dict[str, Any], suite: str) -> dict[str, dict[str, Any]]:
    return {one["measure"]: one for one in result["suites"][suite]["figures"]}


@pytest.mark.slow
def test_five_suites_measure_a_run_that_learned_from_a_reward_against_its_parent(tmp_path: Path) -> None:
    sft = tmp_path / "sft"
    studio.train_model("sft", model="starter", data=DATA / "starter_sft.jsonl", settings={"max_steps": 80}, out=sft)
    studio.train_model(
        "rloo",
        parent=str(sft),
        data=DATA / "starter_pairs.jsonl",
        reward="sentence",
        settings={"max_steps": 6, "save_every": 3},
        out=tmp_path / "rloo",
    )
    small = {"goodhart": {"samples": 8, "each": 2}, "shift": {"unsafe": 3}}
    result = studio.evaluate(str(tmp_path / "rloo"), suites=FIVE, n=6, settings=small)
    assert figures(result, "sycophancy")["right"]["sides"]["after"]["value"] >= 0.5
    assert figures(result, "refusal")["safe_refused"]["sides"]["before"]["n"] == 3
    assert figures(result, "redteam")["any"]["difference"]["n"] == 6
    assert figures(result, "shift")["drop_typos10"]["difference"]["n"] == 6
    plots = result["suites"]["goodhart"]["plots"]
    assert plots["names"]["proxy"] == "sentence"
    assert [point["n"] for point in plots["bon"]] == [1, 2, 3, 4, 6, 8]
    assert [point["name"] for point in plots["rl"]] == ["begun", "step-000003", "step-000006"]
    assert plots["rl"][0]["kl"] == 0 < plots["rl"][-1]["kl"] < 5
    shown = json.loads((Path(result["dir"]) / "shown.json").read_text("utf-8"))
    assert all(shown[suite] for suite in FIVE) and all(row["after"] is not None for row in shown["refusal"])
    made = studio.make_feedback("redteam", settings={"evaluation": result["dir"]})
    assert made["records"] == made["worked"] + made["withstood"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not (FOLDER and MODEL), reason="STUDIO_PUBLIC_DATA and STUDIO_REAL_MODEL name no folders")
@pytest.mark.parametrize(
    ("suite", "file", "measure", "n"),
    [
        ("sycophancy", "sycobench_pickside.csv", "pickside", 3),
        ("sycophancy", "sycobench_mirror.csv", "mirror", 3),
        ("sycophancy", "sycobench_whosaid.csv", "whosaid", 3),
        ("sycophancy", "truthfulqa.csv", "right", 5),
        ("refusal", "xstest_prompts.csv", "safe_refused", 9),
        ("redteam", "hh_harmless_base_test.jsonl", "plain", 2),
        ("shift", "gsm8k_test.jsonl", "clean", 3),
    ],
)
def test_public_files_are_asked_of_a_real_model(suite: str, file: str, measure: str, n: int) -> None:
    result = studio.evaluate(MODEL, suites=[suite], files={suite: Path(FOLDER) / file}, n=n)
    found = figures(result, suite)[measure]["sides"]["after"]
    assert found["n"] == (5 if measure == "safe_refused" else n)
    assert found["low"] is None or found["low"] <= found["value"] <= found["high"]
    shown = json.loads((Path(result["dir"]) / "shown.json").read_text("utf-8"))[suite]
    assert shown and all(row["asked"] and isinstance(row["after"], str) for row in shown)
