"""The runs that wait for their turn: drawn as a list, moved up, taken out."""

from __future__ import annotations

from studio import jobs, runs
from studio.errors import RunError
from studio.ui import choosing, controls, parts, rail
from studio.ui.live import Scene, View
from studio.ui.methodview import field_of
from studio.ui.parts import esc


def waiting(scene: Scene, step: str) -> str:
    """Draw the list; nothing when none waits."""
    if not scene.queue:
        return ""
    rows = "".join(_row(view, place, step) for place, view in enumerate(scene.queue))
    return parts.card("Waiting", f'<ol class="st-list st-queue">{rows}</ol>', "one run at a time")


def _row(view: View, place: int, step: str) -> str:
    title, to = view.config.title, field_of(step)
    up = controls.button("↑", {"do": "up", "id": view.id}, to=to, aria=f"Move “{title}” up", disabled=place == 0)
    out = controls.button("Remove", {"do": "remove", "id": view.id}, to=to, aria=f"Remove “{title}” from the queue")
    what = rail.short(view.config.method) if view.config.kind == "train" else view.config.kind
    said = f"<b>{esc(title, 60)}</b><small>{esc(what)} · {esc(choosing.when(view.id))}</small>"
    return f'<li><span>{said}</span><span class="st-repairs">{up}{out}</span></li>'


def up(scene: Scene, run_id: str) -> None:
    """Move a run up."""
    jobs.move_up(_waiting(scene, run_id).run)


def remove(scene: Scene, run_id: str) -> None:
    """Take a run out; one that never began leaves nothing behind, one that was to go on keeps what it has."""
    view = _waiting(scene, run_id)
    if jobs.leave(view.run) and not view.count:
        runs.delete(view.run)


def _waiting(scene: Scene, run_id: str) -> View:
    found = next((view for view in scene.queue if view.id == run_id), None)
    if found is None:
        raise RunError("That run waits no longer.", "Look at the list again.")
    return found
