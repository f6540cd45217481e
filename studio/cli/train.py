"""`studio train METHOD`: one training run in this process."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio import config as settings
from studio import runs
from studio.cli.output import Out
from studio.cli.running import do_here
from studio.errors import ConfigError
from studio.methods import METHODS


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb; the settings of every method are listed in its help."""
    text = "\n\n".join(f"settings of {name} (--set NAME=VALUE):\n{_listing(name)}" for name in METHODS)
    verb = verbs.add_parser(
        "train",
        parents=[common],
        help="train: sft teaches a base to answer, dpo aligns it with preferences",
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("method", choices=sorted(METHODS))
    verb.add_argument("--model", default="", help="starter, a folder, or a hub id (with --parent: the parent's)")
    verb.add_argument("--data", required=True, help="a .jsonl or .json file")
    verb.add_argument("--parent", default="", help="the run to go on from")
    verb.add_argument("--out", type=Path, help="the run's directory (by default in Studio's data folder)")
    verb.add_argument("--title", default="", help="a name for people")
    verb.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting; may be repeated"
    )
    verb.add_argument("--drop-bad", action="store_true", help="leave out rows that cannot be used, counted")
    verb.set_defaults(do=_train)


def _listing(method: str) -> str:
    rows = []
    for s in settings.settings(METHODS[method].Config):
        default = "auto" if s.default is None else f"{s.default!r}" if isinstance(s.default, str) else f"{s.default:g}"
        rows.append(f"  {s.name:<24}{default:<12}{s.help}")
    return "\n".join(rows)


def pairs(given: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE words."""
    found = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"{word!r} is not NAME=VALUE.", "Write --set epochs=3.", field="set")
        found[name.strip()] = value.strip()
    return found


def _train(args: argparse.Namespace, out: Out) -> None:
    given = pairs(args.set)
    method = METHODS[args.method]
    config = settings.build(method.Config, given)  # before anything is written
    parent = runs.find(args.parent) if args.parent else None
    model = args.model or (parent.config.model if parent else "")
    if not model:
        raise ConfigError("No base model was named.", "Add --model starter, a folder or a hub id.", field="model")
    data = Path(args.data).expanduser()
    title = args.title or f"{method.name} {data.stem}"
    kept = {name: getattr(config, name) for name in given}
    run = runs.create(
        runs.RunConfig(
            kind="train",
            title=title,
            model=_absolute(model),
            method=method.name,
            data=str(data.resolve()),
            parent=str(parent.dir) if parent else "",
            settings=kept,
            options={"drop_bad": True} if args.drop_bad else {},
        ),
        args.out,
    )
    result = do_here(run)
    out.result(result, _summary(result))


def _absolute(model: str) -> str:
    folder = Path(model).expanduser()
    return str(folder.resolve()) if model != "starter" and folder.is_dir() else model


def _summary(result: dict[str, Any]) -> str:
    b, h = result["behaviour"], result["heldout"]
    lines = [f"Run {result['run']} finished in {result['seconds']:.0f} s: {result['dir']}"]
    if h["n"]:
        lines.append(f"Held-out loss {h['before']:.3f} -> {h['after']:.3f} ({h['n']} rows)")
    if b["n"]:
        lines.append(
            f"{b['changed']:.0%} of {b['n']} answers changed; stops by itself {b['stops_before']:.0%} -> "
            f"{b['stops_after']:.0%}; length {b['length_before']:.0f} -> {b['length_after']:.0f} tokens"
        )
        example = b["examples"][0]
        lines += [
            f"  {example['prompt']}",
            f"    before: {example['before'][:160]}",
            f"    after:  {example['after'][:160]}",
        ]
    if result["advice"]:
        lines.append(result["advice"])
    return "\n".join(lines)
