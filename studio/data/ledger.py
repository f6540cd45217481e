"""A file of JSON lines that grows by one line at a time, whole or not at all, whoever writes at the same moment.

A crash can leave the beginning of a line at the end: it was never promised to anyone, is not read, and goes away with
the next line. The file is readable by its owner only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from studio import paths
from studio.errors import DataError

_PATIENCE = 10.0  # seconds for another writer's line
_BINARY = getattr(os, "O_BINARY", 0)
#: Tells whether a line is one of the file's own.
Sound = Callable[[bytes], bool]


def lines(path: Path, sound: Sound) -> Iterator[tuple[int, bytes]]:
    """Give (number from 1, line) of a file that may be missing; blank lines and a torn last one are left out."""
    try:
        found = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for number, line in enumerate(found, 1):
        if line.strip() and (number < len(found) or sound(line)):
            yield number, line


def append(path: Path, line: bytes, sound: Sound) -> None:
    """Append a line (without its end) in one write that is on the disk when this returns.

    Raises DataError where it cannot be written; the file is as it was then.
    """
    with alone(path), _told(path):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o600)
        try:
            _append(handle, line + b"\n", sound)
        finally:
            os.close(handle)
        paths.fsync_dir(path.parent)


def replace(path: Path, kept: Sequence[bytes]) -> None:
    """Put these lines in the place of all; the caller holds `alone`. Raises DataError as `append` does."""
    with _told(path):
        write(path, b"".join(line + b"\n" for line in kept))


def write(path: Path, data: bytes) -> None:
    """Put a file there, in the place of another or as a new one, whole: beside, fsync, rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    paths.fsync_dir(path.parent)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only writer, among threads and processes. Raises DataError where another one does not end."""
    try:
        with FileLock(path.with_suffix(".lock"), timeout=_PATIENCE):
            yield
    except Timeout:
        raise DataError("Another Studio is writing this file.", "Try again in a moment.", file=str(path)) from None


def _append(handle: int, data: bytes, sound: Sound) -> None:
    """Write at the end of the file, which a torn line makes way for; where that fails, nothing stays."""
    size = os.fstat(handle).st_size
    if size:
        os.lseek(handle, size - 1, os.SEEK_SET)
        if os.read(handle, 1) != b"\n":
            last = _last(handle)
            if sound(last):  # an editor left it without its end
                data = b"\n" + data
            else:
                size -= len(last)
                os.ftruncate(handle, size)
    try:
        if os.write(handle, data) != len(data):
            raise OSError("only a part could be written, the disk is full")
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


def _last(handle: int) -> bytes:
    """Read what stands after the last line's end."""
    os.lseek(handle, 0, os.SEEK_SET)
    parts = []
    while part := os.read(handle, 1 << 20):
        parts.append(part)
    return b"".join(parts).rpartition(b"\n")[2]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"It could not be written: {error.strerror or error}.",
            "See to it that the folder can be written and the disk has room, then try again.",
            file=str(path),
        ) from error
