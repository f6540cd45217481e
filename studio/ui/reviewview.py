"""Drawing of the review: an answer and its revision as one text, the principle beside it; accept, edit or reject.

Nothing waits for a review: what is not decided is used, or left out, as the filters said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.data.preferences import Record
from studio.errors import RunError
from studio.feedback import review
from studio.ui import controls, diffview, feedbackset, judged, live, parts, rankview
from studio.ui.live import Scene, View
from studio.ui.parts import esc
from studio.ui.rankview import DO

_SAID = {"accepted": ("accepted", "good"), "edited": ("edited", "accent"), "rejected": ("rejected", "bad")}


def of(view: View) -> list[Record]:
    """List the records of a set that were revised: an answer, and what a principle made of it."""
    if feedbackset.source_of(view) != "constitution":
        return []
    return [r for r in judged.records(view) if len(r.answers) == 2 and any(_steps(r))]


def _steps(record: Record) -> list[dict[str, Any]]:
    found = record.about.get("steps")
    return [step for step in found if isinstance(step, dict) and "critique" in step] if isinstance(found, list) else []


def draw(scene: Scene) -> str:
    """Draw the revision that is read now."""
    view = feedbackset.shown(scene)
    if view is None or view.status != "finished" or not (found := of(view)):
        return ""
    at = _at(scene, len(found))
    record, done = found[at], sum(bool(one.about.get("review")) for one in found)
    back = controls.button("‹", {"do": "review-go", "at": at - 1}, to=DO, aria="previous revision", disabled=at <= 0)
    last = at >= len(found) - 1
    on = controls.button("›", {"do": "review-go", "at": at + 1}, to=DO, aria="next revision", disabled=last)
    pager = f'<span class="st-pager">{back}<span>{at + 1:,} of {len(found):,}</span>{on}</span>'
    aside = f"<span>{done:,} decided</span> {pager}"
    body = (
        f'{rankview.prompt(record.prompt)}<div class="st-review"><div>{_state(record)}'
        f"{diffview.diff(record.answers[0].text, _best(record))}</div>"
        f'<div class="st-laws">{"".join(map(_law, _steps(record)))}</div></div>{_buttons(record)}'
    )
    return parts.card("Revisions, one by one", body, aside, "st-reviewing")


def _at(scene: Scene, count: int) -> int:
    at = feedbackset.kept(scene).get("at")
    return min(max(at, 0), count - 1) if isinstance(at, int) else 0


def _best(record: Record) -> str:
    return record.answers[record.ranks.index(min(record.ranks)) if record.ranks else -1].text


def _state(record: Record) -> str:
    said, tone = _SAID.get(str(record.about.get("review") or ""), ("", "plain"))
    pill = parts.pill(said, tone) if said else ""
    if record.dropped and said != "rejected":
        pill += parts.pill(f"left out: {record.dropped}", "warn")
    legend = '<span class="st-muted"><del>taken out</del> <ins>put in</ins></span>'
    return f'<p class="st-told st-review-state">{pill}{legend}</p>'


def _law(step: Mapping[str, Any]) -> str:
    """Draw a principle, what was found, and what became of it."""
    title = str(step.get("title") or step.get("principle") or "")
    tone = "accent" if step.get("criticised") else "plain"
    refused = parts.note(f"Its revision was not taken: {step['refused']}.") if step.get("refused") else ""
    said = esc(str(step.get("critique") or "").strip() or "(nothing)", 2000)
    text = f'<p class="st-note" dir="auto">{said}</p>'
    return f'<div class="st-law">{parts.pill(title, tone)}{text}{refused}</div>'


def _buttons(record: Record) -> str:
    """Draw the three decisions; an edited text goes with its own button."""
    about, text = {"id": record.id}, esc(_best(record), 100_000)
    keys = {key: f'data-st-key="{key}" data-st-hotkey="{key}" aria-keyshortcuts="{key}"' for key in "ar"}
    keep = controls.button("Accept", {"do": "review-accept", **about}, to=DO, extra=keys["a"])
    leave = controls.button("Reject", {"do": "review-reject", **about}, to=DO, extra=keys["r"])
    use = parts.actions(controls.button("Use this text", {"do": "review-edit", **about}, to=DO))
    edit = (
        f'<details data-st-group><summary>Edit</summary><textarea class="st-input st-review-edit" rows="5" dir="auto" '
        f'data-st-name="text" aria-label="The revision in your words">{text}</textarea>{use}</details>'
    )
    return f'{edit}<div class="st-actions">{leave}{keep}</div>'


# --- what can be done ------------------------------------------------------------------------------------------------


def _decide(scene: Scene, message: Mapping[str, Any], what: str) -> None:
    view = feedbackset.shown(scene)
    found = of(view) if view is not None else []
    if view is None or all(record.id != message.get("id") for record in found):
        raise RunError("There is no such revision.", "Look at the set again.")
    name = str(message["id"])
    if what == "edit":
        review.edit(view.run, name, str((message.get("values") or {}).get("text") or "")[:100_000])
    else:
        getattr(review, what)(view.run, name)
    place = next(i for i, record in enumerate(found) if record.id == name)
    waits = [i for i, record in enumerate(found) if not record.about.get("review") and i != place]
    onward = next((i for i in waits if i > place), next(iter(waits), min(place + 1, len(found) - 1)))
    feedbackset.keep(at=onward)
    live.touch()


def _go(scene: Scene, message: Mapping[str, Any]) -> None:
    at = message.get("at")
    feedbackset.keep(at=max(0, at) if isinstance(at, int) else 0)


ACTIONS = {
    "review-go": _go,
    "review-accept": lambda scene, message: _decide(scene, message, "accept"),
    "review-reject": lambda scene, message: _decide(scene, message, "reject"),
    "review-edit": lambda scene, message: _decide(scene, message, "edit"),
}
