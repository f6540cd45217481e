"""The starter's data: the files parse, both answers of a pair are right, and what is held out is taught nowhere."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from studio.evals.starter import answers, answers_strict, knows, prefers

DATA = Path(__file__).parents[2] / "assets" / "data"
ROLES = {"system", "user", "assistant"}


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of one of the files."""
    lines = (DATA / f"starter_{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    return rows("questions")


@pytest.fixture(scope="module")
def taught() -> str:
    """All that the SFT and preference rows say."""
    messages = [message for row in rows("sft") for message in row["messages"]]
    pairs = rows("pairs") + rows("ranked")
    messages += [message for row in pairs for part in ("prompt", "chosen", "rejected") for message in row[part]]
    return "\n".join(message["content"] for message in messages)


def names(question: dict[str, Any]) -> list[str]:
    """The words by which a training row would mention the question's entity.

    The answer counts where it belongs to the subject alone; a continent or a colour is the answer to many.
    """
    subject = re.sub(r"^(a|an|the) ", "", question["subject"])
    if question["kind"] == "sum":
        x, y = subject.split(" plus ")
        return [f"{a} {sign} {b}" for a, b in ((x, y), (y, x)) for sign in ("plus", "and", "+")]
    own = question["kind"] in ("capital", "city", "opposite", "plural", "past", "symbol")
    return [subject, *question["answers"]] if own else [subject]


def test_no_training_row_mentions_a_held_out_entity(questions: list[dict[str, Any]], taught: str) -> None:
    held_out = {name for question in questions for name in names(question)}
    mentioned = {name for name in held_out if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", taught, re.IGNORECASE)}
    assert not mentioned


def test_the_two_splits_share_no_entity(questions: list[dict[str, Any]]) -> None:
    choose, report = (
        {name.casefold() for question in questions if question["split"] == split for name in names(question)}
        for split in ("choose", "report")
    )
    assert not choose & report


def test_the_reported_split_is_large_and_even_over_the_kinds(questions: list[dict[str, Any]]) -> None:
    counts = Counter(question["kind"] for question in questions if question["split"] == "report")
    assert len(counts) == 16
    assert sum(counts.values()) >= 150
    assert max(counts.values()) <= 2 * min(counts.values())
    assert len({question["id"] for question in questions}) == len(questions)


def test_each_question_accepts_its_own_answers(questions: list[dict[str, Any]]) -> None:
    for question in questions:
        assert knows(f" {question['answers'][0]}.", question)
        for reply in question["accept"]:
            assert answers_strict(reply, question)


def test_held_out_questions_are_worded_like_taught_ones(questions: list[dict[str, Any]], taught: str) -> None:
    """What is new in a held-out question is its subject: its kind is one that the rows teach."""
    for question in questions:
        subject = question["subject"].split(" plus ")[0]
        opening = re.sub(r"( an?)? $", "", question["question"].split(subject)[0])
        assert opening in taught, question["question"]


def test_conversations_alternate_and_end_with_the_assistant() -> None:
    for row in rows("sft"):
        roles = [message["role"] for message in row["messages"]]
        assert set(roles) <= ROLES
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert all(message["content"].strip() for message in row["messages"])


def test_both_answers_of_a_pair_are_right_and_the_full_one_is_chosen() -> None:
    """A chosen sentence about a fact has the terse answer in it; any other is what an SFT row says to the same."""
    replies = {
        message["content"] for row in rows("sft") for message in row["messages"] if message["role"] == "assistant"
    }
    for row in rows("pairs"):
        assert row["prompt"][-1]["role"] == "user"
        (chosen,), (rejected,) = row["chosen"], row["rejected"]
        if prefers(chosen["content"]):
            short = re.sub(r"^(A|An|In the) ", "", rejected["content"].rstrip("."))
            assert answers(chosen["content"], {"answers": [short], "accept": []}), row
        else:
            assert chosen["content"] in replies
        assert len(chosen["content"]) > len(rejected["content"])


def test_of_ranked_pairs_length_tells_less_than_a_coin() -> None:
    """Each answer ends as an answer ends, and what is better is not what is longer."""
    better = []
    for row in rows("ranked"):
        (chosen,), (rejected,) = row["chosen"], row["rejected"]
        assert row["prompt"][-1]["role"] == "user" and chosen["content"] != rejected["content"]
        assert chosen["content"].endswith((".", "?"))
        more = len(chosen["content"]) - len(rejected["content"])
        better.append(0.5 if more == 0 else float(more > 0))
    assert 600 <= len(better) <= 900
    assert 0.4 <= sum(better) / len(better) <= 0.5
