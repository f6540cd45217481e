"""Rules as a judge: a built-in check, or your own Python function in its own process, scores given or drawn answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio import events
from studio.config import setting
from studio.data import preferences, rules
from studio.data.preferences import Record
from studio.errors import ConfigError
from studio.feedback import making, report, sampling, scorers
from studio.feedback.given import Task
from studio.feedback.sampling import Sampling
from studio.runs import Run

Emit = events.Emit
Halt = Callable[[], bool]


@dataclasses.dataclass(frozen=True)
class Config(Sampling):
    """The settings of rules."""

    rule: str = setting(
        "",
        f"The rule: {rules.FORMS}. A function gets (prompt, answer, reference, stopped) and gives a number.",
        advanced=False,
    )
    pairing: str = setting(
        "all",
        "Pairs for preference methods: every two (all), or the best over the worst (ends).",
        choices=("all", "ends"),
    )
    wanted_from: float | None = setting(
        None,
        "Score from which an answer counts as wanted. Empty: 1 with a built-in rule; with a function the best are "
        "wanted and the worst are not.",
    )


def ready(config: Config) -> Config:
    """Check the settings before anything is written, and complete them. Raises ConfigError."""
    if not config.rule.strip():
        raise ConfigError("No rule is named.", f"Write {rules.FORMS}.", field="rule")
    sampling.check(config)
    rules.rule(config.rule).close()
    return dataclasses.replace(config, rule=rules.absolute(config.rule))


def run(run: Run, emit: Emit, should_stop: Halt) -> dict[str, Any]:
    """Fill a set with answers scored by a rule. Raises Stopped."""
    config = making.settings(run, Config)
    tasks = sampling.tasks(run, config, 1, emit, should_stop)
    rule = rules.rule(config.rule)
    try:
        scorer = scorers.by_rule(rule)
        good = scorer.good if config.wanted_from is None else config.wanted_from

        def make(some: Sequence[Task]) -> Iterator[Record]:
            return scorers.records(scorer, some, good, config.seed)

        making.fill(run, tasks, make, "Scoring", emit, should_stop)
    finally:
        rule.close()
    sampling.finish(run)
    made = preferences.records(run.dir)
    about = report.of(made, report.people())
    report.tell(about, emit)
    return {"by": scorer.by, "report": about, "usable": about["usable"]}
