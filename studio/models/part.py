"""A file that is arriving: written as it comes, hashed as it comes, kept when it is what it should be."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from studio import paths

_SLICE = 4 << 20


class Part:
    """`have` bytes of a file of `size`; `etag` is its sha256, or git's sha1 over `blob SIZE\\0` and the bytes.

    Written without a buffer of ours, so that a killed process loses nothing that it had received.
    """

    def __init__(self, path: Path, size: int, etag: str, sha256: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.size, self.have = path, size, 0
        self._etag, self._sha256 = etag, sha256
        self._hash = self._new()
        # O_NOFOLLOW: a link that someone put here is not written through.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.open(path, flags, 0o644)

    @staticmethod
    def size_of(path: Path) -> int:
        """Give the bytes that an earlier try left, 0 when none."""
        try:
            return path.lstat().st_size
        except OSError:
            return 0

    def _new(self) -> Any:
        return hashlib.sha256() if self._sha256 else hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)

    async def look(self) -> AsyncIterator[int]:
        """Hash what an earlier try left, a slice at a time; gives the slices' sizes. Too much of it is thrown away."""
        if os.fstat(self._file).st_size > self.size:
            self.discard()
        while data := os.read(self._file, _SLICE):
            self._hash.update(data)
            self.have += len(data)
            yield len(data)
            await asyncio.sleep(0)

    def add(self, data: bytes) -> None:
        """Append what arrived."""
        self._hash.update(data)
        rest = memoryview(data)
        while rest:
            written = os.write(self._file, rest)
            self.have += written
            rest = rest[written:]

    def discard(self) -> None:
        """Begin again with nothing."""
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self.have, self._hash = 0, self._new()

    def right(self) -> bool:
        """Say whether all of it is here and is what the hub names."""
        return self.have == self.size and self._hash.hexdigest() == self._etag

    def keep(self, target: Path) -> None:
        """Give the whole file its name, durably."""
        os.fsync(self._file)
        self.close()
        os.replace(self.path, target)
        paths.fsync_dir(target.parent)

    def close(self) -> None:
        """Close the file; an empty one leaves nothing behind."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if not self.have and self.size:
                self.path.unlink(missing_ok=True)
