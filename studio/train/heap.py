"""Memory that is free again goes back to the system, where the C library would keep it.

glibc keeps what is freed for later, and serves a larger piece from fresh memory when none that it keeps is large
enough. What an online run does differs in size from pass to pass, so on a CPU it came to twice the memory that it ever
held at once. CUDA's own allocator joins its pieces, and is left alone.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

#: glibc's number of mallopt's M_MMAP_THRESHOLD, and from how many bytes on a piece is large.
_MMAP_THRESHOLD, _LARGE = -3, 128 << 10


def give_back() -> None:
    """Hand free memory back to the system; does nothing where the C library cannot."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Find glibc's malloc_trim; musl, macOS and Windows have none."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


def lean() -> bool:
    """Let glibc serve large pieces from the system and return them at once; False where the C library is another.

    Up to 2.38 it cannot use again most of what torch, which asks for aligned pieces, has freed: a step came to 2 to 4
    times the memory that it held at once. Fresh pages cost time, a tenth with a large model and half with a small one.
    """
    setting = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if setting is None or _trim() is None or setting(_MMAP_THRESHOLD, _LARGE) != 1:
        return False
    give_back()
    return True
