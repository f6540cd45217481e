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
