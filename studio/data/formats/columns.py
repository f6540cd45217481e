"""Which column of a table plays which role, by what it is called and what its cells hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from studio.data.formats import names
from studio.data.formats.base import Roles, Row
from studio.data.formats.messages import looks_like_messages
from studio.data.formats.names import plain
from studio.data.formats.prompts import is_questions
from studio.data.formats.turns import ALIASES, PAIR_KEYS, are_texts, keys_of

#: The roles whose columns tell one layout from another; the other roles may come and go from row to row.
CORE = frozenset({"prompt", "completion", "chosen", "rejected", "messages", "text"})
_PROMPT_BESIDE_PAIRS = ("context", "post", "title", "history")
_Named = dict[str, str]


def roles_of(row: Row) -> Roles | None:
    """Give the roles of one row's columns, None when none of them can be told."""
    named: _Named = {}
    for column, value in row.items():
        if value is not None:
            named.setdefault(plain(column), column)
    for find in (_pair, _messages, _question_and_answer, _talk, _alone, _texts):
        roles = find(row, named)
        if roles:
            return _with_extras(row, named, roles)
    return None


def _pair(row: Row, named: _Named) -> Roles | None:
    for worse in ("rejected_response", "rejected"):  # beside a conversation whose last turn is the chosen answer
        if worse in named and "chosen" not in named and isinstance(row[named[worse]], (str, dict)):
            talk = next((named[n] for n in names.MESSAGES if n in named and is_answered(row[named[n]])), "")
            if talk:
                return {talk: "messages", named[worse]: "rejected"}
    for better, worse in names.CHOSEN:
        if better in named and worse in named and all(map(_is_side, (row[named[better]], row[named[worse]]))):
            pair = {named[better]: "chosen", named[worse]: "rejected"}
            asks = asking(row, named, set(pair), names.PROMPTS + _PROMPT_BESIDE_PAIRS)
            if not asks and all(isinstance(row[column], str) for column in pair):  # then the answered talk asks
                talks = [named[n] for n in names.MESSAGES if n in named and looks_like_messages(row[named[n]])]
                asks = dict.fromkeys(talks[:1], "messages")
            return asks | pair
    return None


def _is_answer(value: Any) -> bool:
    return keys_of(value) is not None if isinstance(value, dict) else isinstance(value, (str, list, int, float))


def _is_side(value: Any) -> bool:
    return _is_answer(value) and not isinstance(value, bool)  # accepted: true is a label


def is_answered(value: Any) -> bool:
    """Say whether a conversation ends with the assistant's turn."""
    keys = keys_of(value) if isinstance(value, list) and value else None
    if keys is None or keys in PAIR_KEYS:
        return keys is not None
    last = value[-1]
    return isinstance(last, dict) and ALIASES.get(str(last.get(keys[0])).lower()) == "assistant"


def asking(row: Row, named: _Named, taken: set[str], prompts: Sequence[str] = names.PROMPTS) -> Roles:
    """Give the columns that ask: messages that come first, an instruction with its input, or one prompt."""
    for name in names.MESSAGES:
        if name in named and named[name] not in taken and not _answers(row):
            talk = row[named[name]]
            if looks_like_messages(talk) and not (is_answered(talk) and taken):
                return {named[name]: "messages"}
    first = next((name for name in prompts if name in named and named[name] not in taken), "")
    if not first or not isinstance(row[named[first]], (str, list, dict, int, float)):
        return {}
    roles: Roles = {named[first]: "prompt"}
    if first in ("instruction", "prompt", "task"):
        for name in names.CONTEXTS:
            if name in named and named[name] not in taken and isinstance(row[named[name]], (str, int, float)):
                roles[named[name]] = "prompt"
    return roles


def _answers(row: Row) -> bool:
    """Say whether a pair's row names its prompt as text: then a column of messages repeats the pair."""
    return any(plain(column) in ("prompt", "instruction", "question") for column in row)


