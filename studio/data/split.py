"""Hold rows out: the same rows for the same seed, and equal prompts always on the same side."""

from __future__ import annotations

import contextlib
import hashlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import events
from studio.data import landing, writers
from studio.data.dataset import Dataset
from studio.data.files import Row, Rows
from studio.data.formats import WHOLE
from studio.data.records import Problems, Record, Text, Warnings, prompt_of
from studio.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy

FEWEST = 20
_LEFT_OUT, _TRAIN, _HELD = 0, 1, 2


def held_out(records: Iterable[Record], share: float, seed: int, at_most: int = 500) -> set[int]:
    """Choose the numbers (from 0) of the records to hold out, by the hash of the prompt; at least one when `share` > 0.

    A set too small to give a row away (fewer than 20) keeps all of them for training, and so does one with one prompt.
    Eight bytes a record are kept, whatever the records hold.
    """
    import numpy

    if share <= 0:
        return set()
    keys = numpy.frombuffer(array("Q", (_key(record, seed) for record in records)), dtype=numpy.uint64)
    highest = _highest(keys, share, at_most)
    return set() if highest is None else set(numpy.flatnonzero(keys <= highest).tolist())


def asked(out: str | Path, share: float, read: Iterable[Path] = (), force: bool = False) -> list[Path]:
    """Give the two files to write; ConfigError for what can be refused before a row is read."""
    if not 0 < share < 1:
        raise ConfigError(f"A share of {share} cannot be held out.", "Choose one between 0 and 1.", field="share")
    return landing.files(out, ("train.jsonl", "heldout.jsonl"), read, force)


def split(
    dataset: Dataset,
    out: str | Path,
    share: float = 0.05,
    seed: int = 0,
    *,
    force: bool = False,
    emit: events.Emit | None = None,
) -> dict[str, Any]:
    """Write train.jsonl and heldout.jsonl into a folder: the rows as they are (JSON lines byte for byte).

    A row whose records share a prompt with a held-out row is held out with it. Gives {"train": {"path", "rows"},
    "heldout": {"path", "rows"}, "left_out": rows that could not be used}. The folder is made where it is missing,
    its parent is not; `force` replaces files that are there; `emit` gets progress events over the rows. ConfigError for
    a share outside 0 to 1 or a place that is taken, DataError when no row can be held out; then nothing is written.
    """
    train, heldout = asked(out, share, [one.path for one in dataset.sources], force)
    sides = _sides(dataset, writers.told(dataset.records(), "Holding rows out", dataset.usable, emit), share, seed)
    counts = [0, 0, 0]
    with landing.beside([train, heldout], force) as (train_file, held_file):
        files = {_TRAIN: train_file, _HELD: held_file}
        for side, line in writers.told(_lines(dataset, sides), "Writing", dataset.rows, emit):
            counts[side] += 1
            if side != _LEFT_OUT:
                files[side].write(line)
    return {
        "train": {"path": str(train), "rows": counts[_TRAIN]},
        "heldout": {"path": str(heldout), "rows": counts[_HELD]},
        "left_out": counts[_LEFT_OUT],
    }


def _key(record: Record, seed: int) -> int:
    """Give the first 8 bytes of the hash of what is asked; they sort as the whole hash does."""
    if isinstance(record, Text):
        text = record.text
    else:
        text = "\x1e".join(f"{turn.role}\x1f{turn.content}" for turn in prompt_of(record) if turn.role != "system")
    digest = hashlib.sha256(f"{seed}\x1d{text}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def _highest(keys: numpy.ndarray, share: float, at_most: int) -> Any:
    """Give the highest key to hold out: the lowest keys are, as many as fit, equal ones together.

    None when there are few rows, or when it would be all rows.
    """
    import numpy

    if len(keys) < FEWEST:
        return None
    wanted = min(max(1, round(len(keys) * share)), at_most)
    if wanted >= len(keys):
        return None
    ordered = numpy.sort(keys)
    taken = int(numpy.searchsorted(ordered, ordered[wanted], side="left"))  # no group of equal keys is cut in two
    taken = taken or int(numpy.searchsorted(ordered, ordered[0], side="right"))
    return ordered[taken - 1] if taken < len(keys) else None


def _sides(dataset: Dataset, records: Iterable[Record], share: float, seed: int) -> bytearray:
    """Give the side of each line; rows that share a prompt, through any of their records, are on one side."""
    import numpy

    keyed, lined = array("Q"), array("Q")
    for record in records:
        keyed.append(_key(record, seed))
        lined.append(record.line)
    keys, lines = numpy.frombuffer(keyed, dtype=numpy.uint64), numpy.frombuffer(lined, dtype=numpy.uint64)
    highest = _highest(keys, share, len(keys))
    if highest is None:
        raise _none(dataset)
    held_lines = numpy.unique(lines[keys <= highest])
    if (lines[1:] == lines[:-1]).any():  # rows of several records draw each other over by what they share
        before = 0
        while len(held_lines) > before:
            before = len(held_lines)
            held = numpy.unique(keys[numpy.isin(lines, held_lines)])
            held_lines = numpy.unique(lines[numpy.isin(keys, held)])
    if len(held_lines) == len(numpy.unique(lines)):
        raise _none(dataset)
    sides = numpy.zeros(int(lines.max()) + 1, dtype=numpy.uint8)
    sides[lines] = _TRAIN
    sides[held_lines] = _HELD
    return bytearray(sides.tobytes())


def _none(dataset: Dataset) -> DataError:
    remedy = f"It takes {FEWEST} rows and two different prompts at least."
    return DataError("No row can be held out.", remedy, file=str(dataset.path))


def _lines(dataset: Dataset, sides: bytearray) -> Iterator[tuple[int, bytes]]:
    """Give the side and the bytes of every row, in the order of the file."""
    form = dataset.found.format
    group = form.group if form else ""
    if len(dataset.sources) == 1 and dataset.sources[0].layout == "lines" and not group:
        yield from _raw(dataset, sides)
        return
    first: dict[Any, int] = {}
    for line, row in Rows(dataset.sources, Problems(), Warnings()):
        at = first.setdefault(_group(row, group), line) if group else line
        yield sides[at] if at < len(sides) else _LEFT_OUT, writers.line(row)


def _group(row: Row, group: str) -> Any:
    key = WHOLE if group == WHOLE else row.get(group)
    return key if isinstance(key, (str, int, float)) else None


def _raw(dataset: Dataset, sides: bytearray) -> Iterator[tuple[int, bytes]]:
    source = dataset.sources[0]
    with contextlib.closing(source.open()) as opened:
        opened.file.read(source.start)
        for number, line in enumerate(opened.file, 1):
            side = sides[number] if number < len(sides) else _LEFT_OUT
            if side != _LEFT_OUT or line.strip():
                yield side, line if line.endswith(b"\n") else line + b"\n"
