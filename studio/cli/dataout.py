"""`studio data convert|split`: rows in another format, and rows held out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from studio.cli.output import Out
from studio.data import convert, dataset, split
from studio.data.records import Reading


def add(
    group: Any,
    common: argparse.ArgumentParser,
    flags: Callable[[argparse.ArgumentParser], None],
    reading: Callable[[argparse.Namespace], Reading],
) -> None:
    """Add the verbs; `flags` and `reading` are those that say how a file is read."""

    def load(args: argparse.Namespace) -> dataset.Dataset:
        return dataset.load(args.file, reading(args))

    converts = group.add_parser("convert", parents=[common], help="write the rows in another format")
    converts.add_argument("file")
    converts.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(convert.TARGETS))
    converts.add_argument("--out", required=True, metavar="FILE", help="a .jsonl, .csv or .parquet file")
    flags(converts)
    converts.set_defaults(do=lambda args, out: _convert(args, out, load(args)))
    splits = group.add_parser("split", parents=[common], help="hold rows out: train.jsonl and heldout.jsonl")
    splits.add_argument("file")
    splits.add_argument("--out", required=True, metavar="DIR")
    splits.add_argument("--share", type=float, default=0.05, help="the share of the rows to hold out")
    splits.add_argument("--seed", type=int, default=0)
    flags(splits)
    splits.set_defaults(do=lambda args, out: _split(args, out, load(args)))


def _convert(args: argparse.Namespace, out: Out, data: dataset.Dataset) -> None:
    done = convert.convert(data, args.to, args.out)
    lines = [f"{done['rows']} rows, {data.format} to {args.to}: {args.out}"]
    lines += [f"not in it: {what} ({count} rows)" for what, count in done["dropped"].items()]
    lines += [f"left out as {code}: {count}" for code, count in done["left_out"].items()]
    if done["guarded"]:
        lines.append(f"{done['guarded']} cells begin with a ' now, so that no spreadsheet runs them")
    out.result(done, "\n".join(lines))


def _split(args: argparse.Namespace, out: Out, data: dataset.Dataset) -> None:
    done = split.split(data, args.out, args.share, args.seed)
    lines = [f"{done[side]['rows']} rows: {done[side]['path']}" for side in ("train", "heldout")]
    lines += [f"{done['left_out']} rows left out"] if done["left_out"] else []
    out.result(done, "\n".join(lines))
