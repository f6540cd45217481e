"""`studio lab` lists the guided experiments; `studio lab NAME` does one on the starter model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import studio
from studio import config
from studio.cli.feedback import add_settings, given
from studio.cli.output import Out, table
from studio.cli.running import watching
from studio.lab import experiments


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add a verb for every experiment."""
    lab = verbs.add_parser("lab", parents=[common], help="see on the starter model what tuning does, in minutes")
    lab.set_defaults(do=_list)
    names = lab.add_subparsers(dest="experiment", metavar="NAME")
    for name in experiments.EXPERIMENTS:
        found = experiments.load(name)
        verb = names.add_parser(name, parents=[common], help=found.question, description=found.question)
        add_settings(verb, config.settings(found.Config))
        verb.add_argument("--out", type=Path, help="the directory (by default in Studio's data folder)")
        verb.set_defaults(do=_run)


def _list(args: argparse.Namespace, out: Out) -> None:
    found = [experiments.load(name) for name in experiments.EXPERIMENTS]
    document = [{"name": one.name, "title": one.title, "question": one.question} for one in found]
    rows = [(one.name, one.title, one.question) for one in found]
    out.result(document, table(rows, ("NAME", "EXPERIMENT", "QUESTION")) + "\n\nDo one: studio lab NAME")


def _run(args: argparse.Namespace, out: Out) -> None:
    with watching() as watch:
        found = studio.run_lab(args.experiment, settings=given(args), out=args.out, **watch)
    out.result(found, told(found))


def told(found: dict[str, Any]) -> str:
    """Write an experiment's result for people."""
    lines = [f"{found['title']} ({found['seconds']:.0f} s): {found['dir']}", ""]
    lines += [f"{one['label']}: {one['words']}" for one in found["figures"]]
    return "\n".join([*lines, "", found["verdict"]["words"], "", found["paragraph"]])
