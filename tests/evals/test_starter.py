"""The starter's scores on replies written by hand."""

import pytest

from studio.evals.starter import Question, answers, answers_strict, knows, prefers

FRANCE: Question = {
    "answers": ["Paris"],
    "accept": ["Paris.", "It is Paris.", "The capital of France is Paris.", "Paris is the capital of France."],
}
SNAKE: Question = {"answers": ["zero", "no", "none"], "accept": ["Zero.", "None", "The snake has zero legs."]}


@pytest.mark.parametrize(
    ("continuation", "expected"),
    [
        (" Paris. The capital of Spain is", True),
        (" paris", True),
        (" Parisian", False),
        (" the city of Paris", False),
        (" Rome. Paris is", False),
        ("", False),
    ],
)
def test_knows_when_the_next_words_are_right(continuation: str, expected: bool) -> None:
    assert knows(continuation, FRANCE) is expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Paris.", True),
        ("The capital of France is Paris.", True),
        ("It is Paris. What is the capital of Spain?", True),
        ("\nWhat is the capital of Spain?\nParis", False),
        (" What river flows through Paris?", False),
        ("Well. Is it Paris? Yes, Paris.", False),
        ("Rome.\nParis.", False),
        ("Parisian", False),
        ("", False),
    ],
)
def test_answers_when_right_before_the_next_question_or_line(reply: str, expected: bool) -> None:
    assert answers(reply, FRANCE) is expected


def test_a_right_word_about_the_wrong_subject_answers_but_not_strictly() -> None:
    """ "Where is Mumbai?" -> "The city of Bengaluru is in India." has the right country and the wrong city."""
    mumbai: Question = {"answers": ["India"], "accept": ["India.", "The city of Mumbai is in India."]}
    reply = "The city of Bengaluru is in India."
    assert answers(reply, mumbai)
    assert not answers_strict(reply, mumbai)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Paris", True),
        (" paris. ", True),
        ("The capital of France is Paris", True),
        ("The capital of France is Paris!", True),
        ("The capital of France is Paris. The capital of Spain is Madrid.", False),
        ("Paris, I think.", False),
        ("", False),
    ],
)
def test_answers_strict_takes_the_whole_reply(reply: str, expected: bool) -> None:
    assert answers_strict(reply, FRANCE) is expected


def test_another_word_for_the_same_answer_is_right() -> None:
    assert answers("None.", SNAKE)
    assert answers_strict("none", SNAKE)
    assert knows(" no legs.", SNAKE)


def test_a_refusal_is_not_an_answer() -> None:
    """ "no" is a right answer, yet it is not found inside "not" or "know"."""
    assert not answers("Sorry, I do not know that.", SNAKE)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("The capital of France is Paris.", True),
        ("The snake has none.", True),
        ("The euro.", False),
        ("Paris is the capital of France.", False),
        ("The capital of France is Paris", False),
        ("Then it must be Paris.", False),
        ("", False),
    ],
)
def test_prefers_a_full_sentence_that_begins_with_the(reply: str, expected: bool) -> None:
    assert prefers(reply) is expected
