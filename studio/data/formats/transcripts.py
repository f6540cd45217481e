"""Whole conversations written as one text, with the marks of a chat template or of a known data set."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from studio.data.formats.base import RowError
from studio.data.formats.turns import ALIASES
from studio.data.records import Message


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One way to mark turns: what gives it away, what opens a turn (group 1 names the role), what closes it."""

    title: str
    sign: re.Pattern[str]
    opens: re.Pattern[str]
    closes: tuple[str, ...] = ()


_BEGIN = re.compile(r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>)?\s*")
_PREAMBLE = "Below is an instruction that describes a task"
_ROLES = {"instruction": "user", "input": "input", "response": "assistant", "output": "assistant", "inst": "user"}


def _dialect(title: str, sign: str, opens: str, *closes: str) -> Dialect:
    return Dialect(title, re.compile(sign), re.compile(opens), closes)


DIALECTS: tuple[Dialect, ...] = (
    _dialect("ChatML (<|im_start|>)", r"<\|im_start\|>", r"<\|im_start\|>[ ]*(\w+)\n", "<|im_end|>", "<|endoftext|>"),
    _dialect(
        "Llama 3 (<|start_header_id|>)",
        r"<\|start_header_id\|>",
        r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n+",
        "<|eot_id|>",
        "<|end_of_text|>",
    ),
    _dialect("Gemma (<start_of_turn>)", r"<start_of_turn>", r"<start_of_turn>(\w+)\n", "<end_of_turn>", "<eos>"),
    _dialect("Llama 2 ([INST])", r"\[INST\]", r"\[(/?INST)\]", "<s>", "</s>"),
    _dialect(
        "Zephyr or Phi (<|user|>)",
        r"<\|(?:user|assistant)\|>",
        r"<\|(system|user|assistant)\|>\n?",
        "</s>",
        "<|end|>",
        "<|endoftext|>",
    ),
    _dialect(
        "Alpaca's prompt (### Instruction:)",
        r"(?m)^#{2,3} ?Instruction:",
        r"(?m)^#{2,3} ?(System|Instruction|Input|Response|Output):[ ]*\n?",
        "</s>",
        "<|endoftext|>",
    ),
    _dialect("### Human: and ### Assistant:", r"### ?Human:", r"### ?(System|Human|Assistant):", "</s>"),
    # A label counts at the start of a paragraph only: within a turn it is text.
    _dialect(
        "Human: and Assistant:",
        r"(?:^\s*|\n\n)Human:(?=\s)[\s\S]*\n\nAssistant:",
        r"(?:^\s*|\n\n)(Human|Assistant):(?=\s|$)",
    ),
)
#: Marks that show a transcript whose turns cannot be told apart for sure.
_UNSURE = re.compile(r"(?m)^(?:Human|User): [\s\S]*\n(?:Assistant|AI|Bot): |^Q: .+\nA: ")


def dialect_of(text: str) -> Dialect | None:
    """Name the dialect whose marks a text carries, None when there are none."""
    return next((dialect for dialect in DIALECTS if dialect.sign.search(text)), None)


def looks_unsure(text: str) -> bool:
    """Say whether a text looks like turns, in a manner that cannot be read exactly."""
    return bool(_UNSURE.search(text))


def parse(text: str, dialect: Dialect, field: str) -> list[tuple[str, str]]:
    """Read a transcript as (role, text) pairs; the last text may be empty. RowError when it is not one as a whole."""
    pieces = dialect.opens.split(text)
    before = _BEGIN.sub("", pieces[0], count=1).strip()
    if len(pieces) == 1:
        raise RowError(field, f"it is no transcript like {dialect.title}", "Mark its turns, or leave the row out.")
    turns: list[tuple[str, str]] = []
    if before and not before.startswith(_PREAMBLE):
        if "Alpaca" not in dialect.title and "###" not in dialect.title:
            raise RowError(field, "there is text before the first turn", "Give it a turn of its own.")
        turns.append(("system", before))
    for name, said in zip(pieces[1::2], pieces[2::2], strict=True):
        role = _role(name, field)
        body = _closed(said, dialect.closes, field)
        if role == "input" and turns:
            if body:
                turns[-1] = (turns[-1][0], f"{turns[-1][1]}\n\n{body}")
            continue
        if role == "user" and body.startswith("<<SYS>>"):
            system, _, body = body.removeprefix("<<SYS>>").partition("<</SYS>>")
            turns.append(("system", system.strip()))
            body = body.strip()
        turns.append((role, body))
    return turns


def _role(name: str, field: str) -> str:
    if name == "/INST":
        return "assistant"
    role = _ROLES.get(name.lower()) or ALIASES.get(name.lower())
    if role is None or role == "call":
        raise RowError(field, f"unknown role {name!r}", "Use system, user, assistant or tool.")
    return role


def _closed(said: str, closes: Sequence[str], field: str) -> str:
    """Take a turn's closing marks off; RowError where text goes on after one."""
    said = said.strip()
    if not closes:
        return said
    while mark := next((mark for mark in closes if said.endswith(mark)), ""):
        said = said.removesuffix(mark).rstrip()
    if mark := next((mark for mark in closes if mark in said), ""):
        raise RowError(field, f"text goes on after {mark!r}", "Close each turn once, at its end.")
    return said


def conversation(text: str, dialect: Dialect, field: str) -> tuple[Message, ...]:
    """Read a transcript as messages; RowError where an answer is empty."""
    turns = parse(text, dialect, field)
    for number, (role, said) in enumerate(turns, 1):
        if role == "assistant" and not said:
            which = "last" if number == len(turns) else f"{number}."
            raise RowError(field, f"the assistant's {which} turn is empty", "Write the answer, or leave the row out.")
    return tuple(Message(role, said) for role, said in turns)


def prompt(text: str, dialect: Dialect, field: str) -> tuple[Message, ...]:
    """Read a transcript that stops where the answer begins; the opened, empty turn at its end is left off."""
    turns = parse(text, dialect, field)
    if turns[-1] == ("assistant", ""):
        turns.pop()
    return tuple(Message(role, said) for role, said in turns)
