"""A small writer of TOML, and where in a file a table or a key stands; tomllib reads, and does neither."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write(document: Mapping[str, Any]) -> str:
    """Write tables, lists of tables, texts, numbers, truths and lists of these as TOML; None has no place in it."""
    lines: list[str] = []
    _table(document, "", lines)
    return "\n".join(lines).strip() + "\n"


def _table(table: Mapping[str, Any], name: str, lines: list[str]) -> None:
    inner: list[tuple[str, Any]] = []
    for key, value in table.items():
        if value is None:
            continue
        if isinstance(value, Mapping) or _tables(value):
            inner.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in inner:
        path = f"{name}.{_key(key)}" if name else _key(key)
        for one in [value] if isinstance(value, Mapping) else value:
            lines += ["", f"[{path}]" if isinstance(value, Mapping) else f"[[{path}]]"]
            _table(one, path, lines)


def _tables(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_value(one)}" for key, one in value.items() if one is not None)
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_value(one) for one in value if one is not None) + "]"
    raise TypeError(f"{type(value).__name__} has no place in TOML")


def _text(text: str) -> str:
    """JSON's texts are TOML's, but for two characters: TOML wants DEL escaped, and has no surrogates."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")


def line_of(text: str, table: str, number: int = 0, key: str = "") -> int | None:
    """Find the line (from 1) of a key in the `number`th (from 0) table of this name, or of its header.

    `table` is "" for the keys before the first table; `key` may be dotted: it is looked for in the table, and in the
    table's own (`settings.beta` in [step] and in [step.settings]). None where it is not found.
    """
    inside, seen, header = not table, -1, None
    part, _, last = key.rpartition(".")
    for at, line in enumerate(text.split("\n"), 1):
        found = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
        if found:
            name = found[1].replace(" ", "")
            seen += name == table
            of_mine = table and seen == number and (name == table or name.startswith(f"{table}."))
            inside = bool(of_mine) and name in (table, f"{table}.{part}" if part else table)
            if of_mine and name == table:
                header = at
        elif inside and key and re.match(rf"\s*\"?{re.escape(last)}\"?\s*=", line):
            return at
    return header


def line_in(message: str, text: str) -> int | None:
    """Read the line out of what tomllib says of a broken file."""
    if "end of document" in message:
        return len(text.rstrip("\n").split("\n"))
    found = re.search(r"at line (\d+)", message)
    return int(found[1]) if found else None
