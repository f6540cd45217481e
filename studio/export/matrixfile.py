"""Importance matrices as files: llama.cpp's GGUF form, written and read, and its older one (imatrix.dat), read."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np

from studio.errors import ExportError, ModelError
from studio.models import ggufhead

CHUNK = 512
_MOST_NAME = 1024


@dataclasses.dataclass
class Matrix:
    """Sums of squares (experts, columns) and counts of tokens (experts,) by tensor; a dense map has one expert."""

    sums: dict[str, np.ndarray[Any, Any]] = dataclasses.field(default_factory=dict)
    counts: dict[str, np.ndarray[Any, Any]] = dataclasses.field(default_factory=dict)
    dataset: str = ""
    chunk: int = CHUNK

    @property
    def chunks(self) -> int:
        """How many chunks were seen."""
        return int(max((count.max() for count in self.counts.values()), default=0)) // self.chunk

    def means(self) -> dict[str, np.ndarray[Any, Any]]:
        """Give what the quantizer takes: mean squares, and 1 for an expert that no token came to."""
        made = {}
        for name, sums in self.sums.items():
            count = self.counts[name].reshape(-1, 1)
            made[name] = np.where(count > 0, sums / np.maximum(count, 1), 1.0).astype(np.float32)
        return made


def save(matrix: Matrix, path: Path) -> None:
    """Write llama.cpp's GGUF form: `<name>.in_sum2` (experts, columns) and `<name>.counts` (experts, 1), float32."""
    import gguf

    writer = gguf.GGUFWriter(path, "imatrix")
    writer.kv_data[0].pop("general.architecture", None)
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", [matrix.dataset or "rows"])
    writer.add_uint32("imatrix.chunk_count", matrix.chunks)
    writer.add_uint32("imatrix.chunk_size", matrix.chunk)
    for name in sorted(matrix.sums):
        writer.add_tensor(f"{name}.in_sum2", matrix.sums[name].astype(np.float32))
        writer.add_tensor(f"{name}.counts", matrix.counts[name].astype(np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def load(path: Path) -> Matrix:
    """Read an importance matrix, llama.cpp's GGUF form or its older one (imatrix.dat). ExportError when damaged.

    For a file that somebody brought: only in a child (`check`).
    """
    try:
        with path.open("rb") as file:
            new = file.read(4) == b"GGUF"
        found = _load_gguf(path) if new else _load_old(path)
    except OSError as error:
        raise ExportError(
            f"The importance matrix does not open ({error.strerror}).", "Write its whole path.", file=str(path)
        ) from None
    except ModelError as error:
        raise _damaged(path, error.message.rstrip(".")) from None
    except (ValueError, KeyError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from None
    if not found.sums or not all(np.isfinite(sums).all() for sums in found.sums.values()):
        raise _damaged(path, "it holds no tensor" if not found.sums else "it holds values that are not finite")
    return found


def _damaged(path: Path, why: str) -> ExportError:
    text = f"This is no importance matrix that can be used: {why}."
    return ExportError(text, "Name a file that llama-imatrix or Studio made, or let one be made: auto.", file=str(path))


def _load_gguf(path: Path) -> Matrix:
    head = ggufhead.parse(path)
    made = Matrix(chunk=max(1, int(head.metadata.get("imatrix.chunk_size") or CHUNK)))
    names = head.metadata.get("imatrix.datasets")
    made.dataset = str(names[0]) if isinstance(names, list) and names else ""
    tensors = {tensor.name: tensor for tensor in head.tensors}
    with path.open("rb") as file:

        def values(name: str) -> np.ndarray[Any, Any]:
            tensor = tensors[name]
            if tensor.type_name != "F32":
                raise ValueError(f"{name} is {tensor.type_name}, not F32")
            file.seek(head.data_offset + tensor.offset)
            data = np.frombuffer(file.read(tensor.nbytes), "<f4").astype(np.float64)
            return data.reshape(-1, tensor.shape[0])

        for name in tensors:
            base, dot, kind = name.rpartition(".")
            if not dot or kind != "in_sum2":
                continue
            made.sums[base], counts = values(name), values(f"{base}.counts").reshape(-1)
            if len(counts) not in (1, len(made.sums[base])):
                raise ValueError(f"{base} has {len(counts)} counts for {len(made.sums[base])} maps")
            made.counts[base] = np.rint(counts).astype(np.int64)
    return made


def _load_old(path: Path) -> Matrix:
    """Read imatrix.dat: per tensor its name, the number of calls, and mean squares x calls."""
    made = Matrix()
    with path.open("rb") as file:
        left = path.stat().st_size

        def take(count: int) -> bytes:
            data = file.read(count) if 0 <= count <= left else b""
            if len(data) != count or not count:
                raise ValueError("it is cut off")
            return data

        (entries,) = struct.unpack("<i", take(4))
        for _ in range(entries):
            (length,) = struct.unpack("<i", take(4))
            name = take(min(length, _MOST_NAME)).decode()
            calls, values = struct.unpack("<ii", take(8))
            made.sums[name] = np.frombuffer(take(4 * values), "<f4").astype(np.float64).reshape(1, -1)
            made.counts[name] = np.array([max(1, calls)], np.int64)
    made.chunk = 1
    return made
