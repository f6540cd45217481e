"""`studio models check`: whether a model can be used, and what it is."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from studio.cli.output import Out
from studio.models import check


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    group = verbs.add_parser("models", help="look at a base model: check").add_subparsers(
        dest="what", metavar="check", required=True
    )
    verb = group.add_parser("check", parents=[common], help="check a model: starter, a folder, or a hub id")
    verb.add_argument("model")
    verb.set_defaults(do=_check)


def _check(args: argparse.Namespace, out: Out) -> None:
    info = dataclasses.asdict(check.inspect(args.model))
    info.pop("config")
    out.result(info, "\n".join(f"{name}: {value}" for name, value in info.items()))
