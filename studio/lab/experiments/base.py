"""What an experiment is, and the bench that it works on: it trains runs, asks them, and compares what they said.

An experiment ends with figures (evals/card.py: every one with its n, interval and test), a verdict that follows from
them, a plot, and a paragraph in plain words. Where the effect does not appear, the verdict says so with the interval.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import config, events, paths, runs
from studio.config import setting
from studio.data import writers
from studio.errors import Stopped
from studio.evals import card
from studio.evals.asking import Asked, Kept
from studio.evals.suite import Marks, Measure, Outcome, Suite
from studio.feedback.speakers import Ask, Draw, Speakers
from studio.runs import Run, RunConfig

Start = Callable[..., dict[str, Any]]
#: What a run is that can be gone on with.
_BEGUN = ("stopped", "interrupted", "failed")
#: How the runs of an experiment are called: they stand beside the user's own, and behind them.
MADE = "Lab: "
REPLY_TOKENS = 40
CONTEXT = 512


@dataclasses.dataclass(frozen=True)
class LabConfig:
    """The settings that every experiment has."""

    seed: int = setting(0, "Draws the rows, the order and the answers.", low=0, high=2**31 - 1, advanced=False)
    split: str = setting(
        "report", "Which held-out questions are asked: settings were chosen on `choose`.", choices=("report", "choose")
    )


@dataclasses.dataclass(frozen=True)
class Claim:
    """What must hold of a figure for the effect to be there: the change and its direction, `up` or `down`."""

    figure: str
    way: str


@dataclasses.dataclass
class Found:
    """What an experiment found. `marks` are by figure, of the sides `before` and `after` at least.

    `tell` writes the paragraph from the figures and from whether all claims hold.
    """

    marks: dict[str, Marks]
    claims: tuple[Claim, ...]
    tell: Callable[[dict[str, Any], bool], str]
    plot: dict[str, Any]
    answers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment as a value: one file each."""

    name: str
    title: str
    question: str
    measures: tuple[Measure, ...]
    Config: type[LabConfig]
    run: Callable[[Bench], Found]


