"""Ways to ask the same thing otherwise: typing errors, case, and other text around it. Pure functions of a text."""

from __future__ import annotations

import functools
import random

from studio.evals import items

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


@functools.cache
def neighbours() -> dict[str, str]:
    """Give the keys beside each letter of an English keyboard, where a row stands half a key right of the one above."""
    place = {key: (row, at) for row, keys in enumerate(_ROWS) for at, key in enumerate(keys)}

    def near(key: str, other: str) -> bool:
        (row, at), (other_row, other_at) = place[key], place[other]
        if row == other_row:
            return abs(at - other_at) == 1
        high, low = (at, other_at) if row < other_row else (other_at, at)
        return abs(row - other_row) == 1 and high - low in (0, 1)

    return {key: "".join(other for other in place if near(key, other)) for key in place}


def typos(text: str, share: float, seed: str) -> str:
    """Make typing errors in a share of the letters, at least one: a neighbour's key, a letter left out or twice.

    The same text and seed give the same errors; digits and signs stay, as errors there ask something else.
    """
    rng = random.Random(seed)
    letters = [at for at, letter in enumerate(text) if letter.lower() in neighbours()]
    if not letters:
        return text
    made = list(text)
    for at in rng.sample(letters, min(len(letters), max(1, round(share * len(letters))))):
        made[at] = _slip(made[at], rng)
    return "".join(made)


def _slip(letter: str, rng: random.Random) -> str:
    what = rng.choice(("neighbour", "neighbour", "left out", "twice"))
    if what == "left out":
        return ""
    if what == "twice":
        return letter * 2
    other = rng.choice(neighbours()[letter.lower()])
    return other.upper() if letter.isupper() else other


def filler(words: int) -> str:
    """Give so many words of plain text, whole sentences of it where it ends within them."""
    text = items.shipped("filler.txt").read_text("utf-8").split()
    many = (text * (words // len(text) + 1))[:words]
    return " ".join(many).rstrip(" ,;") + ("" if many[-1].endswith(".") else ".")


def shifted(kind: str, text: str, seed: str, words: int) -> str:
    """Give a question in one of the ways that need nothing but itself (TEXT_KINDS)."""
    if kind == "typos5":
        return typos(text, 0.05, seed)
    if kind == "typos10":
        return typos(text, 0.10, seed)
    if kind == "lower":
        return text.lower()
    if kind == "upper":
        return text.upper()
    whole, half = filler(words), filler(words // 2)
    return {"long": f"{whole}\n\n{text}", "inside": f"{half} {text} {half}", "ahead": f"{text}\n\n{whole}"}[kind]


#: kind -> what it is, in words.
TEXT_KINDS = {
    "typos5": "typing errors in 5 % of the letters",
    "typos10": "typing errors in 10 % of the letters",
    "lower": "all small letters",
    "upper": "all capitals",
    "long": "other text before the question",
    "inside": "the question in the middle of other text",
    "ahead": "other text after the question",
}
