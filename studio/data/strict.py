"""JSON as the standard has it: UTF-8, no key twice, no NaN, no NUL, no half surrogates; and words for what is wrong.

Python's own scanner reads more than JSON and says less about it, so its hooks refuse the rest. The scanner stays in C:
only the one call for each object is ours.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

Row = dict[str, Any]

MAX_ROW_BYTES = 16 << 20
TOO_LONG = ("the row is longer than 16 MB", "Split the row, or leave it out with --drop-bad.")

_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ODD = re.compile("[\0\ud800-\udfff]")
_WIDTH = 80


class BadJSON(ValueError):
    """A value is not strict JSON: the key where there is one, what is wrong, what to do, and the place."""

    def __init__(self, problem: str, remedy: str, excerpt: str, field: str = "") -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.excerpt, self.field = problem, remedy, excerpt, field


class _DuplicateKey(ValueError):
    pass


class _NotANumber(ValueError):
    pass


class _TooLarge(ValueError):
    pass


def _pairs(items: list[tuple[str, Any]]) -> Row:
    row = dict(items)
    if len(row) != len(items):
        names = [name for name, _ in items]
        raise _DuplicateKey(next(name for name in names if names.count(name) > 1))
    return row


def _constant(name: str) -> Any:
    raise _NotANumber(name)


def _float(text: str) -> float:
    number = float(text)
    if number in (math.inf, -math.inf):
        raise _TooLarge(text)
    return number


#: Made once: building a decoder for every row costs more than most rows.
DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float)


def parse(raw: bytes) -> Any:
    """Read one JSON value. Raises BadJSON."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJSON(
            f"byte {error.start + 1} is not UTF-8", "Save the file as UTF-8.", excerpt(raw, error.start)
        ) from None
    try:
        value, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise _in_words(error, text) from None
    if end != len(text) and (rest := text[end:].lstrip(" \t\r\n")):
        at = len(text) - len(rest)
        raise BadJSON(
            f"not valid JSON: a second value begins at column {at + 1}",
            "Put each row on its own line.",
            excerpt(text, at),
        )
    refuse_odd(raw, value)
    return value


def refuse_odd(raw: bytes, value: Any) -> None:
    """Raise BadJSON for characters that only escapes can bring in, and that no tokenizer can take."""
    if b"\\" in raw and b"\\u" in raw and _ESCAPED.search(raw) and (found := _odd(value)):
        name = "a NUL character" if found == "\0" else "half of a surrogate pair"
        at = next((match.start() for match in _ESCAPED.finditer(raw)), 0)
        raise BadJSON(f"it contains {name} ({visible(found)})", "Delete the character.", excerpt(raw, at))


def _odd(value: Any) -> str:
    """Give the first such character in any text of a value, "" when there is none."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if found := _ODD.search(item):
                return found[0]
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
    return ""


def _in_words(error: Exception, text: str) -> BadJSON:
    if isinstance(error, _DuplicateKey):
        name = str(error)
        at = text.rfind(json.dumps(name, ensure_ascii=False))
        return BadJSON("the key stands twice in one object", "Keep one of them.", excerpt(text, max(at, 0)), name)
    if isinstance(error, _NotANumber):
        at = text.find(str(error))
        return BadJSON(f"not valid JSON: {error} is no number", "Write a number or null.", excerpt(text, at))
    if isinstance(error, _TooLarge):
        at = text.find(str(error))
        return BadJSON(f"{str(error)[:20]} is too large for a number", "Write it as text.", excerpt(text, at))
    if isinstance(error, RecursionError):
        return BadJSON("it is nested too deeply", "Flatten the row.", excerpt(text, 0))
    if isinstance(error, json.JSONDecodeError):
        if "\0" in text:
            at = text.index("\0")
            return BadJSON("it contains a NUL byte", "Delete the byte.", excerpt(text, at))
        where = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return BadJSON(f"not valid JSON at {where}: {_said(error, text)}", _mend(error, text), excerpt(text, error.pos))
    digits = max(re.findall(r"-?\d+", text), key=len, default="")  # what is left is int() and its limit on digits
    at = text.find(digits)
    return BadJSON(f"not valid JSON: a number has {len(digits)} digits", "Write it as text.", excerpt(text, at))


def _said(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "it ends in the middle of a value"
    return error.msg[:1].lower() + error.msg[1:]


def _mend(error: json.JSONDecodeError, text: str) -> str:
    near = text[error.pos : error.pos + 2]
    if near in ("//", "/*") or near[:1] == "#":
        return "JSON has no comments: delete it."
    if near[:1] == "'":
        return 'JSON has double quotes only: write "...".'
    return "Mend or delete the row."


def excerpt(text: str | bytes, at: int = 0) -> str:
    """Give the 80 characters around a place, control characters made visible."""
    start = max(0, min(at - _WIDTH // 2, len(text) - _WIDTH))
    part = text[start : start + _WIDTH]
    if isinstance(part, bytes):
        part = part.decode("utf-8", "backslashreplace")
    shown = visible(part.strip("\r\n"))
    return ("…" if start else "") + shown + ("…" if start + _WIDTH < len(text) else "")


def visible(text: str) -> str:
    """Write what cannot be seen (control characters, direction marks, broken bytes) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def show(value: Any) -> str:
    """Give the beginning of a value as JSON, for an excerpt."""
    try:
        return excerpt(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    except (RecursionError, ValueError):
        return excerpt(f"{type(value).__name__}")


def kind(value: Any) -> str:
    """Name a JSON value in plain words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else type(value).__name__)
