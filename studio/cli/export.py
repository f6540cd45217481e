"""`studio merge` and `studio export`: files made of a run, of an adapter made elsewhere, or of a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import studio
from studio.cli.output import Out, table
from studio.cli.running import watching
from studio.errors import CheckFailed, ExportError
from studio.export import ollama
from studio.models import mixture, quants

BASE = "of an adapter made elsewhere (a PEFT folder) that does not name it, or names another place: its base"


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    merge = verbs.add_parser("merge", parents=[common], help="write a run as an ordinary model folder")
    merge.add_argument("source", metavar="RUN|ADAPTER")
    merge.add_argument("--model", default="", metavar="BASE", help=BASE)
    merge.add_argument("--out", required=True)
    merge.set_defaults(do=_merge)
    export = verbs.add_parser("export", parents=[common], help="write GGUF files, each with a certificate")
    export.add_argument("source", metavar="RUN|ADAPTER|MODEL")
    export.add_argument("--model", default="", metavar="BASE", help=BASE)
    export.add_argument(
        "--quant", action="append", default=[], metavar="TYPE", help=f"may be repeated: {', '.join(quants.TYPES)}"
    )
    export.add_argument(
        "--imatrix",
        default="",
        metavar="FILE|auto",
        help="an importance matrix for all types that take one (by default one is made where a type needs it)",
    )
    export.add_argument("--quality", action="store_true", help="measure quality against size on held-out rows")
    export.add_argument("--adapter", action="store_true", help="also base and adapter as two files (LoRA as GGUF)")
    export.add_argument("--out", default="", help="a folder (by default in the run's directory)")
    export.add_argument("--system", default="", help="a system text for the Modelfile")
    export.add_argument(
        "--ollama", default="", metavar="NAME", help="bring the first file into Ollama, where it is installed"
    )
    export.set_defaults(do=_export)


def _merge(args: argparse.Namespace, out: Out) -> None:
    with watching() as watch:
        result = studio.merge_model(args.source, args.out, model=args.model, **watch)
    out.result(result, f"Merged into {result['out']}")


def _export(args: argparse.Namespace, out: Out) -> int:
    if args.ollama:
        ollama.check_name(args.ollama)
    with watching() as watch:
        options = {"imatrix": args.imatrix, "quality": args.quality, "adapter": args.adapter, "model": args.model}
        result = studio.export_model(
            args.source, quants=args.quant, out=args.out, system=args.system, **options, **watch
        )
    lines = []
    for file in result["files"]:
        lines.append(f"{file['path']}  {file['bytes'] / 1e6:.1f} MB  sha256 {file['sha256'][:12]}")
        if said := mixture.told(file.get("types") or {}, file.get("fallen") or {}):
            lines.append(f"  {said}")
    lines += _quality(result.get("quality") or {})
    lines += written(result["certificate"]["lines"])
    ok = result["certificate"]["ok"]
    lines.append(f"{result['modelfile']}  (ollama create NAME -f Modelfile)")
    if two := result.get("adapter"):
        lines.append(f"{two['modelfile']}  ({Path(two['path']).name} on {Path(two['base']).name})")
    if args.ollama:
        result["ollama"] = _into_ollama(args.ollama, Path(result["modelfile"]), ok)
        lines += result["ollama"]["lines"]
    out.result(result, "\n".join(lines))
    if not ok:
        return CheckFailed.exit_code
    return ExportError.exit_code if args.ollama and result["ollama"]["failed"] else 0


def _into_ollama(name: str, modelfile: Path, ok: bool) -> dict[str, Any]:
    """Run `ollama create` with its output on standard error; without an ollama, give the two lines to type."""
    create, run = ollama.commands(name, str(modelfile))
    answer: dict[str, Any] = {"name": name, "created": False, "failed": False}
    if not ok:
        return {**answer, "lines": ["Not brought into Ollama: the certificate does not hold."]}
    if ollama.binary() is None:
        said = "There is no ollama on this machine's PATH. Where there is one, type:"
        return {**answer, "lines": [said, f"  {create}", f"  {run}"]}
    try:
        for line in ollama.create(name, modelfile.parent):
            print(line, file=sys.stderr, flush=True)
    except ExportError as error:  # the files are made all the same
        return {**answer, "failed": True, "lines": [error.message, f"  {error.remedy}"]}
    return {**answer, "created": True, "lines": [f"{name} is in Ollama: {run}"]}


def _quality(found: dict[str, Any]) -> list[str]:
    """Write the table of quality against size, and what it suggests."""
    if not found:
        return []
    rows = [
        [
            one["type"],
            f"{one['bytes'] / 1e6:.1f} MB",
            f"{one['kl']:.2g}",
            f"{100 * one['top1']:.1f}%",
            f"{one['perplexity']:.3f}",
            f"{one['tokens_per_s']:.0f}",
        ]
        for one in found["files"]
    ]
    where = "held-out rows" if found["held_out"] else "training rows (none were held out)"
    return [
        "",
        table(rows, ["TYPE", "SIZE", f"KL TO {found['reference']}", "SAME TOKEN", "PERPLEXITY", "TOKENS/S"]),
        f"Measured on {found['tokens']:,} tokens of the answers of {where}.",
        *([found["suggestion"]["text"]] if found["suggestion"]["text"] else []),
        "",
    ]


def written(found: Sequence[dict[str, Any]]) -> list[str]:
    """Write the lines of certificates for people, those of each file under its name."""
    marks = {True: "ok   ", False: "FAILS", None: "  -  "}
    text, file = [], ""
    for line in found:
        if line["file"] != file:
            file = line["file"]
            text.append(file)
        text.append(f"  {marks[line['ok']]} {line['name']}: {line['value']}")
        if line["remedy"]:
            text.append(f"        {line['remedy']}")
    return text
