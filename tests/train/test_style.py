"""Which trait tells chosen from rejected answers."""

from __future__ import annotations

import pytest

from studio.train.style import tell

FULL = [f"The sum of {n} and {n} is {2 * n}." for n in range(30)]
TERSE = [str(2 * n) for n in range(30)]


@pytest.mark.parametrize(
    ("chosen", "rejected", "name"),
    [
        (FULL, [text.replace("The", "A") for text in FULL], "begins with “The”"),
        ([text.replace("The", "A") for text in FULL], FULL, "begins with “A”"),
        (FULL, [text.rstrip(".") for text in FULL], "ends with a full stop"),
        ([text.rstrip(".") for text in FULL], FULL, "does not end with a full stop"),
        ([f"Yes:\n- {n}\n- more" for n in TERSE], [f"Yes: {n}, more" for n in TERSE], "has a list"),
        ([f"Yes {n}" for n in TERSE], [f"Yes {n}\n\nMore" for n in TERSE], "is one paragraph"),
        ([f"{n} is it so" for n in TERSE], [f"{n} is it" for n in TERSE], "4 words or more"),
        ([f"{n} is it" for n in TERSE], [f"{n} is it so" for n in TERSE], "fewer than 4 words"),
    ],
)
def test_the_trait_that_differs_is_found(chosen: list[str], rejected: list[str], name: str) -> None:
    found = tell(chosen, rejected)
    assert found is not None and found.name == name and found.told == 1.0
    assert found.share([chosen[0], rejected[0], f" {chosen[1]} "]) == pytest.approx(2 / 3)


def test_what_it_tells_is_the_mean_over_both_sides() -> None:
    """All of the chosen texts and 6 of 30 rejected ones begin with "The": (1 + 0.8) / 2."""
    rejected = FULL[:6] + [f"{text[4].upper()}{text[5:]}" for text in FULL[6:]]
    found = tell(FULL, rejected)
    assert found is not None and found.told == pytest.approx(0.9)


def test_no_style_where_none_tells_or_too_few_texts_are_there() -> None:
    assert tell(FULL, FULL) is None
    assert tell(FULL[:10], TERSE[:10]) is None
    assert tell(["", *FULL], ["", *FULL]) is None
