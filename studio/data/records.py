"""What a row means, whatever format it came in."""

from __future__ import annotations

import dataclasses
from typing import Any

ROLES = ("system", "user", "assistant", "tool")


@dataclasses.dataclass(frozen=True)
class Message:
    """One turn. `train=False` keeps an assistant turn out of the loss."""

    role: str
    content: str
    train: bool = True

    def to_dict(self) -> dict[str, str]:
        """Give the message as chat templates take it."""
        return {"role": self.role, "content": self.content}


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A conversation to imitate (kind `sft`); `line` is where it stands in its file, counting from 1."""

    messages: tuple[Message, ...]
    line: int = 0


@dataclasses.dataclass(frozen=True)
class Preference:
    """A prompt with a better and a worse answer (kind `preference`)."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    line: int = 0


Record = Conversation | Preference


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with a row (an error blocks), where, and what to do."""

    line: int
    field: str
    problem: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """Give the problem as the JSON that scripts may rely on."""
        return dataclasses.asdict(self)


@dataclasses.dataclass
class Warnings:
    """Warnings by code, each with the lines it was seen on (the first 20 are listed, all are counted)."""

    found: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def add(self, code: str, line: int, remedy: str) -> None:
        """Count one row under a code."""
        entry = self.found.setdefault(code, {"code": code, "rows": 0, "lines": [], "remedy": remedy})
        entry["rows"] += 1
        if len(entry["lines"]) < 20:
            entry["lines"].append(line)

    def to_list(self) -> list[dict[str, Any]]:
        """Give the warnings as the JSON that scripts may rely on."""
        return list(self.found.values())
