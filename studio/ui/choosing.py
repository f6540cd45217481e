"""What the next run of a page will be: its method, its data, what it starts from, what scores it; and who proposes it.

Kept in the choices under `next`, so that tabs and restarts agree. Methods are taken from METHODS, none by its name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from studio.config import build, settings
from studio.data import rules
from studio.errors import ConfigError, RunError
from studio.methods import METHODS, Method, adviser
from studio.models import catalogue
from studio.ui import choice, machines, rail
from studio.ui.live import Scene, View, page_of

THE_MODEL = "the model itself"
_INSTRUCT = re.compile(r"(?i)(instruct|chat)|-it\b")
#: Rules to choose from as they are, or to change.
RULES = (
    ("rule: the same as the row's own answer", "exact"),
    ("rule: a whole sentence", "sentence"),
    ("rule: 20 to 80 words long", "length:20-80"),
    ("rule: fits a pattern", r"regex:^[A-Z].*\.$"),
    ("rule: is whole JSON", "json"),
)


def of_page(step: str) -> dict[str, Method]:
    """Give the methods of a page by their names."""
    return {name: method for name, method in METHODS.items() if page_of(method) == step}


def _kept(scene: Scene, step: str) -> dict[str, Any]:
    found = (scene.chosen.get("next") or {}).get(step)
    return found if isinstance(found, dict) else {}


def keep(step: str, **values: str) -> None:
    """Keep choices for the next run of a page."""
    found = choice.get("next").get(step)
    choice.update(next={step: {**(found if isinstance(found, dict) else {}), **values}})


def method(scene: Scene, step: str) -> Method:
    """Give the method of the next run: the chosen one, else the proposed one, else the page's first."""
    mine = of_page(step)
    chosen = str(_kept(scene, step).get("method") or "")
    return mine.get(chosen) or mine.get(advice(scene, step).method) or next(iter(mine.values()))


def data(scene: Scene, step: str, used_by: Method) -> dict[str, Any]:
    """Give the file that a method would learn from: the page's own, or Train's where the method can read that."""
    own = scene.data(step)
    if own and adviser.reads(used_by, str(own.get("kind"))):
        return own
    other = scene.data("train")
    return other if other and adviser.reads(used_by, str(other.get("kind"))) else {}


def missing(scene: Scene, step: str, used_by: Method) -> str:
    """Say what a run with this method still needs; empty when it can start."""
    if not scene.model:
        return "Pick a model first."
    if data(scene, step, used_by):
        return ""
    held = adviser.KINDS.get(str(scene.data(step).get("kind")))
    needs = f"It needs {adviser.needs(used_by)}"
    return f"{needs}; the chosen file holds {held}." if held else f"{needs}."


def advice(scene: Scene, step: str) -> adviser.Advice:
    """Give the adviser's proposal among the page's methods; without data there is none."""
    used = scene.data(step)
    if not used:
        return adviser.Advice("", "")
    on, kept = machines.now(), used.get("seen") or {}
    seen = {name: kept[name] for name in ("longer", "wanted", "unwanted", "duplicates", "doubted") if name in kept}
    facts = adviser.Facts(
        kind=str(used.get("kind")),
        rows=int(used.get("rows") or 0),
        taught=step == "align" and (parent(scene, step) is not None or instructed(scene.model)),
        scored=bool(judges(scene)),
        memory_gb=machines.memory(on) if on is not None else 0.0,
        gpu=on is None or on.device in ("cuda", "mps"),
        **seen,
    )
    return adviser.advise(facts, of_page(step))


def instructed(model: str) -> bool:
    """Tell whether a model was taught to answer by whoever made it."""
    entry = catalogue.find(model)
    return entry.kind == "instruct" if entry is not None else bool(_INSTRUCT.search(model))


# --- what it starts from ---------------------------------------------------------------------------------------------


def parents(scene: Scene) -> list[View]:
    """List the runs that the next one can go on from, newest first: finished ones, and such as will finish before."""
    mine = [v for v in scene.views if v.config.kind == "train" and v.config.model == scene.model and talks(v)]
    ahead = {view.id for view in (*scene.queue, *([scene.running] if scene.running else []))}
    return [view for view in mine if view.status == "finished" or view.id in ahead]


