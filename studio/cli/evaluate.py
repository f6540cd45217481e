"""`studio eval RUN [--against base|RUN] [--suite NAME ...]`: what got worse, what got better, what cannot be told."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import studio
from studio import config
from studio.cli.feedback import add_settings, given
from studio.cli.output import Out, table
from studio.cli.running import watching
from studio.errors import ConfigError
from studio.evals import card
from studio.evals.suite import SUITES, Suite, load
from studio.feedback import engines


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser("eval", parents=[common], help="measure a run before and after, with intervals and tests")
    verb.add_argument("run", metavar="RUN|ADAPTER|MODEL|GGUF")
    verb.add_argument(
        "--against", default="", metavar="base|RUN|none", help="the other side (its parent, else its base)"
    )
    verb.add_argument(
        "--suite", action="append", default=[], metavar="NAME", help=f"may be repeated; all: {', '.join(SUITES)}"
    )
    verb.add_argument("--judge", default="", metavar="WHO", help="who judges free answers: a run, a model or a file")
    verb.add_argument(
        "--data", action="append", default=[], metavar="[SUITE=]FILE", help="items of your own for a suite; repeatable"
    )
    verb.add_argument(
        "--n",
        "--limit",
        type=int,
        default=None,
        metavar="N",
        help="the most items that a suite asks (lm-eval: per task)",
    )
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument(
        "--set", action="append", default=[], metavar="SUITE.NAME=VALUE", help="a suite's setting; repeatable"
    )
    verb.add_argument(
        "--allow-endpoint", action="store_true", help="let a judge that is not on this machine get the text"
    )
    verb.add_argument("--engine", default=engines.AUTO, choices=engines.CHOICES, help=engines.HELP)
    verb.add_argument("--open", action="store_true", help="open the report when it is made")
    for suite in _flagged():
        group = verb.add_argument_group(f"settings of --suite {suite.name}")
        add_settings(group, [one for one in config.settings(suite.Config) if one.name != "n"])
    verb.set_defaults(do=_evaluate, setting="--set SUITE.")


def _flagged() -> list[Suite]:
    """List the suites that have flags of their own."""
    return [suite for suite in map(load, SUITES.values()) if suite.named]


def _evaluate(args: argparse.Namespace, out: Out) -> None:
    files, settings = _files(args.data), _settings(args.set)
    flags = given(args)
    for suite in _flagged():
        known = {one.name for one in config.settings(suite.Config)}
        if mine := {name: value for name, value in flags.items() if name in known}:
            settings[suite.name] = {**mine, **settings.get(suite.name, {})}
    with watching() as watch:
        found = studio.evaluate(
            args.run,
            against=args.against,
            suites=args.suite,
            judge=args.judge,
            files=files,
            n=args.n,
            settings=settings,
            seed=args.seed,
            allow_endpoint=args.allow_endpoint,
            engine=args.engine,
            **watch,
        )
    out.result(found, told(found))
    if args.open:
        webbrowser.open(Path(found["report"]).as_uri())


def _files(given: Sequence[str]) -> dict[str, str]:
    """Read FILE or SUITE=FILE; a file whose name has such a beginning is meant by its whole path."""
    made: dict[str, str] = {}
    for one in given:
        name, mark, file = one.partition("=")
        name, file = (name, file) if mark and name in SUITES else ("", one)
        if name in made:
            raise ConfigError("Two files are named for one suite.", "Write --data SUITE=FILE once each.", field="data")
        made[name] = file
    return made


def _settings(given: Sequence[str]) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {}
    for one in given:
        place, mark, value = one.partition("=")
        suite, dot, name = place.partition(".")
        if not (mark and dot and suite and name):
            raise ConfigError(f"{one!r} is no setting.", "Write --set SUITE.NAME=VALUE.", field="set")
        made.setdefault(suite, {})[name] = value
    return made


def told(found: dict[str, Any]) -> str:
    """Say the card in words, what got worse first."""
    lines = [
        f"{found['of']} against {found['against'] or 'nothing'}; through {found['through']}; seed {found['seed']}",
        "",
    ]
    if found["against"]:
        heads = {"worse": "WORSE", "better": "BETTER", "changed": "DIFFERENT", "undecided": "NO SIGNIFICANT DIFFERENCE"}
        for name, head in heads.items():
            said = [f"  {one['suite']}: {one['label']}: {one['words']}" for one in found[name]]
            lines += [f"{head}: {len(said)} of {found['tested']}", *said, ""]
    for name, suite in found["suites"].items():
        lines.append(f"{suite['title']} ({name})")
        rows = [_row(one) for one in suite["figures"] if one["sides"]]
        if rows:
            shown = table(rows, ("MEASURE", "N", "BEFORE", "AFTER", "VERDICT"))
            lines += [f"  {line}" for line in shown.split("\n")]
        lines += [f"  ! {note}" for note in suite["notes"]]
        lines += [f"  What it cannot show: {suite['cannot']}", ""]
    lines.append(f"Report: {found['report']}")
    return "\n".join(lines)


def _row(figure: dict[str, Any]) -> tuple[str, ...]:
    sides = figure["sides"]
    counts = sorted({side["n"] for side in sides.values()})
    shown = [_side(figure, sides.get(side)) for side in ("before", "after")]
    return figure["label"], "/".join(map(str, counts)), *shown, figure["verdict"] or "-"


def _side(figure: dict[str, Any], side: dict[str, Any] | None) -> str:
    return card.side_words(figure, side) if side is not None else "-"
