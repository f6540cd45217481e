"""`studio recipe RUN` writes what made a run; `studio recipe run FILE` does it again."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

import studio
from studio.cli.output import Out
from studio.cli.running import watching
from studio.errors import ConfigError
from studio.lab import recipe as form


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "recipe",
        parents=[common],
        help="write everything that made a run as a file, or do such a file again",
        usage="studio recipe RUN > FILE.toml\n       studio recipe run FILE.toml [--resume] [--out DIR]",
        description="RUN: data and base by hash, every setting, every earlier round, as TOML. run FILE: do it again,\n"
        "and say whether the same weights came out. One written by hand may have several rounds, an evaluation\n"
        "after each, and keep the best: assets/recipes/two-rounds.toml is one.",
        epilog=f"The file:\n\n{inspect.cleandoc(form.__doc__ or '').partition(chr(10) * 2)[2]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("words", nargs="+", metavar="RUN | run FILE", help="a run, or `run` and a recipe")
    verb.add_argument("--out", type=Path, help="run: where all of it goes (by default Studio's data folder)")
    verb.add_argument("--resume", action="store_true", help="run: go on where this recipe was stopped")
    verb.add_argument("--data", action="append", default=[], metavar="OLD=NEW", help="run: where a file is now")
    verb.add_argument("--model", default="", help="run: the base, where it is another place than the recipe's")
    verb.set_defaults(do=_recipe)


def _recipe(args: argparse.Namespace, out: Out) -> None:
    words = args.words
    if words[0] == "run" and len(words) == 2:
        _run(args, Path(words[1]).expanduser(), out)
        return
    if len(words) != 1 or words[0] == "run":
        raise ConfigError("This names no recipe and no run.", "studio recipe RUN, or: studio recipe run FILE.toml")
    if args.resume or args.data or args.model or args.out:
        raise ConfigError("A recipe is written to the output.", "studio recipe RUN > FILE.toml")
    made = studio.write_recipe(words[0])
    out.result(made.to_dict(), made.text().rstrip("\n"))


def _run(args: argparse.Namespace, file: Path, out: Out) -> None:
    with watching() as watch:
        found = studio.run_recipe(
            file, out=args.out, data=_moved(args.data), model=args.model, resume=args.resume, **watch
        )
    out.result(found, _summary(found))


def _moved(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        old, equals, new = word.partition("=")
        if not (old and equals and new):
            raise ConfigError(f"{word!r} is not OLD=NEW.", "Write --data NAME=PATH.", field="data")
        found[old] = new
    return found


def _summary(found: dict[str, Any]) -> str:
    lines = [f"Recipe {found['run']} finished in {found['seconds']:.0f} s: {found['dir']}"]
    for step in found["steps"]:
        held, said = step.get("heldout") or {}, ""
        if held.get("n") and None not in (held.get("before"), held.get("after")):
            said = f"  held-out {held['name']} {held['before']:.3f} -> {held['after']:.3f}"
        same = {True: "  the same weights", False: "  OTHER weights", None: ""}[step.get("same")]
        lines.append(f"  {step['step']}: {step['dir']}{said}{same}")
    return "\n".join([*lines, found["said"]])
