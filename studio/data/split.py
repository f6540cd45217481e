"""Hold rows out: the same rows for the same seed, and equal prompts always on the same side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from studio.data.records import Record, Text, prompt_of

FEWEST = 20


def held_out(records: Iterable[Record], share: float, seed: int, at_most: int = 500) -> set[int]:
    """Choose the numbers (from 0) of the records to hold out, by the hash of the prompt; at least one when `share` > 0.

    A set too small to give a row away (fewer than 20) keeps all of them for training, and so does one with one prompt.
    """
    keys = [_key(record, seed) for record in records]
    if share <= 0 or len(keys) < FEWEST:
        return set()
    wanted = min(max(1, round(len(keys) * share)), at_most)
    held: set[bytes] = set()
    count = 0
    for key, size in sorted(Counter(keys).items()):
        if count and count + size > wanted:
            break
        held.add(key)
        count += size
    return set() if count == len(keys) else {number for number, key in enumerate(keys) if key in held}


def _key(record: Record, seed: int) -> bytes:
    if isinstance(record, Text):
        text = record.text
    else:
        text = "\x1e".join(f"{turn.role}\x1f{turn.content}" for turn in prompt_of(record) if turn.role != "system")
    return hashlib.sha256(f"{seed}\x1d{text}".encode()).digest()
