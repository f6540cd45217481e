"""The long work behind the data page: what is asked of the child, one after the other, and how far it is."""

from __future__ import annotations

from studio.ui import controls, datalint, examine, parts
from studio.ui.dataview import Document, name_of
from studio.ui.live import Scene
from studio.ui.looking import Looking
from studio.ui.parts import esc


def work(scene: Scene) -> str:
    """Draw how far the reading is, or why it failed; and see to it that what is missing is asked for."""
    look = Looking.at(scene.chosen)
    if not look.file:
        return ""
    name = name_of(look.file)
    seen = examine.want(look.detect())  # first, since it also fetches a data set of the hub
    if seen is None:
        return _progress(f"Looking at {name}", examine.going("detect"))
    found = seen if "error" in seen else examine.want(look.check())
    if found is None:
        return _progress(f"Reading {name}", examine.going("check"))
    if "error" in found:
        return _failed(found["error"], f"{name} could not be read", bool(look.reading or look.draft))
    kind = str(found.get("kind"))
    if not found.get("usable"):
        return ""
    # One after the other: the row first, since it is looked at first.
    asked = (
        look.row(scene, kind),
        look.rows(datalint.lines_of(look.code, scene, look, found)),
        look.measure(scene, kind),
        look.split(scene, kind),
    )
    for request in asked:
        if examine.want(request) is None:
            return _progress(_DOING[str(request["op"])], examine.going(str(request["op"])))
    return ""


_DOING = {
    "row": "Rendering the row",
    "rows": "Listing the rows",
    "measure": "Counting tokens and looking for problems",
    "split": "Holding rows out",
}


def _progress(what: str, going: examine.Work | None) -> str:
    """Draw a bar with what is done, how fast, how long still, and Stop."""
    event = going.progress if going is not None else {}
    done, total = float(event.get("done") or 0), float(event.get("total") or 0)
    said = []
    if going is not None and total:
        in_bytes = event.get("unit") == "bytes"
        write = parts.size if in_bytes else lambda count: f"{count:,.0f}"
        unit = "" if in_bytes else f" {event.get('unit') or ''}"
        said.append(f"{write(done)} of {write(total)}{unit}")
        if rate := going.rate():
            said.append(f"{parts.size(rate)}/s" if in_bytes else f"{rate:,.0f}{unit}/s")
        if left := parts.duration(going.seconds_left()):
            said.append(f"{left} left")
    percent = f"{100 * done / total:.0f}" if total else ""
    bar = (
        f'<div class="st-bar" role="progressbar" aria-label="{esc(what)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent or 0}%"></i></div>'
    )
    stop = controls.button("Stop", {"do": "stop"}, aria="Stop reading")
    return (
        f'<section class="st-card st-line st-work"><span role="status">{esc(what)}…</span>{bar}'
        f'<span class="st-muted">{esc(" · ".join(said))}</span>{stop}</section>'
    )


def _failed(error: Document, head: str, changed: bool) -> str:
    if error.get("kind") == "Stopped":
        again = controls.button("Read it", {"do": "again"}, filled=True)
        return parts.card("", parts.empty("Reading was stopped", "Nothing was changed.", again))
    found = controls.button("Read it as found", {"do": "as_found"}) if changed else ""
    again = parts.actions(found, controls.button("Try again", {"do": "again"}))
    return parts.problem_from(dict(error), head=head).replace("</section>", f"{again}</section>")
