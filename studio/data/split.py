"""Hold rows out: the same rows for the same seed, and equal prompts always on the same side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from studio.data.records import Conversation, Message, Record


def hold_out(
    records: Sequence[Record], share: float, seed: int, at_most: int = 500
) -> tuple[list[Record], list[Record]]:
    """Split records into (train, held out) by the hash of the prompt; at least one row is held out when `share` > 0.

    A set too small to give a row away (fewer than 20) keeps all of them for training.
    """
    if share <= 0 or len(records) < 20:
        return list(records), []
    keys = [_key(record, seed) for record in records]
    wanted = min(max(1, round(len(records) * share)), at_most)
    held: set[str] = set()
    count = 0
    for key, size in sorted(Counter(keys).items()):
        if count and count + size > wanted:
            break
        held.add(key)
        count += size
    kept = [record for record, key in zip(records, keys, strict=True) if key not in held]
    if not kept:
        return list(records), []
    return kept, [record for record, key in zip(records, keys, strict=True) if key in held]


def _key(record: Record, seed: int) -> str:
    turns = record.prompt if not isinstance(record, Conversation) else _opening(record)
    text = "\x1e".join(f"{turn.role}\x1f{turn.content}" for turn in turns if turn.role != "system")
    return hashlib.sha256(f"{seed}\x1d{text}".encode()).hexdigest()


def _opening(record: Conversation) -> tuple[Message, ...]:
    """The turns before the first answer: what makes two conversations the same question."""
    first = next(index for index, turn in enumerate(record.messages) if turn.role == "assistant")
    return record.messages[:first]
