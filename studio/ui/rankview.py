"""Drawing of the ranking: a prompt, its answers side by side and blind, and what came out at the end.

Ranks are given in the page's script (assets/css/ranking.js), which sends them with Save; the order of the answers is
the run's to draw, so that a reload and a second tab show the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.data import preferences
from studio.data.preferences import Record
from studio.errors import ConfigError, RunError
from studio.feedback import rank, ranked
from studio.runs import Run
from studio.ui import controls, feedbackset, judged, live, parts
from studio.ui.live import Scene, View
from studio.ui.parts import esc

#: The hidden fields of the page: SET is for what changes inputs, of this page or others.
DO, SET = "st-feedback-do", "st-feedback-set"
PLACES = ("1st", "2nd", "3rd", "4th")
LETTERS = "ABCD"
_TOUCH = (
    "Tap the ranks: 1st is the best, and two answers may have the same. What has no rank shares the last one. Edit "
    "makes a better answer of one; it is kept as the best."
)
_HINT = (
    "Press the keys in the order of your liking, the best first, as 2 1 3. A key again takes its rank away, 0 or "
    "Backspace takes all away, = makes the next one equal to the last. Or click the ranks, or drag a card by its dots. "
    "What has no rank shares the last one."
)
_ONCE = (
    "Each prompt is ranked by one person, but for the share that everybody ranks: Overlap, under Advanced of a new set."
)


def name(scene: Scene) -> str:
    """Give who ranks in this window."""
    return rank.person(str(feedbackset.kept(scene).get("name") or ""))


def opened(scene: Scene) -> View | None:
    """Give the set that is being ranked in this window; None when none is."""
    view = feedbackset.shown(scene)
    wanted = feedbackset.kept(scene).get("ranking")
    return view if view is not None and view.id == wanted and can(view) else None


def can(view: View) -> bool:
    """Tell whether people can rank a set: its answers are sampled."""
    return feedbackset.source_of(view) == "rank" and view.status == "finished"


def far(view: View, scene: Scene) -> rank.Progress:
    """Tell how far the person at this window is with a set."""
    return _far(view.run.dir, name(scene), judged.stamp(view.run.dir))


@functools.lru_cache(maxsize=8)
def _far(folder: Path, by: str, version: object) -> rank.Progress:
    return rank.progress(Run(folder), by)


def draw(scene: Scene) -> str:
    """Draw what is to be ranked next, or what came out."""
    view = opened(scene)
    return _drawn(view.run.dir, view.config.title, name(scene), judged.stamp(view.run.dir)) if view is not None else ""


@functools.lru_cache(maxsize=8)
def _drawn(folder: Path, title: str, by: str, version: object) -> str:
    run = Run(folder)
    try:
        shown, done = rank.next_prompt(run, by), rank.progress(run, by)
    except ConfigError as error:
        return parts.problem_from(error.to_dict())
    return _asks(title, by, shown, done) if shown is not None else _over(title, by, done, preferences.records(folder))


def _asks(title: str, by: str, shown: rank.Shown, far: rank.Progress) -> str:
    """Draw a prompt with its answers."""
    count = len(shown.texts)
    drawn = "".join(_card(place, text, count) for place, text in enumerate(shown.texts))
    sample = {"sample": shown.id}
    save = controls.button(
        "Save",
        {"do": "rank-save", **sample},
        to=DO,
        filled=True,
        disabled=True,
        extra='data-st-rank-save data-st-key="↵"',
    )
    skip = controls.button("Skip", {"do": "rank-skip", **sample}, to=DO, aria="Skip: it cannot be judged")
    back = controls.button("Undo the last", {"do": "rank-undo"}, to=DO, disabled=not far.done)
    bad = _button("All bad", "data-st-rank-bad", "b", ' aria-pressed="false"')
    clear = _button("Clear", "data-st-rank-clear", "0")
    return (
        f'<section class="st-card st-ranking" data-st-group data-st-ranking="{esc(shown.id)}" tabindex="-1" '
        f'aria-label="Rank the answers">{_head(title, by, far)}{prompt(shown.prompt)}'
        f'<div class="st-rank-cards st-of-{count}">{drawn}</div>'
        f'<input type="hidden" data-st-name="ranks" value=""><input type="hidden" data-st-name="bad" value="">'
        f'<input type="hidden" data-st-name="edited" value="">'
        f'<div class="st-rank-foot"><span>{back}{skip}</span><span>{clear}{bad}{save}</span></div>'
        f'<p class="st-note" data-st-rank-said role="status"></p><p class="st-note st-by-keys">{esc(_HINT)}</p>'
        f'<p class="st-note st-by-touch">{esc(_TOUCH)}</p></section>'
    )


def _button(label: str, what: str, key: str, more: str = "") -> str:
    """Draw a button that only the page's script knows, with its key."""
    keys = f'data-st-key="{key}" aria-keyshortcuts="{key}"'
    return f'<button type="button" class="st-button" {what} {keys}{more}>{label}</button>'


