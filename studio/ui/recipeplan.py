"""Drawing of a recipe before it starts: its steps in words, its files and whether they are here, what is in its way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.errors import ConfigError
from studio.evals.suite import SUITES, load
from studio.lab import keeping, recipe, starting, steps
from studio.lab.recipe import Recipe, Step
from studio.ui import controls, feedbackset, parts, rail, recipelook, terminal
from studio.ui.dataview import name_of
from studio.ui.live import Scene
from studio.ui.parts import esc
from studio.ui.recipelook import Seen

#: What is done with recipes is told here, so that errors stand beside them and not on top of the page.
FIELD = "st-recipe-do"
#: Options that say who answers or judges, and how that is said.
_WHO = {
    "answers_from": "answers of",
    "reward": "scored by",
    "judge": "judged by",
    "rule": "marked by the rule",
    "critic": "criticised by",
    "reviser": "revised by",
    "evaluation": "from the evaluation",
}
#: Where the command line's remedy names a flag, the window has a field.
_FLAGS = re.compile(r": --(?:data \S+=PATH|model FOLDER \(or a hub id\))")


def samples() -> str:
    """Draw the ways to a recipe without a file at hand."""
    found = "".join(
        controls.button(_title(path.stem), {"do": "recipe-sample", "name": path.stem}, to=FIELD)
        for path in recipelook.shipped()
    )
    hint = "A finished run's own: “Download its recipe” below the card “Where it stands”."
    if not found:
        return parts.note(hint)
    ask = '<span class="st-muted">No recipe at hand?</span>'
    return f'<div class="st-samples">{ask}{found}<span class="st-muted">{esc(hint)}</span></div>'


def _title(stem: str) -> str:
    return stem.replace("-", " ").capitalize()


# --- the steps -------------------------------------------------------------------------------------------------------


def plan(scene: Scene) -> str:
    """Draw what the chosen recipe does, step by step, below what stands in its way."""
    file = recipelook.file(scene)
    if not file:
        return ""
    seen = recipelook.want(scene)
    if seen is None:
        return parts.card(name_of(file), '<p class="st-note" role="status">Looking for its files…</p>')
    made = seen.look.recipe
    said = obstacles(seen)
    if made is None:
        return said
    drawn = "".join(_step(made, step, seen) for step in made.steps)
    notes = "".join(map(parts.note, (kept(made), compared(made))))
    count = f"{len(made.steps)} step{'s' * (len(made.steps) != 1)}, in this order"
    body = f'<ol class="st-steps st-recipe-plan">{drawn}</ol>{notes}'
    return said + parts.card(made.title, body, esc(count))


def _step(made: Recipe, step: Step, seen: Seen) -> str:
    what, told = of_step(step), "; ".join(_words(made, step, seen.rows.get(step.name)))
    title = f' <span class="st-muted">{esc(step.title, 80)}</span>' if step.title not in ("", made.title) else ""
    given = {**step.settings, **_rest(step)}
    more = ""
    if given:
        listed = parts.facts((name, parts.code(_value(value))) for name, value in given.items())
        count = f"{len(given)} setting{'s' * (len(given) != 1)}"
        more = f"<details><summary>{count}</summary>{listed}</details>"
    said = f"<small>{esc(told[:1].upper() + told[1:], 600)}</small>"
    return f"<li><span><b>{esc(step.name)}</b>{title}{said}{more}</span>{parts.pill(what, 'plain')}</li>"


def of_step(step: Step) -> str:
    """Name what a step does: SFT, best of n, evaluation."""
    if step.kind == "train":
        return rail.short(step.method)
    if step.kind == "feedback":
        return feedbackset.title(str(step.options.get("source") or "judged answers"))
    return {"eval": "Evaluation", "export": "Export", "merge": "Merge"}.get(step.kind, step.kind)


def _words(made: Recipe, step: Step, rows: Mapping[str, int] | None) -> Iterator[str]:
    """Say of a step what it reads, what it starts from, who answers and judges."""
    count = ""
    if rows is not None:
        count = f", {rows['rows']:,} row{'s' * (rows['rows'] != 1)}"
        count += f" of which {rows['held_out']:,} are held out" if rows["held_out"] else ""
    start = called(step.parent) if step.parent else f"the base{f' {called(step.model)}' if step.model else ''}"
    if step.data:
        yield f"{'learns from' if step.kind == 'train' else 'prompts of'} {called(step.data)}{count}"
    if step.kind == "train":
        yield f"starts from {start}"
    if step.kind == "eval":
        against = str(step.options.get("against") or "")
        compared = f", compared with {called(against)}" if against not in ("", "none") else ""
        yield f"of {called(str(step.options.get('of') or step.parent))}{compared}"
        yield f"asks {', '.join(_suites(step))}"
        for name, file in (step.options.get("files") or {}).items():
            yield f"{name} on the rows of {called(str(file))}"
    if step.kind in ("export", "merge"):
        types = ", ".join(map(str, step.options.get("quants") or ()))
        yield f"of {start}{f' as {types}' if types else ''}"
    for name, words in _WHO.items():
        if value := step.options.get(name) or step.settings.get(name):
            yield f"{words} {called(str(value))}"


def _suites(step: Step) -> list[str]:
    """Name the suites; a step that could not be read may name what is none."""
    try:
        return [load(SUITES[name]).title for name in steps.suites(step)]
    except (KeyError, TypeError, AttributeError):
        return ["what cannot be read"]


def called(name: str) -> str:
    """Name what a field of a recipe means: a step or a file by its name, a path by its last part."""
    found = recipe.reference(name)
    if found is None:
        return name if name.count("/") < 2 and "\\" not in name else name_of(name)
    word = "the best so far" if found[0] == recipe.BEST else found[0]
    return f"{word} ({found[1][1:]})" if len(found[1]) > 1 else word


def _rest(step: Step) -> dict[str, Any]:
    """Give the options that are not said in words."""
    said = {*_WHO, "source", "of", "against", "suites", "files", "quants", "reading"}
    return {name: value for name, value in step.options.items() if name not in said}


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return ", ".join(map(_value, value)) if isinstance(value, list | tuple) else str(value)


def kept(made: Recipe) -> str:
    """Say which training run is kept, and by what."""
    trained = [step for step in made.steps if keeping.trains(step)]
    if not trained or (made.keep == "last" and len(trained) == 1):
        return ""
    if made.keep == "last":
        return f"Kept: the last training run, {trained[-1].name}."
    if made.figure == keeping.HELDOUT:
        return "Kept as the best: the run with the best held-out figure; of equals the earlier one."
    try:
        more = keeping.measure(made.figure).better == "more"
    except ConfigError:
        return ""
    return f"Kept as the best: the run with the {'highest' if more else 'lowest'} {made.figure}; of equals the earlier."


def compared(made: Recipe) -> str:
    """Say that weights are compared with those of the first time, where a recipe has their hashes."""
    some = sum(bool(step.made.get("weights")) for step in made.steps)
    return "The weights that come out are compared, bit for bit, with those of the first time." if some else ""


# --- what is in its way ----------------------------------------------------------------------------------------------


def obstacles(seen: Seen) -> str:
    """Draw all that stands in the way of a recipe, but for files that are missing: these stand with the files."""
    wrong = seen.look.wrong
    if not wrong:
        return ""
    items = []
    for error in wrong:
        told = (name_of(error.file) if error.file else "", f"line {error.line}" if error.line else "")
        where = ", ".join(filter(None, (*told, f"field {error.field}" if error.field else "")))
        items.append(
            f"<li><span>{esc(error.message, 800)}<small>{esc(where, 300)}</small>"
            f'<span class="st-remedy"><b>What to do</b> {esc(_here(error.remedy), 600)}</span></span></li>'
        )
    head = "This stands in its way" if len(wrong) == 1 else f"{len(wrong)} things stand in its way"
    return (
        f'<section class="st-card st-problem" role="alert"><h2>{head}</h2>'
        f'<ul class="st-list">{"".join(items)}</ul></section>'
    )


def _here(remedy: str) -> str:
    return _FLAGS.sub(" below", remedy).rstrip(".") + "." if remedy else ""


def files(scene: Scene) -> str:
    """Draw the base and the files: whether each is here and the same, and where one that is not can be named."""
    seen = recipelook.want(scene) if recipelook.file(scene) else None
    made = seen.look.recipe if seen is not None else None
    if seen is None or made is None:
        return ""
    places, rows = recipelook.moved(scene), []
    if made.base.model:
        base = (starting.THE_BASE, made.base.model, made.base.sha256, "the weights are the recipe's")
        rows.append(_file(seen, *base, places, "another folder, or org/name of the hub"))
    for one in made.data:
        rows.append(_file(seen, one.name, one.path, one.sha256, "it is the same file", places, "a whole path"))
    if not rows:
        return ""
    return parts.card("What it needs", f'<ul class="st-list st-recipe-files">{"".join(rows)}</ul>')


def _file(seen: Seen, name: str, place: str, sha256: str, same: str, places: Mapping[str, str], hint: str) -> str:
    error, now = seen.look.missing.get(name), places.get(name, "")
    said = f'<b>{esc(name)}</b><small title="{esc(now or place, 400)}">{esc(called(now or place), 120)}</small>'
    if error is None:
        state = parts.pill("here", "good") if sha256 else parts.pill("here", "plain")
        note = f"<small>{same if sha256 else 'no hash is given to compare it with'}</small>"
        back = ""
        if now:
            undo = {"do": "recipe-moved", "name": name, "value": ""}
            back = controls.button("Take back", undo, to=FIELD, aria=f"Take back where {name} is")
        return f"<li><span>{said}{note}</span>{state}{back}</li>"
    field = controls.field(
        now,
        {"do": "recipe-moved", "name": name},
        aria=f"Where {name} is now",
        to=FIELD,
        hint=f"where it is now: {hint}",
    )
    word = "another one" if error.file and Path(error.file).expanduser().exists() else "missing"
    why = f"<small>{esc(error.message, 400)}</small><small>{esc(_here(error.remedy), 400)}</small>{field}"
    return f'<li class="st-recipe-lost"><span>{said}{why}</span>{parts.pill(word, "bad")}</li>'


def onward(scene: Scene) -> str:
    """Draw Start, and how to let the recipe be."""
    if not recipelook.file(scene):
        return ""
    seen = recipelook.want(scene)
    waits = scene.running is not None or bool(scene.queue)
    ready = seen is not None and seen.ready
    close = controls.button("Close", {"do": "recipe-close"}, to=FIELD, aria="Close the recipe")
    look = controls.button("Look again", {"do": "recipe-again"}, to=FIELD) if seen is not None else ""
    start = controls.button(
        "Add to the queue" if waits else "Start the recipe",
        {"do": "recipe-start"},
        to=FIELD,
        filled=ready and not waits,
        disabled=not ready,
    )
    why = ""
    if seen is not None and seen.look.missing and not seen.look.wrong:
        lost = len(seen.look.missing)
        why = f"{lost} thing{'s' * (lost != 1)} it needs {'are' if lost != 1 else 'is'} not here: say above where."
        why = f'<p class="st-note st-why" role="status">{esc(why)}</p>'
    return why + parts.actions(close, look, start)


def line(scene: Scene) -> str:
    """Draw the command line that does the same."""
    seen = recipelook.want(scene) if recipelook.file(scene) else None
    if seen is None or not seen.ready:
        return ""
    words = ["recipe", "run", recipelook.file(scene)]
    for name, place in recipelook.moved(scene).items():
        words += ["--model", place] if name == starting.THE_BASE else ["--data", f"{name}={place}"]
    return parts.terminal(terminal.line(words))
