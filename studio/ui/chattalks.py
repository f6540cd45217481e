"""Conversations that were put aside: a file each in `$STUDIO_HOME/chats`, taken up again from a list.

A name that somebody gave one stands in its first turn, as `title`.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

from studio import paths, trash
from studio.errors import InputError
from studio.ui import talk
from studio.ui.talk import Turn

#: So many are listed, the newest first.
LISTED = 30
_LONGEST = 80
_titles: dict[tuple[str, int], str] = {}


def folder() -> Path:
    """Give their place."""
    made = paths.home() / "chats"
    made.mkdir(exist_ok=True, mode=0o700)
    return made


def listed() -> list[tuple[str, str]]:
    """List (name, its title or first question) of what was put aside, newest first."""
    found = []
    for path in sorted(folder().glob("*.json"), reverse=True)[:LISTED]:
        try:
            key = (path.name, path.stat().st_mtime_ns)
        except OSError:
            continue
        if key not in _titles:
            said = _read(path)
            count = f", {len(said)} questions" if len(said) > 1 else ""
            _titles[key] = f"{_titled(said)}{count}" if said else ""
        if _titles[key]:
            found.append((path.stem, _titles[key]))
    return found


def _titled(said: list[Turn]) -> str:
    return str(said[0].get("title") or f"{said[0].get('user', '')!s:.60}")[:_LONGEST]


def title(name: str) -> str:
    """Give a conversation's title, or its first question. Raises InputError."""
    return _titled(_read(_find(name)) or [{}])


def begin(said: list[Turn] | None = None) -> None:
    """Begin a new conversation, or one with these turns; the one before is put aside."""
    talk.settle()
    before = talk.turns()
    if any(turn.get("answers") for turn in before):
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
        paths.write_text(folder() / f"{name}.json", json.dumps(before, ensure_ascii=False) + "\n")
    talk.keep(said or [])


def fork(count: int) -> None:
    """Go on in a new conversation from the first `count` turns; the old one keeps all of its own. Raises InputError."""
    talk.settle()
    said = talk.turns()
    if not 0 < count <= len(said):
        raise InputError("There is no such place in the conversation.", "Look at it again.")
    first = {key: value for key, value in said[0].items() if key != "title"}
    begin([first, *said[1:count]])


def take(name: str) -> None:
    """Take up a conversation from the list; the one that goes on now is put aside. Raises InputError."""
    path = _find(name)
    said = _read(path)
    begin(said)
    path.unlink(missing_ok=True)


def rename(name: str, wanted: str) -> None:
    """Give a conversation of the list a title; an empty one gives it its first question back. Raises InputError."""
    path = _find(name)
    said = _read(path)
    if said:
        said[0] = {**said[0], "title": " ".join(wanted.split())[:_LONGEST]}
        paths.write_text(path, json.dumps(said, ensure_ascii=False) + "\n")


def forget(name: str) -> None:
    """Move a conversation of the list into the trash. Raises InputError."""
    path = _find(name)
    trash.put(path, f"chat: {_titled(_read(path) or [{}])}")


def _find(name: str) -> Path:
    path = next((path for path in folder().glob("*.json") if path.stem == name), None)
    if path is None:
        raise InputError("That conversation is not there any more.", "Choose another one of the list.")
    return path


def _read(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) and all(isinstance(turn, dict) for turn in found) else []
