"""A method of another package: one file, an entry point, and it has flags, a form and a run in a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio import runs

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def installed(folder: Path, points: str) -> dict[str, str]:
    """Lay an installed package's metadata beside the toy's file, as pip would; gives the environment that sees it."""
    metadata = folder / "toy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[studio.methods]\n{points}\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, folder, HERE)))}


def studio(env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "studio", *map(str, words)]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=300, cwd=ROOT)


def test_it_gets_flags_a_form_and_a_run_in_a_worker(tmp_path: Path, tiny: Path, pairs_file: Path) -> None:
    env = installed(tmp_path, "toy = toymethod:METHOD")
    told = studio(env, "train", "--help").stdout
    assert "settings of toy" in told and "toy_margin" in told and "How far apart a pair should stand." in told

    form = (
        "from studio.methods import METHODS; from studio.ui.forms import Form, label; f = Form(METHODS['toy'].Config)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", form + "print([label(s) for s in f.settings if not s.advanced])"],
        env=env, capture_output=True, text=True, timeout=120, cwd=ROOT, check=True,
    )  # fmt: skip
    assert "Toy margin" in made.stdout

    settings = {"toy_margin": 3.0, "batch_size": 8, "max_length": 128, "quantize_base": "none"}
    run = runs.create(runs.RunConfig("train", "toy", str(tiny), "toy", str(pairs_file), settings=settings))
    done = studio(env, "worker", run.dir)
    assert done.returncode == 0, done.stderr
    result: Any = run.result()
    assert result["heldout"]["name"] == "toy/apart" and result["heldout"]["better"] == "higher"
    assert result["heldout"]["after"] > result["heldout"]["before"]
    first = next(item for item in run.events() if item["type"] == "step")
    assert first["loss"] == pytest.approx(3.0 - first["toy/apart"], abs=1e-4)  # the hinge is open for every pair

    refused = studio(env, "train", "toy", "--model", tiny, "--data", pairs_file, "--set", "toy_margin=11", "--json")
    assert refused.returncode == 2 and json.loads(refused.stdout)["error"]["field"] == "toy_margin"


@pytest.mark.parametrize(
    ("points", "reason"),
    [("gone = nosuchmodule:METHOD", "nosuchmodule"), ("odd = toymethod:step", "no Method")],
)
def test_a_broken_package_stops_nothing_and_is_named(tmp_path: Path, points: str, reason: str) -> None:
    env = installed(tmp_path, points)
    code = "from studio.methods import BROKEN, METHODS; print('sft' in METHODS, BROKEN)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.startswith("True") and reason in done.stdout
