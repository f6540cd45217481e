"""Verbs about runs: runs, show, stop, resume, worker; and how a run in this process is watched."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio import jobs, runs, worker
from studio.cli.output import Out, Ticker, table
from studio.data import preferences
from studio.errors import RunError, StudioError
from studio.feedback import report
from studio.lab import lineage
from studio.train import together

Watch = dict[str, Any]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    listing = verbs.add_parser("runs", parents=[common], help="list all runs")
    listing.set_defaults(do=_list)
    show = verbs.add_parser("show", parents=[common], help="show one run: what it was, and the line that it stands in")
    show.add_argument("run")
    show.add_argument("--tree", action="store_true", help="only that line")
    show.set_defaults(do=_show)
    for name, do, text in (
        ("stop", _stop, "ask a run to save and stop"),
        ("resume", _resume, "go on with a run that was stopped or interrupted"),
    ):
        verb = verbs.add_parser(name, parents=[common], help=text)
        verb.add_argument("run")
        verb.set_defaults(do=do)
    work = verbs.add_parser("worker", parents=[common], help="do the run in a directory (what the window starts)")
    work.add_argument("run")
    work.set_defaults(do=_work)


@contextmanager
def watching() -> Iterator[Watch]:
    """Show a run's events while it is done here; the first Ctrl+C saves and stops, the second ends at once.

    Then what the window let wait meanwhile is started.
    """
    asked = False

    def on_interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    ticker = Ticker()
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield {"emit": ticker, "should_stop": lambda: asked}
    finally:
        signal.signal(signal.SIGINT, before)
        ticker.close()
        jobs.drain(patience=0)


def _describe(run: runs.Run) -> dict[str, Any]:
    config = run.config
    return {
        "run": run.id,
        "dir": str(run.dir),
        "kind": config.kind,
        "method": config.method or None,
        "title": config.title,
        "model": config.model or None,
        "status": run.status(),
        "parent": config.parent or None,
    }


def _list(args: argparse.Namespace, out: Out) -> None:
    found = [_describe(run) for run in runs.all_runs()]
    order = runs.queued()
    for r in found:
        r["place"] = order.index(r["run"]) + 1 if r["status"] == "queued" else None
    rows = [(r["run"], _kind(r), _status(r), r["title"]) for r in found]
    out.result(found, table(rows, ("RUN", "KIND", "STATUS", "TITLE")) if rows else "There are no runs yet.")


def _kind(described: dict[str, Any]) -> str:
    """Name what a run is: a training run by its method."""
    kind, method = str(described["kind"]), described["method"] or ""
    return method if kind == "train" else f"{kind} {method}".strip()


def _status(described: dict[str, Any]) -> str:
    return f"queued ({described['place']}.)" if described["place"] else str(described["status"])


def _show(args: argparse.Namespace, out: Out) -> None:
    """Show a run with the line that it stands in: from the base over its parents to what started from it."""
    run = runs.find(args.run)
    line = run.lineage()
    steps, children = ([_step(other) for other in some] for some in (line, runs.children(run)))
    described = _describe(run)
    document = {
        **described,
        "base": line[0].config.model or None,
        "lost": line[0].lost() or None,
        "lineage": [step["run"] for step in steps],
        "line": steps,
        "children": children,
        "result": run.result(),
    }
    graph = lineage.read(run)
    document["graph"] = graph.to_dict()
    facts = "\n".join(f"{key}: {value}" for key, value in described.items() if value is not None)
    if run.config.kind == preferences.KIND and document["result"]:
        facts = "\n".join([facts, "", *report.lines(document["result"])])
    tree = "\n".join(lineage.lines(graph))
    out.result(document, tree if args.tree else f"{facts}\n\n{tree}")


def _step(run: runs.Run) -> dict[str, Any]:
    """Describe a run of a line, with the held-out figure that it moved."""
    held = (run.result() or {}).get("heldout")
    return {**_describe(run), "heldout": held if isinstance(held, dict) and held.get("n") else None}


def _stop(args: argparse.Namespace, out: Out) -> None:
    run = runs.find(args.run)
    if jobs.leave(run):
        out.result(_describe(run), f"{run.id} no longer waits. Start it all the same: studio resume {run.id}")
        return
    if not run.alive():
        raise RunError(f"Run {run.id} is not going.", "`studio runs` shows which run is.")
    jobs.stop(run, wait=True)
    out.result(_describe(run), f"{run.id}: {run.status()}")


def _resume(args: argparse.Namespace, out: Out) -> None:
    run = runs.find(args.run)
    if run.result() is not None:
        raise RunError(f"Run {run.id} has finished.", "Start a new one with `studio train`.")
    (run.dir / "stop").unlink(missing_ok=True)
    jobs.leave(run)
    with watching() as watch:
        result = worker.work(run, **watch)
    out.result(result, f"{run.id} finished: {run.dir}")


def _work(args: argparse.Namespace, out: Out) -> int:
    folder = Path(args.run)
    if not (folder / "config.json").is_file():
        raise RunError(f"{folder} is not a run's directory.", "Start a run with `studio train`.")
    run = runs.Run(folder.resolve())
    if (done := run.result()) is not None:
        out.result(done, f"{run.id} finished before.")
        return 0
    if (count := together.asked()) > 1:
        with watching() as watch:
            out.result(together.launch(count, run, **watch), f"{run.id} finished.")
        return 0
    try:
        result = worker.work(run)
    except StudioError as error:
        out.error(error)
        return error.exit_code
    finally:
        if together.first():
            jobs.drain(ended=run)
    if together.first():
        out.result(result, f"{run.id} finished.")
    return 0
