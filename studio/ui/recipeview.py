"""Drawing of a recipe's run: which step goes, what each came to, whether the same weights came out, which is kept."""

from __future__ import annotations

import json
from typing import Any

from studio import jobs
from studio.data import preferences
from studio.errors import ConfigError, RunError
from studio.lab import recipe, rounds, starting
from studio.lab.recipe import Recipe, Step
from studio.methods import METHODS
from studio.ui import choice, choosing, controls, kit, labview, live, parts, rail, recipefile, recipeplan, tuning
from studio.ui.curves import measure
from studio.ui.live import Scene, View
from studio.ui.parts import esc, number
from studio.ui.recipeplan import FIELD

_TONES = {"finished": "good", "failed": "bad", "running": "accent", "interrupted": "warn"}
_STATES = {"finished": "done", "failed": "failed", "running": "running", "stopped": "stopped", "interrupted": "stopped"}
#: Pages of kinds whose runs they show when they are told of one.
_PAGES = {preferences.KIND: "feedback", "eval": "evaluate"}
#: So many recipe runs can be chosen from.
_MOST = 50


def of(scene: Scene) -> list[View]:
    """List the runs of recipes, the newest first."""
    return [view for view in scene.views if view.config.kind == starting.KIND]


def shown(scene: Scene) -> View | None:
    """Give the run that is shown: the one that was picked, until a newer one is made; else the newest."""
    mine = of(scene)
    newest = next(iter(mine), None)
    kept = scene.chosen.get("recipe") or {}
    if newest is None or kept.get("newest") != newest.id:
        return newest
    return next((view for view in mine if view.id == kept.get("id")), newest)


def show(scene: Scene, run_id: str) -> None:
    """Show another run of a recipe."""
    mine = of(scene)
    if any(view.id == run_id for view in mine):
        choice.update(recipe={"id": run_id, "newest": mine[0].id})


def line(scene: Scene) -> tuple[str, str] | None:
    """Give the rail's state and line while a recipe runs, or where nothing else was done on the page; else None."""
    view = next((view for view in of(scene) if view.running), None)
    if view is None:
        last = shown(scene) if not labview.of(scene) else None
        return (_STATES.get(last.status, "ready"), f"recipe {last.status}") if last is not None else None
    made = made_of(view)
    at = sum(_done(child) for child in _children(scene, view).values())
    return "running", f"recipe, step {min(at + 1, len(made.steps))} of {len(made.steps)}" if made else "a recipe"


def made_of(view: View) -> Recipe | None:
    """Read the recipe of a run; None where it cannot be read (one of another version)."""
    try:
        return recipe.from_dict(view.config.options["recipe"])
    except (ConfigError, KeyError, TypeError):
        return None


def _children(scene: Scene, view: View) -> dict[str, View | None]:
    """Give the run of each step that was begun; None for one that is gone."""
    try:
        found = json.loads((view.run.dir / rounds.PLACES).read_text("utf-8"))
    except (OSError, ValueError):
        found = {}
    by_place = {str(one.run.dir): one for one in scene.views}
    return {str(name): by_place.get(str(place)) for name, place in found.items()} if isinstance(found, dict) else {}


def _done(view: View | None) -> bool:
    return view is not None and view.status == "finished"


# --- the card --------------------------------------------------------------------------------------------------------


def card(scene: Scene) -> str:
    """Draw the run that is shown; nothing before the first one."""
    view = shown(scene)
    made = made_of(view) if view is not None else None
    if view is None:
        return ""
    if made is None:
        return parts.problem("This recipe was written by another Studio.", "Download it, and look at its lines.")
    inner = f"{_state(scene, view, made)}{_table(scene, view, made)}{_buttons(view)}"
    return parts.card(f"Recipe: {view.config.title}", inner, _others(scene, view), "st-recipe-run")


def _others(scene: Scene, view: View) -> str:
    """Draw how it stands, and the list to choose an earlier one from."""
    pill = parts.pill(view.status, _TONES.get(view.status, "plain"))
    mine = of(scene)[:_MOST]
    if len(mine) < 2:
        return f"{esc(choosing.when(view.id))} {pill}"
    named = [(one.id, f"{one.config.title[:40]}, {choosing.when(one.id)}, {one.status}") for one in mine]
    chosen = controls.choices(named, view.id, {"do": "recipe-show"}, aria="Run of a recipe to show", to=FIELD)
    return f"{pill} {chosen}"


def _state(scene: Scene, view: View, made: Recipe) -> str:
    """Say what goes on now, how it ended, or what came of it."""
    if view.running:
        return _going(scene, view, made)
    if view.status == "finished":
        return f'<p class="st-worded">{esc(view.result().get("said") or "", 2000)}</p>'
    again = "Resume goes on with it; what is finished is not done again."
    if view.status == "failed":
        return parts.problem_from(view.error, head="A step failed", details=f"The worker's log: {view.run.log}")
    if view.status == "queued":
        return parts.note("It waits for its turn, and begins by itself.")
    if view.status == "interrupted":
        why = "The worker ended without a word: the machine was turned off, or the system ended it for its memory."
        return parts.problem(why, again, head="It was interrupted")
    return parts.note(f"It was stopped. {again}" if view.status == "stopped" else "It was not begun.")


