"""The word diff: leaving out what is struck through gives the new text, leaving out what is put in the old one."""

from __future__ import annotations

import html
import random
import re

import pytest
from test_parts import PAYLOADS

from studio.ui import diffview

TEXTS = [
    ("", ""),
    ("", "new"),
    ("old", ""),
    ("the same", "the same"),
    ("It is  wrong.", "It is right."),
    ("don't go", "don’t stay here"),
    ("line one\nline two", "line one\n\nline 2"),
    ("日本語の答え", "日本語の新しい答え"),
]


@pytest.mark.parametrize(("old", "new"), TEXTS)
def test_both_texts_can_be_read_out_of_the_diff(old: str, new: str) -> None:
    drawn = diffview.diff(old, new).removeprefix('<div class="st-diff" dir="auto">').removesuffix("</div>")
    before = re.sub(r"<ins>.*?</ins>|</?del>", "", drawn, flags=re.DOTALL)
    after = re.sub(r"<del>.*?</del>|</?ins>", "", drawn, flags=re.DOTALL)
    assert (html.unescape(before), html.unescape(after)) == (old, new)


def test_random_edits_too() -> None:
    draw = random.Random(0)
    for _ in range(200):
        old, new = (" ".join(draw.choices("abcde", k=draw.randrange(12))) for _ in range(2))
        found = list(diffview.pieces(old, new))
        assert "".join(text for kind, text in found if kind != "in") == old
        assert "".join(text for kind, text in found if kind != "out") == new


def test_changed_words_that_only_a_space_stands_between_are_one_change() -> None:
    assert list(diffview.pieces("one two three", "one 2 3")) == [
        ("same", "one "),
        ("out", "two three"),
        ("in", "2 3"),
    ]


def test_texts_too_long_to_compare_are_shown_one_after_the_other() -> None:
    old, new = "a " * 3000, "b " * 3000
    assert [kind for kind, _ in diffview.pieces(old, new)] == ["out", "in"]


@pytest.mark.parametrize("wicked", PAYLOADS)
def test_nothing_of_a_text_is_html(wicked: str) -> None:
    for drawn in (diffview.diff(wicked, "safe"), diffview.diff("safe", wicked), diffview.diff(wicked, wicked)):
        assert set(re.findall(r"<\s*/?\s*(\w+)", drawn)) <= {"div", "ins", "del"}


def test_the_share_that_changed() -> None:
    assert diffview.changed("a b c d", "a b c e") == pytest.approx(0.25)
    assert diffview.changed("same", "same") == 0 and diffview.changed("", "") == 0 and diffview.changed("", "x") == 1