def judges(scene: Scene) -> list[View]:
    """List the finished runs whose head can score answers, newest first."""
    mine = [v for v in scene.views if v.config.kind == "train" and v.config.model == scene.model and not talks(v)]
    return [view for view in mine if view.status == "finished"]


def talks(view: View) -> bool:
    """Tell whether a run makes a model that answers (a reward run's only scores)."""
    found = METHODS.get(view.config.method)
    return found is None or not found.head or found.kind == "online"


def parent(scene: Scene, step: str) -> View | None:
    """Give the run that the next one starts from, None for the model itself: on Align by default the newest taught."""
    offered = parents(scene)
    kept = _kept(scene, step).get("parent")
    if kept == THE_MODEL:
        return None
    if (found := next((view for view in offered if view.id == kept), None)) is not None:
        return found
    taught = [view for view in offered if view.status == "finished" and page_of_run(view) == "train"]
    return next(iter(taught), None) if step == "align" else None


def page_of_run(view: View) -> str:
    """Name the page of a run's method."""
    found = METHODS.get(view.config.method)
    return page_of(found) if found is not None else ""


def line(scene: Scene, view: View) -> str:
    """Write a run's lineage in words: SFT → DPO."""
    known, names, here = {other.id: other for other in scene.views}, [rail.short(view.config.method)], view
    while here.config.parent and len(names) < 12:
        before = known.get(Path(here.config.parent.replace("\\", "/")).name)
        if before is None:
            break
        here = before
        names.insert(0, rail.short(here.config.method))
    return " → ".join(names)


def named(scene: Scene, view: View) -> str:
    """Name a run so that it can be told from others of its title."""
    late = "" if view.status == "finished" else f", {view.status}"
    return f"{line(scene, view)} · {view.config.title} · {when(view.id)}{late}"


