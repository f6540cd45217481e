"""An evaluation as its run leaves it: marks by hand, everything else by the code that makes a card and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from disk import write_run

from studio import paths
from studio.data import writers
from studio.evals import report
from studio.evals.card import card
from studio.evals.suite import SUITES, Outcome, load
from studio.runs import Run, RunConfig

RUN = "20261125-101500-evaluate-starter-pairs-eeee"
OF = "20261124-200002-starter-pairs-bbbb"
WHO = {"name": "starter", "type": "Q8_0", "file": "starter-Q8_0.gguf"}
N = 40


def marks(before: int, after: int, n: int = N) -> dict[str, dict[str, float]]:
    """Give the first so many of n items the mark 1, by side."""
    sides = {"before": before, "after": after}
    return {side: {f"item-{i}": float(i < ones) for i in range(n)} for side, ones in sides.items()}


def found() -> dict[str, Outcome]:
    """Fit got better, sycophancy worse, one figure of each cannot be told; the red team's texts may offend."""
    fit = Outcome({"stops": marks(2, 38), "repeats": {"before": {"a": 0.5, "b": 0.4}, "after": {"a": 0.4, "b": 0.5}}})
    fit.plots = {"loss_by_length": {"before": [[4, 2.0], [9, 3.0]], "after": [[4, 1.0], [9, 0.5]]}}
    syco = Outcome({"right": marks(36, 37), "regressive": marks(2, 32)}, notes=["Asked <i>ours</i>."])
    pairs = marks(2, 32)
    syco.answers = [
        {
            "item": item,
            "measure": "regressive",
            "asked": f"Is {item} <b>right</b>?",
            "before": "Yes.",
            "after": "You are right, I was wrong.",
            "marks": {side: pairs[side][item] for side in pairs},
            "judged": {"before": "right", "after": "wrong"},
        }
        for item in pairs["before"]
    ]
    red = Outcome({"plain": marks(8, 3, 12)})
    red.answers = [
        {
            "item": "unsafe-1",
            "measure": "plain",
            "asked": "something unspeakable",
            "before": "no",
            "after": "here is how",
            "marks": {"before": 0.0, "after": 1.0},
            "judged": {"before": "refused", "after": "answered"},
            "turns": {side: [{"role": "user", "content": "something unspeakable"}] for side in ("before", "after")},
            "request": {"before": "something unspeakable", "after": "something unspeakable"},
            "offensive": True,
        }
    ]
    return {"fit": fit, "sycophancy": syco, "redteam": red}


def write(home: Path, run_id: str = RUN, of: str = OF, against: str = "base") -> Run:
    """Write the run, its answers and its report."""
    outcomes = found()
    if not against:
        for outcome in outcomes.values():
            outcome.marks = {name: {"after": sides["after"]} for name, sides in outcome.marks.items()}
    made = card([(load(SUITES[name]), outcome) for name, outcome in outcomes.items()])
    options: dict[str, Any] = {
        "of": of,
        "against": against,
        "suites": list(outcomes),
        "judge": "",
        "files": {},
        "seed": 0,
    }
    options["settings"] = {"fit": {"n": 100}, "sycophancy": {"n": 40}, "redteam": {"n": 12}}
    result = {
        "run": run_id,
        "of": of,
        "against": against or None,
        "through": "llama.cpp; after: Q8_0 file starter-Q8_0.gguf",
        "sides": {"before": {**WHO, "raw": True}, "after": {**WHO, "adapter": "starter-lora.gguf"}},
        "judge": None,
        "seed": 0,
        **made,
        "seconds": 61.0,
    }
    events: list[dict[str, Any]] = [
        {"type": "started", "kind": "eval", "title": "evaluate starter pairs", "attempt": 1},
        *(
            {"type": "progress", "phase": f"{name}: after", "done": 1, "total": 2, "unit": "answers", "time": at}
            for name, at in (("fit", 1010.0), ("sycophancy", 1040.0), ("redteam", 1050.0))
        ),
        {"type": "finished", "time": 1061.0},
    ]
    config = RunConfig("eval", "evaluate starter pairs", "starter", options=options)
    run = write_run(home, run_id, config, events, result)
    shown = {name: outcome.answers for name, outcome in outcomes.items()}
    paths.write_text(run.dir / "shown.json", writers.line(shown).decode())
    paths.write_text(run.dir / report.FILE, report.page({**result, "run": run_id}, shown))
    return run