def _head(title: str, by: str, far: rank.Progress) -> str:
    share = far.done / far.total if far.total else 1.0
    who = controls.field(by, {"do": "rank-name"}, to=DO, aria="Your name", width=150)
    close = controls.button("Close", {"do": "rank-close"}, to=DO, aria="Close the ranking")
    return (
        f'<div class="st-rank-head"><h2>{esc(title, 60)}</h2><span class="st-muted">{esc(said(far))}</span>'
        f'<label class="st-jump">You are {who}</label>{close}</div>'
        f'<div class="st-bar st-rank-bar" role="progressbar" aria-label="ranked" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * share:.0f}"><i style="width:{100 * share:.0f}%"></i></div>'
    )


def said(far: rank.Progress) -> str:
    """Say how far a person is: 12 of 50, about 9 minutes left."""
    left = far.seconds_left
    if left is None or far.done >= far.total:
        return f"{far.done:,} of {far.total:,}"
    minutes = round(left / 60)
    about = "less than a minute" if minutes < 1 else f"about {minutes:,} minute{'s' * (minutes != 1)}"
    return f"{far.done:,} of {far.total:,}, {about} left"


def prompt(turns: Sequence[Mapping[str, Any]]) -> str:
    """Draw the turns up to the question."""
    names = {"user": "", "assistant": "answer before", "system": "system", "tool": "tool"}
    drawn = []
    for turn in turns:
        role = str(turn.get("role"))
        small = f"<small>{esc(names.get(role, role))}</small>" if names.get(role, role) else ""
        side = "st-user" if role == "user" else "st-answer"
        drawn.append(f'<div class="{side}" dir="auto">{small}{esc(turn.get("content") or "")}</div>')
    return f'<div class="st-said st-rank-prompt">{"".join(drawn)}</div>'


def _card(place: int, text: str, count: int) -> str:
    """Draw one answer with its ranks to click; which of them it has is the script's to say."""
    letter, key = LETTERS[place], place + 1
    ranks = "".join(
        f'<button type="button" data-st-rank-set="{number}" aria-pressed="false" '
        f'aria-label="Answer {letter} is {PLACES[number - 1]}">{PLACES[number - 1]}</button>'
        for number in range(1, count + 1)
    )
    shown = esc(text) if text.strip() else '<span class="st-muted">(nothing)</span>'
    return (
        f'<article class="st-rank-card" data-st-place="{place}" aria-label="Answer {letter}">'
        f'<div class="st-rank-top"><span class="st-grip" draggable="true" title="Drag into order, the best first" '
        f'aria-hidden="true"></span><b>Answer {letter}</b><kbd>{key}</kbd>'
        f'<span class="st-rank-now" data-st-rank-now></span></div>'
        f'<div class="st-rank-text" dir="auto">{shown}</div>'
        f'<textarea class="st-input st-rank-edit" rows="4" dir="auto" hidden '
        f'aria-label="A better answer, begun with {letter}">{esc(text)}</textarea>'
        f'<div class="st-rank-set"><span role="group" aria-label="Rank of answer {letter}">{ranks}</span>'
        f'<button type="button" class="st-button" data-st-rank-edit aria-expanded="false" '
        f'aria-label="Edit answer {letter} into a better one">Edit</button></div></article>'
    )


