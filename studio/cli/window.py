"""`studio app` opens the window; `studio demo` walks the whole path without it."""

from __future__ import annotations

import argparse
from typing import Any

import studio
from studio.cli.output import Out, table
from studio.cli.running import watching


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    app = verbs.add_parser("app", parents=[common], help="open the window in the browser, on this machine only")
    app.add_argument("--port", type=int, default=7860, help="the first port to try")
    app.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")
    app.add_argument("--data-dir", default="", help="where runs and data live")
    app.set_defaults(do=_app)
    demo = verbs.add_parser(
        "demo", parents=[common], help="make a first assistant out of the starter model, and measure it"
    )
    demo.add_argument("--seed", type=int, default=0, help="the tuning seed")
    demo.set_defaults(do=_demo)


def _app(args: argparse.Namespace, out: Out) -> None:
    from studio import ui

    ui.launch(port=args.port, browser=not args.no_browser, data_dir=args.data_dir)


def _demo(args: argparse.Namespace, out: Out) -> None:
    with watching() as watch:
        result = studio.run_demo(seed=args.seed, **watch)
    names = ("knows", "answers", "answers_strict", "stops", "prefers")
    rows = [(who, *(f"{result[who][name]:.1%}" for name in names)) for who in ("base", "sft", "dpo")]
    file = result["gguf"]
    said = (
        f"{result['base']['n']} held-out questions, asked through llama.cpp; {result['seconds']['total']:.0f} s in all."
    )
    made = f"{file['path']}  {file['bytes'] / 1e6:.1f} MB"
    next_ = f"Talk to both: studio chat {result['runs']['dpo']} --against base"
    text = "\n".join([table(rows, ("", *names)), "", said, made, next_])
    out.result(result, text)
