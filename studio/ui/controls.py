"""Controls drawn as HTML that tell the server what was done with them: buttons, lists, fields.

Each carries a message (JSON). The page's script writes it into a hidden field of Gradio's, whose handler reads it: the
field `to` of `st-data-do`, or of `st-data-set` where what is done changes settings of other pages too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from studio.ui.parts import esc

DO, SET = "st-data-do", "st-data-set"


def sends(message: Mapping[str, Any], to: str, aria: str) -> str:
    """Give the attributes with which an element tells what was done with it."""
    name = f' aria-label="{esc(aria)}"' if aria else ""
    return f'data-st-send="{esc(json.dumps(message))}" data-st-to="{to}"{name}'


def acted(text: str, actions: Mapping[str, Callable[..., str | None]], *about: Any) -> str:
    """Do what a control's message asks, `actions[do](*about, message)`; give what comes of it, "" for no message."""
    try:
        message = json.loads(text)
        action = actions[message["do"]]
    except (ValueError, KeyError, TypeError):
        return ""
    return action(*about, message) or ""


def fold(title: str, said: str, is_open: bool, to: str) -> str:
    """Draw the line that opens and folds what is made next; its message is {"do": "fold", "open": yes or no}."""
    message = {"do": "fold", "open": "no" if is_open else "yes"}
    opened = f'aria-expanded="{str(is_open).lower()}"'
    line = f"<h2>{button(title, message, to=to, style='st-row-name', extra=opened)}</h2>"
    note = f'<span class="st-muted">{esc(said, 200)}</span>'
    return f'<section class="st-card st-row st-fold">{line}{note}<i aria-hidden="true"></i></section>'


def button(
    label: str,
    message: Mapping[str, Any],
    *,
    to: str = DO,
    aria: str = "",
    filled: bool = False,
    disabled: bool = False,
    style: str = "st-button",
    extra: str = "",
) -> str:
    """Draw a button; `extra` are further attributes (made here)."""
    off, full = " disabled" if disabled else "", " st-filled" if filled else ""
    return f'<button type="button" class="{style}{full}" {sends(message, to, aria)}{off} {extra}>{esc(label)}</button>'


def choices(
    options: Iterable[tuple[str, str]], value: str, message: Mapping[str, Any], *, aria: str, to: str = DO
) -> str:
    """Draw a list to choose from: (value, title) each; what is chosen comes as `value`."""
    drawn = "".join(
        f'<option value="{esc(key)}"{" selected" if key == value else ""}>{esc(title)}</option>'
        for key, title in options
    )
    return f'<select class="st-input" {sends(message, to, aria)}>{drawn}</select>'


def field(
    value: str, message: Mapping[str, Any], *, aria: str, to: str = DO, hint: str = "", width: int = 0, kind: str = ""
) -> str:
    """Draw a field to type in; what was typed comes as `value` when it is left or Enter is pressed."""
    wide = f' style="width:{width}px"' if width else ""
    mode = f' inputmode="{kind}"' if kind else ""
    return (
        f'<input class="st-input" type="text" value="{esc(value, 400)}" placeholder="{esc(hint)}" autocomplete="off" '
        f'spellcheck="false"{wide}{mode} {sends(message, to, aria)}>'
    )


def named(name: str, *, aria: str, hint: str = "", value: str = "") -> str:
    """Draw a field that sends nothing by itself: a button of the same group sends all of them as `values`."""
    return (
        f'<input class="st-input" type="text" value="{esc(value, 400)}" data-st-name="{esc(name)}" '
        f'aria-label="{esc(aria)}" placeholder="{esc(hint)}" autocomplete="off" spellcheck="false">'
    )


def tick(on: bool, message: Mapping[str, Any], *, aria: str, to: str = DO) -> str:
    """Draw a box to tick; what it becomes is the server's to say."""
    return f'<input class="st-tick" type="checkbox"{" checked" if on else ""} {sends(message, to, aria)}>'
