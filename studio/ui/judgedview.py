"""Drawing of a set's records, one by one: ten a page, each with the verdict in a line and all of it when opened.

Who gave which answer stands here: it is hidden while somebody ranks, and never afterwards.
"""

from __future__ import annotations

from collections import Counter

from studio.data import preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.feedback import findings
from studio.ui import controls, feedbackset, judged, parts, rankview
from studio.ui.live import Scene
from studio.ui.parts import esc
from studio.ui.rankview import DO

PAGE = 10


def table(scene: Scene) -> str:
    """Draw the records of the shown set, ten a page, each to be opened and read."""
    view = feedbackset.shown(scene)
    found = judged.records(view) if view is not None and not rankview.opened(scene) else []
    if not found:
        return ""
    only, page = str(feedbackset.kept(scene).get("only") or ""), feedbackset.kept(scene).get("page")
    reasons = Counter(record.dropped for record in found if record.dropped)
    listed = [r for r in found if only in ("", r.dropped) or (only == "used" and not r.dropped)]
    pages = max(1, -(-len(listed) // PAGE))
    at = min(max(int(page), 0), pages - 1) if isinstance(page, int) else 0
    options = [("", "all records"), ("used", "only used"), *((why, f"{why} ({n:,})") for why, n in reasons.items())]
    choose = controls.choices(options, only, {"do": "only"}, aria="Which records are shown", to=DO) if reasons else ""
    drawn = "".join(_record(scene, record) for record in listed[at * PAGE : (at + 1) * PAGE])
    back = controls.button("‹", {"do": "page", "page": at - 1}, to=DO, aria="previous page", disabled=at <= 0)
    on = controls.button("›", {"do": "page", "page": at + 1}, to=DO, aria="next page", disabled=at >= pages - 1)
    pager = f'<span class="st-pager">{back}<span>page {at + 1:,} of {pages:,}</span>{on}</span>' if pages > 1 else ""
    count = f"{len(listed):,} record{'s' * (len(listed) != 1)}"
    foot = f'<div class="st-foot"><span class="st-muted">{count}</span>{pager}</div>'
    return parts.card("Records", f'<ul class="st-records">{drawn}</ul>{foot}', choose)


def _record(scene: Scene, record: Record) -> str:
    """Draw a record: the question and the verdict in a line, all of it when it is opened.

    What a red team asked and got is folded away once more, behind a label: it may offend.
    """
    asked = str(record.prompt[-1].get("content") or "")
    answers = "".join(_answer(scene, record, place) for place in _best_first(record))
    by = " · ".join(word for word in (str(record.by.get("name") or ""), record.time[:16].replace("T", " ")) if word)
    texts = f'{rankview.prompt(record.prompt)}<div class="st-record-answers">{answers}</div>'
    if record.by.get("name") == findings.SUITE:
        asked = f"A request that may offend, {str(record.about.get('attack') or '').replace('_', ' ')}".rstrip(", ")
        texts = f"<details><summary>Show the text; it may offend</summary>{texts}</details>"
    return (
        f'<li><details><summary><span dir="auto">{esc(asked, 140)}</span>{_verdict(record)}</summary>'
        f'{texts}<p class="st-note">{esc(by, 120)}</p></details></li>'
    )


def _best_first(record: Record) -> list[int]:
    places = list(range(len(record.answers)))
    return sorted(places, key=lambda place: record.ranks[place]) if record.ranks else places


def _verdict(record: Record) -> str:
    if record.dropped:
        return parts.pill(record.dropped, "plain")
    if record.bad:
        return parts.pill("all bad", "bad")
    count = len(preferences.pairs(record))
    if count:
        return parts.pill(f"{count} pair{'s' * (count != 1)}", "accent")
    if len(record.answers) == 1:
        return _label(record, 0) or parts.pill("1 answer", "plain")
    return parts.pill("no pair", "plain")


def _label(record: Record, place: int) -> str:
    """Draw whether an answer is wanted, "" where that is not said."""
    label = record.labels[place] if record.labels else None
    return "" if label is None else parts.pill("✓ wanted", "good") if label else parts.pill("✗ unwanted", "bad")


def _answer(scene: Scene, record: Record, place: int) -> str:
    """Draw one answer: its rank or score, who gave it, its text."""
    answer, marks = record.answers[place], ""
    if record.ranks:
        best = record.ranks[place] == min(record.ranks)
        marks += parts.pill(f"rank {record.ranks[place]}", "good" if best else "plain")
    marks += _label(record, place)
    if record.scores:
        marks += f'<span class="st-muted">score {parts.number(record.scores[place])}</span>'
    text = esc(answer.text) if answer.text.strip() else '<span class="st-muted">(nothing)</span>'
    who = f'<span class="st-muted">{esc(_who(scene, answer), 120)}</span>'
    return f'<div><p class="st-told">{marks}{who}</p><div class="st-answer" dir="auto">{text}</div></div>'


def _who(scene: Scene, answer: Answer) -> str:
    known = answer.identity
    if known.get("written"):
        return f"written by {known.get('name')}"
    heat = known.get("temperature")
    warm = f"temperature {heat:g}" if isinstance(heat, int | float) else ""
    return ", ".join(word for word in (feedbackset.who_of(scene, str(known.get("name") or "")), warm) if word)
