"""Look at data as the model will see it: in a child, so that tokenizers and templates never run in the window.

Requests: {"op": "check", "data", "model"} gives the check's document with token counts; {"op": "row", "data", "model",
"index", "max_length"} one row with its learned tokens marked; {"op": "preview", "data", "model", "n"} what the command
line prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from studio.data import dataset
from studio.data.records import LISTED, Conversation, Preference, Reading, Record
from studio.errors import DataError, InputError
from studio.models import hub
from studio.render import encode
from studio.render.encode import IGNORE, Encoded, Renderer

COUNTED = 2000
_renderers: dict[tuple[str, str], Renderer] = {}
_datasets: dict[tuple[str, float, int, str], tuple[dataset.Dataset, list[Record]]] = {}


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Answer one request."""
    op = {"check": _check, "row": _row, "preview": _preview}[request["op"]]
    yield op(request)


def _renderer(request: dict[str, Any]) -> Renderer:
    key = (str(hub.resolve(request["model"])), request.get("template", ""))
    if key not in _renderers:
        _renderers[key] = encode.load(hub.resolve(request["model"]), key[1])
    return _renderers[key]


def _dataset(request: dict[str, Any]) -> tuple[dataset.Dataset, list[Record]]:
    from pathlib import Path

    path = Path(request["data"]).expanduser().resolve()
    facts = path.stat() if path.is_file() else None
    key = (str(path), facts.st_mtime if facts else 0.0, facts.st_size if facts else 0, str(request.get("reading")))
    if key not in _datasets:
        _datasets.clear()
        data = dataset.check(path, Reading.from_dict(request.get("reading") or {}))
        _datasets[key] = data, list(data.records())
    return _datasets[key]


def _check(request: dict[str, Any]) -> dict[str, Any]:
    data, records = _dataset(request)
    document = data.to_dict()
    if not request.get("model") or not records:
        return document
    renderer = _renderer(request)
    lengths, tokens, trained = [], 0, 0
    step = max(1, len(records) // COUNTED)
    for record in records[::step]:
        try:
            sides = _sides(record, renderer)
        except InputError as error:
            problem = {
                "line": record.line,
                "field": error.field or "",
                "problem": error.message,
                "remedy": error.remedy,
            }
            if len(document["errors"]) < LISTED:
                document["errors"].append(problem)
            document["error_count"] += 1
            continue
        lengths.append(max(len(side.ids) for side in sides))
        tokens += sum(len(side.ids) for side in sides)
        trained += sum(side.trained for side in sides)
    scale = len(records) / max(1, len(lengths))
    return {
        **document,
        "lengths": lengths,
        "tokens": round(tokens * scale),
        "trained_tokens": round(trained * scale),
        "template": renderer.family,
        "stop_tokens": renderer.stop_tokens,
    }


def _sides(record: Record, renderer: Renderer) -> list[Encoded]:
    sides = encode.plans(renderer, record)[0]
    return renderer.encode(list(sides.values()))


def _row(request: dict[str, Any]) -> dict[str, Any]:
    (data, records), renderer = _dataset(request), _renderer(request)
    index, limit = int(request.get("index", 0)), int(request.get("max_length") or 1 << 30)
    if not 0 <= index < len(records):
        raise DataError(f"There is no row {index + 1}; the file has {len(records)}.", "Choose another row.")
    record = records[index]
    if isinstance(record, Preference):
        chosen, rejected = _sides(record, renderer)
        return {
            "kind": "preference",
            "line": record.line,
            "chosen": _tokens(chosen, renderer, limit),
            "rejected": _tokens(rejected, renderer, limit),
            "common_prefix": encode.common_prefix(chosen.ids, rejected.ids),
        }
    whole = _sides(record, renderer)[0]
    kept: Encoded | None = whole if len(whole.ids) <= limit else None
    if isinstance(record, Conversation):
        kept = encode.shorten(renderer, record.messages, limit)
    shown = _tokens(kept or whole, renderer, limit)
    cut = len(whole.ids) - len(kept.ids) if kept is not None else 0
    return {"kind": data.kind, "line": record.line, **shown, "cut": cut, "left_out": kept is None}


def _tokens(encoded: Encoded, renderer: Renderer, limit: int) -> dict[str, Any]:
    stops = set(renderer.stop_ids)
    pieces = []
    for position, (token, label, (start, end)) in enumerate(
        zip(encoded.ids, encoded.labels, encoded.offsets, strict=True)
    ):
        after = encoded.offsets[position + 1][0] if position + 1 < len(encoded.ids) else len(encoded.text)
        pieces.append(
            {
                "text": encoded.text[start : max(end, min(after, len(encoded.text)))] if end >= start else "",
                "id": token,
                "trained": label != IGNORE,
                "end_of_turn": label != IGNORE and token in stops,
            }
        )
    return {"text": encoded.text, "tokens": pieces, "count": len(pieces), "trained": encoded.trained}


def _preview(request: dict[str, Any]) -> dict[str, Any]:
    (data, records), renderer = _dataset(request), _renderer(request)
    if not records:
        first = data.errors.first[0] if data.errors.count else None
        raise DataError(
            first.problem if first else "The rows fit no format that Studio knows.",
            first.remedy if first else "`studio data check` says more.",
            file=str(data.path),
            line=first.line if first else None,
            field=first.field if first else None,
        )
    rows = []
    for record in records[: int(request.get("n", 3))]:
        sides = [_plain(side) for side in _sides(record, renderer)]
        if isinstance(record, Preference):
            prefix = encode.common_prefix(sides[0]["ids"], sides[1]["ids"])
            rows.append({"chosen": sides[0], "rejected": sides[1], "common_prefix": prefix})
        else:
            rows.append(sides[0])
    return {"rows": rows}


def _plain(encoded: Encoded) -> dict[str, Any]:
    marked, inside = "", False
    for (start, _), label, nxt in zip(
        encoded.offsets, encoded.labels, [*(o[0] for o in encoded.offsets[1:]), len(encoded.text)], strict=True
    ):
        if (label != IGNORE) != inside:
            marked += "⟧" if inside else "⟦"
            inside = not inside
        marked += encoded.text[start:nxt]
    return {
        "text": encoded.text,
        "marked": marked + ("⟧" if inside else ""),
        "ids": encoded.ids,
        "labels": encoded.labels,
        "trained_share": encoded.trained / max(1, len(encoded.ids)),
    }
