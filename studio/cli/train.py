"""`studio train METHOD`: one training run in this process."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import studio
from studio import config as settings
from studio.cli.data import add_reading, reading
from studio.cli.output import Out
from studio.cli.running import watching
from studio.data.rules import FORMS
from studio.errors import ConfigError
from studio.methods import METHODS


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb; the settings of every method are listed in its help."""
    text = "\n\n".join(f"settings of {name} (--set NAME=VALUE):\n{_listing(name)}" for name in METHODS)
    verb = verbs.add_parser(
        "train",
        parents=[common],
        help="train: sft teaches a base to answer, the others align it",
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("method", choices=sorted(METHODS))
    verb.add_argument("--model", default="", help="starter, a folder, or a hub id (with --parent: the parent's)")
    verb.add_argument(
        "--data", required=True, help="a file of rows, a set, or what you gave on the Chat page: votes, thumbs"
    )
    verb.add_argument("--parent", default="", help="the run to go on from")
    verb.add_argument("--reward", default="", help=f"ppo, rloo: what scores answers, a reward run or a rule ({FORMS})")
    verb.add_argument("--out", type=Path, help="the run's directory (by default in Studio's data folder)")
    verb.add_argument("--title", default="", help="a name for people")
    verb.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting; may be repeated"
    )
    verb.add_argument(
        "--rehearse", action="store_true", help="send a few rows the whole way, and say what all of them will take"
    )
    verb.add_argument(
        "--processes", type=int, default=1, metavar="N", help="one a card: a step learns from N x batch_size rows"
    )
    add_reading(verb)
    verb.set_defaults(do=_train, setting="--set ")


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
    with watching() as watch:
        result = studio.train_model(
            args.method,
            data=args.data,
            model=args.model,
            parent=args.parent,
            reward=args.reward,
            out=args.out,
            title=args.title,
            settings=pairs(args.set),
            reading=reading(args),
            rehearse=args.rehearse,
            processes=args.processes,
            **watch,
        )
    out.result(result, _rehearsed(result) if args.rehearse else _summary(result))


def _rehearsed(result: dict[str, Any]) -> str:
    rows = result["rows"]
    lines = [
        f"{rows['rehearsed']} of {rows['whole']:,} rows went through training"
        + (", export and three questions." if result["answers"] else ".")
        + f" Rehearsed in {result['took']:.0f} s.",
        result["said"],
    ]
    parts = {name: value for name, value in result["seconds"].items() if name not in ("total", "train") and value}
    lines.append("Of that: " + ", ".join(f"{name} {value:.0f} s" for name, value in parts.items()))
    lines += [f"  {said['prompt']}\n    {_line(said['text'])}" for said in result["answers"]]
    return "\n".join(lines)


def _summary(result: dict[str, Any]) -> str:
    b, h = result["behaviour"], result["heldout"]
    lines = [f"Run {result['run']} finished in {result['seconds']:.0f} s: {result['dir']}"]
    if reasons := result["rows"]["reasons"]:
        lines.append("Rows left out: " + ", ".join(f"{count} {code}" for code, count in reasons.items()))
    if h["n"]:
        lines.append(f"Held-out {h['name']} {h['before']:.3f} -> {h['after']:.3f} ({h['n']} rows)")
    if (moved := result.get("moved")) is not None:
        lines.append(f"The weights moved by {moved:.2g} %")
    if b["n"]:
        lines.append(
            f"{b['changed']:.0%} of {b['n']} answers changed; stops by itself {b['stops_before']:.0%} -> "
            f"{b['stops_after']:.0%}; length {b['length_before']:.0f} -> {b['length_after']:.0f} tokens"
        )
        if style := b.get("style"):
            lines.append(f"Answers as preferred ({style['name']}): {style['before']:.0%} -> {style['after']:.0%}")
        example = next((e for e in b["examples"] if e["before"] != e["after"]), b["examples"][0])
        lines += [
            f"  {example['prompt']}",
            f"    before: {_line(example['before'])}",
            f"    after:  {_line(example['after'])}",
        ]
    if result["advice"]:
        lines.append(result["advice"])
    return "\n".join(lines)


def _line(text: str) -> str:
    """Write an answer on one line, cut where it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 120 else flat[:117] + "..."
