"""An open data file: hashed and counted as it is read, unpacked where it is compressed."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from studio.errors import DataError

BUFFER = 1 << 20
_ROOM, _RATIO = 64 << 20, 100  # bytes that may come out of a compressed file, and times its size


class Opened:
    """An open file that counts and hashes what goes through; `file` gives the bytes, unpacked."""

    def __init__(self, path: Path, packed: bool) -> None:
        self._tap, self._size, self._share = _Tap(path), path.stat().st_size, 0.0
        plain = io.BufferedReader(self._tap, BUFFER)
        self.file = cast(BinaryIO, io.BufferedReader(_Unpacked(path, plain, self._tap), BUFFER) if packed else plain)

    @property
    def done(self) -> int:
        """Give how many bytes of the file on disk were read so far."""
        return max(self._tap.done, int(self._share * self._size))

    def tell_share(self, share: float) -> None:
        """Be told the share that was read by other means."""
        self._share = share

    def sha256(self) -> str:
        """Read what is left, and give the hash of the whole file."""
        return self._tap.finish()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        self._tap.close()


class _Tap(io.RawIOBase):
    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._hash, self.done, self._end = hashlib.sha256(), 0, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        at = self._file.tell()
        size = self._file.readinto(buffer) or 0
        if new := max(0, at + size - self._end) if at <= self._end else 0:  # what was read twice is hashed once
            self._hash.update(memoryview(buffer)[size - new : size])
            self._end += new
        self.done = max(self.done, at + size)
        return size

    def finish(self) -> str:
        self._file.seek(self._end)
        while chunk := self._file.read(BUFFER):
            self._hash.update(chunk)
            self._end += len(chunk)
        return self._hash.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """The bytes inside a gzip file; one that holds far more than its size is refused before it fills anything."""

    def __init__(self, path: Path, packed: Any, tap: _Tap) -> None:
        self._path, self._tap, self._out = path, tap, 0
        self._file = gzip.GzipFile(fileobj=packed, mode="rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, EOFError, zlib.error) as error:
            raise self._damaged(error) from None

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read1(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise self._damaged(error) from None
        self._out = max(self._out, self._file.tell())
        if self._out > _ROOM and self._out > _RATIO * self._tap.done:
            raise DataError(
                f"The compressed file holds more than {_RATIO} times its size.",
                "Unpack it yourself if you trust it, and choose the file inside.",
                file=str(self._path),
                line=1,
            )
        buffer[: len(data)] = data
        return len(data)

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"The compressed file is damaged or cut off: {error}", "Get it again.", file=str(self._path), line=1
        )