def _going(scene: Scene, view: View, made: Recipe) -> str:
    """Draw which step goes, how far it is and how fast, how long that step will take; and Stop."""
    newest = view.newest() or {}
    children, names = _children(scene, view), [step.name for step in made.steps]
    at = next((place for place, name in enumerate(names) if not _done(children.get(name))), len(names) - 1)
    known = newest.get("part") in names
    done = (view.percent() or 0.0) if known else 0.0
    said = [text for text in rail.now({**newest, "part": ""} if known else None) if text]
    if known and newest.get("rate") and newest.get("unit") not in (None, "", "bytes"):
        said.append(f"{number(newest['rate'], 1)} {newest['unit']}/s")
    elif known and newest.get("tokens_per_s"):
        said.append(f"{newest['tokens_per_s']:,.0f} tokens/s")
    head = f"Step {at + 1} of {len(names)}: {names[at]}"
    percent = 100 * done
    bar = (
        f'<div class="st-bar" role="progressbar" aria-label="{esc(names[at])}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><i style="width:{percent:.0f}%"></i></div>'
    )
    stop = parts.press("st-stop", "Stop", aria="Stop the recipe", disabled=view.run.should_stop())
    asked = ", stopping at the next step" if view.run.should_stop() else ""
    return (
        f'<div class="st-recipe-now"><b role="status">{esc(head)}</b>'
        f'<span class="st-muted">{esc(", ".join(said) + asked)}</span>{bar}{stop}</div>'
        f"{parts.note('Closing this page does not stop it. What was finished is not done again after a stop.')}"
    )


def _buttons(view: View) -> str:
    """Draw Resume, where it can be gone on with, and its file."""
    resume = ""
    if _resumable(view):
        message = {"do": "recipe-resume", "id": view.id}
        resume = controls.button("Resume", message, to=FIELD, aria=f"Resume the recipe: {view.config.title}")
    return parts.actions(recipefile.button(view), resume)


def _resumable(view: View) -> bool:
    return view.status == "failed" or kit.resumable(view)


def resume(scene: Scene, run_id: str) -> None:
    """Go on with a recipe that was stopped, killed or has failed; what it had finished is not done again."""
    view = next((view for view in of(scene) if view.id == run_id and _resumable(view)), None)
    if view is None:
        raise RunError("There is nothing to go on with.", "Start the recipe.")
    jobs.submit(view.run)


# --- its steps -------------------------------------------------------------------------------------------------------


def _table(scene: Scene, view: View, made: Recipe) -> str:
    """Draw the steps: how each stands, before and after on held-out rows, the weights, the way to its run's page."""
    result = view.result()
    ended = {str(one["step"]): one for one in result.get("steps") or []}
    best, children = str((result.get("best") or {}).get("step") or ""), _children(scene, view)
    rows = []
    for step in made.steps:
        child = children.get(step.name)
        found = ended.get(step.name) or _so_far(step, child)
        state = "done" if step.name in ended else _STATES.get(child.status, "empty") if child is not None else "empty"
        if state == "running" and not view.running:
            state = "stopped"
        kept = f" {parts.pill('kept', 'accent')}" if step.name == best else ""
        name = f"{rail.mark(state)} <b>{esc(step.name)}</b>{kept}<small>{esc(recipeplan.of_step(step))}</small>"
        begun = step.name in children
        took = esc(parts.duration(found.get("seconds")))
        rows.append([name, _figures(made, found), _weights(found), took, _link(scene, child) if begun else ""])
    table = parts.table(("Step", "Held out", "Weights", "Time", ""), rows)
    return f'<div class="st-along st-recipe-steps">{table}</div>'


def _so_far(step: Step, child: View | None) -> dict[str, Any]:
    """Give what a step came to before all of it is over: weights are compared at the end."""
    found = child.result() if child is not None else {}
    return {"heldout": found.get("heldout") if step.kind == "train" else None, "seconds": found.get("seconds")}


def _figures(made: Recipe, found: dict[str, Any]) -> str:
    """Write the held-out figure before and after; of an evaluation the figure that the runs are compared by."""
    held = found.get("heldout") or {}
    before, after = held.get("before"), held.get("after")
    if isinstance(before, int | float) and isinstance(after, int | float):
        return f"{tuning.change(before, after)}<small>{esc(measure(held.get('name')))}</small>"
    if isinstance(after, int | float):
        return f"{number(after)}<small>{esc(measure(held.get('name')))}</small>"
    if isinstance(found.get("figure"), int | float):
        return f"{number(found['figure'])}<small>{esc(made.figure)}</small>"
    return ""


def _weights(found: dict[str, Any]) -> str:
    same = found.get("same")
    if same is None:
        return ""
    return parts.pill("the same weights", "good") if same else parts.pill("other weights", "warn")


def _link(scene: Scene, child: View | None) -> str:
    """Draw the way to a run's page; its words, where it is gone or that page shows the runs of another model."""
    if child is None:
        return '<span class="st-muted">gone</span>'
    config = child.config
    method = METHODS.get(config.method) if config.kind == "train" else None
    page = live.page_of(method) if method is not None else _PAGES.get(config.kind, live.belongs(config))
    if not page:
        return ""
    if page in ("train", "align", "export") and config.model != scene.model:
        said = f"Its page shows it once {config.model} is chosen on the Model page."
        return f'<a class="st-button" href="#model" title="{esc(said, 300)}">Choose its model</a>'
    message = {"do": "show", "id": child.id}
    to = "" if page == "export" else controls.sends(message, f"st-{page}-do", f"See {config.title}, {child.id}")
    return f'<a class="st-button" href="#{page}" {to}>See it</a>'
