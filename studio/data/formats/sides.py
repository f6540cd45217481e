"""The question's side of a row and the answer's: what tables, pairs, ratings and prompt sets have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from studio.data.formats import transcripts
from studio.data.formats.base import Roles, Row, RowError, column_of, columns_of, kind_of_value, text_of
from studio.data.formats.turns import keys_of, messages, side, tools, unpacked
from studio.data.records import Message

Turns = tuple[Message, ...]
Tools = tuple[dict[str, Any], ...]
#: Reads a row as what was asked, what was answered, and the functions that may be called.
Sides = Callable[[Row], tuple[Turns, Turns, Tools]]
_MOST = 0.9


def commonest_keys(values: Iterable[Any]) -> tuple[str, str]:
    """Name the keys under which most lists of messages keep role and content."""
    found = Counter(keys for value in values if (keys := _keys(value)))
    return found.most_common(1)[0][0] if found else ("role", "content")


def _keys(value: Any) -> tuple[str, str] | None:
    try:
        return keys_of(unpacked(value, ""))
    except RowError:
        return None


def common_dialect(texts: Iterable[Any]) -> transcripts.Dialect | None:
    """Name the transcript dialect that nearly all of the texts are written in, None when there is none."""
    told = [text for text in texts if isinstance(text, str) and text.strip()]
    found = Counter(dialect.title for text in told if (dialect := transcripts.dialect_of(text)))
    if not found:
        return None
    title, count = found.most_common(1)[0]
    dialect = next(dialect for dialect in transcripts.DIALECTS if dialect.title == title)
    return dialect if count >= _MOST * len(told) and _parse_well(told, dialect) else None


def _parse_well(texts: Sequence[str], dialect: transcripts.Dialect) -> bool:
    good = 0
    for text in texts:
        try:
            good += any(role == "user" for role, _ in transcripts.parse(text, dialect, ""))
        except RowError:
            continue
    return good >= _MOST * len(texts)


def prompt_dialect(roles: Roles, rows: Sequence[Row]) -> transcripts.Dialect | None:
    """Name the dialect of prompts that are transcripts up to where the answer begins; None for plain prompts."""
    columns = columns_of(roles, "prompt")
    if len(columns) != 1 or column_of(roles, "history"):
        return None
    return common_dialect(row.get(columns[0]) for row in rows)


def reads_system(roles: Roles) -> Callable[[Row, Turns], Turns]:
    """Make what puts the system column's text before the turns, where they have none of their own."""
    column = column_of(roles, "system")

    def read(row: Row, turns: Turns) -> Turns:
        value = row.get(column)
        if value is None or (turns and turns[0].role == "system"):
            return turns
        if isinstance(value, dict):  # {"parts": [...]} or {"content": ...}
            value = side({**value, "role": "system"}, column, "system")[0].content
        text = text_of(value, column, may_be_empty=True)
        return (Message("system", text), *turns) if text.strip() else turns

    return read if column else lambda row, turns: turns


def reads_tools(roles: Roles) -> Callable[[Row], Tools]:
    """Make what reads the tools' column."""
    column = column_of(roles, "tools")
    return (lambda row: tools(row.get(column), column)) if column else lambda row: ()


def history(value: Any, field: str) -> Turns:
    """Read earlier turns: [[question, answer], ...], or messages."""
    value = unpacked(value, field) if value else ()
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return messages(value, field, *(keys_of(value) or ("role", "content")))
    if not isinstance(value, (list, tuple)):
        raise RowError(
            field, f"expected earlier turns, found {kind_of_value(value)}", "Write [[question, answer], ...]."
        )
    turns: list[Message] = []
    for index, pair in enumerate(value):
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise RowError(f"{field}[{index}]", "expected [question, answer]", "Write two texts per earlier turn.")
        turns += [Message("user", pair[0]), Message("assistant", pair[1])]
    return tuple(turns)


def asked(roles: Roles, rows: Sequence[Row]) -> Callable[[Row], Turns]:
    """Make what reads the prompt of a row: its system text, earlier turns, and the columns with the role of prompt.

    Several columns are joined by a blank line, empty ones left out.
    """
    columns, earlier = columns_of(roles, "prompt"), column_of(roles, "history")
    with_system = reads_system(roles)
    talk = column_of(roles, "messages")
    if talk:
        keys = commonest_keys(row.get(talk) for row in rows)
        return lambda row: with_system(row, messages(row[talk], talk, *keys))
    first, others = columns[0], columns[1:]
    dialect = prompt_dialect(roles, rows)

    def question(row: Row) -> Turns:
        value = row[first]
        if dialect is not None and isinstance(value, str):
            return transcripts.prompt(value, dialect, first)
        if not others:
            return side(value, first, "user")
        parts = [text_of(value, first)]
        parts += [text for name in others if (text := text_of(row.get(name), name, may_be_empty=True)).strip()]
        return (Message("user", "\n\n".join(parts)),)

    if not earlier and not column_of(roles, "system"):
        return question
    return lambda row: with_system(row, (*history(row.get(earlier), earlier), *question(row)))


def wants_answer(value: Any, field: str, goes_on: bool = False) -> Turns:
    """Read an answer, which must hold an assistant's turn; one that goes on from a transcript loses its margins."""
    turns = side(value.strip() if goes_on and isinstance(value, str) else value, field, "assistant")
    wants_learned(turns, field)
    return turns


def wants_learned(turns: Turns, field: str) -> None:
    """Raise RowError unless there is an answer, and one that counts."""
    answered = False
    for turn in turns:
        if turn.role == "assistant":
            if turn.train:
                return
            answered = True
    if answered:
        raise RowError(field, "every answer has weight 0: there is nothing to learn", "Give one of them weight 1.")
    raise RowError(field, "no assistant turn: there is nothing to learn", "Add the answer.")


def wants_question(turns: Turns, field: str) -> None:
    """Raise RowError unless the turns end where the assistant is to answer."""
    if not turns or turns[-1].role not in ("user", "tool"):
        raise RowError(field, "the prompt does not end with the user's turn", "Put the question last.")
