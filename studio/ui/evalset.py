"""What the next evaluation will be: who, against whom, which suites with what settings; and the evaluations there are.

Everything about a suite follows from SUITES and its `Config`. Kept in the choices under `evaluate`: {"of", "against",
"judge", "n", "seed", "engine", "allow", "suites": names, "files": {suite: file}, "form": {suite: {setting: value}};
what is looked at: "id", "newest", "suite", "measure", "mark", "page", "beside"; "open"}.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio import config as settings_of
from studio.config import settings
from studio.errors import ConfigError, RunError
from studio.evals import job
from studio.evals.suite import SUITES, Suite, load
from studio.feedback import endpoint, engines
from studio.runs import RunConfig
from studio.ui import chatpick, choice, feedbackset
from studio.ui.live import Scene, View
from studio.ui.terminal import name_of

#: "Its parent, else its base", and nobody who judges.
AUTO, NOBODY = "auto", job.NOBODY
#: What is ticked at first: what needs neither a judge nor a file, and no long time.
FIRST = ("fit", "forgetting", "sycophancy", "refusal", "redteam", "shift")
#: Suites that read no file of the user's.
_NO_FILE = ("shift", "lm-eval")


@functools.cache
def suites() -> dict[str, Suite]:
    """Give the suites in the order of the card."""
    return {name: load(place) for name, place in SUITES.items()}


def reads_file(name: str) -> bool:
    """Tell whether a suite takes a file of the user's own."""
    return name not in _NO_FILE


def kept(scene: Scene) -> dict[str, Any]:
    """Give the choices of this page."""
    found = scene.chosen.get("evaluate")
    return found if isinstance(found, dict) else {}


def keep(**values: Any) -> None:
    """Change choices of this page."""
    choice.update(evaluate=values)


# --- the next evaluation ---------------------------------------------------------------------------------------------


def who(scene: Scene) -> list[tuple[str, str]]:
    """List who can be evaluated: (title, name): finished runs that talk, exported files, then the model itself."""
    files = [(source.label, source.file) for source in chatpick.sources(scene) if source.file]
    found = feedbackset.who(scene)
    last = found[-1:] if scene.model else []
    return [*found[: len(found) - len(last)], *files, *last]


def others(scene: Scene) -> list[tuple[str, str]]:
    """List whom to compare with."""
    fixed = [("its parent, else its base", AUTO), ("its base", "base"), ("nobody: figures alone", NOBODY)]
    return [*fixed, *who(scene)]


def judges(scene: Scene) -> list[tuple[str, str]]:
    """List who can judge."""
    return [("nobody: rules alone", NOBODY), *who(scene)]


def newest(scene: Scene) -> str:
    """Give who is evaluated where nobody is chosen: the newest run of the model; "" where there is nobody."""
    return next((name for _, name in who(scene)), "")


def of(scene: Scene) -> str:
    """Give who is evaluated next: the chosen one, else the newest run of the model; "" where there is nobody."""
    return str(kept(scene).get("of") or "") or newest(scene)


def word(scene: Scene, name: str, otherwise: str = "") -> str:
    """Give one of the plain answers of the form."""
    return str(kept(scene).get(name) or otherwise)


def ticked(scene: Scene) -> list[str]:
    """Name the suites of the next evaluation, in the order of the card."""
    found = kept(scene).get("suites")
    wanted = found if isinstance(found, list) else FIRST
    return [name for name in suites() if name in wanted]


def tick(scene: Scene, name: str) -> None:
    """Take a suite in, or leave it out."""
    if name not in suites():
        raise RunError("There is no such suite.", "Tick one of the cards.")
    now = ticked(scene)
    keep(suites=[one for one in suites() if (one in now) != (one == name)])


def typed(scene: Scene, name: str) -> dict[str, Any]:
    """Give what was typed into a suite's form."""
    found = (kept(scene).get("form") or {}).get(name)
    known = {s.name for s in settings(suites()[name].Config)}
    return {key: value for key, value in found.items() if key in known} if isinstance(found, dict) else {}


def file(scene: Scene, name: str) -> str:
    """Give the file of the user's own for a suite."""
    return str((kept(scene).get("files") or {}).get(name) or "")


def elsewhere(scene: Scene) -> bool:
    """Tell whether a judge is named who is not on this machine, so that it must be asked for first."""
    judge = word(scene, "judge")
    try:
        endpoint.check([judge], False)
    except ConfigError as error:
        return error.field == "allow_endpoint"
    return False


def config(scene: Scene) -> RunConfig:
    """Make the run's config of what is chosen; raises what is wrong with it before anything is written."""
    chosen = ticked(scene)
    if not of(scene):
        raise RunError("There is nobody to evaluate.", "Train a run first, or write a model's name or a file's path.")
    if not chosen:
        raise ConfigError("No suite is ticked.", "Tick one or more of the cards.")
    against, judge = word(scene, "against", AUTO), word(scene, "judge", NOBODY)
    return job.asked(
        of(scene),
        "" if against == AUTO else against,
        chosen,
        judge="" if judge == NOBODY else judge,
        files={name: path for name in chosen if (path := file(scene, name))},
        n=_whole(word(scene, "n"), "n"),
        settings={name: told for name in chosen if (told := typed(scene, name))},
        seed=_whole(word(scene, "seed"), "seed") or 0,
        allow_endpoint=bool(kept(scene).get("allow")),
        engine=word(scene, "engine", engines.AUTO),
    )


