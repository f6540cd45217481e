"""Guided experiments on the starter model: one file each, a value with its settings (base.py `Experiment`)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from studio import config, events
from studio.errors import ConfigError
from studio.lab.experiments.base import Experiment, Start, run_experiment
from studio.runs import Run, RunConfig

KIND = "lab"
#: name -> where the experiment is, in the order of the page.
EXPERIMENTS = {
    "agree": "studio.lab.experiments.agree",
    "goodhart": "studio.lab.experiments.goodhart",
    "shift": "studio.lab.experiments.shift",
    "little": "studio.lab.experiments.little",
    "roads": "studio.lab.experiments.roads",
}


def load(name: str) -> Experiment:
    """Give an experiment; ConfigError where there is none of this name. It loads no framework."""
    if name not in EXPERIMENTS:
        raise ConfigError(f"There is no experiment {name!r}.", f"Choose one of: {', '.join(EXPERIMENTS)}.")
    found: Experiment = importlib.import_module(EXPERIMENTS[name]).EXPERIMENT
    return found


def asked(name: str, settings: dict[str, Any] | None = None) -> RunConfig:
    """Make the config of an experiment's run, checked before anything is written."""
    found = load(name)
    made = config.to_dict(config.build(found.Config, settings or {}))
    return RunConfig(KIND, found.title, "starter", options={"experiment": name, **made})


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool], start: Start) -> dict[str, Any]:
    """Do the experiment that options["experiment"] names."""
    return run_experiment(load(str(run.config.options["experiment"])), run, emit, should_stop, start)
