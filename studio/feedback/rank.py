"""People rank: 2 to 4 answers to a prompt, shown blind and in an order drawn by lot, are put in order by who looks.

The run samples the answers, and is over then; people rank as long as they like. Beside what every set has
(data/preferences.py):

RUN/samples.jsonl    the prompts with their answers (samples.py)

A ranking is a record: its answers in the sample's order and, where somebody wrote a better one, that one at the end,
of rank 1. `about` keeps the order that they were shown in, `by` who ranked.
"""

from __future__ import annotations

import calendar
import dataclasses
import hashlib
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from studio import events
from studio.config import setting
from studio.data import preferences
from studio.data.preferences import PAIRINGS, Record
from studio.data.records import Reading
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError
from studio.feedback import given, making, samples, sampling
from studio.feedback.samples import Sample
from studio.feedback.sampling import Sampling
from studio.runs import Run

SAME, SKIPPED = "all answers are the same", "skipped"
#: A longer time between two rankings, in seconds, was a break.
_BREAK = 300.0


@dataclasses.dataclass(frozen=True)
class Config(Sampling):
    """How answers are sampled for people to rank, and who ranks what."""

    answers_from: str = setting(
        "", "Who answers the prompts: runs, models, GGUF files or endpoints, separated by commas.", advanced=False
    )
    n: int = setting(
        3,
        "Answers to each prompt, in all: three give three pairs, four give six and take twice as long to read.",
        low=2,
        high=4,
        unit="answers",
        source="InstructGPT, section 3.4, showed 4 to 9 to paid labellers",
        advanced=False,
    )
    temperature: str = setting(
        "0.5,0.8,1.1",
        "How freely answers are drawn. Several temperatures, separated by commas, take turns: the further apart, the "
        "more the answers differ.",
        advanced=False,
    )
    limit: int = setting(
        50, "At most so many prompts of the file. 0: all.", low=0, high=10**9, unit="prompts", advanced=False
    )
    overlap: float = setting(
        0.2, "Share of the prompts that every person ranks, to see how far they agree.", low=0.0, high=1.0
    )
    pairing: str = setting(
        "all", "What a ranking becomes: all its pairs, or only the best over the worst (ends).", choices=PAIRINGS
    )


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a person is to rank next: the texts as they are shown, and where each stands in the sample."""

    id: str
    prompt: list[dict[str, Any]]
    texts: list[str]
    order: list[int]


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a person is; `seconds_left` is None before two rankings were made."""

    done: int
    total: int
    seconds_left: float | None


def ready(config: Config) -> Config:
    """Check the settings before anything is written. Raises ConfigError."""
    if not making.names(config.answers_from):
        raise ConfigError("Nobody is named who answers.", "Name a run, a model or a GGUF file.", field="answers_from")
    sampling.check(config)
    return config


def config_of(run: Run) -> Config:
    """Read a set's settings."""
    return making.settings(run, Config)


# --- sampling --------------------------------------------------------------------------------------------------------


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Sample the answers of a set, each prompt kept as soon as it has them; those that are kept are not asked again.

    Raises Stopped, and DataError where no prompt has two different answers.
    """
    config, reading = config_of(run), Reading.from_dict(run.config.options.get("reading") or {})
    asked = given.prompts(run.config.data, reading, limit=config.limit, emit=emit, should_stop=should_stop)
    there = {sample.id for sample in samples.read(run.dir)}
    for task in sampling.drawn(run, config, asked, emit, should_stop):
        if task.key not in there:
            samples.keep(run.dir, samples.of(task))
    sampling.finish(run)
    found = samples.read(run.dir)
    _leave_out(run, found)
    usable = [sample for sample in found if len(sample.answers) > 1]
    if not usable:
        raise DataError(
            f"No prompt got two different answers ({len(found):,} were asked).",
            "Use higher temperatures, several runs, or prompts that leave more to say.",
        )
    return {"samples": len(usable), "answers": sum(len(sample.answers) for sample in usable), "next": how_to_go_on(run)}


def how_to_go_on(run: Run) -> str:
    """Give the command that asks people for their rankings."""
    return f"studio feedback rank {run.name}"


def _leave_out(run: Run, found: Sequence[Sample]) -> None:
    """Keep a record of each prompt whose answers are all the same: it is counted, and nobody ranks it."""
    there = {record.id for record in preferences.records(run.dir)}
    for sample in found:
        if len(sample.answers) < 2 and sample.id not in there:
            by = {"kind": "producer", "name": "sampling"}
            left = Record(sample.prompt, sample.answers, by=by, dropped=SAME, about={"line": sample.line}, id=sample.id)
            preferences.add(run.dir, left)


# --- ranking ---------------------------------------------------------------------------------------------------------


def record_id(sample: str, by: str) -> str:
    """Name a person's ranking of a sample: ranked again, it takes the place of the first."""
    return preferences.key("rank", sample, by)


def person(by: str) -> str:
    """Give a person's name as it is kept."""
    return " ".join(by.split())[:60] or "person"


