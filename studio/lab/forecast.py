"""From a short run to the whole one: what each part of it took, times how much of it the whole run has.

The seconds of a part are the gaps before the events that end it: a step, a measurement, an answer, a checkpoint.

    learning      seconds of the steps after the first, per token that they learned, x tokens x epochs (online methods:
                  per step x steps, for a step writes as much in either)
    reference     seconds per token x tokens
    measuring     seconds per held-out token x tokens x times, and the answers beside each
    answers       seconds per prompt and token of room x prompts x room, before and after
    checkpoints   seconds each x number
    the rest      once: loading, a look at the model, writing the adapter
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise

from studio.events import Event
from studio.methods.base import TrainConfig
from studio.train import schedule

#: A pass without gradient takes about a third of one with it; used where the reference was not asked, as it was known.
_FORWARD = 1 / 3
_WORK = ("step", "evaluated", "sample", "checkpoint")


@dataclasses.dataclass(frozen=True)
class Size:
    """How much a run has to do: rows and tokens (all sides) of both parts of the file, and what is asked of it.

    `learned` counts the learned tokens of the rows that are trained on; `room` the tokens an answer may take.
    """

    rows: int
    tokens: int
    learned: int
    held_rows: int
    held_tokens: int
    prompts: int
    room: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the whole run does: its steps, the passes over the file that they are, measurements and checkpoints."""

    steps: int
    epochs: float
    measurements: int
    checkpoints: int

    @classmethod
    def of(cls, config: TrainConfig, rows: int, together: int, held: bool) -> Plan:
        """Count for so many rows, of which `together` make a step."""
        steps = schedule.steps(config, rows, together)
        measurements = 1 + math.ceil(steps / schedule.measure_every(config, steps)) if held else 0
        epochs = min(config.epochs, steps * together / max(1, rows))
        return cls(steps, epochs, measurements, math.ceil(steps / schedule.save_every(config, steps)))


@dataclasses.dataclass(frozen=True)
class Took:
    """Seconds of a short run by what they went to: of a step's token, of all steps but the first, of each of the rest.

    `learned` is what those steps learned (tokens), `ending` what came after the last measurement.
    """

    steps: tuple[float, ...]
    learned: float
    measuring: float
    samples: float
    checkpoint: float
    reference: float
    answers: float
    ending: float
    rest: float


def took(seen: Sequence[Event]) -> Took:
    """Share the seconds of a finished run out among its parts."""
    gaps: dict[str, list[float]] = {}
    steps = [item for item in seen if item["type"] == "step"]
    end = max((at for at, item in enumerate(seen) if item["type"] in _WORK), default=0)
    for at, (before, item) in enumerate(pairwise(seen), 1):
        gaps.setdefault(_part(before, item, at > end), []).append(float(item["time"]) - float(before["time"]))

    def total(name: str) -> float:
        return sum(gaps.get(name, ()))

    times = max(1, sum(item["type"] == "evaluated" for item in seen) - 1)
    measured = gaps.get("evaluated", [0.0])  # the first one ends what is done once, too
    later = measured[1:] or measured
    return Took(
        steps=tuple(gaps.get("step", [0.0])[1:] or gaps.get("step", [0.0])),
        learned=_learned(steps),
        measuring=sum(later) / len(later),
        samples=total("sample") / (times + 1),
        checkpoint=total("checkpoint") / max(1, len(gaps.get("checkpoint", ()))),
        reference=total("reference"),
        answers=total("answers"),
        ending=total("ending"),
        rest=total("rest") + max(0.0, measured[0] - sum(later) / len(later)),
    )


def whole(part: Took, small: Size, large: Size, plan: Plan, *, online: bool, judges: bool) -> dict[str, float]:
    """Give the seconds of the whole run by part; `judges` tells that it ends with scores of rows, not with answers."""
    token = sum(part.steps) / part.learned * small.learned / small.tokens if part.learned else 0.0
    learning = sum(part.steps) / len(part.steps) * plan.steps if online else token * large.tokens * plan.epochs
    asked = part.reference / max(1, small.tokens + small.held_tokens)
    rows = large.held_rows / small.held_rows if small.held_rows else 0.0
    tokens = rows if online else large.held_tokens / small.held_tokens if small.held_tokens else 0.0
    answers = large.prompts * large.room / (small.prompts * small.room) if small.prompts else 0.0
    return {
        "learning": learning,
        "reference": asked * (large.tokens + large.held_tokens),
        "measuring": plan.measurements * (part.measuring * tokens + part.samples),
        "answers": part.answers * answers,
        "checkpoints": plan.checkpoints * part.checkpoint,
        "rest": part.rest + part.ending * (large.tokens / small.tokens if judges else 1.0),
    }


def unasked(part: Took, small: Size) -> Took:
    """Foresee what asking the reference takes, where a rehearsal found its scores on the disk."""
    token = sum(part.steps) / part.learned * small.learned / small.tokens if part.learned else 0.0
    return dataclasses.replace(part, reference=_FORWARD * token * (small.tokens + small.held_tokens))


def _part(before: Event, item: Event, ending: bool) -> str:
    """Name the part that the time between two events went to."""
    phase = item.get("phase", "") if item["type"] == "progress" and item["done"] else ""
    if phase.startswith("Asking"):
        return "answers"
    if ending:
        return "ending"
    if phase.startswith("Scoring"):
        return "reference"
    return item["type"] if item["type"] in _WORK else "rest"


def _learned(steps: Sequence[Event]) -> float:
    """Count the tokens learned after the first step: what a step tells is a mean since learning began.

    Step n at time t_n tells r_n = L_n / (t_n - t_0), and how long is left: (t_n - t_0) (N - n) / n.
    """
    if len(steps) < 2:
        return 0.0
    first, last = steps[0], steps[-1]
    began = first["time"] - first["seconds_left"] * first["step"] / (first["total"] - first["step"])
    counted = [item["tokens_per_s"] * (item["time"] - began) for item in (first, last)]
    return float(counted[1] - counted[0])
