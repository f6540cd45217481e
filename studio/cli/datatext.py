"""What `studio data check` says in words."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator
from typing import Any

from studio.data.dataset import Dataset
from studio.data.detect import Question
from studio.data.records import Message, Preference, Rated, Reading, Record, Text, turns
from studio.data.strict import excerpt, visible

_SHOWN = 3
_TURNS = 6
_REMEDY = "      "


def report(data: Dataset, document: dict[str, Any]) -> str:
    """Write a check for people: what the file is, three rows as they are read, what is wrong and what to do."""
    return "\n".join(_lines(data, document))


def _lines(data: Dataset, document: dict[str, Any]) -> Iterator[str]:
    yield f"{data.path.name}: {data.rows:,} rows, {data.format} ({data.kind})"
    yield data.found.why
    if data.found.mapping:
        yield "columns: " + ", ".join(f"{visible(name)} = {role}" for name, role in data.found.mapping.items())
    if document["left_out"]:
        left = ", ".join(f"{code} {count:,}" for code, count in document["left_out"].items())
        yield f"left out of {data.rows:,}: {left}"
    if data.found.question:
        yield from _ask(data.found.question, str(data.path))
    if data.usable:
        yield "the first rows, as they are read:"
        for record in itertools.islice(data.records(), _SHOWN):
            yield from _record(record)
    count, listed = document["error_count"], document["errors"]
    if count:
        yield f"errors: {count:,}" + (f", the first {len(listed)}" if count > len(listed) else "")
    for error in listed:
        field = f", {visible(error['field'])}" if error["field"] else ""
        yield f"  line {error['line']}{field}: {visible(error['problem'])}"
        if error["excerpt"]:
            yield f"{_REMEDY}{error['excerpt']}"
        yield f"{_REMEDY}{visible(error['remedy'])}"
    for warning in document["warnings"]:
        lines = ", ".join(map(str, warning["lines"][:5])) + (", …" if warning["rows"] > 5 else "")
        where = f" (line{'s' if len(warning['lines']) > 1 else ''} {lines})" if warning["lines"] else ""
        yield f"warning {warning['code']}: {warning.get('title') or format(warning['rows'], ',') + ' rows'}{where}"
        if what := warning.get("problem"):
            yield f"{_REMEDY}{visible(what)}"
        yield f"{_REMEDY}{visible(warning['remedy'])}"
    if count and "bad" not in data.reading.drop and data.refused is None and data.usable:
        yield "--drop-bad leaves the rows with errors out."


def _record(record: Record) -> Iterator[str]:
    yield f"  line {record.line}"
    if isinstance(record, Text):
        yield f"    {excerpt(record.text)}"
        return
    if isinstance(record, Preference):
        said = [(turn.role, turn) for turn in record.prompt]
        said += [("chosen", turn) for turn in record.chosen] + [("rejected", turn) for turn in record.rejected]
    else:
        said = [(turn.role, turn) for turn in turns(record)]
    for name, turn in said[:_TURNS]:
        yield f"    {name}: {excerpt(_words(turn))}"
    if len(said) > _TURNS:
        yield f"    and {len(said) - _TURNS} more turns"
    if isinstance(record, Rated):
        yield f"    label: {'good' if record.label else 'bad'}"


def _words(turn: Message) -> str:
    """Give what a turn says, or the calls that it makes."""
    calls = (call.get("function", call) for call in turn.tool_calls)
    made = [f"calls {call.get('name')}({json.dumps(call.get('arguments'), ensure_ascii=False)})" for call in calls]
    return "; ".join([*([turn.content] if turn.content or not made else []), *made])


def _ask(question: Question, file: str) -> Iterator[str]:
    yield visible(question.text)
    for title, reading in question.choices:
        yield f"  {visible(title)}:"
        yield f"{_REMEDY}studio data check {shlex.quote(file)} {_flags(reading)}"


def _flags(reading: Reading) -> str:
    words = ["--as", reading.kind] if reading.kind else []
    if reading.mapping:
        words += ["--map", ",".join(f"{name}={role}" for name, role in reading.mapping.items())]
    return shlex.join(words)
