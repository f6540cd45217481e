"""Messages as people write them: roles and their aliases, typed content, tool calls, thinking, weights."""

from __future__ import annotations

import ast
import dataclasses
import json
from typing import Any

from studio.data.formats.base import RowError, kind_of_value, text_of
from studio.data.records import Message

ALIASES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "person": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant",
    "ai": "assistant", "chatbot": "assistant", "bing": "assistant", "bard": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool", "function_response": "tool",
    "ipython": "tool",
    "function_call": "call", "tool_call": "call", "tool_calls": "call",
}  # fmt: skip
ROLE_KEYS = ("role", "from", "speaker", "sender", "author")
#: Keys of items that are each a question and its answer.
PAIR_KEYS = (
    ("input", "output"), ("human", "assistant"), ("user", "assistant"), ("question", "answer"), ("prompt", "response"),
    ("human", "gpt"),
)  # fmt: skip
CONTENT_KEYS = ("content", "value", "text", "message", "parts")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_WEIGHTS = ("train", "weight")
_SWITCHES = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("false", "no", "0", "0.0", ""), False)
_Calls = tuple[dict[str, Any], ...]


def keys_of(value: Any) -> tuple[str, str] | None:
    """Name the keys under which a list of messages keeps role and content; None when it is no list of messages."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, dict):
            role = next((key for key in ROLE_KEYS if isinstance(item.get(key), str)), "")
            content = next((key for key in CONTENT_KEYS if key in item), "")
            if role and (content or "tool_calls" in item or "function_call" in item):
                return role, content or "content"
            return next((pair for pair in PAIR_KEYS if pair[0] in item and pair[1] in item), None)
    return None


def unpacked(value: Any, field: str) -> Any:
    """Give a cell's list or object, also where it is written as JSON text; {"messages": [...]} is its list."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        value = _written(value)
        if value is None:
            raise RowError(field, "the text is not valid JSON", "Write a list of messages.")
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        return value["messages"]
    return value


def messages(value: Any, field: str, role: str = "role", content: str = "content") -> tuple[Message, ...]:
    """Read a list of messages."""
    if not isinstance(value, list):
        value = unpacked(value, field)
    if not isinstance(value, list) or not value:
        raise RowError(field, "expected a list of messages", f"Write [{{'{role}': ..., '{content}': ...}}, ...].")
    if (role, content) in PAIR_KEYS:
        return _exchanges(value, field, role, content)
    made = []
    called: dict[str, str] = {}
    for index, item in enumerate(value):
        turn = _message(item, field, index, role, content)
        if turn.tool_calls:
            called |= {call["id"]: call["function"]["name"] for call in turn.tool_calls if "id" in call}
        elif turn.tool_call_id and not turn.name and (name := called.get(turn.tool_call_id)):
            turn = dataclasses.replace(turn, name=name)
        made.append(turn)
    return tuple(made)


def are_texts(value: Any) -> bool:
    """Say whether a value is a list of texts that may be said in turn."""
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)


def in_turn(texts: list[str], field: str) -> tuple[Message, ...]:
    """Read texts without roles as said by the user and the assistant in turn, the user first."""
    roles = ("user", "assistant")
    return tuple(Message(roles[at % 2], text_of(text, f"{field}[{at}]")) for at, text in enumerate(texts))


def _exchanges(value: list[Any], field: str, question: str, answer: str) -> tuple[Message, ...]:
    """Read a conversation whose items are each a question and its answer."""
    made: list[Message] = []
    for index, item in enumerate(value):
        where = f"{field}[{index}]"
        if not isinstance(item, dict):
            raise RowError(where, f"expected an object, found {kind_of_value(item)}", f"Write {question} and {answer}.")
        made.append(Message("user", text_of(item.get(question), f"{where}.{question}")))
        made.append(Message("assistant", text_of(item.get(answer), f"{where}.{answer}")))
    return tuple(made)


def side(value: Any, field: str, role: str) -> tuple[Message, ...]:
    """Read a prompt or an answer: text said by `role`, one message, or a list of messages."""
    if type(value) is str:
        if value[:2] != "[{" or (packed := _packed(value)) is None:
            return (Message(role, text_of(value, field)),)
        value = packed
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        return messages(value, field, *(keys_of(value) or ("role", "content")))
    return (Message(role, text_of(value, field)),)


