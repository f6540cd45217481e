"""The surface by which chosen answers differ from rejected ones: what preferences teach first, and best.

A pure look at texts. Where one trait tells the two apart, a run can say how many answers have it before and after.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

#: The share of texts that a trait has to tell rightly to count as the style.
TELLS = 0.8
#: Fewer texts a side tell nothing.
FEWEST = 20
_LONGEST = 200

_LIST = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)
_SEEN: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("ends with a full stop", "does not end with a full stop", lambda text: text.endswith(".")),
    ("ends with a question", "does not end with a question", lambda text: text.endswith("?")),
    ("has an exclamation mark", "has no exclamation mark", lambda text: "!" in text),
    ("has a list", "has no list", lambda text: bool(_LIST.search(text))),
    ("has several paragraphs", "is one paragraph", lambda text: "\n\n" in text),
    ("has bold words", "has no bold words", lambda text: text.count("**") > 1),
    ("has code", "has no code", lambda text: "```" in text),
)


@dataclasses.dataclass(frozen=True)
class Style:
    """A trait of a text: its name, whether a text has it, and the share of the pairs' texts that it tells rightly."""

    name: str
    has: Callable[[str], bool]
    told: float = 0.0

    def share(self, texts: Sequence[str]) -> float:
        """Give the share of texts that have it."""
        return sum(self.has(text.strip()) for text in texts) / max(1, len(texts))


def tell(chosen: Sequence[str], rejected: Sequence[str]) -> Style | None:
    """Find the trait that tells chosen from rejected texts best, where one tells TELLS of them.

    What it tells is the mean of the share of chosen texts that have it and of rejected ones that do not. Of two that
    tell alike the one of what stands there goes before the length.
    """
    good, bad = [text.strip() for text in chosen], [text.strip() for text in rejected]
    if min(len(good), len(bad)) < FEWEST:
        return None
    found = [
        dataclasses.replace(style, told=(style.share(good) + 1 - style.share(bad)) / 2)
        for style in (*_traits(good, bad), *_lengths(good, bad))
    ]
    best = max(found, key=lambda style: style.told)
    return best if best.told >= TELLS else None


def _traits(good: Sequence[str], bad: Sequence[str]) -> Iterator[Style]:
    for word in _openings(good):
        yield Style(f"begins with “{word}”", _begins(word))
    for word in _openings(bad):
        yield Style(f"does not begin with “{word}”", _not(_begins(word)))
    for name, other, has in _SEEN:
        yield Style(name, has)
        yield Style(other, _not(has))


def _lengths(good: Sequence[str], bad: Sequence[str]) -> Iterator[Style]:
    counts = sorted({min(_LONGEST, len(text.split())) for text in (*good, *bad)})
    for count in counts[1:]:
        yield Style(f"{count} words or more", lambda text, count=count: len(text.split()) >= count)  # type: ignore[misc]
        yield Style(f"fewer than {count} words", lambda text, count=count: len(text.split()) < count)  # type: ignore[misc]


def _openings(texts: Sequence[str]) -> list[str]:
    """Give the commonest first word."""
    words = Counter(text.split()[0] for text in texts if text)
    return [word for word, _ in words.most_common(1)]


def _begins(word: str) -> Callable[[str], bool]:
    return lambda text: text.split()[:1] == [word]


def _not(has: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: not has(text)
