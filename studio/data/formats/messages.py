"""Conversations as lists of messages: OpenAI's `messages`, ShareGPT's from and value, and their cousins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.data.formats.base import WHOLE, Format, Note, Roles, Row, RowError, column_of, listed, unheard
from studio.data.formats.sides import Sides, Tools, Turns, commonest_keys, reads_system, reads_tools, wants_learned
from studio.data.formats.turns import ALIASES, CONTENT_KEYS, PAIR_KEYS, ROLE_KEYS, are_texts, in_turn, keys_of, messages
from studio.data.records import Conversation, Prompt, Record

#: Columns that say which conversation a message belongs to, where each row is one message.
THREADS = ("conversation_id", "chat_id", "thread_id", "session_id", "dialog_id", "dialogue_id", "conv_id")


def bind(roles: Roles, rows: Sequence[Row]) -> Format:
    """Make the format for a column of messages; with no answer in nearly all of them, they are prompts."""
    column = column_of(roles, "messages")
    keys = commonest_keys(row.get(column) for row in rows)
    name = "exchanges" if keys in PAIR_KEYS else "messages" if keys[0] == "role" else "sharegpt"
    title = f"conversations: {column!r} holds turns with {keys[0]!r} and {keys[1]!r}"
    if hold_texts(rows, column):
        title = f"conversations: {column!r} holds texts of the user and the assistant in turn"
    with_system, with_tools = reads_system(roles), reads_tools(roles)

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        turns = with_system(row, _turns(row[column], column, keys))
        wants_learned(turns, column)
        return [Conversation(turns, line, with_tools(row))]

    def read_prompt(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        turns = with_system(row, messages(row[column], column, *keys))
        if turns[-1].role not in ("user", "tool"):
            raise RowError(column, "the prompt does not end with the user's turn", "Put the question last.")
        return [Prompt(turns, line)]

    def matches(row: Row) -> bool:
        return isinstance(row.get(column), list) and keys_of(row[column]) == keys

    if _unanswered(column, keys, rows):
        return Format(name, "prompt", f"{title}, none of them answered", roles, matches, read_prompt)
    return Format(name, "sft", title, roles, matches, read)


def hold_texts(rows: Sequence[Row], column: str) -> bool:
    """Say whether the conversations of a column are mostly lists of texts, without a word on who speaks."""
    told = [value for row in rows if (value := row.get(column))]
    return sum(map(are_texts, told)) * 2 > len(told)


def _turns(value: Any, column: str, keys: tuple[str, str]) -> Turns:
    return in_turn(value, column) if are_texts(value) else messages(value, column, *keys)


def _unanswered(column: str, keys: tuple[str, str], rows: Sequence[Row]) -> bool:
    """Say whether none of the sampled conversations has an assistant's turn, and nothing is wrong with them."""
    seen = 0
    for row in rows:
        try:
            turns = messages(row.get(column), column, *keys)
        except RowError:
            continue
        if any(turn.role == "assistant" for turn in turns):
            return False
        seen += 1
    return seen > 0 and seen * 2 >= len(rows) and len(rows) > 1


def sides(roles: Roles, rows: Sequence[Row]) -> Sides:
    """Make what reads a conversation as all turns but the last, and the last, which is the assistant's."""
    column = column_of(roles, "messages")
    keys = commonest_keys(row.get(column) for row in rows)
    with_system, with_tools = reads_system(roles), reads_tools(roles)

    def read(row: Row) -> tuple[Turns, Turns, Tools]:
        turns = with_system(row, _turns(row[column], column, keys))
        if turns[-1].role != "assistant":
            raise RowError(column, "the last turn is not the assistant's", "End with the answer that the label is for.")
        return turns[:-1], turns[-1:], with_tools(row)

    return read


def is_message(row: Row) -> tuple[str, str] | None:
    """Name the keys of a row that is itself one message, None when it is more or less than that."""
    keys = keys_of(row)
    if keys is None or keys[0] not in ("role", "from") or str(row[keys[0]]).strip().lower() not in ALIASES:
        return None
    return keys if isinstance(row.get(keys[1]), (str, list, type(None))) else None


def bind_rows(rows: Sequence[Row]) -> Format:
    """Make the format of files whose rows are messages: one conversation, or several told apart by a column."""
    keys = commonest_keys(rows)
    thread = next((name for name in THREADS if all(row.get(name) is not None for row in rows)), "")

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        turns = messages(row["rows"], "rows", *keys)
        wants_learned(turns, keys[0])
        return [Conversation(turns, line)]

    held = f"conversations told apart by {thread!r}" if thread else "one conversation"
    title = f"{held}: each row is a message with {listed(list(keys))}"
    mapping = {thread: "messages"} if thread else {}
    name = "messages" if keys[0] == "role" else "sharegpt"
    return Format(
        name, "sft", title, mapping | {keys[1]: "messages"}, lambda row: is_message(row) == keys, read, thread or WHOLE
    )


def looks_like_messages(value: Any) -> bool:
    """Say whether a value is a list of messages."""
    if isinstance(value, dict):
        value = value.get("messages")
    if isinstance(value, str):
        head = value[:200]
        return value.startswith("[{") and any(
            f"{mark}{key}{mark}" in head for key in ROLE_KEYS + CONTENT_KEYS for mark in "\"'"
        )
    return isinstance(value, list) and len(value) > 0 and isinstance(value[0], dict) and keys_of(value) is not None
