"""Room on the disk, looked at before the work that needs it: what it takes, what is free, one rule for all.

A run is refused where less than SHARE x its need is free: files are not the only thing that grows on a disk, and what
is foreseen is foreseen roughly. Places on the same disk are added up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from studio.errors import StudioError

#: The errors of a system whose disk, quota or largest file is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SHARE = 1.2
#: Where the bytes are known to the last one, as of a download, it is enough that so many stay free.
SPARE = 64 << 20


@dataclasses.dataclass(frozen=True)
class Need:
    """Something that will be written: in words, its bytes, and the folder (which need not be there yet)."""

    what: str
    bytes: int
    folder: Path


def free(folder: Path) -> int:
    """Give the bytes that are free where a folder is, or would be made."""
    return shutil.disk_usage(_there(folder)).free


def check(needs: Iterable[Need], error: type[StudioError], remedy: str) -> None:
    """Raise `error`, with all figures and the remedy, where less than SHARE x what a disk is to take is free on it."""
    disks: dict[int, list[Need]] = {}
    for need in needs:
        if need.bytes > 0:
            disks.setdefault(os.stat(_there(need.folder)).st_dev, []).append(need)
    for some in disks.values():
        wanted, folder = int(SHARE * sum(need.bytes for need in some)), _there(some[0].folder)
        have = free(folder)
        if have < wanted:
            parts = ", ".join(f"{need.what} {size(need.bytes)}" for need in some)
            raise error(
                f"The disk has too little room: {size(wanted)} are needed ({parts}, and a fifth to spare), "
                f"{size(have)} are free in {folder}.",
                remedy,
            )


def held(place: Path, seen: set[tuple[int, int]] | None = None) -> int:
    """Give the bytes of a file or of all files in a folder, 0 where there is none; links are not followed.

    A file with several names counts once; with `seen`, once over all calls that share it.
    """
    known = set() if seen is None else seen
    try:
        here = place.lstat()
    except OSError:
        return 0
    if not stat.S_ISDIR(here.st_mode):
        return _once(here, known)
    total, folders = 0, [os.fspath(place)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # it went away meanwhile
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        else:
                            total += _once(os.lstat(entry.path), known)  # Windows' entries know no links
        except OSError:
            continue
    return total


def _once(facts: os.stat_result, seen: set[tuple[int, int]]) -> int:
    """Give a file's bytes, 0 for one that was counted under another name."""
    if not stat.S_ISREG(facts.st_mode):
        return 0
    if facts.st_nlink > 1:
        if (facts.st_dev, facts.st_ino) in seen:
            return 0
        seen.add((facts.st_dev, facts.st_ino))
    return facts.st_size


def size(count: float) -> str:
    """Write bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _there(folder: Path) -> Path:
    """Give the folder, or the nearest above it that is there."""
    folder = folder.expanduser().absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
