"""What the drawn controls of the chat page do: each sends a message {"do": ...}, and gets an error to draw, or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from studio.errors import InputError
from studio.models.family import FAMILIES
from studio.ui import chatkept, chatpick, chatset, chattalks, chatthumbs, chattokens, chatvote, live, talk
from studio.ui.chatopen import PANES, Who
from studio.ui.chatpick import SIDES

Message = dict[str, Any]


def read(text: str) -> Message:
    """Read a message; what is none is empty."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def pane_of(message: Message) -> int:
    """Give the pane that a message is about. Raises InputError."""
    if message.get("pane") not in PANES:
        raise InputError("There is no such pane.", "Load the page again.")
    return int(message["pane"])


def act(message: Message, who: Who, typed: str) -> None:
    """Do it. Raises StudioError."""
    action = _ACTIONS.get(str(message.get("do")))
    if action is not None:
        action(message, who, typed)


def _warm(*_: Any) -> None:
    talk.warm(Who.now(live.look()))


def _pick(message: Message, who: Who, typed: str) -> None:
    if message.get("value") == chatpick.OTHER:
        chatpick.wait_for(pane_of(message))
        return
    chatpick.wait_for(pane_of(message), False)
    chatpick.pick(SIDES[pane_of(message)], str(message.get("value")))
    _warm()


def _step(message: Message, who: Who, typed: str) -> None:
    chatpick.pick_step(SIDES[pane_of(message)], str(message.get("value")))
    _warm()


def _strength(message: Message, who: Who, typed: str) -> None:
    try:
        value = float(str(message.get("value")))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1.5:
        raise InputError("The strength must be from 0 to 1.5.", "0 is the base, 1 the adapter as it was trained.")
    chatset.put("strengths", pane_of(message), value, who.strengths)


def _template(message: Message, who: Who, typed: str) -> None:
    name = str(message.get("value") or "")
    if name and name not in FAMILIES:
        raise InputError("There is no such template.", "Choose one of the list.")
    chatset.put("templates", pane_of(message), name, who.templates)


def _file(message: Message, who: Who, typed: str) -> None:
    path = str((message.get("values") or {}).get("path") or "")
    chatpick.open_place(SIDES[pane_of(message)], path, live.look().model)
    chatpick.wait_for(pane_of(message), False)
    _warm()


def _fork(message: Message, who: Who, typed: str) -> None:
    count = message.get("count")
    chattalks.fork(count if isinstance(count, int) else 0)


def _vote(message: Message, who: Who, typed: str) -> None:
    if message.get("choice") not in [key for key, _ in chatvote.CHOICES]:
        raise InputError("There is no such vote.", "Press one of the four buttons.")
    chatvote.vote(message["choice"], str((message.get("values") or {}).get("edited") or ""))


def _thumb(message: Message, who: Who, typed: str) -> None:
    rating, answer = str(message.get("rating")), str(message.get("answer") or "")
    chatthumbs.rate(message.get("turn"), pane_of(message), rating, answer)


_ACTIONS: dict[str, Callable[[Message, Who, str], None]] = {
    "open": _warm,
    "pick": _pick,
    "step": _step,
    "strength": _strength,
    "template": _template,
    "file": _file,
    "other": lambda message, who, typed: chatpick.wait_for(pane_of(message)),
    "keep": lambda message, who, typed: chatpick.wait_for(pane_of(message), False),
    "fork": _fork,
    "blind": lambda message, who, typed: chatvote.switch(message.get("on") is True),
    "vote": _vote,
    "thumb": _thumb,
    "prompt": lambda message, who, typed: chattokens.prompt(who, typed),
    "changes": lambda message, who, typed: chattokens.changes(who, pane_of({"pane": message.get("pane", 1)})),
    "close": lambda message, who, typed: chattokens.close(),
    **dict.fromkeys(
        ("kept", "take", "ask-kept", "name-kept", "keep-kept", "rename", "forget"),
        lambda message, who, typed: chatkept.act(message),
    ),
}
