"""Pieces of HTML that every page is made of. Pure functions: text in, HTML out; everything that is not ours is escaped.

`esc` is the one door for foreign text (models, datasets, file names, error messages). An argument called `inner` takes
HTML made here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

#: Characters that reorder or hide what stands beside them: shown by their number instead.
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MAX_TEXT = 20_000


def esc(value: object, limit: int = MAX_TEXT) -> str:
    """Make any text safe inside an element or a quoted attribute; what is longer than `limit` is cut, and says so."""
    text = str(value)
    more = len(text) - limit
    text = _CONTROL.sub("\ufffd", text[:limit] if more > 0 else text)
    text = _BIDI.sub(lambda m: f"\u27e8U+{ord(m.group()):04X}\u27e9", text)
    text = html.escape(text, quote=True)
    return f"{text}\u2026 ({more:,} more characters)" if more > 0 else text


def card(title: str, inner: str, aside: str = "", extra: str = "") -> str:
    """Draw a card; `aside` stands at the right of the title (HTML made here)."""
    head = f'<div class="st-head"><h2>{esc(title)}</h2><div class="st-aside">{aside}</div></div>' if title else ""
    return f'<section class="st-card {extra}">{head}{inner}</section>'


def title(text: str, sentence: str) -> str:
    """Draw a page's title and its one sentence."""
    return f'<header class="st-title"><h1>{esc(text)}</h1><p>{esc(sentence)}</p></header>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Draw names and values (values are HTML made here); rows with an empty value are left out."""
    body = "".join(f"<dt>{esc(name)}</dt><dd>{value}</dd>" for name, value in rows if value)
    return f'<dl class="st-facts">{body}</dl>'


def pill(text: str, tone: str = "accent") -> str:
    """Draw a small label; `tone` is accent, good, warn, bad or plain."""
    return f'<span class="st-pill st-{tone}">{esc(text)}</span>'


def code(text: object) -> str:
    """Draw text in the fixed font."""
    return f"<code>{esc(text)}</code>"


def note(text: str) -> str:
    """Draw a muted line."""
    return f'<p class="st-note">{esc(text)}</p>'


def copy_button(text: str, label: str = "Copy") -> str:
    """Draw a button that puts `text` on the clipboard."""
    return f'<button type="button" class="st-button" data-st-copy="{esc(text)}">{esc(label)}</button>'


def press(target: str, label: str, aria: str = "", disabled: bool = False) -> str:
    """Draw a button that presses the hidden Gradio button with the id `target`."""
    off = " disabled" if disabled else ""
    name = f' aria-label="{esc(aria)}"' if aria else ""
    return f'<button type="button" class="st-button" data-st-press="{esc(target)}"{name}{off}>{esc(label)}</button>'


def link(page: str, label: str, filled: bool = False) -> str:
    """Draw a button that goes to another page of the window."""
    return f'<a class="st-button {"st-filled" if filled else ""}" href="#{esc(page)}">{esc(label)}</a>'


def actions(*inner: str) -> str:
    """Draw buttons in a row at the right."""
    return f'<div class="st-actions">{"".join(inner)}</div>'


def empty(what: str, why: str, button: str = "") -> str:
    """Draw an empty state: what would be here, why it is not, and one button."""
    return f'<div class="st-empty"><b>{esc(what)}</b><p>{esc(why)}</p>{button}</div>'


def problem(message: str, remedy: str = "", where: str = "", details: str = "", head: str = "This did not work") -> str:
    """Draw an error: cause, remedy, and details folded away."""
    parts = [f"<p>{esc(message)}</p>"]
    if where:
        parts.append(f'<p class="st-note">{esc(where)}</p>')
    if remedy:
        parts.append(f'<p class="st-remedy"><b>What to do</b> {esc(remedy)}</p>')
    if details:
        parts.append(f"<details><summary>Details</summary><pre>{esc(details)}</pre></details>")
    return f'<section class="st-card st-problem" role="alert"><h2>{esc(head)}</h2>{"".join(parts)}</section>'


def problem_from(error: dict[str, object], head: str = "This did not work", details: str = "") -> str:
    """Draw an error that comes as the JSON of house.md."""
    where = ", ".join(
        str(part)
        for part in (
            error.get("file") or "",
            f"line {error['line']}" if error.get("line") is not None else "",
            f"field {error['field']}" if error.get("field") else "",
        )
        if part
    )
    return problem(
        str(error.get("message") or "It failed."), str(error.get("remedy") or ""), where, details=details, head=head
    )


def terminal(command: str, title: str = "The same from a terminal") -> str:
    """Draw the line that does the same from a terminal; it is broken between its words only."""
    words = " ".join(f"<span>{esc(word)}</span>" for word in command.split(" "))
    return (
        f'<section class="st-card st-terminal"><span class="st-muted">{esc(title)}</span>'
        f"<code>{words}</code>{copy_button(command)}</section>"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """Draw a table (cells are HTML made here); `numeric` names the columns that stand at the right."""
    right = set(numeric)

    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=st-num' if i in right else ''}>{value}</{tag}>" for i, value in enumerate(values)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="st-scroll"><table class="st-table"><thead><tr>{cells("th", [esc(h) for h in heads])}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def duration(seconds: float | None) -> str:
    """Write a time span: 8 s, 3 min 10 s, 2 h 5 min."""
    if seconds is None or seconds != seconds or seconds < 0:
        return ""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Write a number of bytes: 812 kB, 11.7 MB, 1.1 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}" if count < 100 * scale else f"{count / scale:.0f} {unit}"
    return f"{count:.0f} bytes"


def amount(count: float) -> str:
    """Write a number of parameters: 5.9 M, 1.7 B."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f}"


def share(part: float) -> str:
    """Write a share as per cent."""
    return f"{100 * part:.0f} %"


def number(value: object, digits: int = 2) -> str:
    """Write a measured value; a value that is not finite is said in words."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return esc(value)
    if value != value or value in (float("inf"), float("-inf")):
        return "not a number"
    if value and abs(value) < 0.01:
        return near_zero(value)
    return f"{value:,.{digits}f}"


def near_zero(value: float) -> str:
    """Write a value near zero: 2.5e-4."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"
