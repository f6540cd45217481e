"""What a row means, whatever format it came in."""

from __future__ import annotations

import dataclasses
from typing import Any

ROLES = ("system", "user", "assistant", "tool")


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One turn. `train=False` keeps an assistant turn out of the loss.

    `reasoning` is what a thinking model wrote before its answer; `tool_calls` are what an assistant turn calls, each
    {"type": "function", "function": {"name", "arguments"}}, with the "id" it has in the data. A `tool` turn answers the
    call `tool_call_id`, which is a call of the tool `name`.
    """

    role: str
    content: str
    train: bool = True
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    name: str = ""
    tool_call_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give the message as chat templates take it; parts that are not there are left out."""
        made: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning:
            made["reasoning_content"] = self.reasoning
        if self.tool_calls:
            made["tool_calls"] = list(self.tool_calls)
        if self.name:
            made["name"] = self.name
        if self.tool_call_id:
            made["tool_call_id"] = self.tool_call_id
        return made


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation to imitate (kind `sft`); `line` is where it stands in its file, counting from 1.

    `tools` are the functions that the assistant may call, as JSON schemas.
    """

    messages: tuple[Message, ...]
    line: int = 0
    tools: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Text to continue (kind `text`): every token is learned."""

    text: str
    line: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with a better and a worse answer (kind `preference`)."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    line: int = 0
    tools: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Rated:
    """A prompt with one answer and whether it is wanted (kind `kto`)."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool
    line: int = 0
    tools: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt alone (kind `prompt`), to sample answers for; `reference` is a known good answer, where there is one."""

    prompt: tuple[Message, ...]
    line: int = 0
    reference: str = ""


Record = Conversation | Text | Preference | Rated | Prompt

#: The kinds of data, and the record that each is made of.
KINDS: dict[str, type[Any]] = {
    "sft": Conversation,
    "text": Text,
    "preference": Preference,
    "kto": Rated,
    "prompt": Prompt,
}


def kind_of(record: Record) -> str:
    """Name the kind of a record."""
    return next(kind for kind, made in KINDS.items() if isinstance(record, made))


def turns(record: Record) -> tuple[Message, ...]:
    """Give all turns of a record; of a pair, the prompt with the chosen answer."""
    if isinstance(record, Conversation):
        return record.messages
    if isinstance(record, Text):
        return ()
    if isinstance(record, Preference):
        return record.prompt + record.chosen
    return record.prompt + record.completion if isinstance(record, Rated) else record.prompt


def prompt_of(record: Record) -> tuple[Message, ...]:
    """Give the turns before the first answer that counts: what makes two records the same question."""
    if isinstance(record, Conversation):
        first = next((i for i, turn in enumerate(record.messages) if turn.role == "assistant"), len(record.messages))
        return record.messages[:first]
    return () if isinstance(record, Text) else record.prompt


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a file is read: what the user decided on top of what its rows say. It is saved with the run.

    `mapping` names the columns (`{"question": "prompt"}`); `kind` answers an unclear question or asks for the other
    reading of a file that has two; `drop` names what is left out, counted ("bad" rows, "duplicate" rows, and the other
    codes of the lint that can be dropped); `fill` gives placeholders such as {{name}} their text.
    """

    mapping: dict[str, str] = dataclasses.field(default_factory=dict)
    kind: str = ""
    drop: tuple[str, ...] = ()
    fill: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give what differs from the default, as JSON."""
        made = dataclasses.asdict(self)
        return {name: list(value) if name == "drop" else value for name, value in made.items() if value}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Reading:
        """Read what `to_dict` gave."""
        return Reading(**{**values, "drop": tuple(values.get("drop", ()))})


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with a row (an error blocks), where, and what to do; `excerpt` shows the place."""

    line: int
    field: str
    problem: str
    remedy: str
    excerpt: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give the problem as the JSON that scripts may rely on."""
        return dataclasses.asdict(self)


LISTED = 20


@dataclasses.dataclass
class Problems:
    """Errors: the first LISTED are kept, all are counted."""

    first: list[Problem] = dataclasses.field(default_factory=list)
    count: int = 0

    def add(self, problem: Problem) -> None:
        """Count a problem."""
        self.count += 1
        if len(self.first) < LISTED:
            self.first.append(problem)


@dataclasses.dataclass
class Warnings:
    """Warnings by code, each with the lines it was seen on (the first LISTED are kept, all are counted)."""

    found: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def add(self, code: str, line: int, remedy: str) -> None:
        """Count one row under a code."""
        entry = self.found.setdefault(code, {"code": code, "rows": 0, "lines": [], "remedy": remedy})
        entry["rows"] += 1
        if len(entry["lines"]) < LISTED:
            entry["lines"].append(line)

    def to_list(self) -> list[dict[str, Any]]:
        """Give the warnings as the JSON that scripts may rely on."""
        return list(self.found.values())