class Bench:
    """Trains, asks and remembers; what was finished before a stop is not done again."""

    def __init__(
        self, run: Run, cfg: Any, emit: events.Emit, should_stop: Callable[[], bool], start: Start, name: str
    ) -> None:
        self.run, self.cfg, self.name = run, cfg, name
        self.emit, self.should_stop, self._start = emit, should_stop, start
        self._kept = Kept(run.dir)
        self.runs: dict[str, str] = {}

    def rows(self, name: str, rows: Sequence[dict[str, Any]]) -> Path:
        """Write rows to train on, to be looked at later."""
        path = self.run.dir / f"{name}.jsonl"
        paths.write_text(path, b"".join(map(writers.line, rows)).decode())
        return path

    def taught(self, seed: int | None = None) -> Run:
        """Give the starter taught to answer, which most experiments begin with.

        One that is there is taken, and one that was killed or stopped is gone on with, unless it is going now.
        """
        seed = self.cfg.seed if seed is None else seed
        data = paths.assets() / "data" / "starter_sft.jsonl"
        wanted = RunConfig("train", f"{MADE}learn to answer, seed {seed}", "starter", "sft", str(data))
        wanted = dataclasses.replace(wanted, settings={"seed": seed})
        there = [run for run in runs.all_runs() if run.config == wanted]
        found = next((run for run in there if run.result() is not None), None)
        begun = next((run.dir for run in there if run.status() in _BEGUN), None)
        found = found or self._train(wanted, "teach", begun)
        self.runs[f"taught-{seed}" if seed != self.cfg.seed else "taught"] = str(found.dir)
        return found

    def train(
        self,
        part: str,
        method: str,
        data: Path,
        parent: Run | None,
        settings: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        watch: Callable[[events.Event, Run], None] | None = None,
    ) -> Run:
        """Train a run inside this one's directory, or give the one that has finished there."""
        given = {"seed": self.cfg.seed, **(settings or {})}
        wanted = RunConfig(
            "train", f"{MADE}{part}", "starter", method, str(data), str(parent.dir) if parent else "", given,
            dict(options or {}),
        )  # fmt: skip
        made = self._train(wanted, part, self.run.dir / "runs" / part, watch)
        self.runs[part] = str(made.dir)
        return made

    def _train(
        self,
        wanted: RunConfig,
        part: str,
        out: Path | None,
        watch: Callable[[events.Event, Run], None] | None = None,
    ) -> Run:
        if self.should_stop():
            raise Stopped("Stopped between two runs; what was finished is kept.", f"studio resume {self.run.name}")
        if out is not None and (Run(out).dir / "result.json").is_file():
            return Run(out)
        place = out or runs.place(wanted)
        if watch is None:
            self._start(wanted, part, place)
        else:
            self._start(wanted, part, place, watch=lambda item: watch(item, Run(place)))
        return Run(place.resolve())

    def asking(self, names: Mapping[str, str], work: Callable[[Asked], None]) -> None:
        """Open who answers, {side: run's directory or adapter's folder}, and let `work` ask them."""
        whose = list(names.values())
        opened = Speakers(whose, context=CONTEXT, emit=self.emit, should_stop=self.should_stop)
        with opened as speakers:
            by_side = dict(zip(names, speakers, strict=True))
            about = (self.name, self.cfg, tuple(names), self.cfg.seed, self.run, None, None)
            work(Asked(*about, by_side, opened, self._kept, self.emit, self.should_stop))

    def ask(self, names: Mapping[str, str], asked: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
        """Ask every side every list of questions, greedily: {side: {list: [answer]}}."""
        said: dict[str, dict[str, list[str]]] = {side: {} for side in names}

        def work(asking: Asked) -> None:
            for side in names:
                for about, texts in asked.items():
                    asks = [Ask(user(text), f"{about}-{at}") for at, text in enumerate(texts)]
                    found = asking.ask(side, asks, Draw(max_tokens=REPLY_TOKENS))
                    said[side][about] = [one[0].text for one in found]

        self.asking(names, work)
        return said


def user(text: str) -> list[dict[str, str]]:
    """Make a conversation of one question."""
    return [{"role": "user", "content": text}]


def pair(question: str, chosen: str, rejected: str) -> dict[str, Any]:
    """Make a preference row."""
    said = ({"role": "assistant", "content": text} for text in (chosen, rejected))
    return {"prompt": user(question), "chosen": [next(said)], "rejected": [next(said)]}


def marks(values: Mapping[str, Sequence[bool | float]]) -> Marks:
    """Give sides' values, item by item, as marks."""
    return {side: {str(at): float(mark) for at, mark in enumerate(found)} for side, found in values.items()}


def document(experiment: Experiment, bench: Bench, found: Found, seconds: float) -> dict[str, Any]:
    """Put an experiment's result together; see the module's head."""
    suite = Suite(
        experiment.name, experiment.title, experiment.question, "", experiment.measures, experiment.Config, _nothing
    )
    made = card.card([(suite, Outcome(marks=found.marks))], bench.cfg.seed)
    figures = {one["measure"]: one for one in made["suites"][experiment.name]["figures"]}
    held = {claim.figure: holds(figures[claim.figure], claim.way) for claim in found.claims}
    shown = all(held.values())
    sides = {
        when: {name: one["sides"][when] for name, one in figures.items() if when in one["sides"]}
        for when in ("before", "after")
    }
    return {
        "run": bench.run.id,
        "dir": str(bench.run.dir),
        "experiment": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "seed": bench.cfg.seed,
        "settings": config.to_dict(bench.cfg),
        **sides,
        "intervals": {name: _interval(one) for name, one in figures.items() if one["difference"]},
        "figures": list(figures.values()),
        "tested": made["tested"],
        "verdict": {"shown": shown, "claims": held, "words": verdict(shown, found.claims, figures, held)},
        "paragraph": found.tell(figures, shown),
        "plot": found.plot,
        "answers": found.answers,
        **found.more,
        "runs": bench.runs,
        "seconds": seconds,
    }


def _nothing(asking: Any) -> Outcome:
    return Outcome()


def _interval(figure: dict[str, Any]) -> dict[str, Any]:
    names = ("value", "low", "high", "n", "p_holm")
    return {name: figure["difference"].get(name) for name in names}


def holds(figure: dict[str, Any], way: str) -> bool:
    """Tell whether a figure changed this way beyond its interval, and beyond chance for the number of figures."""
    found = figure["difference"]
    if found is None or found["low"] is None or found["high"] is None or found["p_holm"] >= card.LEVEL:
        return False
    return bool(found["low"] > 0 if way == "up" else found["high"] < 0)


def verdict(
    shown: bool, claims: Sequence[Claim], figures: Mapping[str, dict[str, Any]], held: Mapping[str, bool]
) -> str:
    """Say in a sentence or two whether the effect is there; of what is missing, the figure with its interval."""
    if shown:
        return "The effect is there, beyond the interval: " + "; ".join(_told(figures[c.figure]) for c in claims) + "."
    missing = [figures[claim.figure] for claim in claims if not held[claim.figure]]
    there = [figures[claim.figure] for claim in claims if held[claim.figure]]
    said = "The effect does not appear here: " + "; ".join(map(_told, missing)) + "."
    return said + (f" What does appear: {'; '.join(map(_told, there))}." if there else "")


def _told(figure: dict[str, Any]) -> str:
    label = figure["label"]
    return f"{label[:1].lower()}{label[1:]} {figure['words']}"


def share(figure: dict[str, Any], side: str) -> str:
    """Write a side's share as per cent, in a sentence."""
    return f"{100 * figure['sides'][side]['value']:.0f} %"


def change(figure: dict[str, Any]) -> str:
    """Write a change of a share with its interval, in points."""
    d = figure["difference"]
    return f"{100 * d['value']:+.0f} points (95 %: {100 * d['low']:+.0f} to {100 * d['high']:+.0f})"


def run_experiment(
    experiment: Experiment, run: Run, emit: events.Emit, should_stop: Callable[[], bool], start: Start
) -> dict[str, Any]:
    """Do an experiment from start to finish. Raises StudioErrors; Stopped, and what was finished stays."""
    began = time.monotonic()
    values = {name: value for name, value in run.config.options.items() if name != "experiment"}
    bench = Bench(run, config.build(experiment.Config, values), emit, should_stop, start, experiment.name)
    found = experiment.run(bench)
    return document(experiment, bench, found, round(time.monotonic() - began, 1))
