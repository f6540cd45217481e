"""What is wrong with a text that a model made, told by the text alone."""

from __future__ import annotations

from collections.abc import Iterable

from studio.data import same

#: A text of this many triples of words loops when fewer than half of them differ.
_LONG, _DIFFERENT = 20, 0.5
#: A text is a copy of others when so much of what is new in it stands in them.
_COPIED = 0.8
#: Words added to both lengths before they are compared, so that short answers may grow.
_SHORT = 10


def same_words(one: str, other: str) -> bool:
    """Tell whether two texts differ in nothing but spaces, case and punctuation."""
    return same.words(one) == same.words(other)


def loops(text: str) -> bool:
    """Tell whether a text repeats itself: of its word triples fewer than half are different."""
    made = same.triples(text)
    return len(made) >= _LONG and len(set(made)) < _DIFFERENT * len(made)


def copies(text: str, sources: Iterable[str], own: str = "") -> bool:
    """Tell whether what is new in a text, beside `own`, was taken from one of the sources.

    |new triples that stand in the source| / |new triples| >= 0.8, for any source; texts below three words are no copy.
    """
    if len(same.words(text)) < 3:
        return False
    new = set(same.triples(text)) - set(same.triples(own))
    return bool(new) and any(len(new & set(same.triples(source))) >= _COPIED * len(new) for source in sources)


def jump(one: str, other: str) -> float:
    """Give by how much two texts differ in length: (longer + 10) / (shorter + 10) words."""
    lengths = sorted(len(text.split()) + _SHORT for text in (one, other))
    return lengths[1] / lengths[0]
