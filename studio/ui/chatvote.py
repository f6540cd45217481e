"""Blind votes: which answer is better, without knowing who gave it; kept in the preference store, told as a win rate.

A blind turn holds {"order": the pane at side A and at side B, "choice", "on"}: the sides are drawn by lot for each
question and shown when it was judged. Both panes go on from one answer, `on`: an edited one, else the winner, else side
A's; so every vote has one prompt, and can be learned from.
"""

from __future__ import annotations

import random
import threading
from typing import Any

from studio.data import votes
from studio.errors import InputError
from studio.ui import chatopen, chatpick, chattalks, choice, controls, live, parts, talk
from studio.ui.chatopen import PANES
from studio.ui.live import Scene
from studio.ui.parts import esc
from studio.ui.talk import Turn

DO = "st-chat-do"
SIDES = ("A", "B")
CHOICES = (("a", "A is better"), ("b", "B is better"), ("tie", "Tie"), ("bad", "Both bad"))
_voting = threading.Lock()
_known: tuple[Any, list[votes.Vote]] = (None, [])


def on(scene: Scene) -> bool:
    """Tell whether questions are asked blind."""
    return bool((scene.chosen.get("chat") or {}).get("blind"))


def switch(wanted: bool) -> None:
    """Ask blind from now on, or openly; blind answers begin a conversation of their own. Raises InputError."""
    if wanted:
        both = chatpick.chosen(live.look())
        if not all(both):
            raise InputError("A blind vote needs two sides.", "Choose one for each pane.")
        if both[0] == both[1] and len(set(_strengths())) == 1:
            raise InputError("Both panes are the same.", "Choose another one for one of them.")
        talk.settle()
        if any("blind" not in turn for turn in talk.turns()):
            chattalks.begin()
    choice.update(chat={"blind": wanted})


def _strengths() -> list[float]:
    from studio.ui import chatset

    return chatset.strengths(live.look())


def draw_lots() -> dict[str, Any]:
    """Give what makes a turn blind, the sides drawn by lot."""
    return {"order": random.SystemRandom().sample(PANES, 2), "choice": "", "on": ""}


def waits(said: list[Turn]) -> bool:
    """Tell whether the last answers can be judged: blind ones, both there, not judged yet."""
    if not said or talk.busy() or not (blind := said[-1].get("blind")) or blind.get("choice"):
        return False
    turn = said[-1]
    return all(turn["answers"][i] is not None and not (turn["stats"][i] or {}).get("error") for i in PANES)


def hidden(turn: Turn) -> bool:
    """Tell whether it is still to be hidden who gave the answers."""
    return bool(turn.get("blind")) and not turn["blind"].get("choice")


def vote(chosen: str, edited: str = "") -> None:
    """Keep a vote on the last answers, and show who gave them. Raises InputError where there is nothing to judge."""
    with _voting:
        said = talk.turns()
        if not waits(said):
            raise InputError("There is nothing to vote on.", "Ask a question first; each one is judged once.")
        turn, blind = said[-1], said[-1]["blind"]
        order = blind["order"]
        a, b = (votes.Answer(turn["answers"][i], chatopen.known(turn["who"][i])) for i in order)
        votes.add(votes.Vote(talk.history(said, 0), a, b, chosen, edited if edited.strip() else ""))
        better = b.text if chosen == "b" else a.text
        turn["blind"] = {**blind, "choice": chosen, "on": edited if edited.strip() else better}
        talk.keep(said)


def card(scene: Scene) -> str:
    """Draw what is asked after two blind answers."""
    said = talk.turns()
    if not waits(said):
        return ""
    answers = [said[-1]["answers"][index] for index in said[-1]["blind"]["order"]]
    buttons = "".join(
        controls.button(
            title, {"do": "vote", "choice": key}, to=DO, extra=f'data-st-vote="{n}" aria-keyshortcuts="{n}"'
        )
        for n, (key, title) in enumerate(CHOICES, start=1)
    )
    fills = "".join(
        f'<button type="button" class="st-button" data-st-fill="#st-vote-edit" data-st-text="{esc(text)}">'
        f"Begin with {side}</button>"
        for side, text in zip(SIDES, answers, strict=True)
    )
    edit = (
        f'<details><summary>Write a better answer</summary><div id="st-vote-edit"><textarea class="st-input" rows="3" '
        f'data-st-name="edited" aria-label="A better answer" placeholder="It is kept with your vote as the best of '
        f'the three, and the conversation goes on from it."></textarea></div><div class="st-answers">{fills}</div>'
        "</details>"
    )
    return (
        f'<section class="st-card st-vote" data-st-group tabindex="-1" aria-label="Your vote"><div class="st-vote-row">'
        f"<h2>Which answer is better?</h2>{buttons}</div>{edit}</section>"
    )


def bar(scene: Scene) -> str:
    """Draw the switch, and how often the right pane has won against the left one."""
    blind = on(scene)
    pressed = f'aria-pressed="{str(blind).lower()}"'
    label = f"Blind votes: {'on' if blind else 'off'}"
    return controls.button(label, {"do": "blind", "on": not blind}, to=DO, aria="Blind votes", extra=pressed) + rate()


def rate() -> str:
    """Say how often the right pane won against the left one, with the 95 % interval; nothing before the first vote."""
    opened = chatopen.opened()
    if opened is None or len(opened.told) < 2:
        return ""
    left, right = (votes.key(opened.facts(index)) for index in PANES)
    between = [vote for vote in _all() if {votes.key(vote.a.identity), votes.key(vote.b.identity)} == {left, right}]
    found = votes.tally(between, right)
    if not found.n:
        only = f"{len(between):,} votes, all “both bad”" if len(between) > 1 else "1 vote: both bad"
        return f'<span class="st-muted">{only}</span>' if between else ""
    count = f"{found.n:,} vote{'s' if found.n != 1 else ''}"
    names = [esc(opened.facts(index)["name"].split(" · ")[0], 60) for index in PANES]
    against = f"against {names[0]} (95 %: {100 * found.low:.0f} to {100 * found.high:.0f} %)"
    won = f"{names[1]} won <b>{parts.share(found.rate)}</b> of {count}"
    return f'<span class="st-rate" role="status">{won} <span class="st-muted">{against}</span></span>'


def _all() -> list[votes.Vote]:
    """Read the store, again only when it has changed."""
    global _known
    try:
        stat = votes.file().stat()
        stamp: Any = (str(votes.file()), stat.st_mtime_ns, stat.st_size)
    except OSError:
        return []
    if _known[0] != stamp:
        _known = (stamp, votes.all())
    return _known[1]
