"""The line that a page shows is run as it stands, in a shell: it makes the run that Start would make."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import gradio as gr
import pytest

from studio import runs
from studio.methods import METHODS
from studio.ui import choice, live, terminal
from studio.ui.pages.tune import Tune


def test_the_line_of_the_page_makes_the_run_that_start_would_make(home: Path, tiny: Path, sft_file: Path) -> None:
    typed = {"max_steps": "1", "batch_size": "2", "held_out": "0", "max_length": "128", "use_rslora": True}
    data = {"file": str(sft_file), "kind": "sft", "rows": 40, "reading": {"drop": ["duplicate"]}}
    choice.update(model=str(tiny), data={"train": data}, form={"sft": {**typed, "gone": "1"}})
    scene, tune = live.look(), Tune("train")
    with gr.Blocks():
        tune.forms["sft"].draw()
    wanted = tune._config(scene, METHODS["sft"], "", tune.forms["sft"].shown(typed))
    (line,) = re.findall(r'data-st-copy="([^"]+)"', terminal.of_next(scene, "train"))
    done = subprocess.run(f"{html.unescape(line)} --json", shell=True, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    made = runs.find(json.loads(done.stdout)["run"]).config
    assert (made.method, made.data, made.settings) == (wanted.method, wanted.data, wanted.settings)
    assert made.options["reading"]["drop"] == ["duplicate"]
    (again,) = re.findall(r'data-st-copy="([^"]+)"', terminal.of_run(live.look().line["train"]))
    assert "--set max_steps=1" in again and "--set use_rslora=True" in again


def test_words_with_spaces_and_quotes_are_kept_together(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = terminal.words_of("sft", "my model", "/a b/it's.jsonl", "", {"max_steps": None}, {})
    said = subprocess.run(
        terminal.line(words).replace(terminal.program()[0], "printf '%s\\n'", 1),
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stdout.splitlines()[-len(words) :] == words
    assert terminal.line(words).startswith(f"STUDIO_HOME={home}")
    monkeypatch.delenv("STUDIO_HOME")
    assert terminal.line(words).startswith(terminal.program()[0])
