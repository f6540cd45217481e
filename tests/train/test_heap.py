"""Memory that is free again goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from studio.train import heap

#: Pieces too small for a mapping of their own, freed below one that stays: the C library keeps the room.
PROGRAM = """
import psutil
from studio.train import heap
me = psutil.Process()
before = me.memory_info().rss
pieces = [b"x" * 60_000 + bytes([n % 250]) for n in range(2000)]
del pieces[:-1]
kept = me.memory_info().rss - before
heap.give_back()
print(kept, me.memory_info().rss - before)
"""


@pytest.mark.skipif(heap._trim() is None, reason="this C library has no malloc_trim")
def test_what_is_free_goes_back_to_the_system() -> None:
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    kept, left = map(int, out.split())
    assert kept > 100e6, "the library gave it back by itself: the test shows nothing"
    assert left < 10e6


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    heap._trim.cache_clear()
    try:
        heap.give_back()
        assert heap._trim() is None
    finally:
        heap._trim.cache_clear()
