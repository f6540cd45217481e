"""Pairs of a better and a worse answer: texts, messages, whole transcripts, with or without a prompt of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from studio.data.formats import messages, transcripts
from studio.data.formats.base import Format, Note, Roles, Row, RowError, column_of, columns_of, unheard
from studio.data.formats.sides import (
    Turns,
    asked,
    common_dialect,
    prompt_dialect,
    reads_system,
    reads_tools,
    wants_question,
)
from studio.data.formats.turns import are_texts, in_turn, side
from studio.data.records import Message, Preference, Record

_ENDS = (".", "?", "!", ":", "\n")
_SHORTEST = 2
_REPEATED = 12


def bind(roles: Roles, rows: Sequence[Row]) -> Format:
    """Make the format of pairs."""
    better, worse = column_of(roles, "chosen"), column_of(roles, "rejected")
    talk = column_of(roles, "messages")  # asks without its last answer, where it has one
    has_prompt = bool(columns_of(roles, "prompt") or talk)
    ask = asked(roles, rows) if has_prompt else None
    dialect = common_dialect([row.get(better) for row in rows])
    goes_on = dialect is None and prompt_dialect(roles, rows) is not None
    with_system, with_tools = reads_system(roles), reads_tools(roles)

    def answer(value: Any, field: str) -> Turns:
        if dialect is not None and isinstance(value, str):
            return transcripts.conversation(value, dialect, field)
        if ask is None and are_texts(value):
            return in_turn(value, field)
        return side(value.strip() if goes_on and isinstance(value, str) else value, field, "assistant")

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        chosen, rejected = answer(row[better], better), answer(row[worse], worse)
        if ask is not None:
            prompt = ask(row)
            if talk and len(prompt) > 1 and prompt[-1].role == "assistant":
                prompt = prompt[:-1]
            prompt, chosen, rejected = cut(prompt, chosen, rejected)
        else:
            prompt, chosen, rejected = implied(chosen, rejected, better)
            prompt = with_system(row, prompt)
        wants_question(prompt, "prompt")
        _ends_answered(chosen, better)
        _ends_answered(rejected, worse)
        if said(chosen) == said(rejected):
            problem = f"{better} and {worse} are the same"
            raise RowError(worse, problem, "Leave the row out, or write the worse answer.")
        return [Preference(prompt, chosen, rejected, line, with_tools(row))]

    title = f"preference pairs: {better!r} is better than {worse!r}"
    if dialect is not None:
        title += f", whole transcripts marked by {dialect.title}"
    if not has_prompt:
        title += ", the prompt is what both begin with"
    return Format("preference", "preference", title, roles, lambda row: better in row and worse in row, read)


def bind_last(roles: Roles, rows: Sequence[Row]) -> Format:
    """Make the format of conversations whose last turn is chosen, beside a rejected one."""
    talk, worse = column_of(roles, "messages"), column_of(roles, "rejected")
    read_sides = messages.sides(roles, rows)

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        prompt, chosen, tools = read_sides(row)
        rejected = side(row[worse], worse, "assistant")
        wants_question(prompt, talk)
        _ends_answered(rejected, worse)
        if said(chosen) == said(rejected):
            raise RowError(worse, "it is the same as the last turn", "Leave the row out, or write the worse answer.")
        return [Preference(prompt, chosen, rejected, line, tools)]

    title = f"preference pairs: the last turn of {talk!r} is better than {worse!r}"
    return Format("preference", "preference", title, roles, lambda row: talk in row and worse in row, read)


def _ends_answered(turns: Turns, field: str) -> None:
    """Raise RowError unless a side ends with the assistant's turn: what a user says afterwards is judged by nobody."""
    if turns[-1].role != "assistant":
        found = f"it ends with the turn of the {turns[-1].role}, not with an answer"
        raise RowError(field, found, "Take the turns after the last answer out, in both.")


