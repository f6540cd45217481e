"""A recipe run (kind `recipe`): its steps one after the other, each a run of its own, and which of them is kept.

RUN/
├── steps.json    step -> the directory of its run, written before it starts
└── steps/        the runs of the steps, where the recipe was given a place of its own (--out)

A step that has finished is not done again: stopped, killed and resumed, a recipe goes on where it was, and the step
that was going goes on from its own last checkpoint or record.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import events, paths, runs
from studio.errors import ConfigError, Stopped
from studio.lab import sources
from studio.lab.recipe import BEST, Recipe, Step, fill, from_dict
from studio.runs import Run, RunConfig

Start = Callable[..., dict[str, Any]]
PLACES = "steps.json"


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool], start: Start) -> dict[str, Any]:
    """Do a recipe.

    options: `recipe` (recipe.py's document), `data` ({old: new}), `model` (the base's place now), `inside` (the steps'
    runs lie in this one's directory). Raises Stopped; what was finished stays.
    """
    began, options = time.monotonic(), run.config.options
    wanted = from_dict(options["recipe"])
    recipe, files = sources.check(wanted, options.get("data") or {}, str(options.get("model") or ""), emit, should_stop)
    done = _Done(run, recipe, files)
    progress = events.Progress(emit, "Steps of the recipe", len(recipe.steps), "steps")
    for step in recipe.steps:
        if should_stop():
            raise Stopped("Stopped between two steps; what was finished is kept.", f"studio resume {run.name}")
        child = done.child(step)
        if child.result() is None:
            start(done.config(step), step.name, child.dir)
        done.add(step, child)
        progress.step()
    return done.result(round(time.monotonic() - began, 1))


class _Done:
    """What a recipe has come to so far."""

    def __init__(self, run: Run, recipe: Recipe, files: dict[str, str]) -> None:
        self.run, self.recipe = run, recipe
        self.places = dict(files)
        self.steps: list[dict[str, Any]] = []
        self.figures: dict[str, float] = {}  # of the training runs, by step
        path = run.dir / PLACES
        self.dirs: dict[str, str] = json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def child(self, step: Step) -> Run:
        """Give the run of a step; its place is written down before it is made."""
        known = Path(self.dirs[step.name]) if step.name in self.dirs else None
        if known is None or (known.exists() and not (known / "config.json").is_file()):  # killed before it was made
            inside = self.run.config.options.get("inside")
            place = self.run.dir / "steps" / step.name if inside else runs.place(self.config(step))
            self.dirs[step.name] = str(place)
            paths.write_text(self.run.dir / PLACES, json.dumps(self.dirs, indent=1) + "\n")
        return Run(Path(self.dirs[step.name]))

    def config(self, step: Step) -> RunConfig:
        """Give what the run of a step is asked to do."""
        places = {**self.places, **({BEST: self.dirs[best]} if (best := self.best()) else {})}
        if BEST not in places and BEST in set(_names(step)):
            raise ConfigError(
                f"Step {step.name} goes on from @best, and nothing was trained before it.", "Name another step."
            )
        made = {name: fill(getattr(step, name), places) for name in ("data", "parent", "settings", "options")}
        return RunConfig(
            step.kind,
            step.title or f"{self.recipe.title}: {step.name}"[:80],
            model=fill(step.model, places) or self.recipe.base.model,
            method=step.method,
            **{**made, "data": _rows(made["data"], step), "parent": _directory(made["parent"])},
        )

    def add(self, step: Step, child: Run) -> None:
        """Take in what a step came to."""
        result = child.result() or {}
        self.places[step.name] = str(child.dir)
        said: dict[str, Any] = {"step": step.name, "kind": step.kind, "run": child.id, "dir": str(child.dir)}
        if step.kind == "train":
            said |= self._trained(step, child, result)
        if step.kind == "eval" and self.recipe.figure != "heldout":
            judged = str(Path(child.config.parent).resolve()) if child.config.parent else ""
            name = next((name for name, place in self.dirs.items() if place == judged), "")
            self.figures[name] = said["figure"] = _at(result, self.recipe.figure, step)
        if "seconds" in result:
            said["seconds"] = result["seconds"]
        self.steps.append(said)

    def _trained(self, step: Step, child: Run, result: dict[str, Any]) -> dict[str, Any]:
        folder = sources.trained(child)
        said: dict[str, Any] = {"method": step.method, "heldout": result.get("heldout")}
        said["weights"] = sources.weights(folder) if folder is not None else ""
        held = result.get("heldout") or {}
        if self.recipe.figure == "heldout" and step.method != "reward" and held.get("after") is not None:
            self.figures[step.name] = float(held["after"])
        if first := step.made.get("weights"):
            said["same"] = said["weights"] == first
            original = sources.trained(Run(Path(str(step.made.get("run") or ""))))
            there = original is not None and sources.weights(original) == first
            if not said["same"] and folder is not None and original is not None and there:
                said["difference"] = sources.difference(folder, original)
            if rows := step.made.get("rows"):
                said["same_rows"] = paths.sha256(Path(child.config.data)) == rows
        return said

    def best(self) -> str:
        """Name the step that is kept: the last training run, or the one with the best figure."""
        trained = [said for said in self.steps if said["kind"] == "train" and said["method"] != "reward"]
        if not trained:
            return ""
        last = str(trained[-1]["step"])
        if self.recipe.keep == "last":
            return last
        names, more = [str(said["step"]) for said in trained if said["step"] in self.figures], self.recipe.better
        if self.recipe.figure == "heldout":  # losses of different methods are of different kinds
            names = [str(said["step"]) for said in trained if said["method"] == trained[-1]["method"]]
            names = [name for name in names if name in self.figures]
            more = "more" if (trained[-1]["heldout"] or {}).get("better") == "higher" else "less"
        choose = max if more == "more" else min
        return choose(names, key=lambda name: self.figures[name]) if names else last

    def result(self, seconds: float) -> dict[str, Any]:
        """Put the document together."""
        best = self.best()
        compared = [said["same"] for said in self.steps if "same" in said]
        kept = next((said for said in self.steps if said["step"] == best), None)
        found = {
            "run": self.run.id,
            "dir": str(self.run.dir),
            "steps": self.steps,
            "keep": self.recipe.keep,
            "figure": self.recipe.figure,
            "figures": self.figures,
            "best": kept,
            "identical": all(compared) if compared else None,
            "seconds": seconds,
        }
        return {**found, "said": sentence(found, self.recipe.written)}


def _names(step: Step) -> Any:
    from studio.lab.recipe import references, run_fields

    return references(run_fields(step))


def _rows(data: str, step: Step) -> str:
    """Give the file that a step's data means; of a set of judged answers the rows that its method learns from."""
    from studio.data import preferences
    from studio.methods import METHODS

    if not data:
        return ""
    kinds = METHODS[step.method].kinds if step.kind == "train" else ()
    wanted = next((kind for kind in preferences.KINDS if kind in kinds), "")
    named = preferences.named(data, wanted)
    return str(named.resolve()) if named.exists() else data


def _directory(parent: str) -> str:
    """Give a parent's directory; a hand-written recipe may name a run by its id."""
    return str(runs.find(parent).dir) if parent and runs.is_run(parent) else parent


def _at(result: dict[str, Any], path: str, step: Step) -> float:
    """Read the figure at a dotted path of a result; numbers choose from lists."""
    found: Any = result
    for part in path.split("."):
        if isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict) and part in found:
            found = found[part]
        else:
            there = ", ".join(map(str, found)) if isinstance(found, dict) else f"{type(found).__name__}"
            raise ConfigError(
                f"The result of step {step.name} has no figure {path!r}.", f"At {part!r} there is: {there[:300]}",
                field="figure",
            )  # fmt: skip
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"{path!r} in the result of step {step.name} is no number.", "Name a figure.", field="figure")
    return float(found)


