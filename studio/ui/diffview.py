"""Two texts as one, word by word: what was taken out is struck through, what was put in is underlined.

Pure: text in, safe HTML out. Words are compared as they stand, with the space before each, so that the new text can be
read by leaving out what is struck through.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from studio.ui.parts import esc

_WORD = re.compile(r"\s+|[^\W_]+(?:['’][^\W_]+)*|[\W_]", re.UNICODE)
#: Texts of more pieces than this are shown one after the other: comparing them takes too long.
MOST = 4000


def words(text: str) -> list[str]:
    """Split a text into words, spaces and single signs; together they are the text."""
    return _WORD.findall(text)


def pieces(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Give ("same" | "out" | "in", text) in reading order; what is out of and what is in a place follow each other."""
    a, b = words(old), words(new)
    if len(a) + len(b) > MOST:
        if old == new:
            yield "same", old
        else:
            yield "out", old
            yield "in", new
        return
    for kind, from_, to, at, end in _joined(difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes(), a):
        if kind == "equal":
            yield "same", "".join(a[from_:to])
            continue
        if from_ < to:
            yield "out", "".join(a[from_:to])
        if at < end:
            yield "in", "".join(b[at:end])


Opcode = tuple[str, int, int, int, int]


def _joined(found: Sequence[Opcode], a: Sequence[str]) -> list[Opcode]:
    """Take changes together that only a space stands between: "a b" for "c d" is one change."""
    out: list[Opcode] = []
    for number, one in enumerate(found):
        kind, from_, to, at, end = one
        space = kind == "equal" and "".join(a[from_:to]).isspace()
        between = space and 0 < number < len(found) - 1
        if (between or kind != "equal") and out and out[-1][0] != "equal":
            last = out[-1]
            out[-1] = ("replace", last[1], to, last[3], end)
        else:
            out.append(("equal" if kind == "equal" else "replace", from_, to, at, end))
    return out


def diff(old: str, new: str) -> str:
    """Draw both texts as one."""
    tags = {"same": "{}", "out": "<del>{}</del>", "in": "<ins>{}</ins>"}
    drawn = "".join(tags[kind].format(esc(text)) for kind, text in pieces(old, new))
    return f'<div class="st-diff" dir="auto">{drawn}</div>'


def changed(old: str, new: str) -> float:
    """Tell which share of the words of both texts is not in the other, 0 to 1."""
    found = [(kind, len(text.split())) for kind, text in pieces(old, new)]
    same, whole = sum(2 * n for kind, n in found if kind == "same"), len(old.split()) + len(new.split())
    return 1 - min(1.0, same / whole) if whole else 0.0
