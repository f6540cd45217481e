"""The list of earlier conversations on the chat page: one is taken up again, renamed, or put into the trash."""

from __future__ import annotations

import threading
from typing import Any

from studio.errors import InputError
from studio.ui import chattalks, choosing, controls, diskview, live, parts
from studio.ui.live import Scene
from studio.ui.parts import esc

#: The page's field for messages (chatvote.DO, which cannot be imported from here).
_TO = "st-chat-do"
_shown = False
#: The conversation that is asked about before it goes, and the one that is given a name.
_going, _naming = "", ""


def count() -> int:
    """Tell how many there are, of those that are listed."""
    return len(chattalks.listed())


def toggle() -> None:
    """Show the list, or take it away."""
    act({"do": "kept"})


def card(scene: Scene) -> str:
    """Draw the list."""
    kept = chattalks.listed() if _shown else []
    if not kept:
        return ""
    rows = "".join(map(_row, kept))
    close = controls.button("Close", {"do": "kept"}, to=_TO, aria="Close: Earlier conversations")
    most = f"the newest {chattalks.LISTED}" if len(kept) >= chattalks.LISTED else ""
    body = f'<ul class="st-list st-things st-kept">{rows}</ul>'
    aside = f'{esc(most)} <span class="st-pager">{close}</span>'
    return parts.card("Earlier conversations", body, aside, "st-looked")


def _row(kept: tuple[str, str]) -> str:
    """Draw one: its title and time, or what is asked about it."""
    name, title = kept
    if name == _naming:
        field = controls.named("title", aria="New name", value=chattalks.title(name))
        buttons = controls.button("Keep the old one", {"do": "keep-kept"}, to=_TO)
        buttons += controls.button("Rename", {"do": "rename", "name": name}, to=_TO, filled=True, aria=f"Save {name}")
        return f'<li data-st-group>{field}<span class="st-repairs">{buttons}</span></li>'
    said = f'<span class="st-thing"><b>{esc(title, 120)}</b><small>{esc(choosing.when(name))}</small>'
    if name == _going:
        asked = "It goes into the trash, and can be put back on the Disk page."
        buttons = controls.button("Keep it", {"do": "keep-kept"}, to=_TO)
        buttons += controls.button("Move to the trash", {"do": "forget", "name": name}, to=_TO, filled=True)
        label = f'role="alertdialog" aria-label="Delete “{esc(title, 120)}”?"'
        return f'<li {label}>{said}<small>{asked}</small></span><span class="st-repairs">{buttons}</span></li>'
    buttons = "".join(
        controls.button(label, {"do": do, "value": name}, to=_TO, aria=f"{label} “{title}”, {name}")
        for label, do in (("Open", "take"), ("Rename", "name-kept"), ("Delete", "ask-kept"))
    )
    return f'<li>{said}</span><span class="st-repairs">{buttons}</span></li>'


def act(message: dict[str, Any]) -> None:
    """Do what a control of the list says. Raises InputError."""
    global _shown, _going, _naming
    name = str(message.get("value") or message.get("name") or "")
    if name:
        chattalks.title(name)  # one that is gone is said, not asked about
    match message.get("do"):
        case "kept":
            _shown, _going, _naming = not _shown, "", ""
        case "ask-kept":
            _going, _naming = name, ""
        case "name-kept":
            _going, _naming = "", name
        case "keep-kept":
            _going = _naming = ""
        case "take":
            chattalks.take(name)
            _shown, _going, _naming = False, "", ""
        case "rename":
            chattalks.rename(name, str((message.get("values") or {}).get("title") or ""))
            _naming = ""
        case "forget":
            if name != _going:
                raise InputError("Nothing was deleted.", "Press Delete beside the conversation first.")
            chattalks.forget(name)
            _going = ""
            threading.Thread(target=diskview.measure, daemon=True).start()
    live.touch()
