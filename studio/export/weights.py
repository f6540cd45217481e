"""Compare every tensor of a GGUF file with what base and adapter say, row by row: one that was changed shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from studio.export import architectures, gguf
from studio.export.known import Known
from studio.export.merge import Merged
from studio.models import check
from studio.models.ggufhead import Head, TensorHead

#: bits of a weight -> how far a row may be from the model's, as a share of the row's length (rounding alone does less)
_LIMITS = ((16.0, 0.02), (8.0, 0.03), (6.0, 0.08), (5.0, 0.12), (4.0, 0.25), (3.0, 0.45), (2.0, 0.75), (0.0, 1.0))
_ROWS = 256  # of a tensor in fewer than 8 bits, which take long to read: as many, spread over it
_BLOCK = 8 << 20  # weights at a time


def compare(head: Head, known: Known) -> dict[str, Any]:
    """Give {"wrong": [names], "missing": [...], "unread": [...], "worst": largest difference of a row, "tensors": n}.

    `wrong` are tensors of another shape or with a row further from the model's than its type explains, `missing` those
    that one side lacks, `unread` those of a type that is not read here.
    """
    config = check.read_config(known.base)
    facts = architectures.find(config)
    merged = Merged(known.base, known.adapter)
    there = {tensor.name: tensor for tensor in head.tensors}
    parts = {f"{part.name}": part for part in gguf.plan(merged, config, "F32")}
    extra = architectures.extra(config)
    wrong, unread, worst = [], [], 0.0
    with head.path.open("rb") as file:
        data = np.memmap(file, np.uint8, mode="r")
        for name, part in parts.items():
            tensor = there.get(name)
            if tensor is None:
                continue
            if tuple(reversed(tensor.shape)) != part.shape:
                wrong.append(name)
                continue
            limit = next(limit for bits, limit in _LIMITS if 8 * tensor.nbytes / math.prod(part.shape) >= bits)
            try:
                distance = _distance(data, head, tensor, gguf.blocks(part, merged, facts, config, _BLOCK), limit)
            except NotImplementedError:
                unread.append(name)
                continue
            worst = max(worst, distance)
            if not distance <= limit:
                wrong.append(name)
        for name, array in extra.items():
            if name in there and not np.allclose(_read(data, head, there[name], 0, 1), array.ravel(), rtol=1e-5):
                wrong.append(name)
    missing = sorted((parts.keys() | extra.keys()) ^ there.keys())
    return {"wrong": wrong, "missing": missing, "unread": unread, "worst": worst, "tensors": len(there)}


def _distance(data: Any, head: Head, tensor: TensorHead, blocks: Any, limit: float) -> float:
    """Give the largest ||row - model's row|| / ||model's row||; rows that are all but zero count with the others."""
    worst, at, largest = 0.0, 0, 0.0
    rows_in_all = math.prod(tensor.shape[1:])
    step = 1 if limit <= 0.03 else max(rows_in_all // _ROWS, 1)
    for block in blocks:
        rows = block.reshape(-1, tensor.shape[0]) if len(tensor.shape) > 1 else block.reshape(1, -1)
        picked = np.arange(-at % step, len(rows), step)
        if len(picked):
            found = np.concatenate(
                [_read(data, head, tensor, at + low, at + high) for low, high in _stretches(picked, step)]
            )
            wanted = rows[picked]
            lengths = np.linalg.norm(wanted, axis=1)
            largest = max(largest, float(lengths.max()))
            apart = np.linalg.norm(found.reshape(wanted.shape) - wanted, axis=1)
            far = float((apart / np.maximum(lengths, 1e-3 * largest + 1e-30)).max())
            worst = max(worst, far if math.isfinite(far) else math.inf)  # max() passes over a NaN
        at += len(rows)
    return worst


def _stretches(picked: Any, step: int) -> list[tuple[int, int]]:
    """Give the rows to read as stretches (from, to)."""
    return [(int(picked[0]), int(picked[-1]) + 1)] if step == 1 else [(int(row), int(row) + 1) for row in picked]


def _read(data: Any, head: Head, tensor: TensorHead, start: int, stop: int) -> Any:
    """Read rows of a tensor as float32. Raises NotImplementedError for a type that cannot be read here."""
    from gguf import GGMLQuantizationType, quants

    width = tensor.nbytes // max(math.prod(tensor.shape[1:]), 1)
    begin = head.data_offset + tensor.offset + start * width
    raw = np.asarray(data[begin : begin + (stop - start) * width]).reshape(stop - start, width)
    if tensor.type_name == "F32":
        return raw.view(np.float32).ravel()
    if tensor.type_name == "F16":
        return raw.view(np.float16).astype(np.float32).ravel()
    return quants.dequantize(raw, GGMLQuantizationType[tensor.type_name]).ravel()
