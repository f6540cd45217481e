"""Mend a GGUF file into a copy: chat template, stop tokens and BOS are written anew, all else stays byte for byte.

Entries that are not changed are copied as they stand in the file, never decoded and encoded again, so that each keeps
its type; the tensors' data are streamed behind them. The copy appears whole or not at all.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from studio import disk, events, paths
from studio.errors import ExportError, ModelError, Stopped
from studio.models import ggufformat, ggufhead
from studio.models.ggufhead import Head

TEMPLATE, ADD_BOS = "tokenizer.chat_template", "tokenizer.ggml.add_bos_token"
_NUMBERS = {name: number for number, (name, _) in ggufformat.VALUES.items()}
_CODES = {name: code for name, code in ggufformat.VALUES.values()}
_BLOCK = 8 << 20


def repair(
    source: Path,
    out: Path,
    *,
    template: str | None = None,
    eos: int | None = None,
    eot: int | None = None,
    bos: int | None = None,
    add_bos: bool | None = None,
    pad: int | None = None,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Write a copy of a GGUF file with another template, other special tokens (ids) or another BOS flag.

    What is None stays as it is. Raises ModelError where the source is no GGUF file or an id is none of its tokens,
    ExportError where `out` is there already or the disk has too little room.
    """
    head = ggufhead.parse(source)
    ids = {"eos": eos, "eot": eot, "bos": bos, "padding": pad}
    changes: dict[str, bytes] = {}
    for name, value in ids.items():
        if value is not None:
            key = f"tokenizer.ggml.{name}_token_id"
            changes[key] = _id(head, key, value)
    if template is not None:
        changes[TEMPLATE] = _entry(TEMPLATE, "STRING", _text(template))
    if add_bos is not None:
        changes[ADD_BOS] = _entry(ADD_BOS, "BOOL", bytes([add_bos]))
    return rewrite(head, out, changes, emit, should_stop)


def rewrite(
    head: Head,
    out: Path,
    changes: Mapping[str, bytes],
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Write a copy in which the entries of some keys are others (whole entries; new ones come last)."""
    out = out.expanduser().absolute()
    if out.exists() or out.is_symlink():
        raise ExportError("There is such a file already.", "Choose another name for the copy.", file=str(out))
    if not out.parent.is_dir():
        raise ExportError(f"There is no folder {out.parent}.", "Make it, or choose another.", file=str(out))
    disk.check([disk.Need("the copy", head.size, out.parent)], ExportError, "Free some, or choose a larger disk.")
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with head.path.open("rb") as source, beside.open("xb") as copy:
            _write_head(head, changes, source, copy)
            _copy(head, source, copy, emit, should_stop)
            copy.flush()
            os.fsync(copy.fileno())
        _proof(head, beside)
        os.replace(beside, out)
        paths.fsync_dir(out.parent)
    except OSError as error:
        if error.errno not in disk.FULL:
            raise ExportError(f"The copy cannot be written ({error.strerror}).", "Choose another place.") from None
        raise ExportError("The disk is full.", "Free some disk and mend the file again.") from None
    finally:
        beside.unlink(missing_ok=True)
    return out


def _write_head(head: Head, changes: Mapping[str, bytes], source: BinaryIO, copy: BinaryIO) -> None:
    added = [key for key in changes if key not in head.spans]
    copy.write(struct.pack("<4sIQQ", b"GGUF", head.version, len(head.tensors), len(head.spans) + len(added)))
    for key, (start, end) in head.spans.items():
        copy.write(changes[key] if key in changes else _stretch(source, start, end))
    for key in added:
        copy.write(changes[key])
    copy.write(_stretch(source, *head.infos))
    copy.write(bytes(-copy.tell() % head.alignment))


def _copy(
    head: Head,
    source: BinaryIO,
    copy: BinaryIO,
    emit: events.Emit | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    """Stream the tensors' data: their places are counted from where the data begin, so they stay right."""
    left = head.size - head.data_offset
    progress = events.Progress(emit, "Copying", left, "bytes") if emit and left > 0 else None
    source.seek(head.data_offset)
    while left > 0:
        if should_stop is not None and should_stop():
            raise Stopped("Stopped; there is no copy.", "Mend the file again.")
        block = source.read(min(_BLOCK, left))
        if not block:
            raise ModelError("The file became shorter while it was read.", "Wait until it is whole.", file=source.name)
        copy.write(block)
        left -= len(block)
        if progress:
            progress.step(len(block))


def _proof(head: Head, beside: Path) -> None:
    """Read the copy as any file is read before it gets its name."""
    try:
        made = ggufhead.read(beside)
    except ModelError as error:
        raise ModelError(error.message, error.remedy, file=str(head.path)) from None
    if made.tensors != head.tensors:
        raise ExportError("The copy's tensors are not those of the file.", "Report this.", file=str(head.path))


def _stretch(source: BinaryIO, start: int, end: int) -> bytes:
    source.seek(start)
    return source.read(end - start)


def _id(head: Head, key: str, value: int) -> bytes:
    if not 0 <= value < len(head.tokens):
        count = len(head.tokens)
        raise ModelError(f"There is no token {value}: the file has {count:,}.", "Name another.", file=str(head.path))
    kind = head.types.get(key, "UINT32")
    if kind not in ("UINT32", "INT32", "UINT64", "INT64"):
        kind = "UINT32"
    return _entry(key, kind, struct.pack(f"<{_CODES[kind]}", value))


def _entry(key: str, kind: str, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", _NUMBERS[kind]) + value


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw
