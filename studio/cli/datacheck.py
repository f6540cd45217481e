"""`studio data check`: what a file holds, what is wrong, what the lint sees; with a model, its tokens too."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from studio.child import Child
from studio.cli import datatext
from studio.cli.output import Out, Ticker
from studio.data import report
from studio.data.records import Reading
from studio.errors import ConfigError, DataError, InputError
from studio.events import Emit, Event
from studio.methods import METHODS, adviser

INSPECT = "studio.render.inspect:handle"
SLOW_MB = 50  # a bar is shown for work of more than so many MB (of the reading), or rows (of the counting)
_WAIT = 24 * 3600.0


def add(
    verbs: Any,
    common: argparse.ArgumentParser,
    add_reading: Callable[[argparse.ArgumentParser], None],
    reading: Callable[[argparse.Namespace], Reading],
) -> None:
    """Add the verb."""
    check = verbs.add_parser("check", parents=[common], help="find the format, list what is wrong")
    check.add_argument(
        "file", help="a file, a data set of the hub (org/name[@revision][/part][:split]), votes, votes:kto or thumbs"
    )
    check.add_argument("--model", default="", help="also look at the rows as this model's tokens")
    check.add_argument("--template", default="", help="with --model: a template family instead of the model's own")
    check.add_argument("--max-length", type=int, help="with --model: the longest row of a run")
    add_reading(check)
    check.set_defaults(do=lambda args, out: _check(args, reading(args), out))


def slow(ticker: Ticker) -> Emit:
    """Show a bar for long work only."""

    def emit(item: Event) -> None:
        if item["type"] != "progress" or item["total"] > SLOW_MB:
            ticker(item)

    return emit


def _check(args: argparse.Namespace, asked: Reading, out: Out) -> int:
    if args.max_length is not None and args.max_length < 1:
        raise ConfigError(
            f"A row cannot be {args.max_length} tokens long.", "Choose 1 or more, such as 1024.", field="max_length"
        )
    ticker = Ticker()
    emit = slow(ticker)
    try:
        made = report.check(args.file, asked, emit=emit)
        if args.model and made.data.ok:
            seen = _measure(args, asked, made.data.kind, emit)
            made.document["statistics"] = seen["statistics"]
            made.add(seen["findings"])
    except DataError as error:
        if error.line is None or not out.as_json:
            raise
        out.result(report.unreadable(error), "")
        print(f"studio: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        ticker.close()
    text = datatext.report(made.data, made.document)
    if made.ok:
        advice = adviser.advise(adviser.Facts.of(made.document, taught=True))
        made.document["advice"] = dataclasses.asdict(advice)
        text += f"\nAdvice: {advice.method or 'no method'}. {advice.reason}"
    out.result(made.document, text)
    return 0 if made.ok else InputError.exit_code


def _measure(args: argparse.Namespace, asked: Reading, kind: str, emit: Emit) -> dict[str, Any]:
    """Ask the child what the tokens say."""
    method = next((method for method in METHODS.values() if kind in method.kinds), METHODS["sft"])
    config = method.Config()
    request = {"op": "measure", "data": args.file, "reading": asked.to_dict(), "model": args.model}
    request |= {"template": args.template, "max_length": args.max_length or config.max_length}
    request |= {"batch_size": config.batch_size, "train_on": config.train_on, "held_out": config.held_out}
    child = Child(INSPECT)
    answer: dict[str, Any] = {}
    try:
        for item in child.stream(request | {"seed": config.seed}, timeout=_WAIT):
            if "progress" in item:
                emit(item["progress"])
            else:
                answer = item
    finally:
        child.close()
    return answer
