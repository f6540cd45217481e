"""What can be done on the data page: each action changes the choices, and the page draws what follows.

A drawn control sends {"do": NAME, ...}; everything in it is checked against what the page really shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from studio.data import votes
from studio.data.formats.base import ROLES
from studio.errors import ConfigError, DataError
from studio.methods import adviser
from studio.ui import choice, datalint, dataview, examine, live, looking, starter
from studio.ui.live import Scene
from studio.ui.looking import Looking

Message = Mapping[str, Any]


def act(text: str) -> str:
    """Do what a control says. Raises DataError when it does not fit what is shown."""
    try:
        message = json.loads(text)
        action = ACTIONS[message["do"]]
    except (ValueError, KeyError, TypeError):
        return ""
    scene = live.look()
    if action in (_stop, _again, _as_found):  # what helps where a file cannot be read
        action(scene, Looking.at(scene.chosen), {}, message)
        return ""
    both = dataview.ready(scene)
    if both is None:
        raise DataError("No file has been read.", "Open one first.")
    action(scene, *both, message)
    return ""


def open_file(file: str) -> str:
    """Show a file from its beginning; one that is in use is read as it is used."""
    used = next((d for step in looking.PAGES if (d := live.look().data(step)).get("file") == file), {})
    examine.again()
    Looking(file=file, reading=used.get("reading") or {}, fixes=tuple(used.get("fixes") or ())).keep()
    return ""


def open_sample(step: str) -> str:
    """Show the data that ships with the starter."""
    return open_file(str(starter.sample(step)))


def open_votes(kind: str) -> str:
    """Show the votes as rows of a kind, as they stand now."""
    return open_file(str(votes.snapshot(kind)))


def open_used() -> str:
    """Show the file that Train uses, else the one that Align uses."""
    scene = live.look()
    used = scene.data("train") or scene.data("align")
    return open_file(examine.find(str(used.get("file") or "")))


def use() -> str:
    """Use the file that is shown; its kind decides for which step."""
    scene = live.look()
    both = dataview.ready(scene)
    if both is None:
        raise DataError("No file has been read.", "Open one first.")
    look, found = both
    if reason := datalint.blocking(scene, look, found):
        raise DataError(reason, "What is wrong stands under “Before training”.", file=look.file)
    choice.update(data={looking.step_of(str(found["kind"])): summary(scene, look, found)})
    return ""


def summary(scene: Scene, look: Looking, found: Message) -> dict[str, Any]:
    """Give what is kept of a file in use: how it is read, and what the rail and the other pages say about it."""
    kind = str(found.get("kind"))
    counted = (examine.known(look.measure(scene, kind)) or {}).get("statistics") or {}
    items = [item for item in datalint.findings(scene, look, found) if item.get("lines")]
    flagged = len({line for item in items for line in item["lines"]})
    flagged += sum(max(0, int(item.get("rows") or 0) - len(item["lines"])) for item in items)  # not all are listed
    return {
        "file": look.file,
        "kind": kind,
        "format": found.get("format"),
        "rows": found.get("usable"),
        "flagged": min(flagged, int(found.get("usable") or 0)),
        "reading": look.reading,
        "fixes": list(look.fixes),
        "seen": _seen(found, counted),
        "tokens": counted.get("tokens"),
        "trained_tokens": counted.get("trained_tokens"),
        "longest": _longest(counted),
        "counted_by": looking.counted_by(scene, looking.method_of(kind)),
    }


def _longest(counted: Message) -> int | None:
    """Give the tokens of the longest row; None where not every row was counted."""
    most = (counted.get("percentiles") or {}).get("max")
    whole = int(counted.get("rows_measured") or 0) >= int(counted.get("rows") or 0)
    return int(most) if most and whole else None


def _seen(found: Message, counted: Message) -> dict[str, Any]:
    """Give what the adviser goes by."""
    facts = adviser.Facts.of(found, counted)
    return {name: getattr(facts, name) for name in ("longer", "wanted", "unwanted", "duplicates", "doubted")}


def in_use(scene: Scene, look: Looking, found: Message) -> bool:
    """Tell whether the file that is shown is in use, read in this way."""
    used = scene.data(looking.step_of(str(found.get("kind"))))
    return bool(used) and used.get("file") == look.file and (used.get("reading") or {}) == look.reading


def _number(message: Message, name: str) -> int:
    """Read a whole number that was typed or sent."""
    text = str(message.get(name, "")).strip().replace(",", "").replace(" ", "")
    if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 15:
        raise DataError(f"{text[:40]!r} is not a number.", "Write a whole number such as 17.")
    return int(text)


def _show(scene: Scene, look: Looking, kind: str) -> None:
    """Keep what is shown, once its row is there (it is there in no time, unless the child is busy)."""
    examine.soon(look.row(scene, kind))
    look.keep()


def _row(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    index = min(max(_number(message, "index"), 0), int(found.get("usable") or 1) - 1)
    _show(scene, look.changed(index=index, part=0), str(found["kind"]))


def _part(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    _show(scene, look.changed(part=max(0, _number(message, "part"))), str(found["kind"]))


def _line(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    if not str(message.get("value", "")).strip():
        return
    line = max(1, _number(message, "value"))
    row = examine.soon({**look.changed(part=0).row(scene, str(found["kind"])), "line": line})
    if row is None or "error" in row:
        raise DataError("That line is not found yet.", "Try again when the rows are listed.")
    _show(scene, look.changed(index=int(row["index"]), part=0), str(found["kind"]))


def _page(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    _list(scene, look.changed(page=max(0, _number(message, "page"))), found)


def _sort(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    _list(scene, look.changed(sort=str(message.get("value")), page=0), found)


def _code(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    _list(scene, look.changed(code=str(message.get("value") or ""), page=0), found)


def _contains(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    _list(scene, look.changed(contains=str(message.get("value") or "").strip()[:200], page=0), found)


def _all(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    _list(scene, look.changed(contains="", code="", page=0), found)


def _list(scene: Scene, look: Looking, found: Message) -> None:
    examine.soon(look.rows(datalint.lines_of(look.code, scene, look, found)))
    look.keep()


def _mapping(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    look.changed(mapping_open=not look.mapping_open).keep()


def _map(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    """Give a column its role. Roles that make no row yet are kept as a draft, until they do."""
    seen = examine.ask(look.detect())
    columns = seen.get("columns") or []
    column, role = str(message.get("column")), str(message.get("value") or "")
    if column not in columns or role not in ("", *ROLES):
        raise DataError("There is no such column or role.", "Choose one of the list.")
    roles = look.draft or look.reading.get("mapping") or seen.get("mapping") or {}
    roles = {name: r for name, r in roles.items() if name in columns and r in ROLES and name != column}
    if role:
        roles[column] = role
    reading = _without(look.reading, "mapping", "kind")
    draft = look.changed(reading=reading, draft=roles, mapping_open=True)
    whole = bool(roles) and not examine.ask(draft.detect()).get("problem")
    if whole:
        draft = draft.changed(reading={**reading, "mapping": roles}, draft={})
    draft.keep()


def _as_found(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    look.changed(reading=_without(look.reading, "mapping", "kind"), draft={}).keep()


def _without(reading: Message, *names: str) -> dict[str, Any]:
    return {name: value for name, value in reading.items() if name not in names}


def _answer(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    choices = (found.get("question") or {}).get("choices") or []
    number = _number(message, "number")
    if not 0 <= number < len(choices):
        raise DataError("There is no such answer.", "Choose one of the list.")
    look.changed(reading={**look.reading, **choices[number]["reading"]}, draft={}).keep()


def _template(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    method = looking.method_of(str(found["kind"]))
    _setting(scene, str(found["kind"]), {"template": str(message.get("value") or "")}, method.Config)


def _held_out(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    method = looking.method_of(str(found["kind"]))
    text = str(message.get("value") or "").strip().rstrip("%").strip().replace(",", ".")
    try:
        share = round(float(text) / 100, 6)
    except ValueError:
        raise ConfigError(f"{text[:40]!r} is not a number.", "Write per cent of the rows, such as 5.") from None
    _setting(scene, str(found["kind"]), {"held_out": share}, method.Config)


def _setting(scene: Scene, kind: str, values: dict[str, Any], config: type) -> dict[str, Any]:
    """Change settings once the engine's own check has nothing against them."""
    from studio.config import build

    build(config, values)
    return looking.put(scene, kind, values)


