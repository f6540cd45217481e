"""Checks of answers: what passes, what does not, and what cannot be a check."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from speaking_by_script import Scripted

from studio.errors import DataError
from studio.evals import checks, ifeval, schema
from studio.evals.checks import Check, Checker


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    made = Checker()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "want", "good", "bad"),
    [
        ("exact", "Paris", " Paris\n", "Paris."),
        ("exact", ["Paris", "Paris."], "Paris.", "paris"),
        ("contains", ["one", "Two"], "two and ONE", "one"),
        ("lacks", ["sorry", "cannot"], "Here it is.", "I CANNOT say."),
        ("exact", "Caf\u00e9", "Cafe\u0301", "Cafe"),
        ("contains", "cafe\u0301", "The CAF\u00c9.", "The cafe."),
        ("lacks", "Z\u00fcrich", "In Zug.", "In Zu\u0308rich."),
        ("regex", r"^\d+ eggs$", "12 eggs", "about 12 eggs"),
        ("number", 1234.5, "It is $1,234.50.", "It is 1,234."),
        ("number", -3, "The answer is -3", "The answer is 3"),
        ("number", 18, "9 * 2 = 18 dollars.", "18 and then 2"),
        ("schema", {"type": "object", "required": ["a"]}, '```json\n{"a": 1}\n```', '{"b": 1}'),
        ("schema", {"type": "array", "items": {"type": "integer"}}, "[1, 2.0]", '[1, "2"]'),
        ("schema", {"type": "object"}, "{}", "not JSON at all"),
        ("schema", {"type": "integer", "minimum": 5}, "1" + "0" * 400, "-1" + "0" * 400),
        ("schema", {"multipleOf": 0.1}, "1e300", "0.25"),
    ],
)
def test_a_check_passes_what_it_asks_for_and_nothing_else(
    checker: Checker, kind: str, want: Any, good: str, bad: str
) -> None:
    assert checks.refuse(kind, want) == ""
    assert checker.holds(Check(kind, want), "", good) is True
    assert checker.holds(Check(kind, want), "", bad) is False


def test_a_number_may_be_a_little_off_where_that_is_said(checker: Checker) -> None:
    assert checker.holds(Check("number", 3.14159, 0.01), "", "about 3.14")
    assert not checker.holds(Check("number", 3.14159), "", "about 3.14")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", None),
        ("none", None),
        ("1,000,000", 1e6),
        ("5-3", 3),
        ("2e3", 2000),
        ("−7", -7),
        (".5", 0.5),
        ("H2", None),
        ("1,2,3", 3),
        ("(3,4)", 4),
        ("1,234,567", 1234567),
    ],
)
def test_the_last_number_of_a_text(text: str, number: float | None) -> None:
    assert checks.last_number(text) == number


def test_a_pattern_without_an_end_is_ended(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATTERN_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(DataError, match="took more than 1 s") as error:
        checker.holds(Check("regex", r"^(a+)+$"), "", "a" * 60 + "b")
    assert error.value.field == "regex" and time.monotonic() - began < 20
    assert checker.holds(Check("regex", "b$"), "", "ab")  # and the next one is checked


@pytest.mark.parametrize(
    ("kind", "want", "said"),
    [
        ("exact", [], "a text is needed"),
        ("contains", 3, "a text is needed"),
        ("regex", "(", "no pattern"),
        ("number", "12", "a number is needed"),
        ("number", True, "a number is needed"),
        ("number", 10**400, "a number is needed"),
        ("schema", {"type": [["string"]]}, "there is no type ['string']"),
        ("schema", {"required": [["a"]]}, "no list of names"),
        ("schema", {"$ref": "#/x"}, "'$ref', which is not checked here"),
        ("schema", {"properties": {"a": {"type": "text"}}}, "schema.properties.a.type: there is no type 'text'"),
        ("schema", {"minimum": "3"}, "no number"),
        ("judge", "", "a text is needed"),
    ],
)
def test_what_cannot_be_a_check_is_said(kind: str, want: Any, said: str) -> None:
    assert said in checks.refuse(kind, want)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"type": ["string", "null"]}, [None, "a"], [1, True]),
        ({"type": "integer"}, [1, 2.0], [1.5, True, "1"]),
        ({"enum": [1, "a"]}, [1, 1.0, "a"], [True, "b"]),
        ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [True]}, {"a": [1, 2]}]),
        ({"properties": {"a": {"type": "string"}}, "additionalProperties": False}, [{}, {"a": "x"}], [{"b": 1}]),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "number"}}, [{"a": "x", "b": 1}], [{"b": "x"}]),
        ({"minItems": 1, "maxItems": 2, "uniqueItems": True}, [[1], [1, 2], "text"], [[], [1, 1], [1, 2, 3]]),
        ({"minLength": 2, "maxLength": 3, "pattern": "^a"}, ["ab", 7], ["a", "ba", "abcd"]),
        ({"minimum": 1, "exclusiveMaximum": 3, "multipleOf": 0.5}, [1, 2.5, "x"], [0, 3, 2.2]),
        ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 6], [4]),
        ({"oneOf": [{"minimum": 1}, {"minimum": 5}]}, [2], [0, 6]),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}], "not": {"const": 2}}, [1, 3], [2, 4]),
        ({"minProperties": 1, "required": ["a"]}, [{"a": None}], [{}, {"b": 1}]),
    ],
)
def test_schemas_are_read_as_the_standard_reads_them(rule: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    assert schema.refuse(rule) == ""
    assert [schema.holds(value, rule) for value in good] == [True] * len(good)
    assert [schema.holds(value, rule) for value in bad] == [False] * len(bad)


def test_a_judge_says_whether_a_requirement_is_met_and_nobody_says_nothing() -> None:
    required = Check("judge", "It names a city.")
    assert Checker(None).holds(required, "Where?", "Paris") is None
    yes = Scripted(
        "judge", weigh=lambda text, words: [0.9 if "Paris" in text else 0.2, 0.1 if "Paris" in text else 0.8]
    )
    assert Checker(yes).holds(required, "Where?", "Paris") is True
    assert Checker(yes).holds(required, "Where?", "there") is False
    assert "It names a city." in yes.asked[0] and "Where?" in yes.asked[0]
    read = Scripted("judge", lambda turns: "No, it does not.")
    assert Checker(read).holds(required, "Where?", "there") is False
    assert Checker(Scripted("judge", lambda turns: "Maybe")).holds(required, "Where?", "there") is None


@pytest.mark.parametrize(
    ("name", "given", "good", "bad"),
    [
        ("keywords:existence", {"keywords": ["sea", "C++"]}, "The SEA and c++", "The sea"),
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "A Cat."),
        ("keywords:frequency", {"keyword": "a", "relation": "at least", "frequency": 2}, "banana", "b a b"),
        ("keywords:letter_frequency", {"letter": "q", "let_relation": "less than", "let_frequency": 2}, "Q", "qQ"),
        ("length_constraints:number_words", {"relation": "at least", "num_words": 3}, "one two-three", "one two"),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one\n***\n***\ntwo"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
            'First.\n\n"Then, it was.',
            "Then.\n\nFirst.",
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a]"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. more", "Bye. PS more"),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S. more", "P.S. more"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n* two\n* three"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "some *words*", "some ** words"),
        (
            "detectable_format:multiple_sections",
            {"section_spliter": "SECTION", "num_sections": 2},
            "SECTION 1\nx\nSECTION 2\ny",
            "SECTION 1\nx",
        ),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
        ("detectable_format:title", {}, "<<A title>>\ntext", "<< >> <text>"),
        ("detectable_format:constrained_response", {}, "My answer is no.", "My answer is nothing"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. It.", "It. Say it."),
        ("combination:two_responses", {}, "one\n******\ntwo", "same******same"),
        ("startend:end_checker", {"end_phrase": "Goodbye."}, 'So "goodbye."', "Goodbye. Or not"),
        ("startend:quotation", {}, ' "quoted" ', '"not'),
        ("punctuation:no_comma", {}, "none here", "one, here"),
        ("change_case:english_lowercase", {}, "all small.", "Not all"),
        ("change_case:english_capital", {}, "ALL 2 BIG!", "NOT all"),
    ],
)
def test_each_instruction_that_is_checked_is_told_from_its_breach(
    name: str, given: dict[str, Any], good: str, bad: str
) -> None:
    assert ifeval.known(name) and set(ifeval.NEEDS.get(name, ())) == set(given)
    assert ifeval.follows(name, given, good) and not ifeval.follows(name, given, bad)
    assert not ifeval.follows(name, given, "  ")


def test_instructions_that_take_other_tools_are_not_checked() -> None:
    assert not ifeval.known("length_constraints:number_sentences")
    assert not ifeval.known("language:response_language")
    assert len(ifeval._CHECKS) == 22


def test_the_file_of_checks_says_what_each_is() -> None:
    text = Path(checks.__file__).read_text("utf-8").split('"""')[1]
    assert all(f"    {kind} " in text for kind in checks.KINDS)
