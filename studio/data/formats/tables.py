"""Columns of questions and answers: Alpaca, Dolly, prompt and completion, and self-instruct's nested instances."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from studio.data.formats.base import Format, Note, Roles, Row, RowError, column_of, columns_of, listed, text_of, unheard
from studio.data.formats.names import plain
from studio.data.formats.sides import Sides, Tools, Turns, asked, prompt_dialect, reads_tools, wants_answer
from studio.data.records import Conversation, Message, Record


def bind(roles: Roles, rows: Sequence[Row]) -> Format:
    """Make the format of a table with a prompt and a completion.

    The completion alone is learned: answers inside a prompt that is a conversation are part of what is asked. The
    answers of a history column are learned, as they are where the same turns stand in one conversation.
    """
    read_sides = sides(roles, rows)
    earlier = column_of(roles, "history")

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        prompt, completion, tools = read_sides(row)
        if not earlier:
            prompt = tuple(dataclasses.replace(t, train=False) if t.role == "assistant" else t for t in prompt)
        return [Conversation(prompt + completion, line, tools)]

    needed = [*columns_of(roles, "prompt")[:1], column_of(roles, "completion")]
    return Format(_name(roles), "sft", _title(roles), roles, lambda row: all(name in row for name in needed), read)


def _name(roles: Roles) -> str:
    prompt, completion = plain(columns_of(roles, "prompt")[0]), plain(column_of(roles, "completion"))
    others = {plain(name) for name in columns_of(roles, "prompt")[1:]}
    if prompt == "instruction" and completion == "output":
        return "alpaca"
    return "dolly" if prompt == "instruction" and "context" in others else "prompt_completion"


def _title(roles: Roles) -> str:
    titles = {"alpaca": "Alpaca", "dolly": "Dolly", "prompt_completion": "a prompt and a completion"}
    asks = listed(columns_of(roles, "prompt"))
    ask = "ask" if len(columns_of(roles, "prompt")) > 1 else "asks"
    return f"{titles[_name(roles)]}: {asks} {ask}, {column_of(roles, 'completion')!r} answers"


def sides(roles: Roles, rows: Sequence[Row]) -> Sides:
    """Make what reads a row as what was asked and what was answered."""
    ask, column, with_tools = asked(roles, rows), column_of(roles, "completion"), reads_tools(roles)
    goes_on, thought = prompt_dialect(roles, rows) is not None, column_of(roles, "reasoning")

    def read(row: Row) -> tuple[Turns, Turns, Tools]:
        answer = wants_answer(row[column], column, goes_on)
        if thought and (reasoning := text_of(row.get(thought), thought, may_be_empty=True)):
            answer = (*answer[:-1], dataclasses.replace(answer[-1], reasoning=reasoning))
        return ask(row), answer, with_tools(row)

    return read


def has_instances(row: Row) -> bool:
    """Say whether a row is one of self-instruct's tasks."""
    found = row.get("instances")
    first = found[0] if isinstance(found, list) and found else None
    return isinstance(row.get("instruction"), str) and isinstance(first, dict) and "output" in first


def bind_instances(rows: Sequence[Row]) -> Format:
    """Make the format of self-instruct's tasks: each instance of a task is a conversation."""

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        instruction = text_of(row["instruction"], "instruction")
        instances = row["instances"]
        if not isinstance(instances, list) or not instances:
            raise RowError("instances", "expected a list of instances", "Write [{'input': ..., 'output': ...}, ...].")
        made: list[Record] = []
        for index, instance in enumerate(instances):
            field = f"instances[{index}]"
            if not isinstance(instance, dict):
                raise RowError(field, "expected an object", "Write {'input': ..., 'output': ...}.")
            extra = text_of(instance.get("input"), f"{field}.input", may_be_empty=True)
            answer = text_of(instance.get("output"), f"{field}.output")
            question = f"{instruction}\n\n{extra}" if extra.strip() else instruction
            made.append(Conversation((Message("user", question), Message("assistant", answer)), line))
        return made

    title = "self-instruct tasks: each of the 'instances' answers the 'instruction'"
    mapping = {"instruction": "prompt", "instances": "completion"}
    return Format("self_instruct", "sft", title, mapping, has_instances, read)
