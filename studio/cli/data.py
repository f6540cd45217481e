"""`studio data check|preview`: what a file holds, and how the model will see it."""

from __future__ import annotations

import argparse
import re
from typing import Any

from studio.child import Child
from studio.cli import datacheck, dataout
from studio.cli.datacheck import INSPECT
from studio.cli.output import Out
from studio.data.records import KINDS, Reading
from studio.data.strict import visible
from studio.errors import ConfigError

_MOST = 1000  # rows of a preview: each is rendered whole, and read by a person
_ROLE = re.compile(r"(.+?=\w+)(?:,|$)")  # a column may have a comma in its name, a role has none


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    group = verbs.add_parser("data", help="look at a data file: check, preview, convert, split").add_subparsers(
        dest="what", metavar="check|preview|convert|split", required=True
    )
    datacheck.add(group, common, add_reading, reading)
    preview = group.add_parser("preview", parents=[common], help="show rows with the learned tokens marked")
    preview.add_argument("file")
    preview.add_argument("--model", required=True)
    preview.add_argument("--template", default="", help="a template family instead of the model's own")
    preview.add_argument("-n", type=int, default=3, help=f"how many rows, 1 to {_MOST}")
    add_reading(preview)
    preview.set_defaults(do=_preview)
    dataout.add(group, common, add_reading, reading)


def add_reading(verb: argparse.ArgumentParser) -> None:
    """Add the flags that say how a file is read."""
    verb.add_argument("--map", action="append", default=[], metavar="COLUMN=ROLE,...", help="name the columns")
    verb.add_argument(
        "--as", dest="kind", default="", choices=("", *KINDS), help="the kind of data, where it is unclear"
    )
    verb.add_argument("--drop-bad", action="store_true", help="leave out rows that cannot be used, counted")
    verb.add_argument("--drop", action="append", default=[], metavar="CODE", help="leave out rows with this warning")
    verb.add_argument("--fill", action="append", default=[], metavar="NAME=TEXT", help="fill in {{NAME}}")


def reading(args: argparse.Namespace) -> Reading:
    """Read those flags."""
    drop = (*(["bad"] if args.drop_bad else []), *args.drop)
    mapping = _pairs([part for word in args.map for part in _ROLE.findall(word) or [word]], "map", "question=prompt")
    return Reading(mapping, args.kind, drop, _pairs(args.fill, "fill", "name=Ada"))


def _pairs(words: list[str], flag: str, such_as: str) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{word!r} is not NAME=VALUE.", f"Write --{flag} {such_as}.", field=flag)
        found[name.strip()] = value.strip()
    return found


def _preview(args: argparse.Namespace, out: Out) -> None:
    if not 1 <= args.n <= _MOST:
        raise ConfigError(f"{args.n} rows cannot be shown.", f"Choose a number from 1 to {_MOST}.", field="n")
    child = Child(INSPECT)
    try:
        rows = child.ask(
            {"op": "preview", "data": args.file, "model": args.model, "template": args.template, "n": args.n}
            | {"reading": reading(args).to_dict()},
            timeout=300,
        )["rows"]
    finally:
        child.close()
    out.result(rows, "\n\n".join(_show(row) for row in rows))


def _show(row: dict[str, Any]) -> str:
    if "chosen" in row:
        return (
            f"chosen:\n{_show(row['chosen'])}\nrejected:\n{_show(row['rejected'])}\n"
            f"({row['common_prefix']} tokens in common at the beginning)"
        )
    text = "\n".join(map(visible, row["marked"].split("\n")))  # a terminal obeys what is written to it
    return f"{text}\n({len(row['ids'])} tokens, {row['trained_share']:.0%} learned: between ⟦ and ⟧)"
