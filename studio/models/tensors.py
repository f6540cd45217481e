"""Safetensors without a framework: headers checked before a byte of data is read, data read in slices with numpy."""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import ModelError, Stopped
from studio.events import Emit, Progress
from studio.models import folder as files

if TYPE_CHECKING:
    import numpy as np

MAX_HEADER = 100 << 20  # bytes, as the format's own libraries
MAX_TENSORS = 200_000
MAX_RANK = 8
MAX_NAME = 1024
SLICE = 8 << 20

BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}

#: dtype -> the integer of its size, the bits of its exponent, the bits of its mantissa: an exponent of all ones is an
#: infinity (mantissa 0) or a NaN. E4M3 has no infinities, and one NaN: all ones.
_BITS = {
    "F64": ("<u8", 0x7FF0000000000000, 0x000FFFFFFFFFFFFF),
    "F32": ("<u4", 0x7F800000, 0x007FFFFF),
    "F16": ("<u2", 0x7C00, 0x03FF),
    "BF16": ("<u2", 0x7F80, 0x007F),
    "F8_E5M2": ("u1", 0x7C, 0x03),
    "F8_E4M3": ("u1", 0x78, 0x07),
}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One tensor of a safetensors file; its data are `nbytes` bytes from byte `start` of the file on."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Size of the data."""
        return math.prod(self.shape) * BYTES[self.dtype]


def read_header(path: Path) -> list[TensorInfo]:
    """Read a safetensors header and check it: size, names, ranges, no overlap, no gap, bytes = shape x dtype."""
    size = files.inside(path).stat().st_size

    def bad(what: str) -> ModelError:
        return ModelError(f"{path.name}: {what}", "Download the file again.", file=str(path))

    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise bad("it is too short to be a safetensors file.")
        (length,) = struct.unpack("<Q", prefix)
        if length > MAX_HEADER or 8 + length > size:
            raise bad("its header is damaged.")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_no_doubles)
        except _Doubled as error:
            raise bad(f"it names {error} twice.") from None
        except (ValueError, RecursionError):
            raise bad("its header is not JSON.") from None
    if not isinstance(header, dict):
        raise bad("its header is damaged.")
    if len(header) > MAX_TENSORS:
        raise bad(f"its header names more than {MAX_TENSORS:,} tensors.")
    found, spans = [], []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        span = _span(entry)
        if span is None or span[1] > size - 8 - length or len(name) > MAX_NAME:
            raise bad(f"the tensor {name[:80]!r} does not fit the file: it is damaged or cut off.")
        spans.append(span)
        found.append(TensorInfo(name, entry["dtype"], tuple(entry["shape"]), path, 8 + length + span[0]))
    at = 0
    for start, end in sorted(spans):
        if start != at:
            raise bad("its tensors overlap or leave gaps.")
        at = end
    if at != size - 8 - length:
        raise bad("it is cut off or has data that belongs to no tensor.")
    return found


class _Doubled(Exception):
    """A name that stands twice in one object: readers disagree about which one counts."""


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Doubled(repr(next(name for name in names if names.count(name) > 1)[:80]))
    return made


def _span(entry: Any) -> tuple[int, int] | None:
    """Give the first and the last byte of a tensor if its entry makes sense."""
    try:
        shape, (start, end) = entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, end]
        if len(shape) > MAX_RANK or not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in numbers):
            return None
        return (start, end) if end - start == math.prod(shape) * BYTES[entry["dtype"]] else None
    except (KeyError, TypeError, ValueError):
        return None


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors shards of a folder; ModelError for pickle weights and incomplete shards."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists() or index.is_symlink():
        names = sorted(set(read_index(index).values()))
        for name in names:
            if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
                raise ModelError(
                    f"The index names {name[:200]!r}, outside the folder.", "Do not use it.", file=str(index)
                )
            if not (folder / name).is_file():
                raise ModelError(f"The shard {name} is missing.", "Download the model again.", file=str(index))
        if single.exists() and single.name not in names:
            raise ModelError(
                "The folder holds model.safetensors and an index of other shards: readers disagree about which counts.",
                "Keep the one that belongs to the model.",
                file=str(index),
            )
        return [folder / name for name in names]
    if single.exists() or single.is_symlink():
        return [files.inside(single)]
    pickles = [path for rule in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in sorted(folder.glob(rule))]
    if pickles:
        raise ModelError(
            f"The weights are a pickle file ({pickles[0].name}), which can run any code when it is opened.",
            "Choose a model with safetensors weights.",
            file=str(pickles[0]),
        )
    if any(folder.glob("*.gguf")):
        raise ModelError(
            "The folder holds GGUF files only: those are for chatting, not for training.",
            "Choose the model that they were made from.",
            file=str(folder),
        )
    raise ModelError("There are no weights (model.safetensors).", "Download the model again.", file=str(folder))