def _messages(row: Row, named: _Named) -> Roles | None:
    for name in names.MESSAGES:
        value = row[named[name]] if name in named else None
        if looks_like_messages(value) or (name in ("messages", "conversations") and isinstance(value, list)):
            return {named[name]: "messages"}
    return None


def _question_and_answer(row: Row, named: _Named) -> Roles | None:
    for question, answer in names.PAIRS:
        if question in named and answer in named and isinstance(row[named[answer]], str):
            others = [name for name in names.PROMPTS if name in named and name != question]
            if not others:
                return {named[question]: "prompt", named[answer]: "completion"}
    answers = [name for name in names.ANSWERS if name in named and _is_answer(row[named[name]])]
    if not answers:
        return None
    asks = asking(row, named, {named[answers[0]]})
    return asks | {named[answers[0]]: "completion"} if asks else None


def _talk(row: Row, named: _Named) -> Roles | None:
    """Find messages under a name that we do not know, when they are the only ones."""
    found = [
        column
        for column, value in row.items()
        if isinstance(value, list) and looks_like_messages(value) and keys_of(value) not in PAIR_KEYS
    ]
    asks = {column for column in found if plain(column) in names.PROMPTS}
    return {found[0]: "messages"} if len(found) == 1 and not asks else None


def _alone(row: Row, named: _Named) -> Roles | None:
    for name in (*names.PROMPTS[:5], "user_prompt"):
        if name in named and (isinstance(row[named[name]], str) or looks_like_messages(row[named[name]])):
            return asking(row, named, set())
    if "turns" in named and is_questions(row[named["turns"]]):
        return {named["turns"]: "prompt"}
    for name in names.TEXTS:
        if name in named and isinstance(row[named[name]], str):
            return {named[name]: "text"}
    return None


def _texts(row: Row, named: _Named) -> Roles | None:
    """Find a conversation whose turns are bare texts."""
    for name in names.MESSAGES:
        if name in named and are_texts(row[named[name]]):
            return {named[name]: "messages"}
    return None


def _with_extras(row: Row, named: _Named, roles: Roles) -> Roles:
    """Add what may stand beside any of them: a system text, earlier turns, tools, a reference."""
    played = set(roles.values())

    def add(role: str, known: Sequence[str], fits: Callable[[Any], bool]) -> None:
        for name in known:
            if name in named and named[name] not in roles and fits(row[named[name]]):
                roles[named[name]] = role
                return

    if "text" not in played:
        add("system", names.SYSTEMS, lambda value: isinstance(value, (str, dict)))
        add("tools", names.TOOLS, lambda value: isinstance(value, (str, list)))
    if "prompt" in played:
        add("history", names.HISTORIES, lambda value: isinstance(value, list))
    if played == {"prompt"}:
        add("reference", names.REFERENCES, lambda value: isinstance(value, (str, list)))
    return roles


def core(roles: Roles) -> tuple[tuple[str, str], ...]:
    """Give what tells these roles from others: the first column of each role that must be there."""
    found: dict[str, str] = {}
    for column, role in roles.items():
        if role in CORE:
            found.setdefault(role, column)
    return tuple(sorted(found.items()))


def joined(all_roles: Sequence[Roles]) -> Roles:
    """Join the roles of many rows: optional columns may be missing from some. The order does not depend on the rows'.

    Columns of one role are asked for in the order instruction, input, context, whatever order they stand in.
    """
    made: Roles = {}
    for roles in all_roles:
        if not roles.keys() <= made.keys():
            for column, role in roles.items():
                made.setdefault(column, role)
    rank = {name: number for number, name in enumerate(("instruction", "prompt", *names.CONTEXTS))}
    order = sorted(made, key=lambda column: (rank.get(plain(column), -1), plain(column)))
    firsts = [column for column in order if made[column] == "prompt"]
    return {column: made[column] for column in [*firsts, *(c for c in order if made[c] != "prompt")]}
