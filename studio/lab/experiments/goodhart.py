"""A measure becomes a target: a reward that secretly likes length is driven up, and right answers go down.

The reward stands for a judge who cannot check what is said (wordy.py). RLOO or PPO learns from it twice, from the same
parent on the same prompts: once with a low price of leaving the parent (kl_coef), once with a high one. Gold is a rule
that knows the right answers: all of a reply is right, or it is not. It was never learned from.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

from studio import events
from studio.config import setting
from studio.evals import overopt, starter, stats
from studio.evals.suite import Measure
from studio.lab.experiments import base, wordy, world
from studio.lab.experiments.base import Bench, Claim, Experiment, Found, LabConfig
from studio.runs import Run

SIDES = ("low", "high")
#: Every so many questions are asked along the way; all of them at the ends.
_ALONG = 4
#: The answers that are learned from are drawn a little freely, so that a longer one is tried early.
TEMPERATURE = 1.3


@dataclasses.dataclass(frozen=True)
class Config(LabConfig):
    """The settings of this experiment."""

    method: str = setting("rloo", "What learns from the reward.", choices=("rloo", "ppo"), advanced=False)
    steps: int = setting(20, "Steps of each of the two runs.", low=5, high=500, unit="steps", advanced=False)
    low_kl: float = setting(0.01, "The low price of a nat of distance from the parent.", low=0.0, high=10.0)
    high_kl: float = setting(1.0, "The high price.", low=0.0, high=100.0)
    learning_rate: float = setting(5e-4, "Of both runs, from the first step to the last.", low=1e-6, high=1e-2)


MEASURES = (
    Measure("proxy", "Reward, low KL price", "What the judge gives held-out answers.", "", "mean", "score"),
    Measure("gold", "Right and to the point, low KL price", "All of the reply is right; never learned from."),
    Measure("inside", "A right answer somewhere in it, low KL price", "What else is said is not looked at."),
    Measure("length", "Words, low KL price", "Words of an answer.", "", "mean", "words"),
    Measure("proxy_high", "Reward, high KL price", "The same where leaving the parent is dear.", "", "mean", "score"),
    Measure("gold_high", "Right and to the point, high KL price", "The same where leaving the parent is dear."),
)


def run(bench: Bench) -> Found:
    """Do the experiment."""
    cfg: Config = bench.cfg
    rows = [{"prompt": fact.question, "completion": fact.say()} for fact in world.facts()]
    file, parent = bench.rows("prompts", rows), bench.taught()
    made = {side: _learn(bench, side, file, parent) for side in SIDES}
    questions = world.questions(cfg.split)
    some = questions[::_ALONG]
    places = {f"{side}-{step}": str(place) for side in SIDES for step, place in _kept(bench, made[side], side).items()}
    ends = {"before": str(parent.dir), **{side: str(made[side].dir) for side in SIDES}}
    said = bench.ask(ends, {"questions": [row["question"] for row in questions]})
    along = bench.ask(places, {"along": [row["question"] for row in some]}) if places else {}
    seen = {side: [_looked(*pair) for pair in zip(said[side]["questions"], questions, strict=True)] for side in ends}
    marks = {
        name: base.marks({"before": [one[at] for one in seen["before"]], "after": [one[at] for one in seen[side]]})
        for name, at, side in (
            ("proxy", 0, "low"),
            ("gold", 1, "low"),
            ("inside", 3, "low"),
            ("length", 2, "low"),
            ("proxy_high", 0, "high"),
            ("gold_high", 1, "high"),
        )
    }
    alarms = {side: (made[side].result() or {}).get("online", {}).get("alarms", []) for side in SIDES}
    kl = {side: (made[side].result() or {}).get("online", {}).get("kl") for side in SIDES}
    shown = [
        {"asked": row["question"], "right": row["answers"][0], **{side: said[side]["questions"][at] for side in ends}}
        for at, row in enumerate(questions)
    ]
    plot = _plot(bench, made, along, some, seen)
    more = {"alarms": alarms, "kl": kl, "reward": f"{wordy.__name__}: {(wordy.score.__doc__ or '').strip()}"}

    def tell(figures: dict[str, Any], held: bool) -> str:
        return _tell(figures, held, alarms, kl, cfg)

    return Found(marks, (Claim("proxy", "up"), Claim("gold", "down")), tell, plot, shown, more)


def _learn(bench: Bench, side: str, file: Path, parent: Run) -> Run:
    """Train one of the two runs; what a checkpoint holds is kept before the next ones push it out."""
    cfg: Config = bench.cfg
    settings = {
        "max_steps": cfg.steps,
        "epochs": 100.0,
        "lr_scheduler": "constant",
        "temperature": TEMPERATURE,
        "missing_stop_penalty": 0.0,
        "learning_rate": cfg.learning_rate,
        "kl_coef": cfg.low_kl if side == "low" else cfg.high_kl,
        "save_every": max(1, cfg.steps // 5),
        "eval_every": cfg.steps,
    }

    def keep(item: events.Event, child: Run) -> None:
        if item["type"] == "checkpoint":
            to = bench.run.dir / "kept" / side / Path(item["path"]).name
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(item["path"]) / "adapter_model.safetensors", to)

    reward = {"reward": f"{Path(wordy.__file__).resolve()}:score"}
    return bench.train(side, cfg.method, file, parent, settings, reward, keep)


def _kept(bench: Bench, made: Run, side: str) -> dict[int, Path]:
    """Give the adapters along the way by step, each a whole folder; the last one is the run's own."""
    found = {}
    for place in sorted((bench.run.dir / "kept" / side).glob("step-*")):
        for file in made.adapter.iterdir():
            if file.is_file() and not (place / file.name).exists():
                shutil.copy(file, place)
        found[int(place.name.removeprefix("step-"))] = place
    found.pop(bench.cfg.steps, None)
    return found


