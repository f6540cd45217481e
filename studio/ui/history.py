"""The runs of a page: a table with a spark of each, one to show, two to compare."""

from __future__ import annotations

from typing import Any

from studio.errors import RunError
from studio.ui import choice, choosing, controls, kit, parts, plots, rail, tuning
from studio.ui.curves import main_key, measure
from studio.ui.live import Scene, View
from studio.ui.methodview import field_of
from studio.ui.parts import esc, number

MOST = 30
_TONES = {"finished": "good", "failed": "bad", "running": "accent", "interrupted": "warn"}
_HEADS = ("", "Run", "", "Method", "Held out", "Moved", "Time", "")
_CLASSES = ("check", "run", "spark", "method", "held", "moved", "time", "state")


def table(scene: Scene, step: str) -> str:
    """Draw the runs, newest first; nothing before the first."""
    mine = scene.of_step(step)
    if not mine:
        return ""
    shown, picked = scene.line.get(step), [view.id for view in compared(scene, step)]
    head = "".join(f'<th class="st-h-{c}">{h}</th>' for c, h in zip(_CLASSES, _HEADS, strict=True))
    rows = "".join(_row(scene, view, step, view is shown, view.id in picked) for view in mine[:MOST])
    more = parts.note(f"{len(mine) - MOST:,} older ones are listed by: studio runs") if len(mine) > MOST else ""
    hint = "" if len(mine) < 2 else "tick two to compare them" if len(picked) < 2 else "two are compared below"
    body = (
        f'<div class="st-scroll"><table class="st-table st-history"><thead><tr>{head}</tr></thead>'
        f"<tbody data-st-rows>{rows}</tbody></table></div>{more}"
    )
    return parts.card("Runs", body, hint)


def _row(scene: Scene, view: View, step: str, shown: bool, picked: bool) -> str:
    to, title = field_of(step), view.config.title
    tick = controls.tick(picked, {"do": "compare", "id": view.id}, to=to, aria=f"Compare “{title}”, {view.id}")
    state = f'aria-pressed="{str(shown).lower()}"{"" if shown else " tabindex=-1"}'
    go = f'data-st-go="#st-page-{step} .st-title"'
    name = controls.button(title[:60], {"do": "show", "id": view.id}, to=to, style="st-row-name", extra=f"{state} {go}")
    key, line = main_key(view), esc(choosing.line(scene, view))
    held, result = view.held_out(key), view.result()
    spark = plots.spark(view.curve(key), f"{measure(key)} of {title}")
    figure = result.get("heldout") or {}
    label = measure(figure.get("name")) if figure.get("name") not in (None, "loss") else ""
    label = "right, length → judge" if result.get("reward") else label
    said = _pair(figure) or (number(held[-1][1]) if held else "")
    moved = result.get("moved")
    cells = (
        tick,
        f'{name}<small>{esc(choosing.when(view.id))}<span class="st-narrow-only"> · {line}</span></small>',
        spark,
        line,
        f"<small>{esc(label)}</small>{said}" if said else "",
        tuning.moved_by(moved) if isinstance(moved, int | float) else "",
        esc(parts.duration(result.get("seconds"))),
        parts.pill(view.status, _TONES.get(view.status, "plain")),
    )
    drawn = "".join(f'<td class="st-h-{c}">{cell}</td>' for c, cell in zip(_CLASSES, cells, strict=True))
    return f'<tr class="st-row{" st-chosen" if shown else ""}">{drawn}</tr>'


def _pair(figure: dict[str, Any]) -> str:
    before, after = figure.get("before"), figure.get("after")
    if isinstance(before, int | float) and isinstance(after, int | float):
        return tuning.change(before, after)
    return number(after) if isinstance(after, int | float) else ""


def compared(scene: Scene, step: str) -> list[View]:
    """Give the runs that are ticked, in the order of their making."""
    kept = (scene.chosen.get("compare") or {}).get(step)
    ids = kept if isinstance(kept, list) else []
    return sorted((view for view in scene.of_step(step) if view.id in ids), key=lambda view: view.id)


def show(scene: Scene, step: str, run_id: str) -> None:
    """Show another run of the page."""
    kit.remember_pick(step, run_id)


def compare(scene: Scene, step: str, run_id: str) -> None:
    """Tick a run, or take its tick away; of three the one ticked first is let go."""
    if all(view.id != run_id for view in scene.of_step(step)):
        raise RunError("There is no such run.", "Look at the list again.")
    kept = (scene.chosen.get("compare") or {}).get(step)
    ids = [str(name) for name in kept] if isinstance(kept, list) else []
    ids = [name for name in ids if name != run_id] if run_id in ids else [*ids, run_id][-2:]
    choice.update(compare={step: ids})


def clear(step: str) -> None:
    """Compare nothing."""
    choice.update(compare={step: []})


def short(view: View) -> str:
    """Name a run in few words."""
    return f"{rail.short(view.config.method)} · {view.config.title}"
