"""What the newest rehearsal of a page's method said: time, memory and disk of the whole run, or why it would fail."""

from __future__ import annotations

from studio.ui import choosing, kit, parts
from studio.ui.live import Scene, View
from studio.ui.parts import esc


def newest(scene: Scene, step: str) -> View | None:
    """Find the newest rehearsal of the chosen model with the chosen method."""
    method = choosing.method(scene, step).name
    mine = (view for view in scene.views if view.config.kind == "rehearse" and view.config.method == method)
    return next((view for view in mine if view.config.model == scene.model), None)


def said(scene: Scene, step: str) -> str:
    """Draw it; nothing where there is none or where it is of other data than the next run's."""
    view = newest(scene, step)
    used = choosing.data(scene, step, choosing.method(scene, step))
    if view is None or not used or view.config.data != str(used.get("file")):
        return ""
    if view.running:
        return parts.card("Rehearsal", parts.note("A few rows go through training and export; the strip shows it."))
    if view.status != "finished":
        return kit.ended(view)
    found = view.result()
    rows = found.get("rows") or {}
    return parts.card("Rehearsal", f"<p>{esc(found.get('said') or '', 400)}</p>", f"{rows.get('rehearsed', '?')} rows")
