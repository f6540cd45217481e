"""`studio data check|preview`: what a file holds, and how the model will see it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from studio.child import Child
from studio.cli import dataout, datatext
from studio.cli.output import Out, Ticker
from studio.data import dataset
from studio.data.lint import Lint
from studio.data.records import KINDS, Problem, Reading
from studio.errors import ConfigError, DataError, InputError
from studio.events import Event

_SLOW_MB = 50
INSPECT = "studio.render.inspect:handle"


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    group = verbs.add_parser("data", help="look at a data file: check, preview, convert, split").add_subparsers(
        dest="what", metavar="check|preview|convert|split", required=True
    )
    check = group.add_parser("check", parents=[common], help="find the format, list what is wrong")
    check.add_argument("file")
    add_reading(check)
    check.set_defaults(do=_check)
    preview = group.add_parser("preview", parents=[common], help="show rows with the learned tokens marked")
    preview.add_argument("file")
    preview.add_argument("--model", required=True)
    preview.add_argument("--template", default="", help="a template family instead of the model's own")
    preview.add_argument("-n", type=int, default=3, help="how many rows")
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
    mapping = _pairs([part for word in args.map for part in word.split(",")], "map", "question=prompt")
    return Reading(mapping, args.kind, drop, _pairs(args.fill, "fill", "name=Ada"))


def _pairs(words: list[str], flag: str, such_as: str) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"{word!r} is not NAME=VALUE.", f"Write --{flag} {such_as}.", field=flag)
        found[name.strip()] = value.strip()
    return found


def _check(args: argparse.Namespace, out: Out) -> int:
    asked = reading(args)
    ticker, lint = Ticker(), Lint(asked)

    def emit(item: Event) -> None:
        if item["total"] > _SLOW_MB:
            ticker(item)

    try:
        found = dataset.check(args.file, asked, emit=emit, watch=lint.add)
    except DataError as error:
        if error.line is None or not out.as_json:
            raise
        # What is in the file is wrong: a script finds it where it finds all that is wrong with files.
        out.result(_unread(error), "")
        print(f"studio: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        ticker.close()
    # What the lint tells it tells in full; the file's own warnings are about what the lint does not see.
    told = [finding for finding in lint.findings() if finding["code"] != "one_label"] if found.rows else []
    codes = {finding["code"] for finding in told}
    warnings = [warning for warning in found.warnings.to_list() if warning["code"] not in codes] + told
    out.result(found.to_dict() | {"warnings": warnings}, datatext.report(found, warnings))
    return 0 if found.ok else InputError.exit_code


def _unread(error: DataError) -> dict[str, Any]:
    """Make the check's document for a file that cannot be read at all."""
    problem = Problem(error.line or 0, error.field or "", error.message, error.remedy)
    return {
        "format": "unclear",
        "kind": "unclear",
        "rows": 0,
        "usable": 0,
        "mapping": {},
        "errors": [problem.to_dict()],
        "error_count": 1,
        "warnings": [],
        "error": error.to_dict(),
    }


def _preview(args: argparse.Namespace, out: Out) -> None:
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
    return f"{row['marked']}\n({len(row['ids'])} tokens, {row['trained_share']:.0%} learned: between ⟦ and ⟧)"
