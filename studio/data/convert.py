"""One format into another: nothing is lost that the target can hold, and what it cannot hold is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.data import writers
from studio.data.dataset import Dataset
from studio.data.kinds import OTHERS, as_kind
from studio.data.records import Record
from studio.data.targets import TARGETS, Dropped, Target, is_flat
from studio.errors import ConfigError, DataError


def convert(dataset: Dataset, to: str, out: str | Path) -> dict[str, Any]:
    """Write the records of a data set in the format `to`, as .jsonl, .csv or .parquet by the suffix of `out`.

    Gives {"rows", "dropped": {what: count}, "left_out": {code: rows}, "guarded": cells of a CSV that got a ' in front,
    so that no spreadsheet runs them}. ConfigError, before anything is written, for a format that cannot hold these
    records; DataError when no row is left.
    """
    path = Path(out).expanduser().resolve()
    target = TARGETS.get(to)
    if target is None:
        raise ConfigError(f"There is no format {to!r} to write.", f"Choose one of {', '.join(TARGETS)}.", field="to")
    writers.check_suffix(path)
    refuse_input(dataset, path)
    if dataset.kind != target.kind and (dataset.kind, target.kind) not in OTHERS:
        able = [n for n, t in TARGETS.items() if t.kind == dataset.kind or (dataset.kind, t.kind) in OTHERS]
        raise ConfigError(
            f"The format {to} cannot hold {dataset.kind} rows.", f"Choose one of {', '.join(able)}.", field="to"
        )
    flat = "side" in target.columns.values() and all(map(is_flat, _cast(dataset, target, Counter())))
    dropped: Dropped = Counter()
    side = "text" if flat else "json" if path.suffix.lower() == ".csv" else "messages"
    columns = {name: side if kind == "side" else kind for name, kind in target.columns.items()}
    if not flat and side != "text" and "system" in columns and target.name != "alpaca":
        del columns["system"]  # it is the first of the messages
    counts = writers.write(path, columns, _rows(dataset, target, flat, dropped))
    said = {what: count for what, count in dropped.items() if count}
    return {"rows": counts["rows"], "dropped": said, "left_out": dict(dataset.left_out), "guarded": counts["guarded"]}


def refuse_input(dataset: Dataset, path: Path) -> None:
    """Raise ConfigError when `path` is one of the files that are read."""
    for one in (dataset.path, *(source.path for source in dataset.sources)):
        if path == one or (path.exists() and one.exists() and path.samefile(one)):
            raise ConfigError("That is the file that is read.", "Choose another name.", file=str(path), field="out")


def _rows(dataset: Dataset, target: Target, flat: bool, dropped: Dropped) -> Iterator[dict[str, Any]]:
    for record in _cast(dataset, target, dropped):
        row = target.write(record, flat, dropped)
        if row is not None:
            yield row


def _cast(dataset: Dataset, target: Target, dropped: Dropped) -> Iterator[Record]:
    """Give the records as the target's kind."""
    if dataset.kind == target.kind:
        yield from dataset.records()
        return
    lost = OTHERS.get((dataset.kind, target.kind), "")
    for record in dataset.records():
        if lost:
            dropped[lost] += 1
        yield from as_kind(record, target.kind)


__all__ = ["TARGETS", "DataError", "convert", "refuse_input"]
