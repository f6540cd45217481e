"""A record as the model will see it: its tokens in pieces, what is learned of them, what had to go to make it fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.data.records import Prompt, Rated, Record, kind_of
from studio.errors import InputError
from studio.render import encode
from studio.render.encode import IGNORE, Encoded, Example, Renderer

#: A longer row is sent to a page as so many pieces of its beginning and as many of its end.
SHOWN = 1000
Piece = dict[str, Any]


def row(
    renderer: Renderer,
    record: Record,
    *,
    max_length: int = 0,
    train_on: str = "all",
    cut: str = "prompt",
    part: int = 0,
) -> dict[str, Any]:
    """Give one of the rows that a record becomes, side by side where it has two.

    {"kind", "line", "part", "parts", "left_out", "sides": {name: {"pieces", "count", "learned", "dropped"}}}, for a
    pair also "common_prefix" (tokens), for a rated answer "label". A piece is {"text", "ids"} and, where true,
    "learned", "end_of_turn", "dropped" (not among the row's tokens: it had to go) and "opening" (of the answer to
    come); {"gap": n} stands for n pieces that are not shown. Raises InputError when the template refuses the record.
    """
    whole = [
        dict(zip(sides, renderer.encode(list(sides.values())), strict=True))
        for sides in _plans(renderer, record, train_on)
    ]
    limit = max_length or 1 << 30
    made = list(encode.examples(renderer, [record], max_length=limit, train_on=train_on, cut=cut, offsets=True))
    part = min(max(part, 0), max(0, len(made) - 1))
    item = made[part] if made else None
    if item is not None and not isinstance(item, Example) and item.error is not None:
        raise located(item.error, record.line)
    full = whole[part] if len(whole) == len(made) else {}
    kept = item.sides if isinstance(item, Example) else full or whole[0]
    answer: dict[str, Any] = {
        "kind": kind_of(record),
        "line": record.line,
        "part": part,
        "parts": max(1, len(made)),
        "left_out": "" if isinstance(item, Example) else item.reason if item is not None else "nothing_learned",
        "sides": {name: _side(side, full.get(name), renderer) for name, side in kept.items()},
    }
    if isinstance(record, Prompt):
        before = renderer.template.text(record.prompt)
        _mark_opening(answer["sides"]["prompt"]["pieces"], len(before))
    if isinstance(record, Rated):
        answer["label"] = record.label
    if "rejected" in kept:
        answer["common_prefix"] = encode.common_prefix(kept["chosen"].ids, kept["rejected"].ids)
    for side in answer["sides"].values():
        side["pieces"] = _shortened(side["pieces"])
    return answer


def entries(renderer: Renderer, record: Record, train_on: str = "all") -> list[dict[str, Any]]:
    """Give all rows that a record becomes as the command line prints them, whole."""
    rows: list[dict[str, Any]] = []
    for sides in _plans(renderer, record, train_on):
        made = [plain(side) for side in renderer.encode(list(sides.values()))]
        if len(made) == 2:
            prefix = encode.common_prefix(made[0]["ids"], made[1]["ids"])
            rows.append({"chosen": made[0], "rejected": made[1], "common_prefix": prefix})
        else:
            rows.append({**made[0], "label": record.label} if isinstance(record, Rated) else made[0])
    return rows


def plain(encoded: Encoded) -> dict[str, Any]:
    """Give a row's text, ids, labels and the share that is learned; `marked` is the text with ⟦learned⟧ in brackets."""
    marked, inside = "", False
    for piece in _pieces(encoded, frozenset()):
        if piece.get("learned", False) != inside:
            marked += "⟧" if inside else "⟦"
            inside = not inside
        marked += piece["text"]
    return {
        "text": encoded.text,
        "marked": marked + ("⟧" if inside else ""),
        "ids": encoded.ids,
        "labels": encoded.labels,
        "trained_share": encoded.trained / max(1, len(encoded.ids)),
    }


def located(error: InputError, line: int, file: str | None = None) -> InputError:
    """Say where an error of a record stands."""
    error.line = line if error.line is None else error.line
    error.file = error.file or file
    return error


def _plans(renderer: Renderer, record: Record, train_on: str) -> list[dict[str, encode.Plan]]:
    try:
        return encode.plans(renderer, record, train_on)
    except InputError as error:
        raise located(error, record.line) from None


def _side(kept: Encoded, whole: Encoded | None, renderer: Renderer) -> dict[str, Any]:
    stops = frozenset(renderer.stop_ids)
    gone = dropped(whole.ids, kept.ids) if whole is not None else None
    if whole is not None and gone is not None:
        labels = [*kept.labels[: gone[0]], *[IGNORE] * (gone[1] - gone[0]), *kept.labels[gone[0] :]]
        pieces = _pieces(Encoded(whole.ids, labels, whole.text, whole.offsets), stops, gone)
    elif kept.offsets or not kept.ids:
        pieces = _pieces(kept, stops)
    else:
        pieces = [
            _piece(renderer.decode([token], special=True), [token], label != IGNORE, token in stops)
            for token, label in zip(kept.ids, kept.labels, strict=True)
        ]
    return {
        "pieces": pieces,
        "count": len(kept.ids),
        "learned": kept.trained,
        "dropped": gone[1] - gone[0] if gone else 0,
    }


def dropped(whole: Sequence[int], kept: Sequence[int]) -> tuple[int, int] | None:
    """Find the one stretch of `whole` that is not in `kept`; None when more than that is different."""
    begin = encode.common_prefix(whole, kept)
    rest = len(kept) - begin
    end = len(whole) - rest
    return (begin, end) if end >= begin and list(whole[end:]) == list(kept[begin:]) else None


def _pieces(encoded: Encoded, stops: frozenset[int], gone: tuple[int, int] = (0, 0)) -> list[Piece]:
    """Cut a row's text at its tokens; tokens that share a character (bytes of an emoji) make one piece."""
    pieces: list[Piece] = []
    last = len(encoded.ids) - 1
    at = encoded.offsets[0][0] if encoded.offsets else 0  # a part of a long text begins inside it
    for position, (token, label, (start, end)) in enumerate(
        zip(encoded.ids, encoded.labels, encoded.offsets, strict=True)
    ):
        until = max(end, encoded.offsets[position + 1][0]) if position < last else end
        out = gone[0] <= position < gone[1]
        text = encoded.text[at : max(until, at)]
        at = max(until, at)
        if not text and pieces and start < at and bool(pieces[-1].get("dropped")) == out:
            pieces[-1]["ids"].append(token)
            continue
        pieces.append(_piece(text, [token], label != IGNORE, token in stops, out))
    return pieces


def _piece(text: str, ids: list[int], learned: bool, stop: bool, out: bool = False) -> Piece:
    piece: Piece = {"text": text, "ids": ids}
    for name, holds in (("learned", learned), ("end_of_turn", learned and stop), ("dropped", out)):
        if holds:
            piece[name] = True
    return piece


def _mark_opening(pieces: list[Piece], begin: int) -> None:
    """Mark what the template writes to open the assistant's turn: everything from `begin` on."""
    at = 0
    for piece in pieces:
        if at >= begin:
            piece["opening"] = True
        at += len(piece["text"])


def _shortened(pieces: list[Piece]) -> list[Piece]:
    if len(pieces) <= 2 * SHOWN:
        return pieces
    return [*pieces[:SHOWN], {"gap": len(pieces) - 2 * SHOWN}, *pieces[-SHOWN:]]
