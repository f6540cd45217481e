"""Rows to a .jsonl, .csv or .parquet file, whole or not at all."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from studio import events
from studio.data import landing, tables
from studio.errors import ConfigError, DataError

Row = dict[str, Any]
T = TypeVar("T")
SUFFIXES = (".jsonl", ".csv", ".parquet")
_BATCH = 1000


def told(items: Iterable[T], phase: str, total: int, emit: events.Emit | None) -> Iterator[T]:
    """Give the items, and tell `emit` how many of `total` went by."""
    if emit is None:
        yield from items
        return
    progress = events.Progress(emit, phase, total, "rows")
    for item in items:
        yield item
        progress.step()


def line(row: Row) -> bytes:
    """Write a row as a JSON line; text that is no valid Unicode is escaped."""
    try:
        return (json.dumps(row, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(row) + "\n").encode()


def check_suffix(path: Path) -> str:
    """Give the suffix of a file to write; ConfigError for one that is not ours."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path.name} is no name to write to.", f"End it with {', '.join(SUFFIXES)}.", field="out")
    return suffix


def write(path: Path, columns: dict[str, str], rows: Iterable[Row], force: bool = False) -> dict[str, int]:
    """Write rows by the suffix of `path`; gives the rows, and the cells of a CSV that got a ' before them.

    `columns` names what each column holds: text, bool, json (lists and objects as JSON text), messages, turns, pairs.
    DataError, and nothing written, when there are no rows; a file that is there is replaced by `force` only.
    """
    put: Callable[[BinaryIO, dict[str, str], Iterable[Row], dict[str, int]], None]
    put = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}[check_suffix(path)]
    counts = {"rows": 0, "guarded": 0}

    def counted() -> Iterator[Row]:
        for row in rows:
            counts["rows"] += 1
            yield row

    with landing.beside([path], force) as (file,):
        put(file, columns, counted(), counts)
        if not counts["rows"]:
            raise DataError("No row is left to write.", "Choose another format, or rows that it can hold.")
    return counts


def _jsonl(file: BinaryIO, columns: dict[str, str], rows: Iterable[Row], counts: dict[str, int]) -> None:
    for row in rows:
        file.write(line(row))


def _csv(file: BinaryIO, columns: dict[str, str], rows: Iterable[Row], counts: dict[str, int]) -> None:
    import io

    def cells() -> Iterator[Row]:
        for row in rows:
            made = {name: _cell(value) for name, value in row.items()}
            counts["guarded"] += sum(tables.plain(value) != value for value in made.values())
            yield made

    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
    tables.write(text, list(columns), cells())
    text.flush()
    text.detach()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _parquet(file: BinaryIO, columns: dict[str, str], rows: Iterable[Row], counts: dict[str, int]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, _type(kind)) for name, kind in columns.items()])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for batch in _batches(rows):
            made = [{name: _value(row.get(name), kind) for name, kind in columns.items()} for row in batch]
            try:
                writer.write_table(pyarrow.Table.from_pylist(made, schema=schema))
            except UnicodeEncodeError:
                raise DataError("A row holds text that is no valid Unicode.", "Write .jsonl instead.") from None


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while batch := list(itertools.islice(source, _BATCH)):
        yield batch


def _type(kind: str) -> Any:
    import pyarrow as pa

    text = pa.string()
    call = pa.struct([("id", text), ("type", text), ("function", pa.struct([("name", text), ("arguments", text)]))])
    texts = [(name, text) for name in ("role", "content", "reasoning_content", "name", "tool_call_id")]
    turn = [*texts, ("weight", pa.int8())]
    return {
        "text": text,
        "json": text,
        "bool": pa.bool_(),
        "messages": pa.list_(pa.struct([*turn, ("tool_calls", pa.list_(call))])),
        "turns": pa.list_(pa.struct([("from", text), ("value", text), ("weight", pa.int8())])),
        "pairs": pa.list_(pa.list_(text)),
    }[kind]


def _value(value: Any, kind: str) -> Any:
    """Give a value as its Parquet column takes it: objects of any shape become JSON text."""
    if kind == "json":
        return None if value is None else json.dumps(value, ensure_ascii=False)
    if kind != "messages" or value is None:
        return value
    return [{**turn, "tool_calls": [_call(call) for call in turn.get("tool_calls", ())] or None} for turn in value]


def _call(call: Row) -> Row:
    inner = call["function"]
    return {**call, "function": {**inner, "arguments": json.dumps(inner["arguments"], ensure_ascii=False)}}
