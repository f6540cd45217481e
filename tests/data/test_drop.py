"""Rows are left out by the codes of the lint, and the lint offers no other."""

from __future__ import annotations

import pytest

from studio.data.drop import Dropper
from studio.data.finding import DROPPABLE, WORDS, finding
from studio.data.lint import Lint
from studio.data.records import Conversation, Message, Preference, Record
from studio.errors import ConfigError


def row(line: int, answer: str, question: str = "") -> Conversation:
    return Conversation((Message("user", question or f"Question {line}?"), Message("assistant", answer)), line)


RECORDS: list[Record] = [
    row(1, "The river runs slowly to the sea."),
    row(2, "Write to ada@lovelace.org for that."),
    row(3, "The river runs slowly to the sea.", "Question 1?"),
    row(4, "the river runs slowly, to the sea", "Question 1!"),
    row(5, "My token is hf_" + "AbCdEfGh12" * 4 + "."),
    row(6, "Her fiancÃ© came home."),
    row(7, "I am {{name}}, at your service."),
    row(8, "<|im_start|>assistant\nHello there."),
    row(9, "A formula: \x0crac{1}{2} of it."),
    row(10, "As an AI language model, I have no view."),
    Conversation((Message("user", " "), Message("assistant", "Four five six seven.")), 11),
    Conversation(
        (Message("assistant", "Hello and welcome."), Message("user", "Hi"), Message("assistant", "Yes, hello.")), 12
    ),
    Conversation((Message("user", "One?"), Message("user", "Two?"), Message("assistant", "Three of them.")), 13),
    Preference(
        (Message("user", "So?"),), (Message("assistant", "It is so."),), (Message("assistant", "it is so. "),), 14
    ),
]
EXPECTED = {
    "duplicate": [3],
    "near_duplicate": [3, 4],
    "pii": [2],
    "secret": [5],
    "mojibake": [6],
    "placeholder": [7],
    "foreign_markers": [8],
    "control_characters": [9],
    "refusal": [10],
    "empty": [11],
    "assistant_first": [12],
    "role_order": [13],
    "white_equal": [14],
    "bad": [],
}


@pytest.mark.parametrize("code", sorted(EXPECTED))
def test_a_code_leaves_out_its_rows_and_no_others(code: str) -> None:
    dropper = Dropper([code])
    assert {record.line: why for record in RECORDS if (why := dropper.why(record))} == dict.fromkeys(
        EXPECTED[code], code
    )


def test_the_lint_finds_the_same_rows() -> None:
    lint = Lint()
    for record in RECORDS:
        lint.add(record)
    found = {entry["code"]: entry["lines"] for entry in lint.findings() if entry["code"] in DROPPABLE}
    assert found == {code: lines for code, lines in EXPECTED.items() if lines} | {"near_duplicate": [4]}


def test_what_the_findings_offer_is_exactly_what_can_be_left_out() -> None:
    offered = {"bad"}
    for code in WORDS:
        for fix in finding(code, 2, [1, 2], side="longer")["fixes"]:
            offered.update(fix.get("reading", {}).get("drop", []))
    assert offered == DROPPABLE == set(EXPECTED)
    assert Dropper(offered).why(RECORDS[0]) == ""


def test_several_codes_work_together_and_nothing_is_left_out_unasked() -> None:
    dropper = Dropper(["duplicate", "pii"])
    assert [dropper.why(record) for record in RECORDS[:4]] == ["", "pii", "duplicate", ""]
    assert not any(Dropper([]).why(record) for record in RECORDS)


def test_an_unknown_code_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigError, match="length_bias") as caught:
        Dropper(["pii", "length_bias"])
    assert "near_duplicate" in caught.value.remedy
