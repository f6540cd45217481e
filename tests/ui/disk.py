"""Run directories as a worker leaves them, written by hand: what the display tests read."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from studio.runs import Run, RunConfig


def write_run(home: Path, run_id: str, config: RunConfig, events: list[dict[str, Any]], result: Any = None) -> Run:
    folder = home / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config)), "utf-8")
    text = "".join(json.dumps({"time": 1000.0 + i, **event}) + "\n" for i, event in enumerate(events))
    (folder / "events.jsonl").write_text(text, "utf-8")
    (folder / "lock").touch()
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result), "utf-8")
    return Run(folder)


def sft_events(steps: int = 75, total: int = 75, part: str = "") -> list[dict[str, Any]]:
    more = {"part": part} if part else {}
    out: list[dict[str, Any]] = [{"type": "started", "kind": "train", "title": "starter sft", "attempt": 1}]
    for step in range(1, steps + 1):
        loss = 1.0 + 2.4 * math.exp(-step / 18) + 0.12 * math.sin(step * 1.7)
        out.append(
            {
                "type": "step",
                "step": step,
                "total": total,
                "loss": loss,
                "learning_rate": 5e-4 * (1 - step / (total + 1)),
                "epoch": 2 * step / total,
                "tokens_per_s": 4120.0,
                "seconds_left": 0.4 * (total - step),
                **more,
            }
        )
        if step % 10 == 0:
            out.append({"type": "evaluated", "step": step, "loss": 1.12 + 2.3 * math.exp(-step / 18), **more})
        if step in (1, 25, 50, 75):
            text = {
                1: "What is the capital of Spain?\nWhat is",
                25: "Madrid is the",
                50: "Madrid.",
                75: "The capital of Peru is Lima.",
            }
            out.append(
                {"type": "sample", "step": step, "prompt": "What is the capital of Peru?", "text": text[step], **more}
            )
    return out


def dpo_events(steps: int = 20, total: int = 20) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{"type": "started", "kind": "train", "title": "starter pairs", "attempt": 1}]
    for step in range(1, steps + 1):
        margin = 1.9 * (1 - math.exp(-step / 7))
        out.append(
            {
                "type": "step",
                "step": step,
                "total": total,
                "loss": 0.69 * math.exp(-step / 12),
                "learning_rate": 2e-4,
                "epoch": step / total,
                "tokens_per_s": 2100.0,
                "seconds_left": 1.0 * (total - step),
                "rewards/margins": margin,
                "rewards/chosen": margin * 0.6,
                "rewards/rejected": -margin * 0.4,
                "rewards/accuracies": min(1.0, 0.5 + step / 30),
            }
        )
    return out


SFT_RESULT = {
    "metrics": {"loss": 1.06},
    "heldout": {"name": "loss", "before": 3.42, "after": 1.21, "n": 30},
    "behaviour": {
        "n": 20,
        "changed": 19,
        "stops_before": 0,
        "stops_after": 20,
        "length_before": 64.0,
        "length_after": 7.2,
        "examples": [
            {
                "prompt": "What is the capital of Peru?",
                "before": "What is the capital of Chile? What is the capital of",
                "after": "The capital of Peru is Lima.",
            },
            {"prompt": "What colour is a lemon?", "before": "2. What colour is a lime?\n3. What", "after": "Yellow."},
        ],
    },
    "seconds": 42.0,
    "advice": "",
}

CERTIFICATE = {
    "ok": True,
    "lines": [
        {"name": "token ids", "ok": True, "value": "2,140 of 2,140 probe texts equal", "limit": "all", "remedy": ""},
        {"name": "prompt", "ok": True, "value": "12 of 12 conversations the same", "limit": "all", "remedy": ""},
        {"name": "beginning", "ok": True, "value": "no BOS, as in training", "limit": "", "remedy": ""},
        {
            "name": "ending",
            "ok": True,
            "value": "20 of 20 answers stopped by themselves, at <|im_end|>",
            "limit": "",
            "remedy": "",
        },
        {"name": "numbers", "ok": True, "value": 0.0004, "limit": 0.05, "remedy": ""},
        {"name": "adapter", "ok": None, "value": "does not apply", "limit": "", "remedy": ""},
    ],
}


def export_result(folder: Path) -> dict[str, Any]:
    modelfile = folder / "Modelfile"
    modelfile.parent.mkdir(parents=True, exist_ok=True)
    modelfile.write_text('FROM ./first-Q8_0.gguf\nPARAMETER stop "<|im_end|>"\n', "utf-8")
    for name in ("first-Q8_0.gguf", "base-Q8_0.gguf"):
        (folder / name).write_bytes(b"GGUF")
    file = {
        "path": str(folder / "first-Q8_0.gguf"),
        "type": "Q8_0",
        "bytes": 6_400_000,
        "sha256": "9f31c0" * 10 + "e27a",
    }
    return {
        "files": [{**file, "certificate": CERTIFICATE}],
        "modelfile": str(modelfile),
        "base_file": str(folder / "base-Q8_0.gguf"),
        "certificate": CERTIFICATE,
    }


DEMO_RESULT = {
    "base": {"knows": 0.99, "answers": 0.0, "answers_strict": 0.0, "stops": 0.0, "prefers": 0.0, "n": 789},
    "sft": {"answers": 0.934, "answers_strict": 0.88, "stops": 1.0, "prefers": 0.69, "n": 789},
    "dpo": {"answers": 0.984, "answers_strict": 0.90, "stops": 1.0, "prefers": 0.996, "n": 789},
    "gguf": {"path": "first-Q8_0.gguf", "type": "Q8_0", "bytes": 6_400_000, "kl": 0.0004},
    "seconds": {"total": 212.0},
    "runs": {},
}


def whole_path(home: Path, *, demo: bool = True) -> None:
    """The starter taken through every step."""
    sft = write_run(
        home,
        "20261124-200001-starter-sft-aaaa",
        RunConfig("train", "starter sft", "starter", "sft", "/data/starter_sft.jsonl"),
        [*sft_events(), {"type": "finished", "result": {}}],
        SFT_RESULT,
    )
    dpo = write_run(
        home,
        "20261124-200002-starter-pairs-bbbb",
        RunConfig("train", "starter pairs", "starter", "dpo", "/data/starter_pairs.jsonl", str(sft.dir)),
        [*dpo_events(), {"type": "finished", "result": {}}],
        {**SFT_RESULT, "metrics": {"loss": 0.13, "rewards/margins": 1.8}},
    )
    folder = home / "runs" / "20261124-200003-first-assistant-cccc" / "files"
    write_run(
        home,
        "20261124-200003-first-assistant-cccc",
        RunConfig("export", "First assistant", "starter", parent=str(dpo.dir), options={"quants": ["Q8_0"], "out": ""}),
        [{"type": "started"}, {"type": "finished", "result": {}}],
    )
    (folder.parent / "result.json").write_text(json.dumps(export_result(folder)), "utf-8")
    if demo:
        write_run(
            home,
            "20261124-200000-first-assistant-dddd",
            RunConfig("demo", "First assistant", "starter"),
            [*sft_events(part="sft"), {"type": "finished", "result": {}}],
            DEMO_RESULT,
        )


def choices(home: Path, **more: Any) -> None:
    facts = {
        "model": "starter",
        "name": "Studio starter",
        "architecture": "LlamaForCausalLM",
        "parameters": 5_870_000,
        "layers": 6,
        "context": 512,
        "bytes": 11_700_000,
        "dtype": "BF16",
        "template": "none of its own: ChatML is added",
        "family": "chatml",
        "licence": "Apache-2.0",
        "stops": ["<|im_end|>"],
        "exportable": True,
        "folder": "/models/starter",
    }
    data = {
        "train": {
            "file": "/data/starter_sft.jsonl",
            "kind": "sft",
            "rows": 600,
            "flagged": 3,
            "trained_tokens": 9_123,
            "tokens": 21_300,
        },
        "align": {"file": "/data/starter_pairs.jsonl", "kind": "preference", "rows": 320, "flagged": 0},
    }
    (home / "window.json").write_text(json.dumps({"model": "starter", "facts": facts, "data": data, **more}), "utf-8")
