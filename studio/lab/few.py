"""A few rows of a file that stand for all of them: some spread over it, and the longest, which take the most memory."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.data import rules
from studio.data.records import Prompt
from studio.data.split import FEWEST
from studio.data.targets import TARGETS
from studio.data.writers import line
from studio.errors import DataError
from studio.lab.forecast import Size
from studio.render.labels import IGNORE
from studio.runs import Run
from studio.train import judges, offline, online, prepare
from studio.train.prepare import ASKED, Setup

#: Rows to learn from, and held-out ones to measure on: of these so many that a batch of them is as quick as others.
ROWS, HELD = 20, 16
#: The format that holds all of a record, by its kind.
_WHOLE = {"sft": "messages", "text": "text", "preference": "preference", "kto": "kto", "prompt": "prompt"}
#: Rows of each class that are seen to, where a method learns from the difference of two.
_EACH = 4


def count(batch_size: int, held: int) -> int:
    """Choose how many rows to learn from: ROWS, or whole batches where they are smaller, for a rest is slower a row.

    With the held-out ones they are so many that rows are held out of them at all.
    """
    whole = ROWS // batch_size * batch_size or ROWS
    return whole if whole + min(held, HELD) >= FEWEST else ROWS


def choose(lengths: Sequence[int], room: int, most: int = ROWS) -> list[int]:
    """Give the numbers of the rows: half of them the longest (no more than fill `room` tokens), the others spread."""
    if len(lengths) <= most:
        return list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    longest: list[int] = []
    while len(longest) < most // 2 and (len(longest) < 2 or sum(lengths[at] for at in longest) < room):
        longest.append(order[len(longest)])
    rest = [at for at in range(len(lengths)) if at not in set(longest)]
    spread = [rest[int(at)] for at in np.linspace(0, len(rest) - 1, most - len(longest))]
    return sorted({*longest, *spread})


def offline_rows(made: Setup, room: int) -> tuple[set[int], int, Size]:
    """Choose among the file's tokens: the records' numbers, how many of them are held out, and the size of all."""
    rows = prepare.encoded(made)
    train, held = rows.view(made.aside)
    if not len(train):
        raise DataError(
            f"No row fits in max_length = {made.config.max_length} tokens with something left to learn.",
            "Raise max_length, or shorten the rows.",
            file=made.run.config.data,
        )
    numbers = choose(train.lengths().tolist(), room, count(made.config.batch_size, len(held)))
    if "label" in train[0]:
        numbers = _both(train, numbers)
    aside = choose(held.lengths().tolist(), 0, HELD) if len(held) else []
    records = {int(rows.records[train.numbers[at]]) for at in numbers}
    kept = {int(rows.records[held.numbers[at]]) for at in aside}
    prompts = 0 if made.method.head or made.data.kind == "text" else min(ASKED, len(made.aside) or made.data.usable)
    size = Size(
        len(train),
        int(train.sizes().sum()),
        0,
        len(held),
        int(held.sizes().sum()) if len(held) else 0,
        prompts,
        offline.answer_room(train),
    )
    return records | kept, len(kept), size


def _both(train: Any, numbers: list[int]) -> list[int]:
    """See to it that rated rows of both kinds are among those chosen, if the file has both."""
    found: dict[bool, list[int]] = {True: [], False: []}
    for at in itertools.chain(numbers, range(len(train))):
        found[bool(train[at]["label"])].append(at)
        if min(map(len, found.values())) >= _EACH:
            break
    return sorted({*numbers, *found[True][:_EACH], *found[False][:_EACH]})


def online_rows(made: Setup, room: int) -> tuple[set[int], int, Size]:
    """Choose among the prompts of the file; a reward that cannot score is found out here."""
    source = judges.find(made)
    config: Any = made.config
    lengths: dict[bool, dict[int, int]] = {True: {}, False: {}}
    try:
        needs = isinstance(source, rules.Rule) and source.needs_reference
        for number, record in enumerate(made.data.records()):
            made.halt()
            assert isinstance(record, Prompt)
            length = len(made.renderer.prompt(record.prompt))
            if length + config.max_new_tokens <= config.max_length and (record.reference or not needs):
                lengths[number in made.aside][number] = length
    finally:
        if not isinstance(source, Run):
            source.close()
    some = {side: list(found) for side, found in lengths.items()}
    if not some[False]:
        return set(range(min(ROWS, made.data.usable))), 0, Size(0, 0, 0, 0, 0, 0, 1)  # the run says what is wrong
    train = {some[False][at] for at in choose(list(lengths[False].values()), room, ROWS)}
    kept = {some[True][at] for at in choose(list(lengths[True].values()), 0, HELD)} if some[True] else set()
    held = len(some[True]) or min(online.MEASURED, len(some[False]))
    prompts = min(ASKED, len(made.aside) or made.data.usable)
    size = Size(len(some[False]), sum(lengths[False].values()), 0, held, sum(lengths[True].values()), prompts, 1)
    return train | kept, len(kept), size


def write(made: Setup, numbers: Collection[int], out: Path) -> None:
    """Write these records as rows that hold all of them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    target, wanted = TARGETS[_WHOLE[made.data.kind]], set(numbers)
    with out.open("wb") as file:
        for number, record in enumerate(made.data.records()):
            if number in wanted:
                row = target.write(record, False, Counter())
                assert row is not None, "these formats hold every record of their kind"
                file.write(line(row))
            if number >= max(wanted):
                break


def reading(made: Setup) -> dict[str, Any]:
    """Say how the rows that `write` wrote are to be read."""
    return {"kind": made.data.kind}


def learned(example: dict[str, Any]) -> int:
    """Count the tokens of an example that are learned."""
    return sum(label != IGNORE for name, row in example.items() if isinstance(row, dict) for label in row["labels"][1:])
