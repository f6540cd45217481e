"""Thumbs on the answers of the chat page, given openly, and what is asked for again; kept as judged answers
(data/thumbs.py), told as a comparison of the two panes that may be looked at any time."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from studio.data import preferences, thumbs, trial, votes
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import InputError, StudioError
from studio.ui import chatopen, chatvote, controls, live, talk
from studio.ui.chatopen import PANES, Facts, Who
from studio.ui.chatpick import SIDES
from studio.ui.parts import esc
from studio.ui.talk import Turn

log = logging.getLogger("studio.window")
#: What of an identity is known from the first moment on, and tells models apart.
_WHO = ("name", "file", "adapter", "strength")
_LABELS = (("up", "Good answer"), ("down", "Bad answer"))


def ids(said: Sequence[Turn], index: int) -> list[str]:
    """Name each answer of a pane, "" for one that cannot be judged: there is none, or it has not ended.

    The same answer of the same model to the same conversation has the same name. A name is made of the turn's own
    words and the name of all before it, so that a long conversation is gone through once.
    """
    names, before = [], ""
    for turn in said:
        if (facts := _judged(turn, index)) is not None:
            asked = ["" if facts.get("raw") else before, turn.get("system"), turn["user"]]
            names.append(preferences.key(*asked, turn["answers"][index], [facts.get(name) for name in _WHO]))
        else:
            names.append("")
        if text := talk.went_on(turn, index):
            before = preferences.key(before, turn["user"], text)
    return names


def _judged(turn: Turn, index: int) -> Facts | None:
    """Give who gave a pane's answer, where it has one that ended without an error."""
    answers, stats, who = (turn.get(name) or [None, None] for name in ("answers", "stats", "who"))
    told = stats[index]
    there = str(answers[index] or "").strip() and told and not told.get("error")
    return who[index] if there else None


def _record(said: Sequence[Turn], number: int, index: int, name: str) -> Record:
    """Give an answer with its conversation, as it is judged."""
    turn = said[number]
    facts = turn["who"][index]
    prompt = talk.history(said[: number + 1], index, raw=bool(facts.get("raw")))
    try:
        who = chatopen.known(facts)
    except OSError:  # an old answer, whose file went before its hash was read
        who = {key: value for key, value in facts.items() if key != "paths"}
    return Record(prompt, [Answer(turn["answers"][index], who)], seed=int(turn.get("seed") or 0), id=name)


def rate(number: Any, index: int, rating: str, name: str) -> None:
    """Put a thumb up or down on an answer, or take it back. Raises InputError for one that is not there any more."""
    said = talk.turns()
    there = isinstance(number, int) and 0 <= number < len(said) and not said[number].get("blind")
    if not there or not name or ids(said, index)[number] != name:
        raise InputError("That answer is not there any more.", "Look at the conversation again.")
    thumbs.rate(_record(said, number, index, name), rating)
    live.touch()


def again(said: Sequence[Turn], who: Who) -> None:
    """Note the last answers as asked for again: those that the same model is to give again to the same words.

    Who changed the model or the system prompt wants to see what that does. An answer is never kept from being given:
    where this cannot be written, the log says so.
    """
    turn = said[-1]
    for index in PANES:
        facts = _judged(turn, index)
        if facts is None or str(turn.get("system") or "") != who.system or not _same(facts, who, index):
            continue
        try:
            thumbs.again(_record(said, len(said) - 1, index, ids(said, index)[-1]))
        except (StudioError, OSError) as error:
            log.warning("an answer that was asked for again could not be noted: %s", error)


def _same(facts: Facts, who: Who, index: int) -> bool:
    source = who.sources[index]
    strength = not facts.get("adapter") or facts.get("strength") == who.strengths[index]
    return source is not None and source.name == facts.get("name") and strength


def drawn(turn: Turn, side: int, number: int, name: str) -> str:
    """Draw the two thumbs of an answer; none of one that cannot be judged, or that was asked for blind."""
    if not name or turn.get("blind"):
        return ""
    kept = thumbs.found().get(name)
    now = {label: rating for rating, label in trial.RATINGS.items()}[kept.labels[0] if kept else None]
    buttons = ""
    for rating, title in _LABELS:
        pressed = now == rating
        asks = {"do": "thumb", "turn": number, "pane": side, "rating": "none" if pressed else rating, "answer": name}
        extra = f'aria-pressed="{str(pressed).lower()}" title="{title}"'
        aria = f"{title}: {SIDES[side]} pane, question {number + 1}"
        buttons += controls.button(
            "", asks, to=chatvote.DO, aria=aria, style=f"st-button st-thumb st-{rating}", extra=extra
        )
    return buttons


def compared() -> str:
    """Say how many thumbs of these two went up, and whether one is liked better; nothing before the first thumb."""
    opened = chatopen.opened()
    if opened is None:
        return ""
    arms = {votes.key(facts): facts["name"].split(" · ")[0] for facts in map(opened.facts, sorted(opened.told))}
    if len(set(arms.values())) < len(arms):  # a run at two strengths
        arms = {key: f"{name}, {side}" for (key, name), side in zip(arms.items(), SIDES, strict=True)}
    mine = [record for record in thumbs.found().values() if record.about.get("arm") in arms]
    mine = [dataclasses.replace(one, about={**one.about, "arm": arms[one.about["arm"]]}) for one in mine]
    return _said(mine, list(arms.values())) if mine else ""


def _said(found: Sequence[Record], names: Sequence[str]) -> str:
    """Write how one model's answers, or two models', were liked."""
    told = trial.compare(found, [names[0], names[-1]])
    arms = told["arms"][: len(names)]
    up = ", ".join(f"{esc(arm['name'], 60)} <b>{arm['up']:,} of {arm['rated']:,}</b>" for arm in arms)
    more = [told["verdict"]] if told["difference"] and len(names) == 2 else []
    if count := sum(arm["regenerated"] for arm in arms):
        more.append(f"Asked again: {count:,}.")
    aside = f' <span class="st-muted">{esc(" ".join(more), 300)}</span>' if more else ""
    return f'<span class="st-rate" role="status">Thumbs up: {up}{aside}</span>'
