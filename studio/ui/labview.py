"""Drawing of the lab: the experiments as cards, and what the one that is shown has come to."""

from __future__ import annotations

from typing import Any

from studio import jobs
from studio.errors import RunError
from studio.lab import experiments
from studio.ui import choice, controls, kit, labplots, parts, rail
from studio.ui.live import Scene, View
from studio.ui.parts import esc

FIELD = "st-lab-do"
_TONES = {"finished": "good", "failed": "bad", "running": "accent", "interrupted": "warn"}
_ANSWERS = 12


def of(scene: Scene, name: str = "") -> list[View]:
    """List the lab's runs, the newest first; of one experiment, or of all."""
    mine = [view for view in scene.views if view.config.kind == experiments.KIND]
    return [view for view in mine if not name or view.config.options.get("experiment") == name]


def shown(scene: Scene) -> View | None:
    """Give the run that is shown: the one that goes, else the one that was picked, else the newest."""
    mine = of(scene)
    going = next((view for view in mine if view.running), None)
    kept = (scene.chosen.get("lab") or {}).get("id")
    return going or next((view for view in mine if view.id == kept), None) or next(iter(mine), None)


def line(scene: Scene) -> tuple[str, str]:
    """Give the rail's mark and line."""
    view = shown(scene)
    if view is None:
        return "empty", "five experiments"
    found = experiments.load(str(view.config.options["experiment"])).title
    if view.running:
        done = view.percent()
        return "running", f"{found}{f', {parts.share(done)}' if done is not None else ''}"
    state = {"finished": "done", "failed": "failed"}.get(view.status, "stopped")
    return state, found


def cards(scene: Scene) -> str:
    """Draw the experiments: the question, how it stands, Start."""
    here = shown(scene)
    return f'<div class="st-lab">{"".join(_card(scene, name, here) for name in experiments.EXPERIMENTS)}</div>'


def _card(scene: Scene, name: str, here: View | None) -> str:
    found, mine = experiments.load(name), of(scene, name)
    newest = mine[0] if mine else None
    words = "Start" if newest is None or newest.running else "Start again"
    busy = scene.running is not None or bool(scene.queue)
    buttons = controls.button(
        "Add to the queue" if busy and not (newest and newest.running) else words,
        {"do": "start", "name": name},
        to=FIELD,
        aria=f"{words}: {found.title}",
        disabled=bool(newest and newest.status in ("running", "queued")),
    )
    if newest is not None and newest is not here:
        buttons = (
            controls.button("Show", {"do": "show", "id": newest.id}, to=FIELD, aria=f"Show: {found.title}") + buttons
        )
    if newest is not None and kit.resumable(newest):
        resume = {"do": "resume", "id": newest.id}
        buttons = controls.button("Resume", resume, to=FIELD, aria=f"Resume: {found.title}") + buttons
    said = ""
    if newest is not None:
        verdict = (newest.result().get("verdict") or {}).get("shown")
        word = newest.status if verdict is None else "shown" if verdict else "not shown here"
        said = parts.pill(word, "warn" if verdict is False else _TONES.get(newest.status, "plain"))
    inner = f"<p>{esc(found.question)}</p>{parts.actions(buttons)}"
    return parts.card(found.title, inner, said, "st-chosen" if here is not None and here is newest else "")


def result(scene: Scene) -> str:
    """Draw the experiment that is shown: what it does now, or what it came to."""
    view = shown(scene)
    if view is None:
        why = "Each takes some minutes on the starter model, fetches nothing, and ends with a plot and what follows."
        return parts.card("", parts.empty("No experiment was done yet", why))
    if view.running:
        return _going(view)
    if view.status != "finished":
        return kit.ended(view)
    found = view.result()
    return _came_to(view, found) + _figures(found) + _answers(found)


def _going(view: View) -> str:
    newest = view.newest() or {}
    done = view.percent() or 0.0
    said = ", ".join(rail.now(newest))
    bar = (
        f'<div class="st-bar" role="progressbar" aria-label="this part" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * done:.0f}"><i style="width:{100 * done:.0f}%"></i></div>'
    )
    text = "Closing this page does not stop it. What was finished is not done again after a stop."
    return parts.card(view.config.title, f"<p>{esc(said)}</p>{bar}{parts.note(text)}")


def _came_to(view: View, found: dict[str, Any]) -> str:
    verdict = found.get("verdict") or {}
    word, tone = ("shown, beyond the interval", "good") if verdict.get("shown") else ("not shown here", "warn")
    took = parts.duration(found.get("seconds"))
    said = f"seed {found.get('seed')}{f', {took}' if took else ''}"
    inner = (
        f'{labplots.drawn(found)}<p class="st-worded">{esc(found.get("paragraph") or "")}</p>'
        f'<p class="st-worded">{parts.pill(word, tone)} {esc(verdict.get("words") or "")}</p>'
    )
    return parts.card(str(found.get("title") or view.config.title), inner, esc(said), "st-chart")


def _figures(found: dict[str, Any]) -> str:
    rows = []
    for one in found.get("figures") or []:
        d = one.get("difference") or {}
        p = d.get("p_holm")
        tested = "" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"
        rows.append([esc(one["label"]), esc(one["words"]), esc(tested)])
    aside = esc(f"{found.get('tested', 0)} tests, corrected for their number")
    return parts.card("Figures", parts.table(("Figure", "Before and after", "p"), rows, numeric=(2,)), aside)


def _answers(found: dict[str, Any]) -> str:
    rows = found.get("answers") or []
    if not rows:
        return ""
    heads = list(rows[0])[:5]
    differ = [row for row in rows if len({str(row[head]) for head in heads[2:]}) > 1] or rows
    cells = [[esc(row.get(head), 240) for head in heads] for row in differ[:_ANSWERS]]
    table = parts.table([head.replace("-", " ") for head in heads], cells)
    more = parts.note(f"{len(rows):,} were asked; all of them: studio show {found.get('run')} --json")
    return parts.card(
        "Read some answers", f"<details><summary>{len(cells)} that differ</summary>{table}{more}</details>"
    )


def resume(scene: Scene, run_id: str) -> None:
    """Go on with an experiment that was stopped; what it had finished is not done again."""
    view = next((view for view in of(scene) if view.id == run_id and kit.resumable(view)), None)
    if view is None:
        raise RunError("There is nothing to go on with.", "Start the experiment.")
    jobs.submit(view.run)


def show(scene: Scene, run_id: str) -> None:
    """Show another run of the lab."""
    if any(view.id == run_id for view in of(scene)):
        choice.update(lab={"id": run_id})
