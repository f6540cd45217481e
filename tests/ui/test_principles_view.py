"""The principles as cards: edited, added, removed and reset in the window; what is wrong changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_parts import PAYLOADS

from studio.feedback import principles
from studio.ui import choice, kit, live, principlesview
from studio.ui.pages import feedback as page

NEW = {"title": "Say it shortly", "group": "helpful", "critique": "Is it long?", "revision": "Make it short."}


def act(**message: Any) -> str:
    return kit.edge(page.act)(json.dumps(message))


def cards() -> tuple[principles.Principle, ...]:
    return principles.load(principles.place()).principles


@pytest.fixture(autouse=True)
def chosen(home: Path) -> None:
    choice.update(feedback={"source": "constitution"})


def test_every_shipped_principle_is_a_card_in_its_group() -> None:
    drawn = principlesview.draw(live.look())
    assert drawn.count("<li ") == len(cards()) > 10 and f"{len(cards())}, as shipped" in drawn
    assert "Back to the shipped ones" not in drawn, "there is nothing to go back from"
    choice.update(feedback={"source": "judge"})
    assert principlesview.draw(live.look()) == ""


def test_a_card_is_edited_and_the_others_and_the_comments_stay() -> None:
    before, text = cards(), principles.starter().read_text("utf-8")
    act(do="principle", id=before[2].id)
    assert "data-st-principle-save" in principlesview.draw(live.look())
    assert act(do="principle-save", id=before[2].id, values={**NEW, "group": before[2].group}) == ""
    after = cards()
    assert after[2].title == "Say it shortly" and after[2].id == before[2].id
    assert [*after[:2], *after[3:]] == [*before[:2], *before[3:]]
    assert principles.starter().read_text("utf-8") == text, "the shipped file stays"
    drawn = principlesview.draw(live.look())
    assert "your own copy" in drawn and "data-st-principle-save" not in drawn


def test_cards_are_added_with_an_id_of_their_own_removed_and_reset_after_a_question() -> None:
    shipped = cards()
    for _ in range(2):
        assert act(do="principle-save", id="+", values=NEW) == ""
    assert [one.id for one in cards()[len(shipped) :]] == ["say-it-shortly", "say-it-shortly-2"]
    assert act(do="principle-remove", id="say-it-shortly") == ""
    assert len(cards()) == len(shipped) + 1
    assert "alertdialog" in act(do="principle-reset") and principles.own().is_file()
    assert act(do="principle-reset", sure=True) == "" and cards() == shipped and not principles.own().exists()


@pytest.mark.parametrize(
    "message",
    [
        {"do": "principle-save", "id": "+", "values": {**NEW, "critique": "  "}},
        {"do": "principle-save", "id": "+", "values": {**NEW, "group": "cruel"}},
        {"do": "principle-save", "id": "../none", "values": NEW},
        {"do": "principle-save", "id": "+", "values": {**NEW, "title": "x" * 5000}},
        {"do": "principle-remove", "id": "none"},
    ],
)
def test_what_is_no_principle_is_told_and_nothing_is_written(message: dict[str, Any]) -> None:
    assert 'role="alert"' in act(**message) and not principles.own().exists()


def test_a_broken_copy_is_told_with_the_way_back() -> None:
    principles.own().write_text("[[principle]\n", "utf-8")
    drawn = principlesview.draw(live.look())
    assert 'role="alert"' in drawn and "Back to the shipped ones" in drawn


@pytest.mark.parametrize("wicked", PAYLOADS)
def test_foreign_text_in_a_principle_is_escaped(wicked: str) -> None:
    assert (
        act(do="principle-save", id="+", values={**NEW, "title": wicked, "critique": wicked, "revision": wicked}) == ""
    )
    shown = principlesview.draw(live.look())
    act(do="principle", id=cards()[-1].id)
    for drawn in (shown, principlesview.draw(live.look())):
        assert not any(f"<{tag}" in drawn.lower() for tag in ("script", "img", "iframe", "form", "svg", "style"))
