"""A recipe run (kind `recipe`): its steps one after the other, each a run of its own, and which of them is kept.

RUN/
├── steps.json    step -> the directory of its run, written before it starts
└── steps/        the runs of the steps, where the recipe was given a place of its own (--out)

A step that has finished is not done again: stopped, killed and resumed, a recipe goes on where it was, and the step
that was going goes on from its own last checkpoint or record.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import events, paths, runs
from studio.data import preferences, rules
from studio.data.records import Reading
from studio.errors import ConfigError, Stopped
from studio.evals import job as evaluation
from studio.feedback import job as feedback
from studio.lab import keeping, likeness, sources
from studio.lab.recipe import BEST, Recipe, Step, fill, from_dict, references, run_fields
from studio.methods import METHODS
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
        if known is not None and known.exists() and not (known / "config.json").is_file():
            if all(path.name.startswith(".") for path in known.iterdir()):
                shutil.rmtree(known)  # killed while it was made: nothing of it is there but a file half written
            known = None
        if known is None:
            inside = self.run.config.options.get("inside")
            place = self.run.dir / "steps" / step.name if inside else runs.place(self.config(step))
            self.dirs[step.name] = str(place)
            paths.write_text(self.run.dir / PLACES, json.dumps(self.dirs, indent=1) + "\n")
        return Run(Path(self.dirs[step.name]))

    def config(self, step: Step) -> RunConfig:
        """Give what the run of a step is asked to do."""
        places = {**self.places, **({BEST: self.dirs[best]} if (best := self.best()) else {})}
        if BEST not in places and BEST in references(run_fields(step)):
            raise ConfigError(
                f"Step {step.name} goes on from @best, and nothing was trained before it.", "Name another step."
            )
        made = dataclasses.replace(step, **{name: fill(value, places) for name, value in run_fields(step).items()})
        title = step.title or f"{self.recipe.title}: {step.name}"[:80]
        return _CONFIGS.get(step.kind, _plain)(made, title, self.recipe.base.model)

    def add(self, step: Step, child: Run) -> None:
        """Take in what a step came to."""
        result = child.result() or {}
        self.places[step.name] = str(child.dir)
        said: dict[str, Any] = {"step": step.name, "kind": step.kind, "run": child.id, "dir": str(child.dir)}
        if step.kind == "train":
            said |= self._trained(step, child, result)
        if step.kind == "eval" and self.recipe.figure != keeping.HELDOUT:
            name, value = self._evaluated(step), keeping.measured(result, self.recipe.figure)
            if value is not None and name:
                said["figure"] = self.figures[name] = value
        if "seconds" in result:
            said["seconds"] = result["seconds"]
        self.steps.append(said)

    def _evaluated(self, step: Step) -> str:
        """Name the training run that an evaluation was of: `@best` is the one that was the best when it began."""
        name = keeping.evaluated(self.recipe, step)
        name = self.best() if name == BEST else name
        return name if name in self.places else ""

    def _trained(self, step: Step, child: Run, result: dict[str, Any]) -> dict[str, Any]:
        folder, held = sources.trained(child), result.get("heldout") or {}
        said: dict[str, Any] = {"method": step.method, "heldout": result.get("heldout")}
        said["weights"] = sources.weights(folder) if folder is not None else ""
        if self.recipe.figure == keeping.HELDOUT and keeping.trains(step) and held.get("after") is not None:
            self.figures[step.name] = float(held["after"])
        if first := step.made.get("weights"):
            said["same"] = said["weights"] == first
            if rows := step.made.get("rows"):
                data = Path(child.config.data)
                said["same_rows"] = data.is_file() and paths.sha256(data) == rows
            if not said["same"] and folder is not None:
                said["difference"] = _difference(step.made, folder, result)
        return said

    def best(self) -> str:
        """Name the step that is kept so far."""
        return keeping.best(self.recipe, [str(said["step"]) for said in self.steps], self.figures)

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


def _plain(step: Step, title: str, base: str) -> RunConfig:
    """Make the config of a run of a step's fields, references filled in."""
    about: dict[str, Any] = {"settings": step.settings, "options": {**step.options}}
    data, parent = _rows(step.data, step), _directory(step.parent)
    return RunConfig(step.kind, title, step.model or base, step.method, data, parent, **about)


def _feedback(step: Step, title: str, base: str) -> RunConfig:
    """Make the config of a set's run as `studio feedback` does: settings are checked and completed."""
    options = dict(step.options)
    source, reading = str(options.pop("source", "")), Reading.from_dict(options.pop("reading", {}))
    return feedback.asked(source, step.data, {**options, **step.settings}, reading, title)


