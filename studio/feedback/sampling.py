"""Answers to be judged: those of a file, or n to each prompt, drawn from one or several who answer.

Answers are drawn before anything is judged, so that never more than one of the two is in memory, and are kept in the
set's directory (drafts.jsonl, a prompt a line) until all are judged: a set that is resumed draws none of them again.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio import events
from studio.config import setting
from studio.data import ledger, writers
from studio.data.records import Reading
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError, Stopped
from studio.feedback import asking, endpoint, engines, given, making, samples
from studio.feedback.given import Task
from studio.feedback.speakers import Ask, Draw, Said, Speaker, speakers_of
from studio.runs import Run

DRAFTS = "drafts.jsonl"
Emit = events.Emit
Halt = Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The settings of every source that judges answers: whose, and how they are drawn."""

    answers_from: str = setting(
        "",
        "Who answers the prompts: runs, models, GGUF files or endpoints, separated by commas. Empty: the answers that "
        "the file holds are judged.",
        advanced=False,
    )
    n: int = setting(4, "Answers to each prompt, in all.", low=1, high=30, unit="answers", advanced=False)
    temperature: str = setting(
        "1",
        "How freely answers are drawn. Several temperatures, separated by commas, take turns.",
        advanced=False,
    )
    top_p: float = setting(1.0, "Only the likeliest tokens that make up this share.", low=0.01, high=1.0)
    max_tokens: int = setting(256, "Longest answer that is drawn.", low=1, high=32768, unit="tokens")
    context: int = setting(4096, "Tokens of prompt and answer together.", low=128, high=1048576, unit="tokens")
    limit: int = setting(0, "At most so many prompts of the file. 0: all.", low=0, high=10**9, unit="prompts")
    engine: str = setting(engines.AUTO, engines.HELP, choices=engines.CHOICES)
    allow_endpoint: bool = setting(False, endpoint.CONSENT)
    seed: int = setting(0, "The same seed gives the same answers again.", low=0, high=2**31 - 1)


def check(config: Sampling, judge: str = "") -> None:
    """Raise ConfigError for settings that could give nothing to compare, before anything is written.

    And for one who answers or judges elsewhere, where that is not allowed.
    """
    some, heat = making.names(config.answers_from), samples.temperatures(config.temperature)
    endpoint.check([*some, *making.names(judge)], config.allow_endpoint)
    if some and config.n > 1 and len(set(some)) * len({*heat}) == 1 and heat[0] == 0:
        raise ConfigError(
            "At temperature 0 the answers to a prompt are all the same.",
            "Set a temperature above 0, or name several who answer.",
            field="temperature",
        )


def tasks(run: Run, config: Sampling, least: int, emit: Emit, should_stop: Halt) -> list[Task]:
    """Give what is to be judged: the file's own answers (`least` of them or more), or drawn ones. Raises Stopped."""
    reading = Reading.from_dict(run.config.options.get("reading") or {})
    file, who = run.config.data, making.names(config.answers_from)
    if not who:
        return given.answers(file, reading, least=least, limit=config.limit, emit=emit, should_stop=should_stop)
    asked = given.prompts(file, reading, limit=config.limit, emit=emit, should_stop=should_stop)
    return drawn(run, config, asked, emit, should_stop)


def drawn(run: Run, config: Sampling, asked: Sequence[Task], emit: Emit, should_stop: Halt) -> list[Task]:
    """Draw the answers that are not there yet, each prompt's kept as soon as it has all of them.

    The n answers of a prompt go round those who answer, then round the temperatures. A prompt that is too long for one
    of them is left out and told.
    """
    kept = {task.key: task for task in _kept(run, asked)}
    left = [task for task in asked if task.key not in kept]
    progress = events.Progress(emit, "Answering", len(asked), "prompts")
    progress.step(len(kept))
    if left:
        with speakers_of(making.names(config.answers_from), config, emit, should_stop) as speakers:
            for task, answers in _answers(speakers, config, left, should_stop):
                row = {"key": task.key, "answers": [dataclasses.asdict(answer) for answer in answers]}
                ledger.append(run.dir / DRAFTS, writers.line(row).rstrip(b"\n"), _sound)
                kept[task.key] = dataclasses.replace(task, answers=answers)
                progress.step()
                if should_stop():
                    raise Stopped("Stopped; what was finished is kept.", f"Go on with: studio resume {run.name}")
    found = [kept[task.key] for task in asked]
    short = [task for task in found if not task.answers]
    if short:
        lines = ", ".join(str(task.line) for task in short[:10])
        text = f"{len(short)} prompts leave no room for an answer and were left out (lines {lines})."
        emit(events.event("note", level="warning", code="too_long", text=text))
    if len(short) == len(found):
        raise DataError("No prompt leaves room for an answer.", "Set a larger context, or use shorter prompts.")
    return [task for task in found if task.answers]


def finish(run: Run) -> None:
    """Forget the drafts of a set whose answers are all judged: its records hold them."""
    (run.dir / DRAFTS).unlink(missing_ok=True)


def _kept(run: Run, asked: Sequence[Task]) -> Iterator[Task]:
    """Give the prompts whose answers were drawn before."""
    wanted = {task.key: task for task in asked}
    for _, raw in ledger.lines(run.dir / DRAFTS, _sound):
        row = _draft(raw)
        if row is not None and row["key"] in wanted:
            answers = [Answer(str(one["text"]), dict(one["identity"])) for one in row["answers"]]
            yield dataclasses.replace(wanted[row["key"]], answers=answers)


def _draft(raw: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
        return row if isinstance(row["key"], str) and isinstance(row["answers"], list) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _sound(raw: bytes) -> bool:
    return _draft(raw) is not None


def _answers(
    speakers: Sequence[Speaker], config: Sampling, asked: Sequence[Task], should_stop: Halt
) -> Iterator[tuple[Task, list[Answer]]]:
    """Ask all for their share of each prompt's answers; a prompt that one of them cannot take has none."""
    turns = [(who, heat) for heat in samples.temperatures(config.temperature) for who in range(len(speakers))]
    share = [len(range(number, config.n, len(turns))) for number in range(len(turns))]
    streams = []
    for number, (who, heat) in enumerate(turns):
        if share[number]:
            draw = Draw(
                share[number],
                heat,
                top_p=config.top_p,
                max_tokens=config.max_tokens,
                seed=config.seed,
            )
            asks = [Ask(task.turns, f"{task.key}-{number}") for task in asked]
            streams.append(asking.answers(speakers[who], asks, draw, should_stop))
    for task, *said in zip(asked, *streams, strict=True):
        if any(one is None for one in said):
            yield task, []
            continue
        mine: list[list[Answer]] = []
        for (who, heat), some in zip(turns, said, strict=False):
            about = {**speakers[who].identity, "temperature": heat}
            mine.append([_answer(one, about) for one in some or ()])
        # in the order in which they were handed out, so that answer 1 and 2 are of two who answer where there are two
        yield task, [one for row in itertools.zip_longest(*mine) for one in row if one is not None]


def _answer(said: Said, about: dict[str, Any]) -> Answer:
    return Answer(said.text, {**about, "seed": said.seed, "stopped": said.stopped, "tokens": said.tokens})
