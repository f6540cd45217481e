"""A model that was really trained for a few steps, with checkpoints, in a data folder that tests copy."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from making import make_model, write_jsonl

from studio import runs, worker
from studio.ui import talk

#: Large enough that an answer takes a while, small enough to be trained in seconds.
SHAPE: dict[str, Any] = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8}
SETTINGS = {"quantize_base": "none", "max_steps": 8, "save_every": 4, "batch_size": 4, "learning_rate": 1e-3}


def train(folder: Path) -> Path:
    """Make model, rows and a finished run in `folder`; give the data folder."""
    model = make_model(folder / "little", **SHAPE)
    home = folder / "home"
    home.mkdir()
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": f"{i} + 1?"}, {"role": "assistant", "content": f"It is {i + 1}."}]}
        for i in range(40)
    ]
    data = write_jsonl(folder / "rows.jsonl", rows)
    before, os.environ["STUDIO_HOME"] = os.environ.get("STUDIO_HOME"), str(home)
    try:
        run = runs.create(runs.RunConfig("train", "sums", str(model), "sft", str(data), settings=SETTINGS))
        worker.work(run)
    finally:
        if before is not None:
            os.environ["STUDIO_HOME"] = before
    facts = {"model": str(model), "name": "little", "bytes": 60_000_000, "exportable": True}
    (home / "window.json").write_text(json.dumps({"model": str(model), "facts": facts}), "utf-8")
    return home


def copy(trained: Path, home: Path) -> runs.Run:
    """Put what was trained into a test's own data folder; give the run."""
    shutil.copytree(trained, home, dirs_exist_ok=True)
    return runs.all_runs()[0]


def tell(text: str, **more: Any) -> list[dict[str, Any]]:
    """Keep a turn as the engine's answers leave it; no file is opened for it."""
    answers, stats = [f"base on {text}", f"tuned on {text}"], [{"tokens": 4}, {"tokens": 4}]
    base = {"name": "Base", "file": "m.gguf", "sha256": "aa", "adapter": "", "adapter_sha256": "", "strength": 0.0}
    tuned = {**base, "name": "SFT · sums", "adapter": "a.gguf", "adapter_sha256": "bb", "strength": 1.0}
    who = [{**base, "raw": True, "paths": ["m.gguf", ""]}, {**tuned, "raw": False, "paths": ["m.gguf", "a.gguf"]}]
    talk.keep([*talk.turns(), {"user": text, "seed": 5, "answers": answers, "stats": stats, "who": who, **more}])
    return talk.turns()