def _written(text: str) -> Any:
    """Read a value written as JSON, or as Python writes it (tables saved by pandas); None when it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text) if "'" in text else None  # literals only: nothing is run
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _packed(text: str) -> list[Any] | None:
    """Give the messages that a cell holds as JSON text; None for text that is an answer, be it JSON of another kind."""
    if text[2:3] not in ('"', "'"):
        return None
    value = _written(text)
    keys = keys_of(value)
    known = keys and all(isinstance(item, dict) and str(item.get(keys[0])).lower() in ALIASES for item in value)
    return value if known else None


def _message(item: Any, field: str, index: int, role: str, content: str) -> Message:
    if not isinstance(item, dict):
        raise RowError(f"{field}[{index}]", f"expected a message, found {kind_of_value(item)}", "Write an object.")
    name = item.get(role)
    if not isinstance(name, str):
        raise RowError(f"{field}[{index}].{role}", "the role is missing", f"Add {role!r}: user, assistant or system.")
    who = ALIASES.get(name) or ALIASES.get(name.strip().lower())
    if who is None:
        raise RowError(f"{field}[{index}].{role}", f"unknown role {name!r}", "Use system, user, assistant or tool.")
    said = item.get(content)
    if len(item) == 2 and type(said) is str and who != "call" and (said.strip() or who != "assistant"):
        return Message(who, said)  # nine of ten messages in the world
    return _rich(item, f"{field}[{index}]", who, said, content)


def _rich(item: dict[str, Any], field: str, who: str, said: Any, content: str) -> Message:
    """Read a message that is more than a role and a text."""
    where = f"{field}.{content}"
    thought = next((item[key] for key in _THOUGHTS if isinstance(item.get(key), str)), "")
    calls: _Calls = ()
    if who == "call":
        who, calls, said = "assistant", _written_calls(said, where), ""
    elif item.get("tool_calls"):
        calls = _calls(item["tool_calls"], f"{field}.tool_calls")
    elif item.get("function_call"):
        calls = _calls([item["function_call"]], f"{field}.function_call")
    if isinstance(said, list):
        said, inner = _parts(said, where)
        thought = thought or inner
    elif said is None and calls:
        said = ""
    elif isinstance(said, dict) and who == "tool":
        said = json.dumps(said, ensure_ascii=False)
    if not isinstance(said, str):
        found = "nothing" if said is None else type(said).__name__
        raise RowError(where, f"expected text, found {found}", "Write text.")
    if who == "assistant" and not calls and not said.strip():
        raise RowError(where, "the assistant's answer is empty", "Write the answer, or leave the row out.")
    train = _weight(item, field) if who == "assistant" else True
    name, answers = (_text(item, "name"), _text(item, "tool_call_id")) if who == "tool" else ("", "")
    return Message(who, said, train, thought, calls, name, answers)


def _text(item: dict[str, Any], key: str) -> str:
    return value if isinstance(value := item.get(key), str) else ""


def _weight(item: dict[str, Any], field: str) -> bool:
    """Say whether a turn is learned: its weight is 0 or 1, however that is written."""
    key = next((key for key in _WEIGHTS if item.get(key) is not None), "")
    if not key:
        return True
    value = item[key]
    told = {1.0: True, 0.0: False}.get(value) if isinstance(value, (int, float)) else None
    if isinstance(value, str):
        told = _SWITCHES.get(value.strip().lower())
    if told is None:
        raise RowError(
            f"{field}.{key}",
            f"expected a weight of 0 or 1, found {str(value)[:40]!r}",
            "Write 1 for a turn that is learned and 0 for one that is not: a turn cannot count in part.",
        )
    return told


def _parts(parts: list[Any], field: str) -> tuple[str, str]:
    """Join typed content parts: the text, and what was thought."""
    said, thought = [], []
    for index, part in enumerate(parts):
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, dict) and isinstance(part.get("thinking"), str):
            thought.append(part["thinking"])
        elif isinstance(part, dict) and isinstance(text := part.get("text", part.get("refusal")), str):
            said.append(text)
        else:
            kind = part.get("type", "of no type") if isinstance(part, dict) else kind_of_value(part)
            raise RowError(
                f"{field}[{index}]",
                f"expected text, found a part {str(kind)[:40]!r}",
                "Studio trains on text: take the part out, or leave the row out with --drop-bad.",
            )
    return "".join(said), "".join(thought)


def _calls(value: Any, field: str) -> _Calls:
    """Read tool calls, bare or under "function"; arguments that are JSON text become the object they write.

    The id of a call is kept: templates write it, and the tool's turn names it.
    """
    if isinstance(value, str):
        return _written_calls(value, field)
    made = []
    for index, call in enumerate(value if isinstance(value, list) else [value]):
        inner = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise RowError(f"{field}[{index}]", "the call has no function name", "Write {'name', 'arguments'}.")
        arguments = inner.get("arguments", inner.get("parameters"))
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except ValueError:
                where = f"{field}[{index}].arguments"
                raise RowError(where, "the arguments are not valid JSON", "Write a JSON object.") from None
        named = {"id": call["id"]} if isinstance(call.get("id"), str) and call["id"] else {}
        made.append({**named, "type": "function", "function": {"name": inner["name"], "arguments": arguments or {}}})
    return tuple(made)


def _written_calls(value: Any, field: str) -> _Calls:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowError(field, "the function call is not valid JSON", "Write {'name', 'arguments'}.") from None
    if not isinstance(value, (dict, list)) or not value:
        raise RowError(field, "expected a function call", "Write {'name', 'arguments'}.")
    return _calls(value, field)


def tools(value: Any, field: str) -> _Calls:
    """Read the functions that may be called: a list, or JSON text of one; nothing is an empty list."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except ValueError:
            raise RowError(field, "the tools are not valid JSON", "Write a list of function schemas.") from None
    if isinstance(value, dict):
        value = [value]
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError(field, "expected a list of function schemas", "Write [{'name', 'parameters', ...}].")
    return tuple(map(_wrapped, value))


def _wrapped(tool: dict[str, Any]) -> dict[str, Any]:
    """Give a function schema as chat templates take it, under "function"."""
    if "function" in tool or "name" not in tool:
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
