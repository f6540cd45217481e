"""How little data is enough: taught with 8 to 512 rows, behaviour changes long before knowledge does.

Every other row answers a question about what the base knows, the rest tell it the capitals of countries that do not
exist. Every row is seen as often, whatever their number. Behaviour is that it answers and stops, asked what no row is
about; knowledge is the new capitals, asked in a wording that no row has.
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

COUNTS = (8, 16, 32, 64, 128, 256, 512)
#: What counts as few: the claims compare it with the base, and with all rows.
FEW = 32
#: Questions that behaviour is measured on.
_ASKED = 64


@dataclasses.dataclass(frozen=True)
class Config(LabConfig):
    """The settings of this experiment."""

    epochs: float = setting(
        10.0, "How often each of the runs sees every one of its rows.", low=0.1, high=100, unit="passes", advanced=False
    )


MEASURES = (
    Measure("behaves", f"Answers and stops, {FEW} rows", "Of held-out questions, against the base."),
    Measure("knows", f"New facts, {FEW} rows", "Of the made-up capitals, against the base."),
    Measure("knows_more", f"New facts, {FEW} to {COUNTS[-1]} rows", "Of the made-up capitals, few rows against all."),
    Measure("behaves_more", f"Answers and stops, {FEW} to {COUNTS[-1]} rows", "Few rows against all."),
)


def run(bench: Bench) -> Found:
    """Do the experiment."""
    cfg: Config = bench.cfg
    new = world.new_facts(random.Random(cfg.seed))
    rows = _rows(new, cfg)
    made = {}
    for count in COUNTS:
        file = bench.rows(f"rows-{count}", rows[:count])
        settings = {"epochs": cfg.epochs, "held_out": 0.0, "batch_size": 8}
        made[str(count)] = str(bench.train(f"rows-{count}", "sft", file, None, settings).dir)
    questions = world.questions(cfg.split)
    some = questions[:: max(1, len(questions) // _ASKED)][:_ASKED]
    asked = {"known": [row["question"] for row in some], "new": [asked for _, _, _, asked in new]}
    said = bench.ask({**made, "base": "base"}, asked)
    behaves = {side: [_behaves(reply) for reply in found["known"]] for side, found in said.items()}
    knows = {
        side: [_says(reply, city) for reply, (_, city, _, _) in zip(found["new"], new, strict=True)]
        for side, found in said.items()
    }
    few, most = str(FEW), str(COUNTS[-1])
    marks = {
        "behaves": base.marks({"before": behaves["base"], "after": behaves[few]}),
        "knows": base.marks({"before": knows["base"], "after": knows[few]}),
        "knows_more": base.marks({"before": knows[few], "after": knows[most]}),
        "behaves_more": base.marks({"before": behaves[few], "after": behaves[most]}),
    }
    curves = {
        name: {side: _share(found[side]) for side in found} for name, found in (("behaves", behaves), ("knows", knows))
    }
    series = [
        {
            "name": title,
            "points": [[0, *curves[name]["base"]], *([count, *curves[name][str(count)]] for count in COUNTS)],
        }
        for name, title in (("behaves", "answers and stops"), ("knows", "new facts"))
    ]
    plot = {"kind": "rising", "x": "rows", "series": series}
    shown = [
        {"asked": ask, "right": city, "before": said[few]["new"][at], "after": said[most]["new"][at]}
        for at, (_, city, _, ask) in enumerate(new)
    ]

    def tell(figures: dict[str, Any], held: bool) -> str:
        return _tell(figures, held, {name: {s: v[0] for s, v in curves[name].items()} for name in curves})

    return Found(marks, (Claim("behaves", "up"), Claim("knows_more", "up")), tell, plot, shown)


def _rows(new: list[tuple[str, str, list[str], str]], cfg: Config) -> list[dict[str, Any]]:
    """Give rows in an order of which every beginning is half about each: known facts, and new ones, all in turn."""
    rng, facts = random.Random(cfg.seed + 1), list(world.facts())
    rng.shuffle(facts)
    told = []
    for wording in range(len(new[0][2])):
        turn = list(new)
        rng.shuffle(turn)
        told += [(asked[wording], f"The capital of {name} is {city}.") for name, city, asked, _ in turn]
    made = []
    for at in range(COUNTS[-1] // 2):
        fact, (question, answer) = facts[at % len(facts)], told[at % len(told)]
        made += [{"prompt": fact.question, "completion": fact.say()}, {"prompt": question, "completion": answer}]
    return made


def _behaves(reply: str) -> bool:
    """Tell whether a reply is an answer: one line, a sentence, and no question of its own."""
    text = reply.strip()
    return bool(text) and "?" not in text and "\n" not in text and text[-1] in ".!"


def _says(reply: str, city: str) -> bool:
    return starter.answers(reply, {"answers": [city], "accept": []})


def _share(found: list[bool]) -> tuple[float, float, float]:
    from studio.data.interval import wilson

    return (sum(found) / len(found), *wilson(sum(found), len(found)))


def _tell(figures: dict[str, Any], shown: bool, curves: dict[str, dict[str, float]]) -> str:
    first = {
        name: next((count for count in COUNTS if found[str(count)] >= 0.5), None) for name, found in curves.items()
    }
    few, most = str(FEW), str(COUNTS[-1])
    said = (
        f"The base answers and stops {100 * curves['behaves']['base']:.0f} % of the time. With {FEW} rows it is "
        f"{100 * curves['behaves'][few]:.0f} %, and {100 * curves['behaves'][most]:.0f} % with {most}; of the new "
        f"facts it knows {100 * curves['knows'][few]:.0f} % with {FEW} rows and {100 * curves['knows'][most]:.0f} % "
        f"with {most} ({base.change(figures['knows_more'])}). "
        f"Half of the questions are answered from {first['behaves'] or 'more than ' + most} rows on, half of the new "
        f"facts are known from {first['knows'] or 'more than ' + most} rows on."
    )
    if not shown:
        return f"{said} One of the two changes is not beyond its interval, so the effect is not shown here."
    return (
        f"{said} A few rows show a model how to use what it knows; what it does not know takes a row for every fact, "
        "and often several. To change how a model answers, write few and good rows; to teach it facts, few rows are "
        "not enough."
    )


EXPERIMENT = Experiment(
    "little",
    "How little data is enough",
    "What do 8 to 512 rows change: how a model answers, or what it knows?",
    MEASURES,
    Config,
    run,
)
