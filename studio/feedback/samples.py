"""Several answers to each prompt, from one run at several temperatures or from several runs: what people rank.

RUN/samples.jsonl    a prompt with its answers a line (ledger.py), in the order they were sampled
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from studio.data import ledger, writers
from studio.data.votes import Answer
from studio.errors import ConfigError
from studio.feedback.given import Task

FILE = "samples.jsonl"


@dataclasses.dataclass(frozen=True)
class Sample:
    """A prompt and the answers to it that people rank; one that has fewer than two different ones is ranked by none."""

    id: str
    prompt: list[dict[str, Any]]
    answers: list[Answer]
    line: int = 0


def temperatures(text: str) -> list[float]:
    """Read temperatures. Raises ConfigError for what is none."""
    try:
        found = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        found = []
    if not found or not all(0 <= value <= 5 for value in found):
        remedy = "Write numbers from 0 to 5, such as 0.5,0.8,1.1."
        raise ConfigError(f"{text[:60]!r} is no temperature.", remedy, field="temperature")
    return found


def of(task: Task) -> Sample:
    """Make a sample of a prompt and what was drawn for it; of answers that are the same the first is kept."""
    answers = {answer.text.strip(): answer for answer in reversed(task.answers)}
    return Sample(task.key, task.turns, list(answers.values())[::-1], task.line)


def keep(folder: Path, sample: Sample) -> None:
    """Append a sample; it is on the disk when this returns."""
    ledger.append(folder / FILE, writers.line(dataclasses.asdict(sample)).rstrip(b"\n"), _is_sample)


def read(folder: Path) -> list[Sample]:
    """Give the samples of a run in the order they were made; a torn last line is none."""
    found = (_sample(raw) for _, raw in ledger.lines(folder / FILE, _is_sample))
    return list({sample.id: sample for sample in found if sample is not None}.values())


def _sample(raw: bytes) -> Sample | None:
    try:
        row = json.loads(raw)
        answers = [Answer(str(one["text"]), dict(one["identity"])) for one in row["answers"]]
        return Sample(str(row["id"]), list(row["prompt"]), answers, int(row.get("line") or 0))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_sample(raw: bytes) -> bool:
    return _sample(raw) is not None