def read_index(index: Path) -> dict[str, str]:
    """Read an index: tensor -> shard."""
    found = files.read_object(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise ModelError("The index lists no shards.", "Download the model again.", file=str(index))
    return found


def read_tensors(folder: Path) -> list[TensorInfo]:
    """List all tensors, checking every shard's header, and the index against the shards."""
    found = [tensor for file in weight_files(folder) for tensor in read_header(file)]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        listed = read_index(index)
        there = {tensor.name: tensor.file.name for tensor in found}
        for name in (*listed, *there):
            if listed.get(name) != there.get(name) or len(there) != len(found):
                where = f"{name[:80]!r} in {listed.get(name) or 'no shard'}; it is in {there.get(name) or 'no shard'}"
                raise ModelError(f"The index lists {where}.", "Download the model again.", file=str(index))
    if not found:
        raise ModelError("The weights hold no tensor.", "Download the model again.", file=str(folder))
    return found


def read_rows(tensor: TensorInfo, rows: Iterable[int]) -> np.ndarray[Any, Any]:
    """Read some rows of a tensor of rank 2 as float32; only these rows are read from the file."""
    import numpy as np

    width = tensor.nbytes // tensor.shape[0]
    with tensor.file.open("rb") as file:
        parts = []
        for row in rows:
            file.seek(tensor.start + row * width)
            parts.append(file.read(width))
    raw = b"".join(parts)
    if not raw:
        return np.zeros((0, tensor.shape[1]), np.float32)
    if tensor.dtype == "BF16":
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[tensor.dtype]
        values = np.frombuffer(raw, kind).astype(np.float32)
    return values.reshape(-1, tensor.shape[1])


def equal(one: TensorInfo, other: TensorInfo) -> bool:
    """Tell whether two tensors of rank 2 hold the same numbers; read in blocks, up to the first that differs."""
    import numpy as np

    if one.shape != other.shape:
        return False
    step = max((8 << 20) // (4 * one.shape[1]), 1)
    blocks = (range(at, min(at + step, one.shape[0])) for at in range(0, one.shape[0], step))
    return all(np.array_equal(read_rows(one, rows), read_rows(other, rows)) for rows in blocks)


def not_finite(
    tensors: Iterable[TensorInfo], emit: Emit | None = None, should_stop: Callable[[], bool] | None = None
) -> Iterator[tuple[TensorInfo, int, int]]:
    """Find the tensors that hold NaNs or infinities; gives how many of each. Reads everything, 8 MB at a time."""
    import numpy as np

    listed = [tensor for tensor in tensors if tensor.dtype in _BITS]
    bar = Progress(emit or (lambda event: None), "Looking for NaNs", sum(t.nbytes for t in listed), "bytes")
    for tensor in listed:
        kind, exponent, mantissa = _BITS[tensor.dtype]
        nans = infinite = 0
        with tensor.file.open("rb") as file:
            file.seek(tensor.start)
            left = tensor.nbytes
            while left:
                if should_stop and should_stop():
                    raise Stopped("Stopped.")
                data = np.frombuffer(file.read(min(SLICE, left)), kind)
                odd = data[(data & exponent) == exponent] & mantissa
                full = odd == mantissa if tensor.dtype == "F8_E4M3" else odd != 0
                nans += int(full.sum())
                infinite += 0 if tensor.dtype == "F8_E4M3" else int((~full).sum())
                left -= data.nbytes
                bar.step(data.nbytes)
        if nans or infinite:
            yield tensor, nans, infinite
