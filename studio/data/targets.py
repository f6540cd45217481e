"""Records as rows of a format: what each format can hold, and what is left behind when it cannot."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Record, Text

Row = dict[str, Any]
#: What was left behind, in words, and of how many rows.
Dropped = Counter[str]
#: Writes a record as a row, None when the format cannot hold it; `flat` rows hold texts, others lists of messages.
Writer = Callable[[Any, bool, Dropped], Row | None]

_SHARE_NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
_THOUGHTS, _WEIGHTS = "what was thought before the answer", "weights that keep turns out of the loss"
_TOOLS, _TOOL_NAMES = "the tools that may be called", "the names of tools that answer"
_IDS = "the ids of tool calls"
_TOGETHER = "text and a tool call in one turn (two turns now)"
_AFTER = "turns after the last answer"
_EARLIER = "the learning of answers before the last"


@dataclasses.dataclass(frozen=True)
class Target:
    """A format to write: the kind of its records, its columns ("messages", "turns", "text", ...), and its writer."""

    name: str
    kind: str
    columns: dict[str, str]
    write: Writer


def is_flat(record: Record) -> bool:
    """Say whether a record is texts: one question, plain answers, at most a system text, nothing else."""
    if isinstance(record, Text):
        return True
    if isinstance(record, Conversation):
        turns, answers = record.messages[:-1], [record.messages[-1:]]
    elif isinstance(record, Preference):
        turns, answers = record.prompt, [record.chosen, record.rejected]
    else:
        turns, answers = record.prompt, [record.completion] if isinstance(record, Rated) else []
    asked = turns[1:] if turns and turns[0].role == "system" else turns
    return (
        not getattr(record, "tools", ())
        and len(asked) == 1
        and asked[0].role == "user"
        and all(len(answer) == 1 and _is_plain(answer[0]) for answer in answers)
        and all(turn.content.strip() for turn in turns)
    )


def _is_plain(turn: Message) -> bool:
    return turn.role == "assistant" and turn.train and not turn.reasoning and not turn.tool_calls


def message(turn: Message) -> Row:
    """Write one turn as OpenAI's messages have it; weight 0 keeps it out of the loss."""
    made = turn.to_dict()
    if not turn.train:
        made["weight"] = 0
    return made


def _with_tools(row: Row, tools: Sequence[Row]) -> Row:
    return {**row, "tools": list(tools)} if tools else row


def _messages(record: Conversation, flat: bool, dropped: Dropped) -> Row:
    return _with_tools({"messages": [message(turn) for turn in record.messages]}, record.tools)


def _sharegpt(record: Conversation, flat: bool, dropped: Dropped) -> Row:
    turns: list[Row] = []
    dropped[_IDS] += any("id" in call for turn in record.messages for call in turn.tool_calls)
    for turn in record.messages:
        weight = {} if turn.train else {"weight": 0}
        if turn.reasoning:
            dropped[_THOUGHTS] += 1
        if turn.name:
            dropped[_TOOL_NAMES] += 1
        if turn.tool_calls and turn.content.strip():
            dropped[_TOGETHER] += 1
        if turn.content.strip() or not turn.tool_calls:
            turns.append({"from": _SHARE_NAMES[turn.role], "value": turn.content, **weight})
        if turn.tool_calls:
            calls = [call["function"] for call in turn.tool_calls]
            said = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            turns.append({"from": "function_call", "value": said, **weight})
    row: Row = {"conversations": turns}
    return {**row, "tools": json.dumps(record.tools, ensure_ascii=False)} if record.tools else row


