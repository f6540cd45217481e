"""Drawing of the constitution: its principles as cards by group, each edited, removed or added in the window.

What is changed becomes the user's own copy (feedback/principles.py); the set that ships with Studio stays as it is.
Kept in the choices under `feedback`: "principle", the id of the card that is open, NEW for one that is being written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from studio.errors import DataError, StudioError
from studio.feedback import principles
from studio.feedback.principles import Principle
from studio.ui import controls, diskview, feedbackset, live, parts
from studio.ui.live import Scene
from studio.ui.parts import esc
from studio.ui.rankview import DO
from studio.ui.terminal import name_of

SOURCE, NEW = "constitution", "+"
_FIELDS = (
    ("critique", "What is asked about an answer", 3),
    ("revision", "How it is then written anew", 3),
)


def draw(scene: Scene) -> str:
    """Draw the principles while the constitution is the chosen source."""
    if feedbackset.source(scene) != SOURCE:
        return ""
    named = str(feedbackset.typed(scene, SOURCE).get("constitution") or "").strip()
    if named:
        said = f"The principles come from {name_of(named)}, the file named above. Empty that field to edit yours here."
        return parts.card("Principles", parts.note(said))
    try:
        found = principles.load(principles.place()).principles
    except StudioError as error:
        return parts.card("Principles", parts.problem_from(error.to_dict()) + parts.actions(_reset()))
    wanted = str(feedbackset.kept(scene).get("principle") or "")
    mine = principles.own().is_file()
    add = controls.button("Add a principle", {"do": "principle", "id": NEW}, to=DO)
    body = ""
    for group in principles.GROUPS:
        drawn = "".join(
            f'<li class="st-source st-chosen">{_form(one)}</li>' if one.id == wanted else _card(one)
            for one in found
            if one.group == group
        )
        if drawn:
            body += f'<h3>{esc(group.capitalize())}</h3><ul class="st-sources" aria-label="{esc(group)}">{drawn}</ul>'
    if wanted == NEW:
        form = _form(Principle("", principles.GROUPS[0], "", "", ""), add=True)
        body += f'<h3>A new one</h3><ul class="st-sources"><li class="st-source st-chosen">{form}</li></ul>'
    aside = f"{len(found):,}, {'your own copy' if mine else 'as shipped'}"
    return parts.card(
        "Principles",
        body + parts.actions(_reset() if mine else "", "" if wanted == NEW else add),
        esc(aside),
        "st-principles",
    )


def _reset() -> str:
    return controls.button("Back to the shipped ones", {"do": "principle-reset"}, to=DO)


def _card(one: Principle) -> str:
    button = controls.button(one.title, {"do": "principle", "id": one.id}, to=DO, style="st-row-name")
    return f'<li class="st-row st-source"><h3>{button}</h3><p dir="auto">{esc(one.critique, 2000)}</p></li>'


def _form(one: Principle, add: bool = False) -> str:
    """Draw a principle to be edited; Save sends all its fields."""
    groups = "".join(
        f'<option value="{name}"{" selected" if name == one.group else ""}>{name}</option>'
        for name in principles.GROUPS
    )
    areas = "".join(
        f'<label><small>{esc(said)}</small><textarea class="st-input" rows="{rows}" dir="auto" data-st-name="{name}">'
        f"{esc(getattr(one, name), principles.MAX_TEXT)}</textarea></label>"
        for name, said, rows in _FIELDS
    )
    ident = NEW if add else one.id
    drop = "" if add else controls.button("Remove", {"do": "principle-remove", "id": one.id}, to=DO)
    close = controls.button("Cancel", {"do": "principle", "id": ""}, to=DO)
    save = controls.button("Save", {"do": "principle-save", "id": ident}, to=DO, extra="data-st-principle-save")
    title = controls.named("title", aria="Title", hint="title", value=one.title)
    group = f'<select class="st-input" data-st-name="group" aria-label="Group">{groups}</select>'
    return f'<div class="st-principle" data-st-group>{title}{group}{areas}{parts.actions(drop, close, save)}</div>'


# --- what can be done ------------------------------------------------------------------------------------------------


def _text() -> str:
    return principles.load(principles.place()).text


def _open(scene: Scene, message: Mapping[str, Any]) -> None:
    feedbackset.keep(principle=str(message.get("id") or "")[:48])


def save(scene: Scene, message: Mapping[str, Any]) -> None:
    """Keep a card as the user's own. Raises DataError for what is no principle; nothing is written then."""
    values, text, ident = message.get("values") or {}, _text(), str(message.get("id") or "")
    given = {name: str(values.get(name) or "").strip() for name in ("group", "title", "critique", "revision")}
    if not all(given.values()):
        empty = next(name for name, value in given.items() if not value)
        label = {name: said for name, said, _ in _FIELDS}.get(empty, empty.capitalize())
        raise DataError(f"“{label}” is empty.", "Write it, or cancel.")
    taken = {one.id for one in principles.parse(text).principles}
    instead = "" if ident == NEW else ident
    principles.save(principles.put(text, Principle(instead or _fresh(given["title"], taken), **given), instead))
    _changed()


def _fresh(title: str, taken: set[str]) -> str:
    """Make an id of a title that no other card has."""
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "principle"
    return next(name for n in range(1, len(taken) + 3) if (name := base if n == 1 else f"{base}-{n}") not in taken)


def remove(scene: Scene, message: Mapping[str, Any]) -> None:
    """Leave a card out. Raises DataError where it is the only one."""
    principles.save(principles.remove(_text(), str(message.get("id") or "")))
    _changed()


def reset(scene: Scene, message: Mapping[str, Any]) -> str:
    """Go back to the principles that ship with Studio, after asking."""
    if message.get("sure") is not True:
        sure = controls.button("Drop my copy", {"do": "principle-reset", "sure": True}, to=DO)
        said = "Your own copy of the principles, with all that you changed in it, is deleted."
        return diskview.question("Go back to the shipped principles?", said, sure, to=DO)
    principles.own().unlink(missing_ok=True)
    _changed()
    return ""


def _changed() -> None:
    feedbackset.keep(principle="")
    live.touch()


ACTIONS = {"principle": _open, "principle-save": save, "principle-remove": remove, "principle-reset": reset}
