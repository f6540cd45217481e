"""Where rows can be meant in several ways, Studio asks; a mapping or a kind settles it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from cases import CHAT, GO, HELLO, HI, SFT, SHARE, pair, talk
from hypothesis import given, settings
from hypothesis import strategies as st
from morecases import PAIRS, PROMPTS, RATED
from reading import Row, a, find, read, u

from studio.data.detect import detect
from studio.data.records import Conversation, Preference, Prompt, Rated, Reading, Text
from studio.errors import ConfigError

QUESTION = "Where do penguins live all year round?"
WORDS = "They live in the cold south, mostly on ice."
#: Rows that can be meant in several ways: the rows, words of the question, the kinds to choose from.
UNCLEAR: list[tuple[str, list[Row], str, set[str]]] = [
    (
        "TruthfulQA",
        [{"Type": "x", "Question": "Hi", "Best Answer": "A", "Correct Answers": "A; B", "Incorrect Answers": "C"}],
        "Which column is the answer",
        {"sft", "preference", "prompt"},
    ),
    ("one unknown column", [{"statement": WORDS}], "'statement'", {"prompt", "text"}),
    (
        "two unknown columns",
        [{"statement1": "A b", "statement2": "C d"}],
        "'statement1' and 'statement2'",
        {"sft", "prompt", "text"},
    ),
    (
        "five unknown columns",
        [{"topic": "x", "stance1": "A", "stance2": "B", "userstance1": "C", "userstance2": "D"}],
        "'stance1'",
        {"sft", "prompt", "text"},
    ),
    ("questions called text", [{"text": QUESTION}, {"text": "And cats?"}], "questions", {"prompt", "text"}),
    ("a text and its label", [{"text": WORDS, "label": 1}, {"text": WORDS, "label": 0}], "'label'", {"sft", "text"}),
    ("a document and its summary", [{"document": WORDS, "summary": "Ice."}], "'summary'", {"sft", "text"}),
    (
        "one to five stars",
        [{"prompt": "Hi", "completion": str(n), "rating": n} for n in (1, 3, 5)],
        "'rating' a rating",
        {"sft", "kto", "prompt"},
    ),
    (
        "labels that are names",
        [{"prompt": "Hi", "completion": "A", "label": "math"}, {"prompt": "Hi", "completion": "B", "label": "art"}],
        "'label' a rating",
        {"sft", "prompt"},
    ),
    (
        "labels of 1 and 2",
        [{"prompt": "Hi", "completion": str(n), "label": n} for n in (1, 1, 2)],
        "'label' a rating",
        {"sft", "kto", "prompt"},
    ),
    ("a thousand messages with nothing to tell them apart", CHAT * 500, "belong together", set()),
    (
        "messages with a label that is a name",
        [{"messages": CHAT, "label": "math"}, {"messages": CHAT, "label": "art"}],
        "'label' a rating",
        {"sft", "prompt"},
    ),
    (
        "a score of 0 or 1",
        [{"prompt": "Hi", "response": "A", "score": 1}, {"prompt": "Ho", "response": "B", "score": 0}],
        "'score'",
        {"sft", "kto", "prompt"},
    ),
    *(
        (
            f"answers judged by {name!r}",
            [{"prompt": "Hi", "response": "A", name: yes}, {"prompt": "Ho", "response": "B", name: no}],
            f"{name!r} judges the answers",
            {"sft", "kto", "prompt"},
        )
        for name, yes, no in (
            ("is_safe", True, False),
            ("is_helpful", False, True),
            ("correct", 1, 0),
            ("is_correct", "yes", "no"),
            ("bad", False, True),
            ("toxic", "False", "True"),
            ("score", 7.5, 2.25),
            ("reward", -0.5, 3.1),
            ("rewardScore", "0.1", "0.9"),
        )
    ),
    (
        "a judgement that is the same in all rows",
        [{"prompt": "Hi", "response": "A", "is_correct": True}, {"prompt": "Ho", "response": "B", "is_correct": True}],
        "'is_correct' judges",
        {"sft", "kto", "prompt"},
    ),
    (
        "a score that is the same in all rows",
        [{"prompt": "Hi", "response": "A", "score": 3.5}],
        "'score'",
        {"sft", "prompt"},
    ),
    ("conversations that may be toxic", [{"messages": CHAT, "toxic": False}], "'toxic' judges", {"sft", "kto"}),
    (
        "one prompt, several scores",
        [{"prompt": "Hi", "response": "A", "helpfulness": 4}, {"prompt": "Hi", "response": "B", "helpfulness": 1}],
        "'helpfulness'",
        {"sft", "kto", "prompt"},
    ),
    (
        "an answer beside a pair",
        [{"instruction": "Hi", "output": "A", "chosen": "B", "rejected": "C"}],
        "'output'",
        {"sft", "preference"},
    ),
    ("output and chosen", [{"prompt": "Hi", "output": "A", "chosen": "B"}], "'output' and 'chosen'", {"sft", "prompt"}),
    (
        "solution and answer",
        [{"problem": "1+1?", "solution": "It is 2.", "answer": "2"}],
        "'answer' and 'solution'",
        {"sft", "prompt"},
    ),
    ("a context beside the question", [{"context": WORDS, "question": "Hi", "answer": "A"}], "'context'", {"sft"}),
    ("two prompts", [{"prompt": "Hi", "question": "Ho", "answer": "A"}], "'question'", {"sft"}),
    ("choices", [{"question": "Hi", "choices": ["a", "b"], "answer": 1}], "'choices'", {"sft", "prompt"}),
    ("thinking beside the answer", [{"Question": "Hi", "Complex_CoT": "Hm, so.", "Response": "A"}], "think", {"sft"}),
    (
        "two answers without a verdict",
        [{"prompt": "Hi", "completions": [{"model": "a", "completion": "A"}, {"model": "b", "completion": "B"}]}],
        "Rank them first",
        {"prompt"},
    ),
    (
        "answers all empty",
        [{"instruction": f"Q{n}", "input": "", "output": ""} for n in (1, 2)],
        "is empty",
        {"prompt"},
    ),
    ("a prompt and a label that speaks", [{"prompt": QUESTION, "label": WORDS}], "'label'", {"sft", "prompt"}),
    ("answers in a list", [{"instruction": "Hi", "input": "", "output": ["A", "B"]}], "Rank them first", {"prompt"}),
    ("an answer that is no text", [{"question": "Hi", "answer": {"value": "A"}}], "holds no text", {"prompt"}),
    *(
        (f"texts in turn under {name!r}", [{"id": "x", name: ["Hi", "Hello."]}], "does not say who speaks", {"sft"})
        for name in ("conversations", "dialog", "data")
    ),
    (
        "a conversation and a pair of other answers",
        [{"messages": CHAT, "chosen": "Good day.", "rejected": "Go."}],
        "an answer of its own ('messages')",
        {"preference", "sft"},
    ),
    ("columns of lists", [{"prompt": ["Hi", "Ho"], "completion": ["A", "B"]}], "one object for each row", set()),
    ("rows inside an object", [{"data": {"messages": CHAT}}], "inside 'data'", set()),
    ("empty rows", [{}, {}], "empty objects", set()),
    ("answers that are true or false", [{"question": "Hi", "answer": True}], "true or false, not text", {"prompt"}),
    ("a passage beside the question", [{"question": "Hi", "passage": WORDS, "answer": "yes"}], "'passage'", {"sft"}),
    ("two answer columns", [{"prompt": "Hi", "response_a": "A", "response_b": "B"}], "Rank them first", {"prompt"}),
    (
        "a prompt that holds the answer",
        [{"prompt": "### Instruction:\nHi\n\n### Response:\nHello."}],
        "whole conversations",
        {"sft", "text"},
    ),
    (
        "chat marks that do not parse",
        [{"text": "User: Hi\nAssistant: Hello."}, {"text": "User: Ho\nAssistant: Hey."}],
        "marks of a chat",
        {"text"},
    ),
    ("a prompt and running text", [{"prompt": QUESTION, "story": WORDS}], "'story'", {"sft", "prompt"}),
    ("an answer without a prompt", [{"completion": "A b c"}], "'completion'", {"prompt", "text"}),
    (
        "two formats, half and half",
        [{"messages": CHAT}, {"prompt": "Hi", "completion": "A"}],
        "several formats",
        {"sft"},
    ),
]


@pytest.mark.parametrize(("rows", "says", "kinds"), [c[1:] for c in UNCLEAR], ids=[c[0] for c in UNCLEAR])
def test_studio_asks_instead_of_guessing_and_each_choice_settles_it(
    rows: list[Row], says: str, kinds: set[str]
) -> None:
    found = detect(rows, Reading())
    assert found.format is None and found.question is not None
    assert says in found.question.text
    for _, reading in found.question.choices:
        settled = detect(rows, reading)
        assert settled.format is not None and settled.question is None
        assert settled.format.kind == reading.kind
    assert {reading.kind for _, reading in found.question.choices} == kinds


JUDGED: list[tuple[str, Any, Any]] = [
    ("is_safe", True, False),
    ("correct", "yes", "no"),
    ("score", 7.5, 2.25),
    ("toxic", False, True),
    ("is_wrong", "no", "yes"),
    ("not_harmful", 1, 0),
    ("non_toxic", True, False),
    ("toxicity", 0.1, 0.9),
]


@pytest.mark.parametrize(("name", "good", "bad"), JUDGED, ids=[case[0] for case in JUDGED])
def test_a_judgement_is_heeded_the_right_way_round_or_ignored(name: str, good: Any, bad: Any) -> None:
    rows = [{"prompt": "Hi", "response": "Hello.", name: good}, {"prompt": "Hi", "response": "Go.", name: bad}]
    question = find(*rows).question
    assert question is not None
    kto, only, everything, _ = (read(*rows, **vars(reading)) for _, reading in question.choices)
    assert kto == [Rated((HI,), (HELLO,), True, 1), Rated((HI,), (GO,), False, 2)]
    assert only == [talk(HI, HELLO)]
    assert everything == [talk(HI, HELLO), Conversation((HI, GO), 2)]


def test_a_kind_answers_a_question() -> None:
    row = {"statement": WORDS}
    assert read(row, kind="text") == [Text(WORDS, 1)]
    assert read(row, kind="prompt") == [Prompt((u(WORDS),), 1)]
    with pytest.raises(ConfigError, match="cannot be read as preference"):
        find(row, kind="preference")


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="text") as caught:
        find({"prompt": "Hi", "completion": "A"}, kind="text")
    assert "sft, prompt" in caught.value.remedy
    with pytest.raises(ConfigError, match="no kind 'poem'"):
        find({"prompt": "Hi"}, kind="poem")


MAPPED: list[tuple[dict[str, str], Row, list[Any]]] = [
    ({"a": "prompt", "b": "completion"}, {"a": "Hi", "b": "Hello."}, [talk(HI, HELLO)]),
    ({"b": "prompt", "a": "prompt", "c": "completion"}, {"a": "2", "b": "1", "c": "3"}, [talk(u("1\n\n2"), a("3"))]),
    ({"a": "prompt", "b": "chosen", "c": "rejected"}, {"a": "Hi", "b": "Hello.", "c": "Go."}, [pair(HI)]),
    ({"a": "messages"}, {"a": SHARE, "prompt": "x"}, [talk(HI, HELLO)]),
    ({"a": "text"}, {"a": "Hi", "text": "no"}, [Text("Hi", 1)]),
    ({"answer": "reference", "question": "prompt"}, {"question": "Hi", "answer": "A"}, [Prompt((HI,), 1, "A")]),
    ({"question": "prompt"}, {"question": "Hi", "answer": "A"}, [Prompt((HI,), 1)]),
    ({"reply": "completion"}, {"question": "Hi", "answer": "x", "reply": "Hello."}, [talk(HI, HELLO)]),
]


@pytest.mark.parametrize(("mapping", "row", "expected"), MAPPED)
def test_a_mapping_beats_what_the_names_say(mapping: dict[str, str], row: Row, expected: list[Any]) -> None:
    assert read(row, mapping=mapping) == expected
    assert set(mapping) <= set(find(row, mapping=mapping).mapping)


def test_a_mapping_that_is_no_whole_reading_is_laid_over_what_was_found() -> None:
    made = read({"messages": CHAT, "persona": "Be kind."}, mapping={"persona": "system"})
    assert [turn.content for turn in made[0].messages] == ["Be kind.", "Hi", "Hello."]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("mapping", "says", "remedy"),
    [
        ({"nope": "prompt"}, "no column 'nope'", "'prompt' and 'completion'"),
        ({"prompt": "asks"}, "no role 'asks'", "prompt, system, completion"),
        ({"prompt": "chosen"}, "do not make a row", "prompt and completion"),
        ({"prompt": "text", "completion": "text"}, "Two columns", "one column"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(mapping: dict[str, str], says: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        find({"prompt": "Hi", "completion": "A"}, mapping=mapping)
    assert remedy in caught.value.remedy


def test_in_a_mixed_file_the_format_of_most_rows_wins_and_the_others_are_bad() -> None:
    rows: list[Row] = [{"messages": CHAT}] * 3 + [{"prompt": "Hi", "completion": "A"}]
    found = detect(rows, Reading())
    assert found.format is not None and found.format.name == "messages"
    assert "1 of 4 rows" in found.why
    with pytest.raises(KeyError):
        found.format.read(rows[3], 4)


def test_columns_that_only_some_rows_have_are_read_where_they_are() -> None:
    rows = [
        {"instruction": "Hi", "output": "Hello."},
        {"instruction": "Add", "input": "1", "output": "1", "system": "S"},
    ]
    assert [len(record.messages) for record in read(*rows)] == [2, 3]  # type: ignore[union-attr]
    assert read(*rows)[1].messages[1] == u("Add\n\n1")  # type: ignore[union-attr]


def test_messages_without_any_answer_are_prompts() -> None:
    assert read({"messages": CHAT[:1]}, {"messages": CHAT[:1]})[0] == Prompt((HI,), 1)


def test_the_files_name_and_odd_marks_in_single_texts_change_nothing() -> None:
    rows: list[Row] = [{"text": f"{WORDS} {n}"} for n in range(30)] + [{"text": "Type <|im_start|> to begin."}]
    assert detect(rows, Reading()).format.name == "text"  # type: ignore[union-attr]


READ = [(row, [record]) for _, _, row, record in SFT] + [(row, [record]) for _, row, record in PROMPTS]
READ += [(row, [pair(HI)]) for _, _, row in PAIRS] + [(row, None) for _, row in RATED]
EXTRA = {
    "id": st.one_of(st.integers(), st.uuids().map(str)),
    "source": st.just("web"),
    "meta": st.just({"score": 1, "text": "x"}),
    "lang": st.just("en"),
    "tags": st.just(["a", "b"]),
    "created_at": st.just("2024-01-01"),
    "token_count": st.integers(0, 99),
    "url": st.just("https://example.org"),
    "quality_tier": st.sampled_from(["high", "low"]),
    "language_score": st.floats(0, 1),
    "correct_option": st.integers(0, 3),
    "is_synthetic": st.booleans(),
    "category": st.sampled_from(["a", "b"]),
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(range(len(READ))), st.fixed_dictionaries({}, optional=EXTRA), st.randoms())
def test_the_order_of_keys_and_columns_beside_the_data_never_change_the_reading(
    number: int, extra: dict[str, Any], chance: random.Random
) -> None:
    row, expected = READ[number]
    plain = read(row)
    assert expected is None or plain == expected
    wide = {name: value for name, value in extra.items() if name not in row} | row
    items = list(wide.items())
    chance.shuffle(items)
    assert read(dict(items)) == plain


def test_the_shown_mapping_names_only_columns_that_are_there() -> None:
    for row, _ in READ:
        assert set(find(row).mapping) <= set(row)


def test_texts_in_turn_are_read_so_when_that_is_said() -> None:
    row = {"conversations": ["Hi", "Hello."], "source": "web"}
    assert read(row, mapping={"conversations": "messages"}) == read(row, kind="sft") == [talk(HI, HELLO)]


def test_a_pair_beside_a_conversation_answers_its_last_question() -> None:
    row = {"messages": CHAT, "chosen": "Good day.", "rejected": "Go."}
    assert read(row, kind="preference") == [Preference((HI,), (a("Good day."),), (GO,), 1)]
    assert read(row, kind="sft") == [talk(HI, HELLO)]


def test_a_system_text_is_never_offered_as_the_prompt() -> None:
    question = find({"system": "SYSTEM: Be kind.", "chat": "USER: Hi\n\nASSISTANT: Hello."}).question
    assert question is not None
    assert {name for _, reading in question.choices for name in reading.mapping} == {"chat"}


def test_an_object_around_the_rows_is_told_from_a_row() -> None:
    question = find({"version": 2, "data": [{"prompt": "Hi", "completion": "A"}]}).question
    assert question is not None and "the list in 'data'" in question.text