def _split(turns: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """Split a leading system text off."""
    has_system = bool(turns) and turns[0].role == "system"
    return (turns[0].content, turns[1:]) if has_system else ("", turns)


def _alpaca(record: Conversation, flat: bool, dropped: Dropped) -> Row | None:
    system, turns = _split(record.messages)
    if turns and turns[-1].role != "assistant":
        dropped[_AFTER] += 1
        turns = turns[:-1]
    questions, answers = turns[::2], turns[1::2]
    in_turn = all(q.role == "user" and q.content.strip() for q in questions) and all(
        a.role == "assistant" and a.content.strip() and not a.tool_calls for a in answers
    )
    if not answers or len(questions) != len(answers) or not in_turn:
        dropped["whole rows that are not question and answer in turn"] += 1
        return None
    dropped += Counter({_THOUGHTS: sum(bool(a.reasoning) for a in answers), _TOOLS: int(bool(record.tools))})
    if not all(answer.train for answer in answers):
        dropped[_WEIGHTS] += 1
    row: Row = {"instruction": questions[-1].content, "input": "", "output": answers[-1].content}
    if system.strip():
        row["system"] = system
    if len(answers) > 1:
        row["history"] = [[q.content, a.content] for q, a in zip(questions[:-1], answers[:-1], strict=True)]
    return row


def _asked(turns: Sequence[Message], flat: bool) -> Row:
    if not flat:
        return {"prompt": [message(turn) for turn in turns]}
    system, asked = _split(turns)
    return {"system": system, "prompt": asked[0].content} if system else {"prompt": asked[0].content}


def _answer(turns: Sequence[Message], flat: bool) -> Any:
    return turns[0].content if flat else [message(turn) for turn in turns]


def _prompt_completion(record: Conversation, flat: bool, dropped: Dropped) -> Row | None:
    turns = record.messages
    answers = [i for i, turn in enumerate(turns) if turn.role == "assistant"]
    last = max([i for i in answers if turns[i].train] or answers)
    if any(turns[i].train for i in answers if i < last):
        dropped[_EARLIER] += 1
    if last + 1 < len(turns):
        dropped[_AFTER] += 1
    if not last:
        dropped["whole rows in which nothing is asked"] += 1
        return None
    asked = [dataclasses.replace(turn, train=True) for turn in turns[:last]]  # nothing in a prompt is learned anyway
    row = _asked(asked, flat) | {"completion": _answer(turns[last : last + 1], flat)}
    return _with_tools(row, record.tools)


def _preference(record: Preference, flat: bool, dropped: Dropped) -> Row:
    sides = {"chosen": _answer(record.chosen, flat), "rejected": _answer(record.rejected, flat)}
    return _with_tools(_asked(record.prompt, flat) | sides, record.tools)


def _kto(record: Rated, flat: bool, dropped: Dropped) -> Row:
    row = _asked(record.prompt, flat) | {"completion": _answer(record.completion, flat), "label": record.label}
    return _with_tools(row, record.tools)


def _prompt(record: Prompt, flat: bool, dropped: Dropped) -> Row:
    row = _asked(record.prompt, flat)
    return row | {"reference": record.reference} if record.reference else row


def _text(record: Text, flat: bool, dropped: Dropped) -> Row:
    return {"text": record.text}


_SIDES = {"system": "text", "prompt": "side"}
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("messages", "sft", {"messages": "messages", "tools": "json"}, _messages),
        Target("sharegpt", "sft", {"conversations": "turns", "tools": "text"}, _sharegpt),
        Target(
            "alpaca",
            "sft",
            {"instruction": "text", "input": "text", "output": "text", "system": "text", "history": "pairs"},
            _alpaca,
        ),
        Target("prompt_completion", "sft", {**_SIDES, "completion": "side", "tools": "json"}, _prompt_completion),
        Target(
            "preference", "preference", {**_SIDES, "chosen": "side", "rejected": "side", "tools": "json"}, _preference
        ),
        Target("kto", "kto", {**_SIDES, "completion": "side", "label": "bool", "tools": "json"}, _kto),
        Target("prompt", "prompt", {**_SIDES, "reference": "text"}, _prompt),
        Target("text", "text", {"text": "text"}, _text),
    )
}
