"""Used elsewhere than trained: the same questions with typos, in small letters, and in other words.

A model that was taught to answer is asked questions that it can answer, as its training rows are written and otherwise,
and questions about what does not exist, which it was taught to say it does not know.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from studio.config import setting
from studio.evals import starter
from studio.evals.suite import Measure
from studio.lab.experiments import base, world
from studio.lab.experiments.base import Bench, Claim, Experiment, Found, LabConfig


@dataclasses.dataclass(frozen=True)
class Config(LabConfig):
    """The settings of this experiment."""

    few: float = setting(0.05, "Share of the letters that are spoilt.", low=0.0, high=1.0, advanced=False)
    many: float = setting(0.1, "Share of the letters that are spoilt, the second time.", low=0.0, high=1.0)


#: The ways a question is put, with what they are called.
WAYS = {"few": "few typos", "many": "more typos", "small": "small letters", "words": "other words"}
MEASURES = (
    Measure("right_few", "Right answers, few typos", "The same questions with a few letters spoilt."),
    Measure("right_many", "Right answers, more typos", "The same questions with more letters spoilt."),
    Measure("right_small", "Right answers, small letters", "The same questions in small letters, without a mark."),
    Measure("right_words", "Right answers, other words", "The same questions in a wording that no row has."),
    Measure(
        "declines", "Says it does not know, though it does, more typos", "Of questions that it can answer.", "less"
    ),
    Measure("admits", "Says it does not know what nobody can, more typos", "Of questions about what does not exist."),
)


def run(bench: Bench) -> Found:
    """Do the experiment."""
    cfg: Config = bench.cfg
    taught = bench.taught()
    questions = world.questions(cfg.split)
    nobody = world.unknowable()
    asked = {
        "plain": [row["question"] for row in questions],
        **{way: _put([row["question"] for row in questions], questions, way, cfg) for way in WAYS},
        "nobody": nobody,
        "nobody_many": _put(nobody, [], "many", cfg),
    }
    said = bench.ask({"taught": str(taught.dir)}, asked)["taught"]
    right = {way: [_right(*pair) for pair in zip(said[way], questions, strict=True)] for way in ("plain", *WAYS)}
    marks = {f"right_{way}": base.marks({"before": right["plain"], "after": right[way]}) for way in WAYS}
    for name, plain, other in (("declines", "plain", "many"), ("admits", "nobody", "nobody_many")):
        before, after = ([world.refuses(reply) for reply in said[list_]] for list_ in (plain, other))
        marks[name] = base.marks({"before": before, "after": after})
    shown = [
        {"asked": asked["many"][at], "right": row["answers"][0], "before": said["plain"][at], "after": said["many"][at]}
        for at, row in enumerate(questions)
    ]
    plot = {"kind": "shares", "figures": [m.name for m in MEASURES], "sides": ["before", "after"]}
    names = {"sides": {"before": "as trained", "after": "otherwise"}}
    return Found(marks, (Claim("right_many", "down"), Claim("declines", "up")), _tell, {**plot, **names}, shown)


def _put(asked: list[str], questions: list[dict[str, Any]], way: str, cfg: Config) -> list[str]:
    """Put questions another way."""
    rng = random.Random(f"{cfg.seed} {way}")
    if way == "small":
        return [text.lower().rstrip("?.") for text in asked]
    if way == "words":
        return [f"{row['completion']} what?" for row in questions]
    return [world.typos(text, cfg.few if way == "few" else cfg.many, rng) for text in asked]


def _right(reply: str, row: dict[str, Any]) -> bool:
    return starter.answers(reply, {"answers": row["answers"], "accept": row["accept"]})


def _tell(figures: dict[str, Any], shown: bool) -> str:
    few, many = figures["right_few"], figures["right_many"]
    small, words = figures["right_small"], figures["right_words"]
    declines, admits = figures["declines"], figures["admits"]
    said = (
        f"Asked as its rows are written, the model was right {base.share(few, 'before')} of the time; with a few "
        f"letters spoilt {base.share(few, 'after')}, with more {base.share(many, 'after')} ({base.change(many)}). "
        f"Small letters took it to {base.share(small, 'after')}, a wording that no row has to "
        f"{base.share(words, 'after')}. "
        f"With typos it said of {base.share(declines, 'after')} of the questions it can answer that it does not know "
        f"({base.change(declines)}), and of {base.share(admits, 'after')} of those that nobody can "
        f"({base.change(admits)})."
    )
    if not shown:
        return (
            f"{said} Not both of what was looked for, fewer right answers and more refusals, are beyond the interval."
        )
    return (
        f"{said} What it knows did not change between two questions that mean the same. A figure measured on questions "
        "that look like the training rows says little about those that people will type."
    )


EXPERIMENT = Experiment(
    "shift",
    "Used elsewhere than trained",
    "How far do right answers and refusals move when people type as they do?",
    MEASURES,
    Config,
    run,
)
