"""Rows with nothing to imitate or compare: prompts to answer, and plain text to continue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.data.formats import transcripts
from studio.data.formats.base import (
    Format,
    Note,
    Roles,
    Row,
    RowError,
    column_of,
    columns_of,
    listed,
    text_of,
    unheard,
)
from studio.data.formats.sides import asked, common_dialect, wants_question
from studio.data.records import Conversation, Message, Prompt, Record, Text


def bind(roles: Roles, rows: Sequence[Row]) -> Format:
    """Make the format of prompts alone; of a list of questions that follow each other, the first is the prompt."""
    column, answers = columns_of(roles, "prompt")[0], column_of(roles, "reference")
    ask = asked(roles, rows)
    several = any(is_questions(row.get(column)) for row in rows)

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        value = row[column]
        if several and is_questions(value):
            if len(value) > 1:
                note("later_turns", "Only the first turn is read as the prompt: the later ones need an answer first.")
            first = value[0]["content"] if isinstance(value[0], dict) else value[0]
            prompt: tuple[Message, ...] = (Message("user", text_of(first, f"{column}[0]")),)
        else:
            prompt = ask(row)
        wants_question(prompt, column)
        return [Prompt(prompt, line, _reference(row.get(answers)) if answers else "")]

    which = ", of which the first is read" if several else ""
    names = columns_of(roles, "prompt")
    title = f"prompts without an answer: {listed(names)} {'ask' if len(names) > 1 else 'asks'}{which}"
    return Format("prompt", "prompt", title, roles, lambda row: row.get(column) is not None, read)


def is_questions(value: Any) -> bool:
    """Say whether a value is a list of texts, or of objects with nothing but a content: the turns of MT-Bench."""
    return isinstance(value, list) and len(value) > 0 and all(map(_is_question, value))


def _is_question(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.keys() == {"content"})


def _reference(value: Any) -> str:
    if isinstance(value, list):
        value = value[0] if value else ""
    return value if isinstance(value, str) else "" if value is None or isinstance(value, dict) else str(value)


def bind_text(roles: Roles, rows: Sequence[Row]) -> Format:
    """Make the format of texts to continue."""
    column = column_of(roles, "text")

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        return [Text(text_of(row[column], column), line)]

    title = f"plain text in {column!r}, to continue"
    return Format("text", "text", title, roles, lambda row: isinstance(row.get(column), str), read)


def bind_transcript(roles: Roles, rows: Sequence[Row]) -> Format | None:
    """Make the format of texts that are whole conversations in one known way of writing; None where they are not."""
    column = column_of(roles, "text")
    dialect = common_dialect(row.get(column) for row in rows)
    if dialect is None:
        return None

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        turns = transcripts.conversation(text_of(row[column], column), dialect, column)
        if not any(turn.role == "assistant" for turn in turns):
            raise RowError(column, "no assistant turn: there is nothing to learn", "Add the answer.")
        return [Conversation(turns, line)]

    title = f"conversations in one text: {column!r} marks its turns with {dialect.title}"
    return Format(
        "transcript", "sft", title, roles, lambda row: isinstance(row.get(column), str), read,
        also=(bind_text(roles, rows),),
    )  # fmt: skip
