"""The benchmark of training measures without TRL, and says what it would compare with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train.py"


def test_it_measures_us_alone(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--models", "tiny", "--methods", "dpo", "--only", "ours", "--repeat", "1"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(done.stdout)["cases"]
    (found,) = case["rounds"]["ours"]
    # 16 pairs in one step; before anything is learned the loss is ln 2, and one step moves it little.
    assert found["steps"] == 1 and abs(found["held_out_loss"] - 0.6931) < 0.02
    assert found["seconds"] > 0 and found["peak_mb"] > 0 and found["packed"] and found["shared"]


def test_without_trl_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "trl.py").write_text("raise ImportError")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--models", "tiny"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2 and "pip install trl==1.16.0" in done.stderr