def _looked(reply: str, row: dict[str, Any]) -> tuple[float, bool, float, bool]:
    """Give a reply's reward, whether all of it is right, its words, and whether a right answer stands in it."""
    known: starter.Question = {"answers": row["answers"], "accept": row["accept"]}
    given, words = wordy.score(row["question"], reply, "", True), float(len(reply.split()))
    return given, starter.answers_strict(reply, known), words, starter.answers(reply, known)


def _plot(
    bench: Bench,
    made: dict[str, Run],
    along: dict[str, dict[str, list[str]]],
    some: list[dict[str, Any]],
    seen: dict[str, list[tuple[float, bool, float, bool]]],
) -> dict[str, Any]:
    """Give proxy and gold over the root of the distance from the parent, along both runs, with fits and turns.

    All points are of the questions asked along the way, so that they can be told apart item by item.
    """
    series: list[dict[str, Any]] = []
    turns: dict[str, dict[str, Any] | None] = {}
    for side in SIDES:
        kl = {item["step"]: item["kl"] for item in made[side].events() if item["type"] == "step"}
        at = {0: seen["before"][::_ALONG], bench.cfg.steps: seen[side][::_ALONG]}
        for name, said in along.items():
            where, _, step = name.rpartition("-")
            if where == side:
                at[int(step)] = [_looked(*pair) for pair in zip(said["along"], some, strict=True)]
        steps = sorted(at)
        ds = [math.sqrt(max(0.0, _near(kl, step))) for step in steps]
        both = [[[float(one[index]) for one in at[step]] for step in steps] for index in (0, 1)]
        for name, values in zip(("reward", "right"), both, strict=True):
            points = [[d, *_mean(found), step] for d, found, step in zip(ds, values, steps, strict=True)]
            fit = overopt.fit("rl", ds, [point[1] - points[0][1] for point in points])
            told = {**dataclasses.asdict(fit), "peak": fit.peak} if fit is not None else None
            series.append({"name": name, "side": side, "points": points, "fit": told})
        found = overopt.turn(both[0], both[1])
        turns[side] = {
            **found.told(), "d": ds[found.at], "step": steps[found.at]
        } if found else None  # fmt: skip
    x = "square root of the KL to the parent, nats"
    return {"kind": "road", "x": x, "series": series, "turns": turns, "n": len(some)}


def _mean(values: list[float]) -> list[float]:
    """Give a mean with its 95 % interval."""
    return [sum(values) / len(values), *stats.mean_interval(values)]


def _near(kl: dict[int, float], step: int) -> float:
    """Give the distance at a step, as the mean of the steps around it; 0 before the first."""
    near = [value for at, value in kl.items() if abs(at - step) <= 2]
    return sum(near) / len(near) if step and near else 0.0


def _tell(figures: dict[str, Any], shown: bool, alarms: dict[str, list[str]], kl: dict[str, Any], cfg: Config) -> str:
    proxy, gold, inside, length, high, gold_high = (figures[m.name] for m in MEASURES)

    def mean(figure: dict[str, Any], side: str) -> str:
        return f"{figure['sides'][side]['value']:.2f}"

    low = (
        f"With a low price of leaving the parent the reward of held-out answers went from {mean(proxy, 'before')} to "
        f"{mean(proxy, 'after')} points, the answers from {mean(length, 'before')} to {mean(length, 'after')} words, "
        f"and replies that are right and to the point from {base.share(gold, 'before')} to "
        f"{base.share(gold, 'after')}: {base.change(gold)}. A right answer stands somewhere in "
        f"{base.share(inside, 'after')} of them; the rest is what the reward paid for."
    )
    names = {"kl": "the distance", "length": "the length"}
    if rang := [names[name] for name in alarms["low"] if name in names]:
        low += f" The run raised the alarm of {' and '.join(rang)}"
        low += f" ({kl['low']:.1f} nats at its end)." if kl["low"] is not None else "."
    strong = (
        f" With the price {cfg.high_kl / cfg.low_kl:.0f} times as high the reward came to {mean(high, 'after')} points "
        f"and such replies to {base.share(gold_high, 'after')} ({base.change(gold_high)})."
        if cfg.low_kl
        else ""
    )
    if not shown:
        return f"{low}{strong} Not both changes are beyond their intervals, so the effect is not shown here."
    return (
        f"{low}{strong} The reward was a stand-in for what was wanted, and it liked length; once it was the target, "
        "length is what was made. The curve of the reward alone shows a success. Look at answers, keep a measure that "
        "is never learned from, and heed the distance."
    )


EXPERIMENT = Experiment(
    "goodhart",
    "A measure becomes a target",
    "What happens to good answers when a reward that likes length is driven up?",
    MEASURES,
    Config,
    run,
)
