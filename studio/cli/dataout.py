"""`studio data convert|split`: rows in another format, and rows held out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.cli.datacheck import SLOW_MB, slow
from studio.cli.output import Out, Ticker
from studio.data import convert, dataset, split
from studio.data.dataset import Dataset
from studio.data.records import Reading
from studio.events import Emit

Work = Callable[[Dataset, Emit | None], dict[str, Any]]


def add(
    group: Any,
    common: argparse.ArgumentParser,
    flags: Callable[[argparse.ArgumentParser], None],
    reading: Callable[[argparse.Namespace], Reading],
) -> None:
    """Add the verbs; `flags` and `reading` are those that say how a file is read."""
    converts = group.add_parser("convert", parents=[common], help="write the rows in another format")
    converts.add_argument("file")
    converts.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(convert.TARGETS))
    converts.add_argument("--out", required=True, metavar="FILE", help="a .jsonl, .csv or .parquet file")
    converts.set_defaults(do=lambda args, out: _convert(args, reading(args), out))
    splits = group.add_parser("split", parents=[common], help="hold rows out: train.jsonl and heldout.jsonl")
    splits.add_argument("file")
    splits.add_argument("--out", required=True, metavar="DIR", help="a folder, made if it is missing")
    splits.add_argument("--share", type=float, default=0.05, help="the share of the rows to hold out")
    splits.add_argument("--seed", type=int, default=0)
    splits.set_defaults(do=lambda args, out: _split(args, reading(args), out))
    for verb in (converts, splits):
        verb.add_argument("--force", action="store_true", help="replace files that are there")
        flags(verb)


def _convert(args: argparse.Namespace, asked: Reading, out: Out) -> None:
    convert.asked(args.to, args.out, [Path(args.file)], args.force)  # a long reading for nothing is spared
    data, done = _work(
        args.file, asked, lambda data, emit: convert.convert(data, args.to, args.out, force=args.force, emit=emit)
    )
    lines = [f"{done['rows']} rows, {data.format} to {args.to}: {args.out}"]
    lines += [f"not in it: {what} ({count} rows)" for what, count in done["dropped"].items()]
    lines += [f"left out as {code}: {count}" for code, count in done["left_out"].items()]
    if done["guarded"]:
        lines.append(f"{done['guarded']} cells begin with a ' now, so that no spreadsheet runs them")
    out.result(done, "\n".join(lines))


def _split(args: argparse.Namespace, asked: Reading, out: Out) -> None:
    split.asked(args.out, args.share, [Path(args.file)], args.force)
    _, done = _work(
        args.file,
        asked,
        lambda data, emit: split.split(data, args.out, args.share, args.seed, force=args.force, emit=emit),
    )
    lines = [f"{done[side]['rows']} rows: {done[side]['path']}" for side in ("train", "heldout")]
    lines += [f"{done['left_out']} rows left out"] if done["left_out"] else []
    out.result(done, "\n".join(lines))


def _work(file: str, asked: Reading, do: Work) -> tuple[Dataset, dict[str, Any]]:
    """Read a file and do something with it, with a bar where that takes long."""
    ticker = Ticker()
    try:
        data = dataset.load(file, asked, emit=slow(ticker))
        return data, do(data, ticker if data.size > SLOW_MB * 1_000_000 else None)
    finally:
        ticker.close()
