"""The formats people have: how to recognise a row, and how to read it as a record.

A format is a value: its name, its kind, the fields that give it away, and a reader. Detection (detect.py) looks at the
rows only. Adding a format costs one reader and one line in FORMATS.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from studio.data.records import ROLES, Conversation, Message, Preference, Record

Row = dict[str, Any]

_ALIASES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "observation": "tool",
    "function": "tool",
}


class RowError(ValueError):
    """A row cannot be read: the field, what is wrong, what to do."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.field, self.problem, self.remedy = field, problem, remedy


@dataclasses.dataclass(frozen=True)
class Format:
    """One layout of rows."""

    name: str
    kind: str
    title: str
    mapping: dict[str, str]
    matches: Callable[[Row], bool]
    read: Callable[[Row, int], list[Record]]


def _text(row: Row, field: str, *, may_be_empty: bool = False) -> str:
    value = row.get(field)
    if value is None and may_be_empty:
        return ""
    if not isinstance(value, str):
        raise RowError(field, f"expected text, found {type(value).__name__}", f"Write text in {field!r}.")
    if not value.strip() and not may_be_empty:
        raise RowError(field, "it is empty", "Fill it in, or leave the row out with --drop-bad.")
    return value


def _messages(value: Any, field: str, *, role: str = "role", content: str = "content") -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise RowError(field, "expected a list of messages", f"Write [{{'{role}': ..., '{content}': ...}}, ...].")
    return tuple(_message(item, f"{field}[{index}]", role, content) for index, item in enumerate(value))


def _message(item: Any, field: str, role: str, content: str) -> Message:
    if not isinstance(item, dict):
        raise RowError(field, f"expected a message, found {type(item).__name__}", "Write an object.")
    name = item.get(role)
    if not isinstance(name, str):
        raise RowError(f"{field}.{role}", "the role is missing", f"Add {role!r}: user, assistant or system.")
    who = _ALIASES.get(name.lower(), name.lower())
    if who not in ROLES:
        raise RowError(f"{field}.{role}", f"unknown role {name!r}", "Use system, user, assistant or tool.")
    said = item.get(content)
    if isinstance(said, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in said):
        said = "".join(part["text"] for part in said)
    if not isinstance(said, str):
        raise RowError(f"{field}.{content}", f"expected text, found {type(said).__name__}", "Write text.")
    if who == "assistant" and not said.strip():
        raise RowError(
            f"{field}.{content}", "the assistant's answer is empty", "Write the answer, or leave the row out."
        )
    train = item.get("train", item.get("weight", 1))
    return Message(who, said, bool(train))


def _conversation(messages: tuple[Message, ...], line: int, field: str) -> Conversation:
    if not any(message.role == "assistant" for message in messages):
        raise RowError(field, "no assistant turn: there is nothing to learn", "Add the answer.")
    return Conversation(messages, line)


def _read_messages(row: Row, line: int) -> list[Record]:
    field = "messages" if "messages" in row else "conversations"
    return [_conversation(_messages(row[field], field), line, field)]


def _read_sharegpt(row: Row, line: int) -> list[Record]:
    turns = _messages(row["conversations"], "conversations", role="from", content="value")
    system = row.get("system")
    if isinstance(system, str) and system.strip() and turns[0].role != "system":
        turns = (Message("system", system), *turns)
    return [_conversation(turns, line, "conversations")]


def _read_alpaca(row: Row, line: int) -> list[Record]:
    instruction, extra = _text(row, "instruction"), _text(row, "input", may_be_empty=True)
    turns: list[Message] = []
    if system := _text(row, "system", may_be_empty=True).strip():
        turns.append(Message("system", system))
    for index, pair in enumerate(row.get("history") or []):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise RowError(f"history[{index}]", "expected [question, answer]", "Write two texts per earlier turn.")
        turns += [Message("user", pair[0]), Message("assistant", pair[1])]
    turns.append(Message("user", f"{instruction}\n\n{extra}" if extra.strip() else instruction))
    turns.append(Message("assistant", _text(row, "output")))
    return [Conversation(tuple(turns), line)]


def _read_prompt_completion(row: Row, line: int) -> list[Record]:
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, list) or isinstance(completion, list):
        turns = _side(prompt, "prompt", "user") + _side(completion, "completion", "assistant")
    else:
        turns = (Message("user", _text(row, "prompt")), Message("assistant", _text(row, "completion")))
    return [_conversation(turns, line, "completion")]


def _side(value: Any, field: str, role: str) -> tuple[Message, ...]:
    """Read a prompt or an answer given as text or as messages."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        keys = ("from", "value") if value and isinstance(value[0], dict) and "from" in value[0] else ("role", "content")
        return _messages(value, field, role=keys[0], content=keys[1])
    return (Message(role, _text({field: value}, field)),)


def _read_preference(row: Row, line: int) -> list[Record]:
    if "prompt" in row:
        prompt = _side(row["prompt"], "prompt", "user")
    elif isinstance(row.get("conversations"), list):
        prompt = _side(row["conversations"], "conversations", "user")
    else:
        prompt = ()
    chosen, rejected = _side(row["chosen"], "chosen", "assistant"), _side(row["rejected"], "rejected", "assistant")
    if not prompt:
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    elif len(chosen) > len(prompt) and chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    if not prompt or prompt[-1].role not in ("user", "tool"):
        raise RowError("prompt", "the prompt does not end with the user's turn", "Put the question last.")
    if [m.content for m in chosen] == [m.content for m in rejected]:
        raise RowError("rejected", "chosen and rejected are the same", "Leave the row out, or write the worse answer.")
    return [Preference(prompt, chosen, rejected, line)]


def _list_of(row: Row, field: str, key: str) -> bool:
    value = row.get(field)
    return isinstance(value, list) and any(isinstance(item, dict) and key in item for item in value)


FORMATS: tuple[Format, ...] = (
    Format(
        "preference",
        "preference",
        "preference pairs",
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        lambda row: "chosen" in row and "rejected" in row,
        _read_preference,
    ),
    Format(
        "sharegpt",
        "sft",
        "ShareGPT",
        {"from": "role", "value": "content"},
        lambda row: _list_of(row, "conversations", "from") or _list_of(row, "conversations", "value"),
        _read_sharegpt,
    ),
    Format(
        "messages",
        "sft",
        "messages",
        {"role": "role", "content": "content"},
        lambda row: "label" not in row and ("messages" in row or _list_of(row, "conversations", "content")),
        _read_messages,
    ),
    Format(
        "alpaca",
        "sft",
        "Alpaca",
        {"instruction": "prompt", "input": "prompt", "output": "completion"},
        lambda row: "instruction" in row and "output" in row,
        _read_alpaca,
    ),
    Format(
        "prompt_completion",
        "sft",
        "prompt and completion",
        {"prompt": "prompt", "completion": "completion"},
        lambda row: "prompt" in row and "completion" in row and "label" not in row,
        _read_prompt_completion,
    ),
)
