"""OpenAssistant: trees of replies with ranks, nested or as flat messages that name their parents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from studio.data.formats.base import Format, Note, Row, RowError, kind_of_value, unheard
from studio.data.formats.preference import said
from studio.data.formats.rated import number_of
from studio.data.formats.turns import ALIASES
from studio.data.records import Conversation, Message, Preference, Record

_Node = dict[str, Any]
_Path = tuple[Message, ...]
_DEEPEST = 200
_GROUPS = ("message_tree_id", "tree_id", "thread_id")


def is_tree(row: Row) -> bool:
    """Say whether a row is a tree of replies."""
    root = row.get("prompt", row)
    return isinstance(root, dict) and isinstance(root.get("replies"), list) and "text" in root and "role" in root


def is_flat(row: Row) -> bool:
    """Say whether a row is one message of a tree."""
    return all(name in row for name in ("message_id", "parent_id", "text", "role"))


def bind_trees(rows: Sequence[Row]) -> Format:
    """Make the format of nested trees: the best path as a conversation, or the ranks as pairs."""
    column = "prompt" if any("prompt" in row for row in rows) else "replies"

    def root(row: Row) -> _Node:
        found = row.get("prompt", row)
        if not isinstance(found, dict):
            raise RowError("prompt", f"expected a tree of replies, found {kind_of_value(found)}", "Write an object.")
        return found

    def best(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        return _best_path(root(row), line, "prompt")

    def pairs(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        return list(_pairs(root(row), line, note))

    mapping = {column: "messages"}
    return _both(mapping, "message trees", is_tree, best, pairs, "")


def bind_flat(rows: Sequence[Row]) -> Format | None:
    """Make the format of flat messages, gathered by the tree they belong to; None when no column names it."""
    group = next((name for name in _GROUPS if all(row.get(name) for row in rows)), "")
    if not group:
        return None

    def best(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        return [record for root in _grown(row["rows"], note) for record in _best_path(root, line, "text")]

    def pairs(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        return [record for root in _grown(row["rows"], note) for record in _pairs(root, line, note)]

    mapping = {group: "messages", "text": "messages"}
    return _both(mapping, f"flat messages of trees, gathered by {group!r}", is_flat, best, pairs, group)


def _both(mapping: dict[str, str], what: str, matches: Any, best: Any, pairs: Any, group: str) -> Format:
    other = Format(
        "oasst", "preference", f"OpenAssistant {what}: of each turn's ranked replies, the best against the worst",
        mapping, matches, pairs, group,
    )  # fmt: skip
    title = f"OpenAssistant {what}: the best-ranked path is the conversation"
    return Format("oasst", "sft", title, mapping, matches, best, group, (other,))


def _grown(rows: Sequence[Row], note: Note) -> list[_Node]:
    """Build trees from messages that name their parents."""
    nodes: dict[str, _Node] = {}
    for row in rows:
        nodes[str(row.get("message_id"))] = {**row, "replies": []}
    roots = []
    for node in nodes.values():
        parent = node.get("parent_id")
        if parent is None or parent == "" or parent != parent:
            roots.append(node)
        elif (above := nodes.get(str(parent))) is not None and above is not node:
            above["replies"].append(node)
        else:
            note("no_parent", "Messages whose parent is not in the file are left out, with the replies below them.")
    if not roots:
        raise RowError("parent_id", "no message of this tree is its root", "Give one message an empty parent_id.")
    return roots


def _message(node: _Node, field: str) -> Message:
    text, role = node.get("text"), ALIASES.get(str(node.get("role")).lower())
    if role not in ("user", "assistant", "system"):
        raise RowError(f"{field}.role", f"unknown role {node.get('role')!r}", "Use prompter or assistant.")
    if not isinstance(text, str) or not text.strip():
        raise RowError(f"{field}.text", "the message is empty", "Write the message, or leave the tree out.")
    return Message(role, text)


def _replies(node: _Node) -> list[_Node]:
    """Give the replies that were not deleted, the best-ranked first, those without a rank last."""
    found = node.get("replies") or []
    kept = [reply for reply in found if isinstance(reply, dict) and not _true(reply.get("deleted"))]
    ranks = [number_of(reply.get("rank")) for reply in kept]
    order = sorted(range(len(kept)), key=lambda i: (ranks[i] is None, ranks[i] or 0.0))
    return [kept[i] for i in order]


def _true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _best_path(root: _Node, line: int, field: str) -> list[Record]:
    turns, node = [_message(root, field)], root
    for _ in range(_DEEPEST):
        replies = _replies(node)
        if not replies:
            break
        node = replies[0]
        field += ".replies"
        turns.append(_message(node, field))
    while turns and turns[-1].role != "assistant":
        turns.pop()
    if not turns:
        raise RowError(field, "no assistant turn: there is nothing to learn", "Add the answer, or leave the tree out.")
    return [Conversation(tuple(turns), line)]


def _pairs(root: _Node, line: int, note: Note) -> Iterator[Record]:
    """Pair the best with the worst of each turn's ranked answers; what has no two ranks is noted."""
    waiting: list[tuple[_Node, _Path]] = [(root, (_message(root, "prompt"),))]
    while waiting:
        node, path = waiting.pop(0)
        replies = _replies(node)
        answers = [reply for reply in replies if ALIASES.get(str(reply.get("role")).lower()) == "assistant"]
        ranked = [reply for reply in answers if number_of(reply.get("rank")) is not None]
        if len(ranked) < len(answers) and len(answers) > 1:
            note("no_rank", "Replies without a rank are in no pair.")
        if len(ranked) > 1:
            better, worse = (_message(ranked[i], "prompt.replies") for i in (0, -1))
            if number_of(ranked[0]["rank"]) == number_of(ranked[-1]["rank"]) or said((better,)) == said((worse,)):
                note("tie", "Replies that tie make no pair and are left out.")
            else:
                yield Preference(path, (better,), (worse,), line)
        if len(path) < _DEEPEST:
            waiting += [(reply, (*path, _message(reply, "prompt.replies"))) for reply in replies]
