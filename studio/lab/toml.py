"""A small writer of TOML, and where in a file a table or a key stands; tomllib reads, and does neither."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from studio.errors import ConfigError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_PART = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_ASSIGNS = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


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

    `table` is "" for the keys before the first table. `key` may be dotted: `settings.beta` is looked for in the table's
    own tables ([step.settings]), as a dotted key, and in a line that has it in braces (settings = { beta = 1 }), whose
    line is given; where it is not found, that of the longest beginning of it, else the header's. None without that.
    """
    seen, inside = -1, not table
    header: int | None = None
    names = key.split(".") if key else []
    found: tuple[int, int | None] = (0, None)
    under: list[str] = []
    for at, line in enumerate(text.split("\n"), 1):
        if match := _HEADER.match(line):
            place = _dotted(match[1])
            if table and place == [table]:
                seen += 1
                header = at if seen == number else header
            inside = bool(table) and place[:1] == [table] and seen == number
            under = place[1:]
            written = under
        elif inside and (match := _ASSIGNS.match(line)):
            written = [*under, *_dotted(match[1])]
        else:
            continue
        if inside and names and written and written == names[: len(written)] and len(written) > found[0]:
            found = (len(written), at)
    return found[1] or header


def _dotted(name: str) -> list[str]:
    return [part.strip().strip("\"'") for part in name.split(".")]


def line_in(message: str, text: str) -> int | None:
    """Read the line out of what tomllib says of a broken file."""
    if "end of document" in message:
        return len(text.rstrip("\n").split("\n"))
    found = re.search(r"at line (\d+)", message)
    return int(found[1]) if found else None


class Where:
    """Makes errors that name the file, the line and the field."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text

    def error(self, message: str, remedy: str, table: str = "", number: int = 0, key: str = "") -> ConfigError:
        """Make an error about a key of the `number`th table."""
        line = line_of(self.text, table, number, key) if self.text else None
        field = ".".join(filter(None, (table, key))) or None
        return ConfigError(message, remedy, file=self.file or None, line=line, field=field)