def sentence(found: dict[str, Any], written: dict[str, Any]) -> str:
    """Say what came of a recipe."""
    steps, best = found["steps"], found["best"]
    said = [f"{len(steps)} step{'' if len(steps) == 1 else 's'} done."]
    compared = [step for step in steps if "same" in step]
    if found["identical"]:
        said.append(
            f"The weights of {'all ' if len(compared) > 1 else ''}{len(compared)} training "
            f"run{'s are' if len(compared) > 1 else ' is'} bit for bit those of the first time."
            if len(compared) > 1
            else "The trained weights are bit for bit those of the first time."
        )
    elif compared:
        for step in compared:
            if not step["same"]:
                away = step.get("difference")
                how = f"by {away['largest']:.3g} at most ({away['where']})" if away else "(the first ones are gone)"
                rows = "" if step.get("same_rows", True) else "; its rows differ too"
                said.append(f"Step {step['step']}: the weights differ from those of the first time {how}{rows}.")
        now = sources.written()
        if other := [f"{name} {was} then, {now.get(name, 'none')} now" for name, was in written.items()
                     if now.get(name) != was]:  # fmt: skip
            said.append(f"What else differs: {'; '.join(other)}.")
    if best and found["keep"] == "best":
        value = found["figures"].get(best["step"])
        by = f", by {found['figure']} {value:.4g}" if value is not None else ""
        said.append(f"Kept as the best: {best['step']}{by}.")
    return " ".join(said)
