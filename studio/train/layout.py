"""How the sequences of a batch lie in memory: behind each other without padding, or filled up on the right.

Packed, one row holds them all: positions begin anew with each, and no attention mask is passed, from which
transformers makes one that keeps the sequences apart (an all-ones mask, or a cache, would let them see each other).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from studio.methods.base import Batch, Example, Method, Row
from studio.objectives.logps import IGNORE


def batch(method: Method, examples: Sequence[Example], pad_id: int, packed: bool) -> Batch:
    """Lay out the sequences of examples, with what the method adds."""
    return {**lay(method.sequences(examples), pad_id, packed), **method.extras(examples)}


def lay(rows: Sequence[Row], pad_id: int, packed: bool) -> Batch:
    """Lay S sequences out.

    Gives input_ids, position_ids (R, T), attention_mask (R, T) where padded; for the N positions whose next token is
    learned: predict (N,) in the flattened R * T, targets (N,) and place (N,) in the flattened S * L, where L is the
    most that one sequence learns; shape = (S, L); last (S,) in R * T, the end of each sequence.
    """
    lengths = [len(row["ids"]) for row in rows]
    if packed:
        starts = [0, *itertools.accumulate(lengths)][:-1]
        ids = torch.tensor([list(itertools.chain.from_iterable(row["ids"] for row in rows))])
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        made: Batch = {"input_ids": ids, "position_ids": positions}
    else:
        width = max(lengths)
        starts = [number * width for number in range(len(rows))]
        ids = torch.tensor([[*row["ids"], *[pad_id] * (width - len(row["ids"]))] for row in rows])
        mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
        made = {"input_ids": ids, "attention_mask": mask, "position_ids": torch.arange(width).expand(len(rows), -1)}
    labels = [torch.tensor(row["labels"][1:], dtype=torch.long) for row in rows]
    taught = [(found != IGNORE).nonzero().squeeze(-1) for found in labels]
    most = max(1, *(len(found) for found in taught))
    made["predict"] = torch.cat([found + start for found, start in zip(taught, starts, strict=True)])
    made["targets"] = torch.cat([found[where] for found, where in zip(labels, taught, strict=True)])
    made["place"] = torch.cat([torch.arange(len(found)) + number * most for number, found in enumerate(taught)])
    made["last"] = torch.tensor([start + length - 1 for start, length in zip(starts, lengths, strict=True)])
    made["shape"] = (len(rows), most)
    return made


def passes(method: Method, examples: Sequence[Example], room: int, packed: bool) -> list[list[int]]:
    """Split a batch into passes that take at most `room` tokens each: the numbers of the examples of each.

    Packed, the longest are placed first, each where it fits; padded, rows of like length go together. An example that
    is longer than the room goes alone.
    """
    rows = [method.sequences([example]) for example in examples]
    costs = [sum(len(row["ids"]) for row in found) for found in rows]
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