def _eval(step: Step, title: str, base: str) -> RunConfig:
    """Make the config of an evaluation as `studio eval` does; it is of the step's parent, or of `of`."""
    options: dict[str, Any] = dict(step.options)
    beside: dict[str, Any] = {name: options.pop(name) for name in ("context", "device") if name in options}
    of = str(options.pop("of", "") or step.parent)
    made = evaluation.asked(of, **options)
    return dataclasses.replace(made, title=title, options={**made.options, **beside})


def _train(step: Step, title: str, base: str) -> RunConfig:
    """Make the config of a training run as `studio train` does: a reward run is named by its directory."""
    made = _plain(step, title, base)
    if reward := step.options.get("reward"):
        made.options["reward"] = _directory(reward) if runs.is_run(reward) else rules.absolute(reward)
    return made


_CONFIGS: dict[str, Callable[[Step, str, str], RunConfig]] = {"train": _train, "feedback": _feedback, "eval": _eval}


def _rows(data: str, step: Step) -> str:
    """Give the file that a step's data means; of a set of judged answers the rows that its method learns from."""
    if not data:
        return ""
    kinds = METHODS[step.method].kinds if step.kind == "train" else ()
    wanted = next((kind for kind in preferences.KINDS if kind in kinds), "")
    named = preferences.named(data, wanted)
    return str(named.resolve()) if named.exists() else data


def _directory(parent: str) -> str:
    """Give a parent's directory; a hand-written recipe may name a run by its id."""
    return str(runs.find(parent).dir) if parent and runs.is_run(parent) else parent


def _difference(first: dict[str, Any], folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Say how far a run came from what the first one came to.

    {"largest", "where", "relative": where the first weights are here, else "about": `relative` by a sketch of them,
    "figure": {"name", "then", "now"}, "chosen": {what was chosen for the machine: [then, now]}}
    """
    told: dict[str, Any] = {}
    original = sources.trained(Run(Path(str(first.get("run") or ""))))
    if original is not None and sources.weights(original) == first["weights"]:
        told |= likeness.difference(folder, original) or {}
    elif first.get("sketch") and (about := likeness.apart(likeness.sketch(folder), first["sketch"])) is not None:
        told["about"] = about
    held = result.get("heldout") or {}
    if first.get("after") is not None and held.get("after") is not None:
        told["figure"] = {"name": held["name"], "then": first["after"], "now": held["after"]}
    was, now = first.get("chosen") or {}, result.get("chosen") or {}
    if changed := {
        name: [was.get(name), now.get(name)] for name in was | now if was and was.get(name) != now.get(name)
    }:
        told["chosen"] = changed
    return told


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
        said += [_differs(step) for step in compared if not step["same"]]
        now = sources.written()
        if other := [f"{name} {was} then, {now.get(name, 'none')} now" for name, was in written.items()
                     if now.get(name) != was]:  # fmt: skip
            said.append(f"What else differs: {'; '.join(other)}.")
    if best and found["keep"] == "best":
        value = found["figures"].get(best["step"])
        by = f", by {found['figure']} {value:.4g}" if value is not None else ""
        said.append(f"Kept as the best: {best['step']}{by}.")
        if unmeasured := [step["step"] for step in steps if step["kind"] == "train" and step["method"] != "reward"
                          and step["step"] not in found["figures"]]:  # fmt: skip
            said.append(f"Not measured, and so not compared: {', '.join(unmeasured)}.")
    return " ".join(said)


def _share(part: float) -> str:
    """Write a share in per cent with two digits; one above all of it without a power of ten."""
    return f"{100 * part:.2g} %" if part < 0.995 else f"{100 * part:.0f} %"


def _differs(step: dict[str, Any]) -> str:
    away = step.get("difference") or {}
    if "largest" in away:
        share = f", {_share(away['relative'])} of their length" if away.get("relative") is not None else ""
        how = f"by {away['largest']:.3g} at most ({away['where']}){share}"
    elif "about" in away:
        how = f"by about {_share(away['about'])} of their length (the first ones are not here)"
    else:
        how = "(the first ones are not here, or of another shape)"
    said = f"Step {step['step']}: the weights differ from those of the first time {how}"
    if figure := away.get("figure"):
        said += f"; held-out {figure['name']} {figure['then']:.6g} then, {figure['now']:.6g} now"
    said += "" if step.get("same_rows", True) else "; its rows differ too"
    chosen = [f"{name} {was} then, {now} now" for name, (was, now) in (away.get("chosen") or {}).items()]
    return f"{said}{'; ' if chosen else ''}{', '.join(chosen)}."
