"""Recipes whose process is killed with SIGKILL: resumed, they end as one that nobody touched, and do nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

import studio
from studio import runs
from studio.errors import Stopped
from studio.lab import recipe, rounds

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")

#: Does a recipe, and kills itself at the `at`th event of a type from a part (and phase).
DRIVER = """
import json, os, signal, sys
import studio

file, out, resume, type_, part, phase, at = json.loads(sys.argv[1])
seen = 0

def emit(item):
    global seen
    seen += item["type"] == type_ and item.get("part", "") == part and item.get("phase", "").startswith(phase)
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)

studio.run_recipe(file, out=__import__("pathlib").Path(out), resume=resume, emit=emit)
"""


def killed(file: Path, out: Path, type_: str, part: str, phase: str, at: int) -> None:
    """Go on with a recipe, or begin it, until it is killed at that event."""
    asked = json.dumps([str(file), str(out), out.exists(), type_, part, phase, at])
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", DRIVER, asked], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == -signal.SIGKILL, (part, phase, done.stderr[-2000:])


def weights(folder: Path, step: str) -> bytes:
    return (folder / "steps" / step / "adapter" / "adapter_model.safetensors").read_bytes()


def learned(folder: Path, step: str) -> list[int]:
    found = runs.Run(folder / "steps" / step).events()
    return [item["step"] for item in found if item["type"] == "step"]


def text(model: str, data: dict[str, Path], *steps: dict[str, Any]) -> str:
    files = tuple(recipe.Data(name, str(path)) for name, path in data.items())
    made = recipe.Recipe("killed", recipe.Base(model), files, tuple(recipe.Step(**step) for step in steps))
    return made.text()


def test_a_recipe_killed_in_training_and_between_steps_ends_with_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {i} + {i}?", "chosen": f"It is {2 * i}.", "rejected": f"{i}"} for i in range(40)]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    write_jsonl(tmp_path / "sft.jsonl", [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows])
    settings = {"max_length": 64, "batch_size": 4, "max_steps": 12, "save_every": 5, "eval_every": 6}
    common = {"kind": "train", "settings": settings}
    file = tmp_path / "recipe.toml"
    steps = ({"name": "sft", "method": "sft", "data": "@sft-rows"}, {"name": "dpo", "method": "dpo", "data": "@pairs"})
    data = {"sft-rows": tmp_path / "sft.jsonl", "pairs": tmp_path / "pairs.jsonl"}
    file.write_text(text(str(tiny), data, {**common, **steps[0]}, {**common, **steps[1], "parent": "@sft"}), "utf-8")
    whole, hurt = tmp_path / "whole", tmp_path / "hurt"
    studio.run_recipe(file, out=whole)
    killed(file, hurt, "step", "dpo", "", 8)
    assert runs.Run(hurt).status() == "interrupted" and runs.Run(hurt / "steps" / "dpo").status() == "interrupted"
    stamp = (hurt / "steps" / "sft" / "result.json").stat().st_mtime_ns
    found = studio.run_recipe(file, out=hurt, resume=True)
    assert weights(hurt, "dpo") == weights(whole, "dpo") and weights(hurt, "sft") == weights(whole, "sft")
    assert found["best"]["step"] == "dpo" and (hurt / "steps" / "sft" / "result.json").stat().st_mtime_ns == stamp
    assert learned(hurt, "dpo") == [*range(1, 9), *range(6, 13)], "from the checkpoint at 5, no step before it again"
    assert learned(hurt, "sft") == learned(whole, "sft") == [*range(1, 13)]


def test_a_recipe_killed_while_a_steps_directory_was_made_goes_on(tiny: Path, sft_file: Path, tmp_path: Path) -> None:
    """The directory is there with a file half written, and no config: what was begun is made anew in its place."""
    step = {"name": "sft", "kind": "train", "method": "sft", "data": "@rows", "settings": {"max_steps": 1}}
    file, out = tmp_path / "recipe.toml", tmp_path / "out"
    file.write_text(text(str(tiny), {"rows": sft_file}, step), "utf-8")
    with pytest.raises(Stopped):
        studio.run_recipe(file, out=out, should_stop=lambda: True)
    half = out / "steps" / "sft" / ".config.json.4711.tmp"
    half.parent.mkdir(parents=True)
    half.write_text('{"kind": "tr', "utf-8")
    (out / rounds.PLACES).write_text(json.dumps({"sft": str(half.parent)}), "utf-8")
    found = studio.run_recipe(file, out=out, resume=True)
    assert found["best"]["dir"] == str(half.parent) and not half.exists()


@pytest.mark.slow
def test_two_rounds_killed_everywhere_end_with_the_same_weights(tmp_path: Path) -> None:
    """Killed while it trains, samples, judges, evaluates, and between two steps; each time it is only gone on with."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    made = recipe.read(Path(studio.__file__).parent.parent / "assets" / "recipes" / "two-rounds.toml")
    less: dict[str, dict[str, int]] = {
        "sft": {"max_steps": 12, "save_every": 5},
        "judge": {"max_steps": 4},
        "dpo-1": {"max_steps": 6, "save_every": 2},
        "dpo-2": {"max_steps": 6, "save_every": 2},
    }
    document = made.to_dict()
    for step in document["step"]:
        step["settings"] = less.get(step["name"], {})
        if step["kind"] == "feedback":
            step["options"]["limit"] = 16
        if step["kind"] == "eval":
            step["options"]["settings"]["fit"] = {"n": 12, "sampled": 2, "max_tokens": 16}
    document["step"] = [{key: value for key, value in step.items() if value} for step in document["step"]]
    file, whole, hurt = tmp_path / "recipe.toml", tmp_path / "whole", tmp_path / "hurt"
    file.write_text(recipe.from_dict(document).text(), "utf-8")
    first = studio.run_recipe(file, out=whole)
    killed(file, hurt, "step", "sft", "", 7)
    killed(file, hurt, "progress", "sampled-1", "Answering", 2)
    killed(file, hurt, "progress", "sampled-1", "Scoring", 2)
    killed(file, hurt, "progress", "", "Steps of the recipe", 3)
    killed(file, hurt, "progress", "look-1", "fit: after", 2)
    killed(file, hurt, "step", "dpo-2", "", 3)
    again = studio.run_recipe(file, out=hurt, resume=True)
    for step in ("sft", "dpo-1", "dpo-2"):
        assert weights(hurt, step) == weights(whole, step), step
    assert again["figures"] == first["figures"] and again["best"]["step"] == first["best"]["step"]
    for folder, name, key in (("sampled-1", "records.jsonl", "id"), ("sampled-2", "records.jsonl", "id")):
        sides = [(place / "steps" / folder / name).read_text("utf-8").splitlines() for place in (whole, hurt)]
        ids = [[json.loads(line)[key] for line in lines] for lines in sides]
        assert Counter(ids[0]) == Counter(ids[1]) and max(Counter(ids[1]).values()) == 1
    asked = [(place / "steps" / "look-1" / "answers.jsonl").read_text("utf-8").splitlines() for place in (whole, hurt)]
    assert len(asked[0]) == len(asked[1]) == len(set(asked[1])), "no answer was given twice"
