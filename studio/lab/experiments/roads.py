"""Two roads: DPO and PPO from the same preferences, with several seeds: what comes out, and how far it spreads.

Both start from the same taught model. DPO learns from the pairs; a reward model learns from the same pairs and scores
what PPO writes to their prompts. Only the seed differs between runs of a method.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from studio import paths
from studio.config import setting
from studio.evals import starter
from studio.evals.stats import t_point
from studio.evals.suite import Measure
from studio.lab.experiments import base, world
from studio.lab.experiments.base import Bench, Claim, Experiment, Found, LabConfig

ROADS = ("dpo", "ppo")
#: sqrt of the 0.975 quantile of F(n - 1, n - 1), by n: so many times larger an sd must be to be called so.
TELLING = {2: 25.5, 3: 6.24, 4: 3.93, 5: 3.10, 6: 2.67, 7: 2.41, 8: 2.23}


@dataclasses.dataclass(frozen=True)
class Config(LabConfig):
    """The settings of this experiment."""

    seeds: int = setting(3, "Runs of each method.", low=2, high=8, unit="seeds", advanced=False)
    steps: int = setting(7, "Steps of PPO: one pass over the prompts is seven.", low=2, high=100, unit="steps")


_STYLE = "Share in the style of the pairs, mean of the seeds."
MEASURES = (
    Measure("dpo_style", "Answers as preferred, DPO", _STYLE, "more", "mean", "share"),
    Measure("ppo_style", "Answers as preferred, PPO", _STYLE, "more", "mean", "share"),
    Measure("style", "Answers as preferred, DPO to PPO", "The same questions by both.", "", "mean", "share"),
    Measure("right", "Right answers, DPO to PPO", "The same questions by both.", "", "mean", "share"),
)  # fmt: skip


def run(bench: Bench) -> Found:
    """Do the experiment."""
    cfg: Config = bench.cfg
    file, parent = paths.assets() / "data" / "starter_pairs.jsonl", bench.taught()
    judge = bench.train("reward", "reward", file, parent)
    made = {}
    for at in range(cfg.seeds):
        seed = {"seed": cfg.seed + at}
        made[f"dpo-{at}"] = str(bench.train(f"dpo-{at}", "dpo", file, parent, seed).dir)
        settings = {**seed, "max_steps": cfg.steps, "eval_every": cfg.steps}
        options = {"reward": str(judge.dir)}
        made[f"ppo-{at}"] = str(bench.train(f"ppo-{at}", "ppo", file, parent, settings, options).dir)
    questions = world.questions(cfg.split)
    said = bench.ask({"parent": str(parent.dir), **made}, {"questions": [row["question"] for row in questions]})
    style = {side: [float(starter.prefers(reply)) for reply in found["questions"]] for side, found in said.items()}
    right = {
        side: [float(_right(*pair)) for pair in zip(found["questions"], questions, strict=True)]
        for side, found in said.items()
    }
    mean = {road: _mean(style, road) for road in ROADS}
    sure = {road: _mean(right, road) for road in ROADS}
    marks = {
        "dpo_style": base.marks({"before": style["parent"], "after": mean["dpo"]}),
        "ppo_style": base.marks({"before": style["parent"], "after": mean["ppo"]}),
        "style": base.marks({"before": mean["dpo"], "after": mean["ppo"]}),
        "right": base.marks({"before": sure["dpo"], "after": sure["ppo"]}),
    }
    spread = {
        name: {road: _spread([statistics.fmean(found[f"{road}-{at}"]) for at in range(cfg.seeds)]) for road in ROADS}
        for name, found in (("style", style), ("right", right))
    }
    steadier = {name: _steadier(found, cfg.seeds) for name, found in spread.items()}
    plot = {"kind": "seeds", "spread": spread, "seeds": cfg.seeds}
    shown = [
        {"asked": row["question"], "right": row["answers"][0], **{s: said[s]["questions"][at] for s in said}}
        for at, row in enumerate(questions)
    ]
    accuracy = (judge.result() or {}).get("heldout")
    more = {"spread": spread, "steadier": steadier, "reward": accuracy}

    def tell(figures: dict[str, Any], held: bool) -> str:
        return _tell(figures, held, spread, steadier, cfg)

    return Found(marks, (Claim("dpo_style", "up"), Claim("ppo_style", "up")), tell, plot, shown, more)


def _right(reply: str, row: dict[str, Any]) -> bool:
    return starter.answers_strict(reply, {"answers": row["answers"], "accept": row["accept"]})


def _mean(found: dict[str, list[float]], road: str) -> list[float]:
    """Give each question's mean over the seeds of a method."""
    return [
        statistics.fmean(marks)
        for marks in zip(*(f for s, f in found.items() if s.startswith(f"{road}-")), strict=True)
    ]


def _spread(values: list[float]) -> dict[str, Any]:
    """Say how far the seeds of a method are apart: each value, mean and sd, and Student's interval of the mean."""
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    reach = t_point(0.975, len(values) - 1) * sd / len(values) ** 0.5
    return {"values": values, "mean": mean, "sd": sd, "low": mean - reach, "high": mean + reach}


def _steadier(found: dict[str, Any], seeds: int) -> str:
    """Name the method whose sd is smaller beyond chance; "" where that cannot be told.

    It cannot where every seed of a method came to the same: at its limit a share cannot differ any more.
    """
    times = TELLING[seeds]
    if not found["dpo"]["sd"] or not found["ppo"]["sd"]:
        return ""
    if found["dpo"]["sd"] * times < found["ppo"]["sd"]:
        return "dpo"
    return "ppo" if found["ppo"]["sd"] * times < found["dpo"]["sd"] else ""


def _tell(figures: dict[str, Any], shown: bool, spread: dict[str, Any], steadier: dict[str, str], cfg: Config) -> str:
    dpo, ppo = spread["style"]["dpo"], spread["style"]["ppo"]
    said = (
        f"With {cfg.seeds} seeds each, DPO brought the answers in the preferred style from "
        f"{base.share(figures['dpo_style'], 'before')} to {100 * dpo['mean']:.0f} % (sd {100 * dpo['sd']:.1f} points), "
        f"PPO with a reward model from the same pairs to {100 * ppo['mean']:.0f} % (sd {100 * ppo['sd']:.1f}). Right "
        f"answers: {base.share(figures['right'], 'before')} and {base.share(figures['right'], 'after')}."
    )
    if not shown:
        said += " One of the two did not change the style beyond its interval."
    if full := [road.upper() for road in ROADS if not spread["style"][road]["sd"]]:
        return (
            f"{said} Every seed of {' and of '.join(full)} came to the same: a share at its limit cannot differ any "
            "more, so which method spreads further cannot be told here."
        )
    if who := steadier["style"]:
        return f"{said} The spread of {who.upper()} is the smaller one by more than chance explains."
    return (
        f"{said} So few seeds tell little about a spread: one sd would have to be {TELLING[cfg.seeds]:g} times the "
        "other to be called larger, and it is not. Before you call one of two runs the better one, run each again with "
        "another seed."
    )


EXPERIMENT = Experiment(
    "roads",
    "Two roads",
    "Do DPO and PPO come to the same from the same preferences, and how far do seeds spread?",
    MEASURES,
    Config,
    run,
)