def _over(title: str, by: str, far: rank.Progress, found: Sequence[Record]) -> str:
    """Draw what came out, once nothing is left for this person."""
    back = controls.button("Undo the last", {"do": "rank-undo"}, to=DO, disabled=not far.done)
    close = controls.button("Go to the set", {"do": "rank-close"}, to=DO, filled=True)
    other = controls.field("", {"do": "rank-name"}, to=DO, aria="Another person's name", hint="another name", width=150)
    why = "" if far.done else parts.note(_ONCE)
    body = why + wins(found) + sentences(found)
    foot = (
        f'<div class="st-rank-foot"><label class="st-jump">Hand over to {other}</label><span>{back}{close}</span></div>'
    )
    head = f"All {far.total:,} ranked, {by}" if far.done else f"Nothing is left for {by}"
    return parts.card(head, body + foot, esc(title, 60), "st-ranking-over")


def wins(found: Sequence[Record]) -> str:
    """Draw who or what was ranked higher, as bars with their intervals."""
    rows = ranked.wins(found)
    if not rows:
        return ""
    drawn = [
        (
            esc(won.name, 60),
            _bar(won),
            f"{100 * won.share.rate:.0f} %",
            f'<span class="st-muted">{_span(won)}</span>',
            f"{won.share.n:,}",
        )
        for won in rows
    ]
    return f'<div class="st-wins">{parts.table(("", "Others beaten", "", "95 %", "n"), drawn, (2, 4))}</div>'


def _bar(won: ranked.Won) -> str:
    low, high, rate = (100 * part for part in (won.share.low, won.share.high, won.share.rate))
    span = f'<i style="left:{low:.1f}%;width:{high - low:.1f}%"></i><b style="left:{rate:.1f}%"></b>'
    return f'<div class="st-win" role="img" aria-label="95 %: {_span(won)}">{span}</div>'


def _span(won: ranked.Won) -> str:
    return f"{100 * won.share.low:.0f} to {100 * won.share.high:.0f} %"


def sentences(found: Sequence[Record]) -> str:
    """Draw how many were ranked by whom, and how far two people agree."""
    return "".join(f"<p>{esc(text)}</p>" for text in ranked.report(found, shares=False))


# --- what can be done ------------------------------------------------------------------------------------------------


def begin(scene: Scene, message: Mapping[str, Any]) -> None:
    """Open the ranking of a set."""
    view = feedbackset.pick(scene, str(message.get("id")))
    if not can(view):
        raise RunError("Its answers are not sampled yet.", "Wait until it has finished.")
    feedbackset.keep(ranking=view.id)


def _run(scene: Scene) -> Run:
    view = opened(scene)
    if view is None:
        raise RunError("No set is being ranked.", "Open one from the list.")
    return view.run


def save(scene: Scene, message: Mapping[str, Any]) -> None:
    """Keep a ranking as the script sends it."""
    values = message.get("values") or {}
    given = [word for word in str(values.get("ranks") or "").split(",") if word]
    edited = str(values.get("edited") or "")[:100_000]
    if not all(word.isascii() and word.isdigit() and len(word) < 4 for word in given):
        raise ConfigError("That is no ranking.", "Give each answer a rank from 1.")
    ranks = [int(word) for word in given]
    rank.save(
        _run(scene), str(message.get("sample")), ranks, name(scene), edited=edited, bad=values.get("bad") == "yes"
    )
    live.touch()


def skip(scene: Scene, message: Mapping[str, Any]) -> None:
    """Leave a prompt out that cannot be judged."""
    rank.save(_run(scene), str(message.get("sample")), [], name(scene), skip=True)
    live.touch()


def undo(scene: Scene, message: Mapping[str, Any]) -> None:
    """Bring the last prompt back."""
    rank.undo(_run(scene), name(scene))
    live.touch()


ACTIONS = {
    "rank": begin,
    "rank-save": save,
    "rank-skip": skip,
    "rank-undo": undo,
    "rank-name": lambda scene, message: feedbackset.keep(name=rank.person(str(message.get("value") or ""))),
    "rank-close": lambda scene, message: feedbackset.keep(ranking=""),
}
