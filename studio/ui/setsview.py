"""Drawing of the sets of judged answers: as a table, in the rail, and as data to open on the Data page."""

from __future__ import annotations

from pathlib import Path

from studio.data import preferences
from studio.ui import choosing, controls, feedbackset, judged, parts, rankview
from studio.ui.live import Scene, View
from studio.ui.parts import esc
from studio.ui.rankview import DO, SET

MOST = 30
#: So many sets are offered on the Data page.
_OFFERED = 4
_TONES = {"finished": "good", "failed": "bad", "running": "accent", "interrupted": "warn"}
#: Who opens something of the page is taken to its top.
GO = 'data-st-go="#st-page-feedback .st-title"'


def sets(scene: Scene) -> str:
    """Draw all sets, the newest first."""
    found = feedbackset.sets(scene)
    if not found:
        return ""
    shown = feedbackset.shown(scene)
    rows = "".join(_set(scene, view, view is shown) for view in found[:MOST])
    more = parts.note(f"{len(found) - MOST:,} older ones are listed by: studio runs") if len(found) > MOST else ""
    head = "".join(
        f"<th{c}>{h}</th>" for h, c in (("Set", ""), ("Made by", ' class="st-wide-cell"'), ("Gives", ""), ("", ""))
    )
    body = (
        f'<div class="st-scroll"><table class="st-table st-sets"><thead><tr>{head}</tr></thead>'
        f"<tbody data-st-rows>{rows}</tbody></table></div>{more}"
    )
    return parts.card("Sets", body)


def _set(scene: Scene, view: View, shown: bool) -> str:
    state = f'aria-pressed="{str(shown).lower()}"{"" if shown else " tabindex=-1"}'
    name = controls.button(
        view.config.title[:60], {"do": "show", "id": view.id}, to=DO, style="st-row-name", extra=f"{state} {GO}"
    )
    counts = judged.counts(view)
    source = feedbackset.title(feedbackset.source_of(view))
    gives = ", ".join(f"{counts[k]:,} {judged.WORDS[k][counts[k] != 1]}" for k in preferences.KINDS if counts[k])
    if not gives:
        waits = view.running or view.status == "queued"
        gives = "to be ranked" if rankview.can(view) else "nothing yet" if waits else "nothing"
    doubtful = view.status == "finished" and judged.doubt(view)
    pill = parts.pill("doubtful", "warn") if doubtful else parts.pill(view.status, _TONES.get(view.status, "plain"))
    return (
        f'<tr class="st-row{" st-chosen" if shown else ""}"><td>{name}<small>{esc(choosing.when(view.id))}'
        f'<span class="st-narrow-only"> · {esc(source)}</span></small></td><td class="st-wide-cell">{esc(source)}</td>'
        f"<td>{esc(gives)}</td><td>{pill}</td></tr>"
    )


def line(scene: Scene) -> tuple[str, str]:
    """Give the rail's state and line."""
    found = feedbackset.sets(scene)
    if not found:
        return "empty", "no sets yet"
    if (going := next((view for view in found if view.running), None)) is not None:
        done = going.percent()
        name = feedbackset.title(feedbackset.source_of(going))
        return "running", f"{name}{f', {parts.share(done)}' if done is not None else ''}"
    view = found[0]
    if view.status == "queued":
        return "ready", "a set waits for its turn"
    if view.status in ("failed", "interrupted", "stopped"):
        return ("failed" if view.status == "failed" else "stopped"), f"{view.config.title[:24]}: {view.status}"
    pairs = sum(judged.counts(v)["preference"] for v in found[:MOST])
    if not pairs and rankview.can(view):
        return "ready", "answers to rank"
    return "done", f"{len(found):,} set{'s' * (len(found) != 1)}, {pairs:,} pair{'s' * (pairs != 1)}"


# --- on the Data page ------------------------------------------------------------------------------------------------


def openable(scene: Scene) -> str:
    """Draw a button for each of the newest sets that give rows."""
    have = [view for view in feedbackset.sets(scene) if judged.first(view)][:_OFFERED]
    drawn = []
    for view in have:
        kind = judged.first(view)
        count = judged.counts(view)[kind]
        text = f"{view.config.title[:32]}: {count:,} {judged.WORDS[kind][count != 1]}"
        drawn.append(controls.button(text, {"do": "open", "id": view.id}, to=SET))
    return "".join(drawn)


def of_file(scene: Scene, file: str) -> str:
    """Draw how a file of rows was made, where it lies in a set; "" for another file."""
    folder = Path(file).parent
    view = next((view for view in feedbackset.sets(scene) if view.run.dir == folder), None)
    if view is None:
        return ""
    why = judged.doubt(view)
    judge = feedbackset.judge_of(scene, view)
    answers = feedbackset.all_of(scene, view.config.options.get(feedbackset.ANSWERS))
    said = [
        feedbackset.title(feedbackset.source_of(view)),
        f"answers of {answers}" if answers else "",
        f"judged by {judge}" if judge else "",
        choosing.when(view.id),
    ]
    pill = parts.pill("a set", "accent")
    look = controls.button("See the set", {"do": "show", "id": view.id}, to=DO, extra='data-st-page-go="feedback"')
    line = f'<span class="st-muted">{esc(" · ".join(filter(None, said)), 300)}</span>'
    card = f'<section class="st-card st-line st-file"><b>{esc(view.config.title, 60)}</b>{pill}{line}{look}</section>'
    warns = f'<ul class="st-list st-advised"><li>{parts.pill("look", "warn")}<span>{esc(why, 600)}</span></li></ul>'
    return card + (f'<section class="st-card st-loud">{warns}</section>' if why else "")
