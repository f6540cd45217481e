"""The most memory that a piece of work held: asked from CUDA, from Linux, else sampled."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil
import torch

_EVERY = 0.01


class Peak:
    """Measure the bytes held within a block: `before` it, and `most` within; `above` is the difference.

    CUDA counts what tensors take; elsewhere it is the process's resident memory. Linux keeps its high-water mark, which
    can be put back; where it cannot, and on other systems, a thread looks a hundred times a second. So it does where it
    is `sampled`: both marks are the process's, and a block within this one may put them back.
    """

    def __init__(self, device: torch.device, sampled: bool = False) -> None:
        self.device, self.sampled = device, sampled
        self.before = self.most = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def above(self) -> int:
        """Give what the block took beside what there was."""
        return max(0, self.most - self.before)

    def __enter__(self) -> Self:
        if self.device.type == "cuda" and not self.sampled:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return self
        self.before = self.most = self._now()
        if self.sampled or self.device.type == "mps" or not _reset():
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()
        elif self.device.type == "cuda":
            self.most = torch.cuda.max_memory_allocated(self.device)
        else:
            self.most = max(self.before, _mark())

    def _now(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.memory_reserved(self.device))
        if self.device.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        return int(psutil.Process().memory_info().rss)

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            self.most = max(self.most, self._now())


def in_all(device: torch.device) -> int:
    """Give the bytes that there are in all: the card's, else the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def _reset() -> bool:
    """Put Linux's high-water mark back to what is held now."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return _mark() > 0


def _mark() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:")), 0)