def said(turns: Turns) -> list[Any]:
    """Give what counts when two answers are compared."""
    return [(turn.role, turn.content, [call["function"] for call in turn.tool_calls]) for turn in turns]


def cut(prompt: Turns, chosen: Turns, rejected: Turns) -> tuple[Turns, Turns, Turns]:
    """Take the prompt off answers that repeat it; answers that begin with their own turns keep the fuller prompt."""
    if len(chosen) == len(rejected) == 1 and chosen[0].role == rejected[0].role == "assistant":
        length = _repeated(prompt, chosen[0].content, rejected[0].content)
        if length:
            chosen = (Message("assistant", chosen[0].content[length:].lstrip()),)
            rejected = (Message("assistant", rejected[0].content[length:].lstrip()),)
        return prompt, chosen, rejected
    if chosen[0].role == rejected[0].role == "assistant":
        return prompt, chosen, rejected
    size = len(prompt)
    if chosen[:size] == prompt == rejected[:size]:
        return prompt, chosen[size:], rejected[size:]
    shared, chosen, rejected = implied(chosen, rejected, "chosen")
    asks = {turn.content.strip() for turn in shared if turn.role == "user"}
    if prompt[-1].content.strip() not in asks:
        raise RowError("prompt", "chosen and rejected do not begin with the prompt", "Write the same prompt in all.")
    system = () if shared[0].role == "system" or prompt[0].role != "system" else prompt[:1]
    return (*system, *shared), chosen, rejected


def _repeated(prompt: Turns, chosen: str, rejected: str) -> int:
    """Count the characters of a one-turn prompt that both answers begin with, 0 unless they clearly repeat it."""
    asks = prompt[0].content if len(prompt) == 1 else ""
    if len(asks) < _REPEATED or not chosen.startswith(asks) or not rejected.startswith(asks):
        return 0
    rests = chosen[len(asks) :], rejected[len(asks) :]
    return len(asks) if all(rest.strip() and (rest[0].isspace() or asks[-1].isspace()) for rest in rests) else 0


def implied(chosen: Turns, rejected: Turns, field: str) -> tuple[Turns, Turns, Turns]:
    """Split what both sides begin with off as the prompt: at a turn, or inside two texts at a word's edge."""
    if len(chosen) == len(rejected) == 1 and chosen[0].role == rejected[0].role == "assistant":
        length = shared_text(chosen[0].content, rejected[0].content)
        if not length:
            raise RowError(
                field, "no prompt can be found in what the two texts begin with", "Add a 'prompt' column to the row."
            )
        cuts: Callable[[Turns], Turns] = lambda turns: (Message("assistant", turns[0].content[length:]),)  # noqa: E731
        return (Message("user", chosen[0].content[:length]),), cuts(chosen), cuts(rejected)
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not shared:
        raise RowError(
            field,
            "no prompt can be found: the two do not begin with the same turn",
            "Write the same first turns in both.",
        )
    return chosen[:shared], chosen[shared:], rejected[shared:]


def shared_text(one: str, other: str) -> int:
    """Count the characters that two texts share as their prompt, 0 when there is none.

    The cut is at the edge of a word in both texts. A blank before the answer goes with the answer, as tokenizers join
    the two; line breaks stay with the prompt. One word alone is no prompt, unless it ends a sentence or a line.
    """
    size = min(len(one), len(other))
    length = next((i for i in range(size) if one[i] != other[i]), size)
    if length == size:
        return 0  # one text is the whole beginning of the other: nothing would be left of it
    while length and not (one[length - 1].isspace() or (one[length].isspace() and other[length].isspace())):
        length -= 1
    while length and one[length - 1] in " \t":
        length -= 1
    prompt = one[:length]
    enough = len(prompt.split()) >= _SHORTEST or (prompt.strip() and prompt.endswith(_ENDS))
    return length if enough and one[length:].strip() and other[length:].strip() else 0
