"""A constitution's file: what it says, where it is wrong, and that editing a card touches nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from studio.errors import DataError
from studio.feedback import principles
from studio.feedback.principles import Principle

CARD = """\
[[principle]]
id = "a"
group = "honest"
title = "A"
critique = "Is it so?"
revision = "Make it so."
"""
NEW = Principle("new", "harmless", 'With "quotes" and \\', "Zeile\nzwei?", "Tab\there, DEL\x7f.")


def test_the_starter_set_has_about_twenty_short_principles_in_all_groups() -> None:
    found = principles.load(principles.starter())
    assert 18 <= len(found.principles) <= 24 and {one.group for one in found.principles} == set(principles.GROUPS)
    for one in found.principles:
        assert one.critique.endswith("?") and len(one.critique.split()) <= 30 and len(one.revision.split()) <= 30
    assert any(
        re.match("no problems", one.criticism, re.IGNORECASE) for one in found.examples
    )  # shows that it may be fine
    assert len([one for one in found.examples if one.revision]) >= 2


def test_groups_choose_principles_and_none_means_all() -> None:
    found = principles.load(principles.starter())
    assert {one.group for one in found.among(["honest"]).principles} == {"honest"}
    assert found.among([]) == found


@pytest.mark.parametrize(
    ("text", "words", "line", "field"),
    [
        ("", "no principle", None, None),
        ("# nothing\n", "no principle", None, None),
        ("[[principle\n", "no TOML", 1, None),
        (CARD + 'title = "again"\n', "no TOML", 7, None),
        (CARD.replace('"A"', "7"), "title must be a text", 4, "title"),
        (CARD.replace('"A"', '" "'), "title is empty", 4, "title"),
        (CARD.replace('title = "A"\n', ""), "has no title", 1, "title"),
        (CARD.replace("title", "titel"), "no field 'titel'", 4, "titel"),
        (CARD.replace("honest", "nice"), "no group 'nice'", 3, "group"),
        (CARD.replace('"a"', '"A b"'), "cannot be an id", 2, "id"),
        (CARD + "\n# two\n" + CARD, "is there twice", 2, "id"),
        (CARD + "\n" + CARD.replace('"a"', '"b"').replace("Is it so?", ""), "critique is empty", 12, "critique"),
        (CARD + '[other]\nx = "y"\n', "'other' has no meaning", 7, "other"),
        ('principle = "x"\n', "must be a list of tables", 1, "principle"),
        (CARD + "[[example]]\nprompt = 'x'\n", "The example has no answer", 7, "answer"),
        (CARD.replace("Is it so?", "x" * 2001), "longer than 2000", 5, "critique"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_field(
    tmp_path: Path, text: str, words: str, line: int | None, field: str | None
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(DataError, match=words) as caught:
        principles.load(file)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(file), line, field)
    assert caught.value.remedy


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        principles.load(tmp_path / "missing.toml")
    (tmp_path / "utf16.toml").write_bytes(CARD.encode("utf-16"))
    with pytest.raises(DataError, match="not UTF-8"):
        principles.load(tmp_path / "utf16.toml")
    (tmp_path / "huge.toml").write_text("#" * (1 << 20) + "\n" + CARD)
    with pytest.raises(DataError, match="larger than 1 MB"):
        principles.load(tmp_path / "huge.toml")


def test_a_card_is_changed_added_and_removed_and_every_other_line_stays() -> None:
    before = principles.load(principles.starter()).text
    for old in ("true", "answers-the-question", "what-was-meant"):
        changed = principles.put(before, NEW, old)
        assert NEW in principles.parse(changed).principles and f'"{old}"' not in changed
        kept = [line for line in before.split("\n") if line in changed.split("\n")]
        assert len(kept) >= len(before.split("\n")) - 5 and principles.put(changed, _card(before, old), "new") == before
    added = principles.put(before, NEW)
    assert principles.parse(added).principles == (*principles.parse(before).principles, NEW)
    assert [line for line in added.split("\n") if line.startswith("#")] == _comments(before)
    assert principles.remove(added, "new") == before
    assert tomllib.loads(added)["principle"][-1]["title"] == NEW.title


def _card(text: str, id: str) -> Principle:
    return next(one for one in principles.parse(text).principles if one.id == id)


def _comments(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("#")]


def test_a_head_inside_a_text_does_not_mislead_an_edit() -> None:
    odd = CARD.replace('"Is it so?"', '"""\n[[principle]]\nis it so?"""') + "\n" + CARD.replace('"a"', '"b"')
    made = principles.parse(principles.put(odd, NEW, "b"))
    assert [one.id for one in made.principles] == ["a", "new"] and "[[principle]]" in made.principles[0].critique


def test_edits_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="no principle 'x'"):
        principles.put(CARD, NEW, "x")
    with pytest.raises(DataError, match="no principle 'x'"):
        principles.remove(CARD, "x")
    with pytest.raises(DataError, match="needs a principle"):
        principles.remove(CARD, "a")
    with pytest.raises(DataError, match="no group"):
        principles.put(CARD, Principle("b", "nice", "t", "c", "r"))
    with pytest.raises(DataError, match="there twice"):
        principles.put(CARD, Principle("a", "honest", "t", "c", "r"))


def test_the_own_copy_comes_before_the_starter_set_and_a_bad_one_is_never_saved() -> None:
    assert principles.place() == principles.starter()
    principles.save(CARD)
    assert principles.place() == principles.own() and principles.load(principles.place()).principles[0].id == "a"
    with pytest.raises(DataError):
        principles.save(CARD.replace("honest", "nice"))
    assert principles.own().read_text("utf-8") == CARD
    assert principles.place("other.toml") == Path("other.toml")


@pytest.mark.parametrize(
    "text",
    [
        'principle = [{ id = "a", group = "honest", title = "T", critique = "C?", revision = "R." }]\n',
        '[["principle"]]\nid = "a"\ngroup = "honest"\ntitle = "T"\ncritique = "C?"\nrevision = "R."\n',
    ],
)
def test_cards_can_be_changed_in_whichever_way_the_tables_are_written(text: str) -> None:
    card = principles.Principle("b", "helpful", "New", "Is it?", "Let it be.")
    (first,) = principles.parse(text).principles
    both = principles.put(text, card)
    assert principles.parse(both).principles == (first, card)
    assert principles.parse(principles.put(text, card, "a")).principles == (card,)
    assert principles.parse(principles.remove(both, "a")).principles == (card,)
