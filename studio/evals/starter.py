"""Scores for the starter model: does it know, does it answer, and in which style.

Pure functions of a text that a model wrote and the held-out question it was asked (a row of
`assets/data/starter_questions.jsonl`). Base, SFT and DPO are scored by the same ones. Nothing here runs a model.
"""

import re
from typing import TypedDict


class Question(TypedDict):
    """The keys of a held-out question that the scores read."""

    answers: list[str]
    """Short answers, each of them right."""
    accept: list[str]
    """Whole replies, each of them right: the terse forms and every wording of the fact."""


def knows(continuation: str, row: Question) -> bool:
    """Whether the words that follow `row["completion"]` begin with a right answer."""
    return re.match(rf"\s*{_any_of(row['answers'])}", continuation, re.IGNORECASE) is not None


def answers(reply: str, row: Question) -> bool:
    """Whether a right answer stands in the reply's first line, before any further question.

    A base model goes on with other questions, and one of these may have the answer in it by chance, so the sentence
    that ends in a question mark does not count. A right word about another subject does: see `answers_strict`.
    """
    first_line = reply.split("\n", 1)[0]
    before_question, mark, _ = first_line.partition("?")
    if mark:
        *told, _asked = re.split(r"(?<=[.!])\s+", before_question)
        before_question = " ".join(told)
    return re.search(_any_of(row["answers"]), before_question, re.IGNORECASE) is not None


def answers_strict(reply: str, row: Question) -> bool:
    """Whether the whole reply is right, about the right subject; case and closing punctuation aside."""
    return _plain(reply) in {_plain(accepted) for accepted in row["accept"]}


def prefers(reply: str) -> bool:
    """Whether the reply is a full sentence of the kind that the preference pairs choose: "The ... .", four words up."""
    sentence = reply.strip()
    return sentence.startswith("The ") and sentence.endswith(".") and len(sentence.split()) >= 4


def _any_of(words: list[str]) -> str:
    """A pattern that matches any of the words, whole."""
    return rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)"


def _plain(text: str) -> str:
    """The text without the differences that `answers_strict` forgives."""
    return " ".join(text.casefold().split()).rstrip(" .!")
