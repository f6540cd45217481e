"""Several answers to each prompt, from one run at several temperatures or from several runs: what people rank.

RUN/samples.jsonl    a prompt with its answers a line (ledger.py), in the order they were sampled
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.data import ledger, writers
from studio.data.votes import Answer
from studio.errors import ConfigError
from studio.feedback import making
from studio.feedback.making import Asked
from studio.feedback.speakers import Ask, Draw, Speaker

FILE = "samples.jsonl"
#: An answer that is the same as another one is drawn again so often.
TRIES = 3


@dataclasses.dataclass(frozen=True)
class Sample:
    """A prompt and the answers to it that people rank; one that has fewer than two different ones is ranked by none."""

    id: str
    prompt: list[dict[str, Any]]
    answers: list[Answer]
    line: int = 0


def temperatures(text: str) -> list[float]:
    """Read the temperatures; ConfigError for what is none."""
    try:
        found = [float(word) for word in text.replace(";", ",").split(",") if word.strip()]
    except ValueError:
        found = []
    if not found or not all(0 <= value <= 5 for value in found):
        remedy = "Write numbers from 0 to 5, such as 0.5,0.8,1.1."
        raise ConfigError(f"{text[:60]!r} is no temperature.", remedy, field="temperature")
    return found


def draw(
    one: Asked, speakers: Sequence[Speaker], count: int, heat: Sequence[float], how: Draw, should_stop: making.Halt
) -> Sample:
    """Let the speakers answer in turn, each with one temperature after the other; what is the same is drawn again."""
    answers: list[Answer] = []
    ask, seen = [Ask(one.turns, one.key)], set[str]()
    for number in range(count):
        speaker, t = speakers[number % len(speakers)], heat[number // len(speakers) % len(heat)]
        for again in range(TRIES if t > 0 else 1):
            drawn = dataclasses.replace(how, n=1, temperature=t, seed=how.seed + number + 16 * again)
            said = next(iter(speaker.ask(ask, drawn, should_stop)))[1][0]
            if said.text not in seen:
                seen.add(said.text)
                answers.append(Answer(said.text, {**speaker.identity, "temperature": t, "seed": said.seed}))
                break
    return Sample(one.key, one.turns, answers, one.line)


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
