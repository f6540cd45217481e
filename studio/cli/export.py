"""`studio merge` and `studio export`: files made of a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from studio import runs
from studio.cli.output import Out
from studio.cli.running import do_here
from studio.errors import CheckFailed
from studio.models import check


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    merge = verbs.add_parser("merge", parents=[common], help="write a run as an ordinary model folder")
    merge.add_argument("run")
    merge.add_argument("--out", required=True)
    merge.set_defaults(do=_merge)
    export = verbs.add_parser("export", parents=[common], help="write GGUF files, each with a certificate")
    export.add_argument("source", metavar="RUN|MODEL")
    export.add_argument(
        "--quant", action="append", default=[], help="F32, F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M; may be repeated"
    )
    export.add_argument("--out", default="", help="a folder (by default in the run's directory)")
    export.add_argument("--system", default="", help="a system text for the Modelfile")
    export.set_defaults(do=_export)


def source(name: str) -> tuple[str, str, str]:
    """Read RUN|MODEL: (model, parent run's directory, title)."""
    if runs.is_run(name):
        run = runs.find(name)
        return run.config.model, str(run.dir), run.config.title
    info = check.inspect(name)
    return name, "", info.name


def _merge(args: argparse.Namespace, out: Out) -> None:
    model, parent, title = source(args.run)
    target = str(Path(args.out).expanduser().resolve())
    run = runs.create(runs.RunConfig("merge", f"merge {title}", model=model, parent=parent, options={"out": target}))
    result = do_here(run)
    out.result(result, f"Merged into {result['out']}")


def _export(args: argparse.Namespace, out: Out) -> int:
    model, parent, title = source(args.source)
    options: dict[str, Any] = {"quants": args.quant, "system": args.system, "name": title}
    if args.out:
        options["out"] = str(Path(args.out).expanduser().resolve())
    result = do_here(runs.create(runs.RunConfig("export", title, model=model, parent=parent, options=options)))
    marks = {True: "ok   ", False: "FAILS", None: "  -  "}
    lines = [f"{f['path']}  {f['bytes'] / 1e6:.1f} MB  sha256 {f['sha256'][:12]}" for f in result["files"]]
    lines += [
        f"{marks[line['ok']]} {line['name']}: {line['value']} {line['remedy']}"
        for line in result["certificate"]["lines"]
    ]
    lines.append(f"{result['modelfile']}  (ollama create NAME -f Modelfile)")
    out.result(result, "\n".join(lines))
    return 0 if result["certificate"]["ok"] else CheckFailed.exit_code