def _fix(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    """Make a repair that a finding offers, and keep how to undo it."""
    code, kind = str(message.get("code")), str(found["kind"])
    if code == "bad":
        rows = int(found.get("error_count") or 0)
        fix: Message = {"title": "Rows that cannot be used are left out", "reading": {"drop": ["bad"]}}
        item: Message = {"title": fix["title"]}
    else:
        item = next((i for i in datalint.findings(scene, look, found) if i.get("code") == code), {})
        fixes = datalint.fixes_of(item)
        number = _number(message, "number")
        if not 0 <= number < len(fixes):
            raise DataError("That is repaired already.", "Look at the list again.")
        rows, fix = int(item.get("rows") or 0), fixes[number]
    done: dict[str, Any] = {"code": code, "rows": rows, "title": _done(fix, item)}
    reading = dict(look.reading)
    if drop := (fix.get("reading") or {}).get("drop"):
        new = [name for name in drop if name not in reading.get("drop", [])]
        reading["drop"] = [*reading.get("drop", []), *new]
        done["drop"] = new
    if names := fix.get("fill"):
        values = message.get("values") or {}
        texts = {name: str(values.get(name) or "").strip()[:1000] for name in names}
        if missing := [name for name, text in texts.items() if not text]:
            raise DataError(f"There is no text for {', '.join(missing)}.", "Write what stands in its place.")
        reading["fill"] = {**reading.get("fill", {}), **texts}
        done["fill"] = list(texts)
    if settings := fix.get("settings"):
        done["before"] = _setting(scene, kind, dict(settings), looking.method_of(kind).Config)
        done["rows"] = 0
    look.changed(reading=reading, fixes=(*look.fixes, done)).keep()


def _done(fix: Message, item: Message) -> str:
    """Say what a repair did."""
    if settings := fix.get("settings"):
        return ", ".join(f"{name} = {value}" for name, value in settings.items())
    title = str(item.get("title") or item.get("code") or "")
    return f"{title}: filled in" if fix.get("fill") else title if fix.get("title") == title else f"{title}: left out"


def _undo(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    number = _number(message, "number")
    if not 0 <= number < len(look.fixes):
        return
    fix, reading = look.fixes[number], dict(look.reading)
    if drop := fix.get("drop"):
        reading["drop"] = [name for name in reading.get("drop", []) if name not in drop]
    if names := fix.get("fill"):
        reading["fill"] = {name: text for name, text in reading.get("fill", {}).items() if name not in names}
    if before := fix.get("before"):
        looking.take_back(scene, before)
    reading = {name: value for name, value in reading.items() if value}
    look.changed(reading=reading, fixes=(*look.fixes[:number], *look.fixes[number + 1 :])).keep()


def _stop(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    examine.stop()


def _again(scene: Scene, look: Looking, found: Message, message: Message) -> None:
    examine.again()


ACTIONS: dict[str, Callable[[Scene, Looking, Message, Message], None]] = {
    "row": _row,
    "part": _part,
    "line": _line,
    "page": _page,
    "sort": _sort,
    "code": _code,
    "contains": _contains,
    "all": _all,
    "mapping": _mapping,
    "map": _map,
    "as_found": _as_found,
    "answer": _answer,
    "template": _template,
    "held_out": _held_out,
    "fix": _fix,
    "undo": _undo,
    "stop": _stop,
    "again": _again,
}
