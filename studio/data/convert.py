"""One format into another: nothing is lost that the target can hold, and what it cannot hold is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from studio import events
from studio.data import landing, writers
from studio.data.dataset import Dataset
from studio.data.kinds import OTHERS, as_kind
from studio.data.records import Record
from studio.data.targets import TARGETS, Dropped, Target, is_flat
from studio.errors import ConfigError, DataError


def asked(to: str, out: str | Path, read: Iterable[Path] = (), force: bool = False) -> tuple[Target, Path]:
    """Give the format and the path to write; ConfigError for what can be refused before a row is read."""
    target = TARGETS.get(to)
    if target is None:
        raise ConfigError(f"There is no format {to!r} to write.", f"Choose one of {', '.join(TARGETS)}.", field="to")
    writers.check_suffix(landing.named(out))
    return target, landing.file(out, read, force)


def convert(
    dataset: Dataset, to: str, out: str | Path, *, force: bool = False, emit: events.Emit | None = None
) -> dict[str, Any]:
    """Write the records of a data set in the format `to`, as .jsonl, .csv or .parquet by the suffix of `out`.

    Gives {"rows", "dropped": {what: count}, "left_out": {code: rows}, "guarded": cells of a CSV that got a ' in front,
    so that no spreadsheet runs them}. ConfigError, before anything is written, for a format that cannot hold these
    records, and for a place that is taken (`force` replaces a file); DataError when no row is left. `emit` gets
    progress events over the rows.
    """
    target, path = asked(to, out, [one.path for one in dataset.sources], force)
    if dataset.kind != target.kind and (dataset.kind, target.kind) not in OTHERS:
        able = [n for n, t in TARGETS.items() if t.kind == dataset.kind or (dataset.kind, t.kind) in OTHERS]
        raise ConfigError(
            f"The format {to} cannot hold {dataset.kind} rows.", f"Choose one of {', '.join(able)}.", field="to"
        )
    flat = "side" in target.columns.values() and all(
        map(is_flat, _cast(dataset, target, Counter(), "Looking at the rows", emit))
    )
    dropped: Dropped = Counter()
    side = "text" if flat else "json" if path.suffix.lower() == ".csv" else "messages"
    columns = {name: side if kind == "side" else kind for name, kind in target.columns.items()}
    if not flat and side != "text" and "system" in columns and target.name != "alpaca":
        del columns["system"]  # it is the first of the messages
    counts = writers.write(path, columns, _rows(dataset, target, flat, dropped, emit), force)
    said = {what: count for what, count in dropped.items() if count}
    return {"rows": counts["rows"], "dropped": said, "left_out": dict(dataset.left_out), "guarded": counts["guarded"]}


def _rows(
    dataset: Dataset, target: Target, flat: bool, dropped: Dropped, emit: events.Emit | None
) -> Iterator[dict[str, Any]]:
    empty = True
    for record in _cast(dataset, target, dropped, "Writing", emit):
        row = target.write(record, flat, dropped)
        if row is not None:
            empty = False
            yield row
    if empty and (said := [f"{what} ({count:,})" for what, count in dropped.items() if count]):
        raise DataError(
            f"No row is left to write: {target.name} cannot hold {', '.join(said)}.",
            "Choose another format, or rows that it can hold.",
        )


def _cast(dataset: Dataset, target: Target, dropped: Dropped, phase: str, emit: events.Emit | None) -> Iterator[Record]:
    """Give the records as the target's kind."""
    records = writers.told(dataset.records(), phase, dataset.usable, emit)
    if dataset.kind == target.kind:
        yield from records
        return
    lost = OTHERS.get((dataset.kind, target.kind), "")
    for record in records:
        if lost:
            dropped[lost] += 1
        yield from as_kind(record, target.kind)


__all__ = ["TARGETS", "DataError", "asked", "convert"]
