"""`studio verify GGUF [--model M] [--repair OUT]`: the certificate of any GGUF file, and a mended copy."""

from __future__ import annotations

import argparse
from typing import Any

import studio
from studio.cli.export import BASE, written
from studio.cli.output import Out
from studio.cli.running import watching
from studio.errors import CheckFailed


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser("verify", parents=[common], help="check a GGUF file against its model, and mend a copy")
    verb.add_argument("gguf", metavar="GGUF")
    verb.add_argument(
        "--model",
        default="",
        metavar="M",
        help="the run, adapter or model that it was made from (by default the run that made it, if there is one)",
    )
    verb.add_argument("--base", default="", metavar="BASE", help=f"with --model: {BASE}")
    verb.add_argument(
        "--repair",
        default="",
        metavar="OUT",
        help="write a copy with the template, stop tokens and BOS that fail mended",
    )
    verb.set_defaults(do=_verify)


def _verify(args: argparse.Namespace, out: Out) -> int:
    with watching() as watch:
        found = studio.verify_file(args.gguf, model=args.model, base=args.base, repair=args.repair, **watch)
    text = written([{**line, "file": found["file"]} for line in found["lines"]])
    against = f"compared with {found['model']}" if found["model"] else "compared with no model: name one with --model"
    text.append(against)
    if args.repair:
        mended = found["repaired"]
        text.append(
            f"mended in {mended['path']}: {', '.join(mended['changed'])}"
            if mended
            else "Nothing to mend; no copy was made."
        )
    out.result(found, "\n".join(text))
    return 0 if found["ok"] else CheckFailed.exit_code