def _shared(sample: Sample, config: Config) -> bool:
    """Tell whether everybody ranks a sample: a share of them all, drawn by the run's seed."""
    drawn = hashlib.sha256(f"{config.seed}\0overlap\0{sample.id}".encode()).digest()
    return int.from_bytes(drawn[:6], "big") < config.overlap * 2**48


def order(sample: Sample, by: str, seed: int) -> list[int]:
    """Draw in which order a person sees the answers; the same whenever it is asked."""
    places = list(range(len(sample.answers)))
    random.Random(f"{seed}\0{sample.id}\0{by}").shuffle(places)
    return places


def _mine(run: Run, by: str) -> tuple[list[Sample], list[Record]]:
    """Give what a person has still to rank, and the records that are that person's.

    What everybody ranks comes first, in one order for all, so that it is soon known how far people agree; then, in an
    order of the person's own, what nobody has ranked.
    """
    config = config_of(run)
    records = [record for record in preferences.records(run.dir) if record.by.get("kind") == "person"]
    mine = sorted((record for record in records if record.by.get("name") == by), key=lambda record: record.time)
    have, taken = ({record.about.get("sample") for record in some} for some in (mine, records))
    usable = [sample for sample in samples.read(run.dir) if len(sample.answers) > 1 and sample.id not in have]
    both = [sample for sample in usable if _shared(sample, config)]
    rest = [sample for sample in usable if not _shared(sample, config) and sample.id not in taken]
    random.Random(f"{config.seed}\0{by}").shuffle(rest)
    return [*both, *rest], mine


def next_prompt(run: Run, by: str) -> Shown | None:
    """Give what a person is to rank next, None when nothing is left."""
    by = person(by)
    left, _ = _mine(run, by)
    return shown(run, left[0], by) if left else None


def shown(run: Run, sample: Sample, by: str) -> Shown:
    """Give a sample as a person sees it."""
    places = order(sample, by, config_of(run).seed)
    return Shown(sample.id, sample.prompt, [sample.answers[place].text for place in places], places)


def save(
    run: Run, sample_id: str, ranks: Sequence[int], by: str, *, edited: str = "", bad: bool = False, skip: bool = False
) -> Record:
    """Keep a person's ranking; it is on the disk when this returns.

    `ranks` are of the answers as they were shown to `by`: 1 the best, equal ones are ties, 0 for what has no rank and
    shares the last one. `edited` is a better answer that the person wrote: it gets rank 1 and stands above all others.
    `bad`: none is any good. `skip`: it cannot be judged. Raises ConfigError for what is no ranking.
    """
    by = person(by)
    sample = next((one for one in samples.read(run.dir) if one.id == sample_id and len(one.answers) > 1), None)
    if sample is None:
        raise ConfigError("There is no such prompt to rank.", "Go on with the one that is shown.", field="sample")
    places = order(sample, by, config_of(run).seed)
    given = [0] * len(places) if bad or skip else [int(rank) for rank in ranks]
    edited = "" if edited.strip() in ("", *(answer.text.strip() for answer in sample.answers)) else edited.strip()
    if len(given) != len(places) or min(given) < 0:
        raise ConfigError(f"{len(places)} answers need {len(places)} ranks.", "1 is the best; equal ones are ties.")
    if not (any(given) or edited or bad or skip):
        raise ConfigError("No answer has a rank.", "Rank at least one, call all bad, or skip it.", field="ranks")
    last = max(given) + 1
    dense = sorted({rank or last for rank in given})
    seen = [0] * len(places)
    for place, rank in zip(places, given, strict=True):
        seen[place] = 1 + dense.index(rank or last)
    answers, kept = list(sample.answers), seen if not (bad or skip) else []
    if edited:
        answers.append(Answer(edited, {"name": by, "written": True}))
        kept = [*(rank + 1 for rank in seen), 1]
    record = Record(
        sample.prompt,
        answers,
        [] if skip else kept,
        bad=bad and not edited,
        by={"kind": "person", "name": by},
        dropped=SKIPPED if skip else "",
        about={"sample": sample.id, "order": places, "line": sample.line, **({"all_bad": True} if bad else {})},
        id=record_id(sample.id, by),
    )
    return preferences.add(run.dir, record)


def undo(run: Run, by: str) -> Record | None:
    """Take a person's last ranking back, so that its prompt comes again; give it, None where there is none."""
    _, mine = _mine(run, person(by))
    if not mine:
        return None
    preferences.remove(run.dir, mine[-1].id)
    return mine[-1]


def progress(run: Run, by: str) -> Progress:
    """Tell how far a person is, and how long the rest will take at the pace so far (the median, without breaks)."""
    left, mine = _mine(run, person(by))
    times = [_seconds(record.time) for record in mine]
    gaps = [b - a for a, b in itertools.pairwise(times) if 0 <= b - a <= _BREAK]
    return Progress(len(mine), len(mine) + len(left), statistics.median(gaps) * len(left) if gaps else None)


def _seconds(stamp: str) -> float:
    try:
        return float(calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return 0.0
