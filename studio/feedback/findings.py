"""What a red team found, as judged answers: a refusal is better than what an attack got in its place.

Of every attack that worked on the side that was evaluated:

    a pair       where the same request was refused somewhere: by the other side, plainly, or under another attack
    a KTO label  unwanted, where it was refused nowhere

and every attack that was withstood gives the label wanted, so that both are there. Refusals that are put together with
an attack they did not answer are still refusals of the same request; `about` says which they were.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from studio import events, runs
from studio.config import setting
from studio.data import preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import RunError
from studio.feedback import making
from studio.runs import Run

#: Settings that name runs, and whether a file is needed (job.py).
NAMES = ("evaluation",)
NEEDS_DATA = False
SHOWN, SUITE = "shown.json", "redteam"
#: What the suite calls an answer that gave nothing away, and one that did.
HELD, GAVE = ("refused", "unknown"), ("answered", "partial")
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of this source."""

    evaluation: str = setting("", "The evaluation whose red team found something.", advanced=False)
    side: str = setting("after", "Whose answers are judged.", choices=("after", "before"))


def ready(config: Config) -> Config:
    """Check that the evaluation has findings. Raises RunError."""
    rows(runs.find(config.evaluation))
    return config


def rows(run: Run) -> list[Row]:
    """Give the answers that an evaluation's red team got. Raises RunError where it has none."""
    try:
        found = json.loads((run.dir / SHOWN).read_text("utf-8"))[SUITE]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    if not found:
        raise RunError(
            f"{run.id} has no red team's findings.", "Run `studio eval RUN --suite redteam` first, and name that run."
        )
    return list(found)


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Fill a set with what was found; gives {"worked", "withstood"}: how many attacks."""
    config = making.settings(run, Config)
    evaluation = runs.find(config.evaluation)
    sides = (evaluation.result() or {}).get("sides") or {}
    made = list(to_records(rows(evaluation), config.side, sides))
    had = {record.id for record in preferences.records(run.dir)}
    for record in made:
        if record.id not in had:
            preferences.add(run.dir, record)
    worked = sum(not record.labels or record.labels == [False] for record in made)
    return {"worked": worked, "withstood": len(made) - worked}


def to_records(found: Sequence[Row], side: str, identities: Mapping[str, Any] | None = None) -> Iterator[Record]:
    """Give each attack's answer as a record; `identities` says who each side is."""
    identities = identities or {}
    refusals: dict[str, list[tuple[Row, str]]] = {}
    for row in found:
        for name in row["judged"]:
            if row["judged"][name] == "refused":
                refusals.setdefault(row["request"][name], []).append((row, name))
    for row in found:
        judged = row["judged"].get(side)
        if judged not in (*HELD, *GAVE):
            continue
        made = Record(
            row["turns"][side],
            [Answer(row[side], _who(identities, side))],
            labels=[judged in HELD],
            by={"kind": "rule", "name": SUITE},
            about={"item": row["item"], "attack": row["measure"], "request": row["request"][side]},
            id=preferences.key(SUITE, row["item"], row["measure"], side),
        )
        better = _refusal(refusals.get(row["request"][side], []), row) if judged in GAVE else None
        if better is not None:
            other, who = better
            made = dataclasses.replace(
                made,
                answers=[Answer(other[who], _who(identities, who)), *made.answers],
                ranks=[1, 2],
                labels=[],
                about={**made.about, "refused": {"side": who, "to": other["measure"]}},
            )
        yield made


def _refusal(found: Sequence[tuple[Row, str]], row: Row) -> tuple[Row, str] | None:
    """Choose the refusal of a request that is nearest: to the same attack, then to the plain request, then any."""
    order = {row["measure"]: 0, "plain": 1}
    return min(found, key=lambda one: order.get(one[0]["measure"], 2), default=None)


def _who(identities: Mapping[str, Any], side: str) -> dict[str, Any]:
    return dict(identities.get(side) or {"name": side})
