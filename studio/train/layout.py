"""How the sequences of a batch lie in memory: behind each other without padding, or filled up on the right.

Packed, one row holds them all and positions begin anew with each. Sequences of one example that begin alike (chosen
and rejected behind one prompt) share that beginning: the first is whole, a further one goes on from its head.

    row         prompt chosen | rejected | prompt chosen | rejected
    positions   0 ...           p ...      0 ...           q ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from studio.methods.base import Batch, Example, Method, Row
from studio.objectives.logps import IGNORE
from studio.train.attention import Segments

Array = np.ndarray[Any, Any]


def batch(method: Method, examples: Sequence[Example], pad_id: int, packed: bool, shared: bool = False) -> Batch:
    """Lay out the sequences of examples, with what the method adds."""
    rows = method.sequences(examples)
    return {**lay(rows, pad_id, packed, _sides(rows, examples) if shared else 1), **method.extras(examples)}


def lay(rows: Sequence[Row], pad_id: int, packed: bool, sides: int = 1) -> Batch:
    """Lay S sequences out; where they are packed, the `sides` of an example (S / sides apart) share what they can.

    Gives input_ids, position_ids (R, T); segments (attention.Segments) where packed, else attention_mask (R, T). For
    the N positions whose next token is learned: predict (N,) in the flattened R * T, targets (N,) and place (N,) in the
    flattened S * L, where L is the most that one sequence learns; shape = (S, L); last (S,) in R * T, the end of each
    sequence.
    """
    ids = [np.asarray(row["ids"], np.int64) for row in rows]
    labels = [np.asarray(row["labels"], np.int64) for row in rows]
    places, made = _packed(ids, labels, sides) if packed else _padded(ids, pad_id)
    taught = [np.flatnonzero(found[1:] != IGNORE) for found in labels]
    most = max(1, *map(len, taught))
    predict = [where[found] for where, found in zip(places, taught, strict=True)]
    targets = [found[1:][where] for found, where in zip(labels, taught, strict=True)]
    place = [np.arange(len(found)) + number * most for number, found in enumerate(taught)]
    made["predict"] = torch.from_numpy(np.concatenate(predict))
    made["targets"] = torch.from_numpy(np.concatenate(targets))
    made["place"] = torch.from_numpy(np.concatenate(place))
    made["last"] = torch.tensor([int(where[-1]) for where in places])
    made["shape"] = (len(rows), most)
    return made


def passes(
    method: Method, examples: Sequence[Example], room: int, packed: bool, shared: bool = False
) -> list[list[int]]:
    """Split a batch into passes that take at most `room` tokens each: the numbers of the examples of each.

    Packed, the longest are placed first, each where it fits; padded, rows of like length go together. An example that
    is longer than the room goes alone.
    """
    rows = [method.sequences([example]) for example in examples]
    costs = [cost(found, shared and packed) for found in rows]
    widths = [max(len(row["ids"]) for row in found) for found in rows]
    groups: list[list[int]] = []
    used: list[int] = []
    for number in sorted(range(len(examples)), key=lambda at: -costs[at]):
        for at, group in enumerate(groups):
            width = max(widths[group[0]], widths[number])
            need = used[at] + costs[number] if packed else width * len(rows[number]) * (len(group) + 1)
            if need <= room:
                group.append(number)
                used[at] += costs[number]
                break
        else:
            groups.append([number])
            used.append(costs[number])
    return [sorted(group) for group in groups]


def to(made: Batch, device: Any) -> Batch:
    """Move a batch's tensors to a device."""
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in made.items()}


def common(ids: Sequence[Array], labels: Sequence[Array]) -> int:
    """Count the tokens with which all sequences begin alike.

    None of them is learned (it would be learned once for each), and each sequence keeps a token of its own.
    """
    most = min(map(len, ids)) - 1
    for found, row in zip(labels, ids, strict=True):
        learned = np.flatnonzero(found[:most] != IGNORE)
        most = int(learned[0]) if len(learned) else most
        differs = np.flatnonzero(row[:most] != ids[0][:most])
        most = int(differs[0]) if len(differs) else most
    return most


def _packed(ids: Sequence[Array], labels: Sequence[Array], sides: int) -> tuple[list[Array], Batch]:
    """Give where each token of each sequence lies in the one row, and the row.

    Sequences that share their beginning have its tokens' places in common.
    """
    apart = len(ids) // sides
    places: list[Array] = [np.empty(0, np.int64)] * len(ids)
    row: list[Array] = []
    positions: list[Array] = []
    prefixes: list[tuple[int, int] | None] = []
    end = 0
    for example in range(apart):
        group = range(example, len(ids), apart)
        shared = common([ids[at] for at in group], [labels[at] for at in group]) if sides > 1 else 0
        holder = len(row)
        for at in group:
            skipped = shared if len(row) > holder else 0
            own = np.arange(len(ids[at]) - skipped) + end
            places[at] = np.concatenate([places[example][:skipped], own])
            row.append(ids[at][skipped:])
            positions.append(np.arange(skipped, len(ids[at])))
            prefixes.append((holder, skipped) if skipped else None)
            end += len(own)
    made = {
        "input_ids": torch.from_numpy(np.concatenate(row))[None],
        "position_ids": torch.from_numpy(np.concatenate(positions))[None],
        "segments": Segments(tuple(map(len, row)), tuple(prefixes)),
    }
    return places, made


def _padded(ids: Sequence[Array], pad_id: int) -> tuple[list[Array], Batch]:
    """Give where each token of each sequence lies in the flattened rows, and the rows."""
    width = max(map(len, ids))
    rows, mask = np.full((len(ids), width), pad_id), np.zeros((len(ids), width), np.int64)
    for number, found in enumerate(ids):
        rows[number, : len(found)], mask[number, : len(found)] = found, 1
    made = {
        "input_ids": torch.from_numpy(rows),
        "attention_mask": torch.from_numpy(mask),
        "position_ids": torch.arange(width).expand(len(ids), -1),
    }
    return [np.arange(len(found)) + number * width for number, found in enumerate(ids)], made


def _sides(rows: Sequence[Row], examples: Sequence[Example]) -> int:
    """Count the sequences of an example; 1 where that is not the same for all."""
    return 1 if len(rows) % len(examples) else len(rows) // len(examples)


def cost(rows: Sequence[Row], shared: bool) -> int:
    """Count the tokens that an example takes in a packed row."""
    total = sum(len(row["ids"]) for row in rows)
    if not shared or len(rows) == 1:
        return total
    ids, labels = ([np.asarray(row[name]) for row in rows] for name in ("ids", "labels"))
    return total - (len(rows) - 1) * common(ids, labels)


def rows(value: torch.Tensor, places: torch.Tensor, width: int) -> torch.Tensor:
    """Take the rows of a pass, (B,) or (B, T), as wide as its longest answer."""
    return value[places] if value.dim() == 1 else value[places, :width]
