"""`studio feedback SOURCE`: make a set of judged answers; a source's flags are what its Config declares."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import studio
from studio import config, paths
from studio.cli import ranking
from studio.cli.data import add_reading, reading
from studio.cli.output import Out
from studio.cli.running import watching
from studio.config import Setting
from studio.feedback import job, report


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add a verb for every source."""
    group = verbs.add_parser("feedback", help=f"judged answers to train on: {', '.join(job.SOURCES)}").add_subparsers(
        dest="source", metavar="|".join(job.SOURCES), required=True
    )
    for source in job.SOURCES:
        made = job.module(source)
        first = (made.__doc__ or source).split("\n")[0].rstrip(".")
        verb = group.add_parser(source, parents=[common], help=_plain(first), description=_plain(made.__doc__ or ""))
        verb.formatter_class = argparse.RawDescriptionHelpFormatter
        needed = bool(getattr(made, "NEEDS_DATA", True))
        what = "a file of prompts or of answers, another set, or `votes`" if needed else "a file"
        verb.add_argument("--data", default="", required=needed and source != ranking.SOURCE, metavar="FILE", help=what)
        add_settings(verb, config.settings(made.Config))
        verb.add_argument("--out", type=Path, help="the set's directory (by default in Studio's data folder)")
        verb.add_argument("--title", default="", help="a name for people")
        add_reading(verb)
        verb.set_defaults(do=_make)
        if source == ranking.SOURCE:
            ranking.add(verb)
            verb.set_defaults(do=lambda args, out: ranking.do(args, out, given(args)))


def add_settings(verb: argparse._ActionsContainer, settings: Sequence[Setting]) -> None:
    """Add a flag for every setting: --max-tokens for max_tokens, -n for n, --keep and --no-keep for a yes or no."""
    for s in settings:
        names = [f"--{s.name.replace('_', '-')}", *([f"-{s.name}"] if len(s.name) == 1 else [])]
        about: dict[str, Any] = {"dest": f"set_{s.name}", "default": None, "help": _help(s)}
        if s.type is bool:
            verb.add_argument(*names, action=argparse.BooleanOptionalAction, **about)
        else:
            verb.add_argument(*names, metavar=(s.unit or s.type.__name__).upper().replace(" ", "_"), **about)


def given(args: argparse.Namespace) -> dict[str, Any]:
    """Give the settings that were set."""
    found = {name: value for name, value in vars(args).items() if name.startswith("set_") and value is not None}
    return {name.removeprefix("set_"): value for name, value in found.items()}


def _help(s: Setting) -> str:
    """Write a setting's help with its default; a text that is long, or empty, speaks for itself."""
    default = "" if s.default in (None, "") or len(str(s.default)) > 40 else f" Default: {s.default}."
    return _plain(f"{s.help}{default}")


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _make(args: argparse.Namespace, out: Out) -> None:
    with watching() as watch:
        result = studio.make_feedback(
            args.source,
            data=args.data,
            settings=given(args),
            reading=reading(args),
            out=args.out,
            title=args.title,
            **watch,
        )
    out.result(result, _summary(result))


def _summary(result: dict[str, Any]) -> str:
    lines = [f"Set {result['run']}: {result['dir']}", *report.lines(result)]
    ways = {"preference": "dpo", "kto": "kto", "sft": "sft"}
    name = result["run"] if Path(result["dir"]).parent == paths.runs() else result["dir"]
    if any(result[kind] for kind in ways):
        able = ", ".join(way for kind, way in ways.items() if result[kind])
        lines.append(f"Train on it ({able}): studio train METHOD --data {name}")
    return "\n".join(lines)
