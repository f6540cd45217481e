"""What the window says about the starter model: its small world, and questions from it that it can answer."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from studio import paths

NAME = "starter"
WORLD = (
    "It knows a small world and nothing else: countries with their capitals, currencies and languages, animals and "
    "their young, colours, opposites, plurals, past tenses, small sums and chemical symbols. Once taught, it answers "
    "questions about those in one sentence. Ask anything else and it says it does not know, or makes something up."
)
SAMPLES = {"train": "starter_sft.jsonl", "align": "starter_pairs.jsonl"}


def here() -> bool:
    """Tell whether the starter's weights are there."""
    return any((paths.models() / NAME).glob("*.safetensors"))


def leads(model: str) -> bool:
    """Tell whether the first screen leads to the starter: until another model is chosen."""
    return model in ("", NAME)


def sample(step: str) -> Path:
    """Give the sample data of a step."""
    return paths.assets() / "data" / SAMPLES[step]


def samples() -> dict[str, dict[str, Any]]:
    """Give the sample data as the data in use of both steps."""
    kinds = {"train": "sft", "align": "preference"}
    return {
        step: {"file": str(sample(step)), "kind": kind, "rows": len(_rows(sample(step))), "flagged": 0}
        for step, kind in kinds.items()
        if sample(step).is_file()
    }


def questions(count: int = 6) -> list[str]:
    """Give questions that the starter can answer, of different kinds."""
    rows = _rows(paths.assets() / "data" / "starter_questions.jsonl")
    kinds: dict[str, list[str]] = {}
    for row in rows:
        question = str(row.get("question") or row.get("prompt") or "")
        if question:
            kinds.setdefault(str(row.get("kind") or ""), []).append(question)
    picked: list[str] = []
    for turn in range(1 + count // max(1, len(kinds))):
        picked += [asked[(7 * turn + 11 * place) % len(asked)] for place, asked in enumerate(kinds.values())]
    return list(dict.fromkeys(picked))[:count]


@functools.lru_cache(maxsize=4)
def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return []
    return [json.loads(line) for line in lines if line.strip()]