def _whole(text: str, name: str) -> int | None:
    if not text.strip():
        return None
    if not text.strip().isdigit() or (name == "n" and not int(text)):
        raise ConfigError(f"{text[:40]!r} is no whole number.", "Write one, or leave the field empty.", field=name)
    return int(text)


def command(made: Mapping[str, Any], of_: str) -> list[str]:
    """Give the words of the command that starts the same evaluation, from its options."""
    words = ["eval", of_, "--against", str(made["against"] or NOBODY)]
    for name in made["suites"]:
        words += ["--suite", name]
    if made.get("judge"):
        words += ["--judge", str(made["judge"])]
    for name, path in (made.get("files") or {}).items():
        words += ["--data", f"{name}={path}"]
    for name, values in (made.get("settings") or {}).items():
        usual = settings_of.to_dict(suites()[name].Config()) if name in suites() else {}
        for key, value in values.items():
            if value != usual.get(key):
                words += ["--set", f"{name}.{key}={value}"]
    engine = made.get("engine") or engines.AUTO
    words += ["--seed", str(made.get("seed") or 0), *(["--engine", engine] if engine != engines.AUTO else [])]
    return [*words, *(["--allow-endpoint"] if made.get("allow_endpoint") else [])]


# --- how long it takes -----------------------------------------------------------------------------------------------


def estimate(scene: Scene, next_one: RunConfig) -> tuple[float, list[str]]:
    """Guess the seconds of an evaluation from earlier ones of the same model, and name suites that none of them had."""
    seconds, unknown = 0.0, []
    earlier = [view for view in evaluations(scene) if view.status == "finished"]
    earlier = [view for view in earlier if view.config.model == next_one.model][:8]
    for name in next_one.options["suites"]:
        found = next((s for view in earlier if (s := _of_suite(view, name, next_one)) is not None), None)
        if found is None:
            unknown.append(name)
        seconds += found or 0.0
    return seconds, unknown


def _of_suite(view: View, name: str, next_one: RunConfig) -> float | None:
    """Give what a suite would take at the pace of an earlier evaluation: as many items, as many sides."""
    took = _paces(view.run.dir, view.count).get(name)
    old, new = view.config.options, next_one.options
    if took is None:
        return None
    counts = [one["settings"].get(name, {}).get("n") or 1 for one in (new, old)]
    sides = [2 if one["against"] else 1 for one in (new, old)]
    return took * counts[0] / counts[1] * sides[0] / sides[1]


@functools.lru_cache(maxsize=32)
def _paces(folder: Path, version: int) -> dict[str, float]:
    """Read from a run's events how long each suite took: from its first word to the next suite's, or the end."""
    from studio.runs import Run

    return paces(Run(folder).events())


def paces(events: list[dict[str, Any]]) -> dict[str, float]:
    """Tell the seconds of each suite; nothing of a run that was taken up again, where the pause would count."""
    if sum(event["type"] == "started" for event in events) > 1:
        return {}
    begun: dict[str, float] = {}
    for event in events:
        name = str(event.get("phase") or "").partition(":")[0]
        if event["type"] == "progress" and name in SUITES:
            begun.setdefault(name, float(event["time"]))
    ends = [*list(begun.values())[1:], float(events[-1]["time"])] if events else []
    return {name: end - first for (name, first), end in zip(begun.items(), ends, strict=True)} if begun else {}


# --- evaluations -----------------------------------------------------------------------------------------------------


def evaluations(scene: Scene) -> list[View]:
    """List the evaluations, the newest first."""
    return [view for view in scene.views if view.config.kind == job.KIND]


def shown(scene: Scene) -> View | None:
    """Give the evaluation that is shown: the picked one until a newer one is made, else the newest."""
    found = evaluations(scene)
    if not found:
        return None
    picked = kept(scene).get("id") if kept(scene).get("newest") == found[0].id else None
    return next((view for view in found if view.id == picked), found[0])


def beside(scene: Scene) -> View | None:
    """Give the evaluation that the shown one stands beside, where one was asked for."""
    here, wanted = shown(scene), kept(scene).get("beside")
    found = next((view for view in evaluations(scene) if view.id == wanted and view is not here), None)
    return found if found is not None and here is not None and {here.status, found.status} == {"finished"} else None


def find(scene: Scene, run_id: str) -> View:
    """Find an evaluation by its id. Raises RunError."""
    view = next((view for view in evaluations(scene) if view.id == run_id), None)
    if view is None:
        raise RunError("There is no such evaluation.", "Look at the list again.")
    return view


def pick(scene: Scene, run_id: str) -> None:
    """Show an evaluation."""
    find(scene, run_id)
    keep(id=run_id, newest=evaluations(scene)[0].id, suite="", measure="", mark="", page=0, beside="")


def name(scene: Scene, who_: str, view: View) -> str:
    """Name a side of an evaluation as people do."""
    if who_ == "base":
        return f"its base, {name_of(view.config.model)}" if view.config.model else "its base"
    return feedbackset.who_of(scene, who_)
