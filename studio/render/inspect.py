"""Look at data as the model will see it: in a child, so that tokenizers and templates never run in the window.

A request names an `op` and the file: {"op", "data", "reading", ...}. Long work answers {"progress": event} as it goes,
and its result last; closing the stream stops it.

detect    the "columns" and first "raw" rows, what they are taken for, how they are "read"; "problem": why not
check     the check's document (data/report); "ok": it can be used as it is read
measure   "findings" and "statistics" for a model and its settings (render/lint)
row       one row with its learned tokens marked (render/show), by "index" or by "line"
rows      a page of the table (render/rows): "page", "sort", "contains", "lines"
split     how many rows and prompts a held-out share takes
preview   what the command line prints
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from studio import events
from studio.data import dataset, hubdata, onepass, report, split
from studio.data.detect import detect
from studio.data.files import Rows, look
from studio.data.recording import Recorder
from studio.data.records import Problems, Reading, Record, Text, Warnings, prompt_of
from studio.errors import ConfigError, DataError, Stopped
from studio.models import check, hub
from studio.render import encode, rows, show
from studio.render.encode import Renderer

Request = dict[str, Any]
Answer = dict[str, Any]
Cancelled = Callable[[], bool]

MEASURED = 100_000
ANY_LENGTH = 1 << 30
REMEMBERED = 3
RAW_ROWS, RAW_COLUMNS, RAW_CELL = 3, 40, 400
TOLD_EVERY = 0.2

_renderers: dict[tuple[str, str], Renderer] = {}
_reports: dict[tuple[str, ...], report.Report] = {}
_datasets: dict[tuple[str, ...], dataset.Dataset] = {}
_indexes: dict[tuple[str, ...], rows.Index] = {}
_found: dict[tuple[str, ...], tuple[rows.Numbers, bool]] = {}
_loading, _reading, _listing = threading.Lock(), threading.Lock(), threading.Lock()


def handle(request: Request, cancelled: Cancelled) -> Iterator[Answer]:
    """Answer one request."""
    yield from told(_OPS[request["op"]], request, cancelled)


def told(
    work: Callable[[Request, events.Emit, Cancelled], Answer], request: Request, cancelled: Cancelled
) -> Iterator[Answer]:
    """Run work in a thread and give its progress (a few times a second) and then its answer."""
    said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    last = 0.0

    def emit(event: events.Event) -> None:
        nonlocal last
        if event["type"] == "progress" and time.monotonic() - last >= TOLD_EVERY:
            last = time.monotonic()
            said.put(("progress", event))

    def go() -> None:
        try:
            said.put(("answer", work(request, emit, cancelled)))
        except BaseException as error:
            said.put(("error", error))

    threading.Thread(target=go, daemon=True).start()
    while True:
        what, value = said.get()
        if what == "error":
            raise value
        yield value if what == "answer" else {"progress": value}
        if what == "answer":
            return


def _renderer(request: Request) -> Renderer:
    key = (str(hub.resolve(request["model"])), str(request.get("template") or ""))
    with _loading:
        if key not in _renderers:
            _renderers[key] = encode.load(Path(key[0]), key[1])
        return _renderers[key]


def _key(request: Request) -> tuple[str, ...]:
    path = Path(request["data"]).expanduser()
    facts = path.stat() if path.is_file() else None
    version = (str(facts.st_mtime_ns), str(facts.st_size)) if facts else ()
    return (str(request["data"]), repr(sorted((request.get("reading") or {}).items())), *version)


def _report(request: Request, emit: events.Emit, cancelled: Cancelled) -> report.Report:
    """Check and lint a file, one at a time."""
    key = _key(request)
    with _reading:
        if key not in _reports:
            reading = Reading.from_dict(request.get("reading") or {})
            _keep(_reports, key, report.check(request["data"], reading, emit=emit, should_stop=cancelled))
        return _reports[key]


def _dataset(request: Request, emit: events.Emit, cancelled: Cancelled) -> dataset.Dataset:
    """Give a file as it was checked; one that was not is checked without the lint."""
    key = _key(request)
    with _reading:
        if key in _reports:
            return _reports[key].data
        if key not in _datasets:
            reading = Reading.from_dict(request.get("reading") or {})
            _keep(_datasets, key, dataset.check(request["data"], reading, emit=emit, should_stop=cancelled))
        return _datasets[key]


def _keep(known: dict[tuple[str, ...], Any], key: tuple[str, ...], value: Any) -> None:
    while len(known) >= REMEMBERED:
        del known[next(iter(known))]
    known[key] = value


def _detect(request: Request, emit: events.Emit, cancelled: Cancelled) -> Answer:
    """Look at the first rows only: what a reading makes of them, in no time."""
    problems, warnings = Problems(), Warnings()
    reading = Reading.from_dict(request.get("reading") or {})
    stream = Rows(look(hubdata.paths_of(request["data"], emit, cancelled)), problems, warnings)
    head: list[tuple[int, Any]] = []
    for item in stream:
        head.append(item)
        if len(head) >= onepass.SAMPLE or stream.done > onepass.SAMPLE_BYTES:
            break
    raw = [row for _, row in head[:RAW_ROWS]]
    columns = list(dict.fromkeys(str(name) for row in raw for name in row))[:RAW_COLUMNS]
    shown: Answer = {
        "columns": columns,
        "raw": [{name: _cell(row[name]) for name in columns if name in row} for row in raw],
        "mapping": {},
        "kind": "unclear",
        "read": [],
        "problem": None,
    }
    try:
        found = detect([row for _, row in head], reading)
    except ConfigError as error:  # a mapping that is not whole yet
        return shown | {"problem": error.to_dict()}
    if found.format is None:
        return shown
    recorder = Recorder(found.format, reading, problems, warnings)
    records = recorder.gather(head) if recorder.gathers else recorder.each(head)
    read = [_said(record) for record in itertools.islice(records, RAW_ROWS)]
    return shown | {"mapping": found.mapping, "kind": found.format.kind, "read": read}


def _check(request: Request, emit: events.Emit, cancelled: Cancelled) -> Answer:
    made = _report(request, emit, cancelled)
    return {**made.document, "ok": made.ok}


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= RAW_CELL else text[: RAW_CELL - 1] + "…"


def _said(record: Record) -> Answer:
    """Give a record in short, as roles and texts."""
    if isinstance(record, Text):
        return {"line": record.line, "turns": [{"role": "text", "text": _cell(record.text)}]}
    names = {"chosen": "chosen", "rejected": "rejected", "completion": "assistant"}
    said = [{"role": turn.role, "text": _cell(turn.content)} for turn in getattr(record, "messages", prompt_of(record))]
    for field, name in names.items():
        said += [{"role": name, "text": _cell(turn.content)} for turn in getattr(record, field, ())]
    label = getattr(record, "label", None)
    return {"line": record.line, "turns": said} | ({} if label is None else {"label": label})


def _measure(request: Request, emit: events.Emit, cancelled: Cancelled) -> Answer:
    from studio.render import lint

    if int(request["max_length"]) < 1:
        raise ConfigError("max_length is less than 1.", "Give the tokens that a row may have.", field="max_length")
    data, renderer = _dataset(request, emit, cancelled), _renderer(request)
    folder = hub.resolve(request["model"])
    context = check.context_of(check.read_config(folder)) if (folder / "config.json").is_file() else 0
    found: Answer = lint.measure(
        data,
        renderer,
        max_length=min(int(request["max_length"]), context or ANY_LENGTH),
        batch_size=int(request["batch_size"]),
        train_on=str(request["train_on"]),
        cut=str(request.get("cut") or "prompt"),
        held_out=float(request["held_out"]),
        seed=int(request["seed"]),
        emit=emit,
        should_stop=cancelled,
        most=int(request.get("most") or MEASURED),
        context=context,
    )
    return found


def _index(request: Request, emit: events.Emit, cancelled: Cancelled) -> rows.Index:
    data, key = _dataset(request, emit, cancelled), _key(request)
    with _listing:
        if key not in _indexes:
            _keep(_indexes, key, rows.build(data, emit, cancelled))
        return _indexes[key]


def _row(request: Request, emit: events.Emit, cancelled: Cancelled) -> Answer:
    data = _dataset(request, emit, cancelled)
    index = int(request.get("index") or 0)
    if request.get("line"):
        index = _index(request, emit, cancelled).at_line(int(request["line"]))
    if not 0 <= index < data.usable:
        raise DataError(f"There is no row {index + 1}; the file has {data.usable}.", "Choose another row.")
    record = data.record(index)
    found = show.row(
        _renderer(request),
        record,
        max_length=int(request.get("max_length") or 0),
        train_on=str(request.get("train_on") or "all"),
        cut=str(request.get("cut") or "prompt"),
        part=int(request.get("part") or 0),
    )
    return {**found, "index": index}


def _rows(request: Request, emit: events.Emit, cancelled: Cancelled) -> Answer:
    data, index = _dataset(request, emit, cancelled), _index(request, emit, cancelled)
    order = index.order(str(request.get("sort") or "file"), request.get("lines"))
    more = False
    if text := str(request.get("contains") or "").strip():
        key = (*_key(request), text)
        if key not in _found:
            _keep(_found, key, rows.search(data, text, emit, cancelled))
        found, more = _found[key]
        order = order[np.isin(order, found)]
    pages = max(1, -(-len(order) // rows.PAGE))
    page = min(max(int(request.get("page") or 0), 0), pages - 1)
    numbers = [int(number) for number in order[page * rows.PAGE : (page + 1) * rows.PAGE]]
    return {
        "total": len(order),
        "more": more,
        "page": page,
        "pages": pages,
        "rows": [rows.entry(record, number) for number, record in zip(numbers, _records(data, numbers), strict=True)],
    }


def _records(data: dataset.Dataset, numbers: list[int]) -> list[Record]:
    """Give some records; those of a format that gathers its rows all in one go, since each would be a whole pass."""
    if data.found.format is None or not data.found.format.group:
        return [data.record(number) for number in numbers]
    wanted = dict.fromkeys(numbers)
    picked = {number: record for number, record in enumerate(data.records()) if number in wanted}
    return [picked[number] for number in numbers]


def _split(request: Request, emit: events.Emit, cancelled: Cancelled) -> Answer:
    data = _dataset(request, emit, cancelled)
    aside = split.held_out(_followed(data, emit, cancelled), float(request["held_out"]), int(request["seed"]))
    prompts = (
        {repr(prompt_of(record)) for number, record in enumerate(data.records()) if number in aside} if aside else ()
    )
    return {"rows": data.usable, "held_out": len(aside), "prompts": len(prompts)}


def _followed(data: dataset.Dataset, emit: events.Emit, cancelled: Cancelled) -> Iterator[Record]:
    for number, record in enumerate(data.records()):
        if number % 1000 == 0:
            if cancelled():
                raise Stopped("It was stopped.", "Start it again whenever you like.")
            emit(events.event("progress", phase="holding rows out", done=number, total=data.usable, unit="rows"))
        yield record


def _preview(request: Request, emit: events.Emit, cancelled: Cancelled) -> Answer:
    count = int(request.get("n", 3))
    if count < 1:
        raise ConfigError("n is less than 1.", "Give the number of rows to show.", field="n")
    data, renderer = _dataset(request, emit, cancelled), _renderer(request)
    if not data.usable:
        first = data.errors.first[0] if data.errors.count else None
        raise DataError(
            first.problem if first else "The rows fit no format that Studio knows.",
            first.remedy if first else "`studio data check` says more.",
            file=str(data.path),
            line=first.line if first else None,
            field=first.field if first else None,
        )
    shown = []
    for record in itertools.islice(data.records(), count):
        try:
            shown += show.entries(renderer, record, str(request.get("train_on") or "all"))
        except DataError as error:
            raise show.located(error, record.line, str(data.path)) from None
    return {"rows": shown}


_OPS: dict[str, Callable[[Request, events.Emit, Cancelled], Answer]] = {
    "detect": _detect,
    "check": _check,
    "measure": _measure,
    "row": _row,
    "rows": _rows,
    "split": _split,
    "preview": _preview,
}