def when(run_id: str) -> str:
    """Write when a run was made, from its id (which is in UTC): 25 Nov 04:51."""
    import calendar
    import time

    try:
        made = calendar.timegm(time.strptime(run_id[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return run_id[:15]
    return time.strftime("%d %b %H:%M", time.localtime(made)).lstrip("0")


# --- what scores it --------------------------------------------------------------------------------------------------


def scorer(scene: Scene, step: str) -> str:
    """Give what scores the answers of the next run: a run's id or a rule; empty when nothing is chosen."""
    kept = str(_kept(scene, step).get("reward") or "")
    found = judges(scene)
    return kept or (found[0].id if found else "")


def scorer_name(scene: Scene, reward: str) -> str:
    """Name what scores a run as it keeps it: the reward run with its lineage, or the rule."""
    found = next((view for view in judges(scene) if reward in (view.id, str(view.run.dir))), None)
    if found is not None:
        return named(scene, found)
    return Path(reward).name if ".py:" in reward or Path(reward).is_absolute() else reward


def check_scorer(scene: Scene, text: str) -> str:
    """Turn what scores the answers into what a run keeps: a reward run's directory or a rule. Raises ConfigError."""
    wanted = text.strip()
    if (view := next((v for v in judges(scene) if v.id == wanted), None)) is not None:
        return str(view.run.dir)
    remedy = f"Choose a finished reward run, or write {rules.FORMS}."
    if not wanted:
        raise ConfigError("Nothing scores the answers.", remedy, field="reward")
    name, is_function, function = rules.absolute(wanted).rpartition(".py:")
    if is_function and not wanted.startswith("regex:"):  # it is run when the run begins, never by the window
        if not Path(f"{name}.py").is_file() or not function.isidentifier():
            raise ConfigError(f"There is no file {wanted.rpartition(':')[0][:120]!r}.", remedy, field="reward")
        return f"{name}.py:{function}"
    try:
        rules.rule(wanted).close()
    except ConfigError as error:
        if wanted.startswith(("regex:", "length:")):
            raise
        what = f"{wanted[:80]!r} is neither a reward run of this model nor a rule."
        raise ConfigError(what, remedy, field="reward") from error
    return wanted


def start_from(view: View | None) -> str:
    """Give the directory of what a run starts from, as its config keeps it."""
    if view is None:
        return ""
    if view.status not in ("finished", "running", "queued"):
        raise RunError(f"“{view.config.title}” has not finished.", "Resume it, or choose another run to start from.")
    return str(view.run.dir)


# --- what was typed --------------------------------------------------------------------------------------------------


def saved(scene: Scene, name: str) -> dict[str, Any]:
    """Give what was typed into a method's form, of the settings that it has."""
    found, known = (scene.chosen.get("form") or {}).get(name), METHODS.get(name)
    if not isinstance(found, dict) or known is None:
        return {}
    return {key: value for key, value in found.items() if key in known.Config.__dataclass_fields__}


def problems(scene: Scene, step: str) -> dict[str, str]:
    """Say what is wrong with what was typed for the next run, by the name of the setting; `reward` is what scores."""
    used_by = method(scene, step)
    found = {
        name: wrong for name, value in saved(scene, used_by.name).items() if (wrong := _wrong(used_by, name, value))
    }
    if used_by.kind == "online" and scene.model:
        try:
            check_scorer(scene, scorer(scene, step))
        except ConfigError as error:
            found["reward"] = error.message
    return found


def _wrong(used_by: Method, name: str, value: Any) -> str:
    try:
        build(used_by.Config, {name: value})
    except ConfigError as error:
        return error.message.removeprefix(f"{name}: ")
    return ""


def choose(scene: Scene, step: str, name: str) -> None:
    """Choose a method. Its defaults are its own; what was typed stays where the setting means the same in both.

    That are the settings which both have from one class: the beta of SimPO is not that of DPO.
    """
    offered = of_page(step)
    if name not in offered:
        raise RunError("There is no such method.", "Choose one of the list.")
    old, new = method(scene, step), offered[name]
    common = [base for base in old.Config.__mro__ if base in new.Config.__mro__ and base is not object]
    shared = {s.name for base in common for s in settings(base)}
    typed = {n: v for n, v in saved(scene, old.name).items() if n in shared and not _wrong(new, n, v)}
    if old is not new and typed:
        choice.update(form={name: {**typed, **saved(scene, name)}})
    keep(step, method=name)


def forget(scene: Scene, step: str) -> None:
    """Go back to the method's own settings: forget what was typed for it, here and in the page's others."""
    here = saved(scene, method(scene, step).name)
    rest = {name: {n: v for n, v in saved(scene, name).items() if n not in here} for name in of_page(step)}
    choice.update(form=rest)


def repeat(scene: Scene, step: str, view: View) -> None:
    """Set the next run up as an earlier one of the page was."""
    config = view.config
    if config.method not in of_page(step):
        raise RunError("There is no such method.", "Choose another run.")
    before = next((v.id for v in parents(scene) if str(v.run.dir) == config.parent), THE_MODEL)
    reward = str(config.options.get("reward") or "")
    judge = next((v.id for v in judges(scene) if str(v.run.dir) == reward), reward)
    typed = {name: "" if value is None else value for name, value in config.settings.items()}
    choice.update(form={config.method: typed})
    keep(step, method=config.method, parent=before, reward=judge, open="yes")


def score_with(scene: Scene, step: str, judge: View) -> None:
    """Set the next run up to learn from the scores of a finished reward run."""
    if judge not in judges(scene):
        raise RunError(f"“{judge.config.title}” scores nothing yet.", "Wait until it has finished.")
    asked = adviser.advise(adviser.Facts(kind="prompt", scored=True), of_page(step))
    keep(step, method=asked.method, reward=judge.id, open="yes")


def unfolded(scene: Scene, step: str) -> bool:
    """Tell whether the next run's settings are in sight: before the first run, after a failed one, else when opened."""
    view, kept = scene.line.get(step), _kept(scene, step).get("open")
    if view is None or kept in ("yes", "no"):
        return view is None or kept == "yes"
    return view.status == "failed"
