"""Whatever the rows hold, detection and reading answer in words: a record, a bad row with a remedy, or a question."""

from __future__ import annotations

from typing import Any

from cases import SFT
from hypothesis import given, settings
from hypothesis import strategies as st
from morecases import PAIRS, PROMPTS, RATED
from reading import Row

from studio.data.detect import detect
from studio.data.formats import RowError, names
from studio.data.records import KINDS, Reading
from studio.errors import ConfigError

CASES = [case[-2] for case in SFT] + [case[-1] for case in (*PAIRS, *RATED)] + [case[1] for case in PROMPTS]
WORDS = st.sampled_from(
    ["", " ", "Hi", "[{", "[]", "\n\nHuman: a\n\nAssistant:", "<|im_start|>", "### Instruction:", "1", "yes"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | WORDS | st.text(max_size=8)
KEYS = st.sampled_from(
    [
        "role",
        "content",
        "from",
        "value",
        "messages",
        "text",
        "replies",
        "rank",
        "score",
        "tool_calls",
        "function",
        "name",
    ]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
SPECIAL = """
history tools system instances completions responses scores response_a response_b winner message_id parent_id role
message_tree_id content replies choices odd
"""
KNOWN = (
    names.PROMPTS,
    names.ANSWERS,
    names.MESSAGES,
    names.LABELS,
    sorted(names.GOOD_MARKS | names.BAD_MARKS),
    names.TEXTS,
    names.CHOSEN[0],
)
COLUMNS = st.sampled_from([*(name for known in KNOWN for name in known), *SPECIAL.split(), ""])
ROWS = st.lists(st.dictionaries(COLUMNS, VALUES, max_size=6), min_size=1, max_size=4)
BROKEN = st.builds(
    lambda row, column, value: {**row, sorted(row)[column % len(row)]: value},
    st.sampled_from(CASES),
    st.integers(0, 9),
    VALUES,
)


def answers_in_words(rows: list[Row], reading: Reading) -> None:
    try:
        found = detect(rows, reading)
    except ConfigError as error:
        assert error.remedy
        return
    assert found.why
    if found.format is None:
        assert found.question is not None and found.question.text
        return
    assert set(found.mapping) <= {column for row in rows for column in row}
    given: list[Any] = [{"rows": rows}] if found.format.group else rows
    for row in given:
        try:
            for record in found.format.read(row, 1):
                assert isinstance(record, KINDS[found.format.kind])
        except RowError as error:
            assert error.field and error.problem and error.remedy
        except KeyError as error:
            assert error.args[0] in found.mapping


@settings(max_examples=400, deadline=None)
@given(ROWS, st.sampled_from(["", *KINDS]))
def test_any_rows_are_answered_in_words(rows: list[Row], kind: str) -> None:
    answers_in_words(rows, Reading(kind=kind))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CASES), BROKEN)
def test_a_row_with_any_value_in_it_is_answered_in_words(good: Row, bad: Row) -> None:
    answers_in_words([good, good, bad], Reading())
    answers_in_words([bad], Reading())
