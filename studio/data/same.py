"""When two records are the same: keys for equality, and word triples for likeness.

Keys are hashes of what would be learned, white space at the ends of a turn aside. They hold within one process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Record, Text, turns

_SIZE = 3
#: Of a longer text only the beginning is compared, in characters.
_COMPARED = 50_000
#: Scripts written without spaces (ideographs, kana, Thai, Lao, Khmer, Burmese) are compared by their characters.
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{_ALONE}]")
_PIECE = re.compile(rf"\s*(?:[{_ALONE}]|[^\s{_ALONE}]+)")
_MARKS = str.maketrans({mark: " " for mark in ".,;:!?\"'()[]…“”‘’«»、。，！？"})


def whole(record: Record) -> int:
    """Hash everything that is learned from a record."""
    if isinstance(record, Text):
        return hash(record.text.strip())
    if isinstance(record, Conversation):
        return hash((_turns(record.messages), _json(record.tools)))
    if isinstance(record, Preference):
        return hash((_turns(record.prompt), _turns(record.chosen), _turns(record.rejected), _json(record.tools)))
    if isinstance(record, Rated):
        return hash((_turns(record.prompt), _turns(record.completion), record.label, _json(record.tools)))
    return hash(_turns(record.prompt))


def judged(record: Preference | Rated) -> tuple[int, bool]:
    """Hash what was judged, whichever way, and give the way: two rows that differ in it alone contradict each other."""
    prompt = _turns(record.prompt)
    if isinstance(record, Rated):
        return hash((prompt, _turns(record.completion))), record.label
    one, other = hash(_turns(record.chosen)), hash(_turns(record.rejected))
    return hash((prompt, min(one, other), max(one, other))), one < other


def question(record: Preference | Rated | Prompt) -> int:
    """Hash the prompt."""
    return hash(_turns(record.prompt))


def asked(record: Record) -> str:
    """Give what was asked, as one text: the turns before the first answer, the system's aside."""
    if isinstance(record, Text):
        return record.text
    said = []
    for turn in turns(record):
        if turn.role == "assistant":
            break
        if turn.role != "system":
            said.append(turn.content)
    return "\n".join(said)


def likeness(record: Record) -> list[str]:
    """Give the word triples that say how alike two records are; the system's turns, often the same in all, aside.

    The sides of a pair and the labels of a rated answer are kept apart: a row that says the opposite is not alike.
    """
    if isinstance(record, Text):
        return triples(record.text)
    made = triples(_said(turns(record)))
    if isinstance(record, Preference):
        made += ["rejected " + three for three in triples(_said(record.rejected))]
    return [f"{record.label} {three}" for three in made] if isinstance(record, Rated) else made


def triples(text: str) -> list[str]:
    """Cut a text into overlapping triples of words."""
    made = words(text)
    if len(made) < _SIZE:
        return [" ".join(made)]
    return list(map(" ".join, zip(made, made[1:], made[2:], strict=False)))


def words(text: str) -> list[str]:
    """Cut a text into words, case and punctuation aside; without spaces between them, into its characters."""
    text = text[:_COMPARED].lower().translate(_MARKS)
    if not text.isascii():
        text = _UNSPACED.sub(r" \g<0> ", text)
    return text.split()


def pieces(text: str) -> list[str]:
    """Cut a text into words as `words` counts them, each with the white space before it."""
    return _PIECE.findall(text)


def _said(messages: Sequence[Message]) -> str:
    return "\n".join([turn.content for turn in messages if turn.role != "system"])


def _turns(messages: Sequence[Message]) -> tuple[object, ...]:
    return tuple([_turn(turn) for turn in messages])


def _turn(turn: Message) -> tuple[object, ...]:
    if turn.reasoning or turn.tool_calls or turn.name:
        # The ids of calls are left aside: they are drawn at random, so copies differ in them.
        more = (turn.reasoning, _json([call["function"] for call in turn.tool_calls]), turn.name)
        return turn.role, turn.content.strip(), turn.train, more
    return turn.role, turn.content.strip(), turn.train


def _json(values: Sequence[object]) -> str:
    return json.dumps(values, sort_keys=True) if values else ""
