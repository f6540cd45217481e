"""What this machine has, asked once in the background, so that no page waits for it."""

from __future__ import annotations

import logging
import shutil
import threading

from studio import hardware, paths
from studio.hardware import Machine
from studio.ui import kit, live, parts
from studio.ui.live import Scene
from studio.ui.parts import esc

_lock = threading.Lock()
_asked = False
_found: Machine | None = None


def now() -> Machine | None:
    """Give what was found, None as long as it is being looked for; the first call begins the search."""
    global _asked
    with _lock:
        if not _asked:
            _asked = True
            threading.Thread(target=_look, daemon=True).start()
    return _found


def memory(on: Machine) -> float:
    """Give the memory that a run may use, in GiB: that of the GPU, else the machine's own."""
    return on.vram_gb if on.device == "cuda" else on.ram_gb


def _look() -> None:
    global _found
    try:
        _found = hardware.machine()
    except Exception as error:  # the page goes on without it
        logging.getLogger("studio.window").error("this machine could not be looked at", exc_info=error)
    live.touch()


def line(scene: Scene) -> str:
    """Draw what this machine has."""
    found = now()
    if found is None:
        waiting = '<span class="st-muted">looking at what it has…</span>'
        return f'<section class="st-card st-line">{parts.pill("This machine")}{waiting}</section>'
    try:
        free = f"{shutil.disk_usage(paths.home()).free / 1e9:.0f} GB free"
    except OSError as error:
        return kit.explain(error)
    gpu = f"{found.gpu}, {found.vram_gb:.0f} GB" if found.gpu else "no GPU: small models, slowly"
    words = [gpu, f"{found.cores} cores", f"{found.ram_gb:.0f} GB memory", free]
    words.append("4-bit works" if found.four_bit else "16 and 32 bit")
    words.append(f"llama.cpp {found.llama}" if found.llama else "no llama.cpp: see studio doctor")
    spans = "".join(f"<span>{esc(word)}</span>" for word in words)
    trouble = parts.pill("look", "warn") + f"<span>{esc(found.problem, 200)}</span>" if found.problem else ""
    return f'<section class="st-card st-line">{parts.pill("This machine")}{spans}{trouble}</section>'
