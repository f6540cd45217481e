"""Keep the machine from falling asleep while a run goes on; where that cannot be done, the run goes on without it.

Linux: `systemd-inhibit` holds off idleness and sleep as long as the command it was given lives; that is `cat`, reading
from us, so that it ends when we do, however that happens. macOS: `caffeinate` watches our process id. Windows: the
thread that works asks the system.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

#: Windows' SetThreadExecutionState: until told otherwise; the system is needed.
_CONTINUOUS, _SYSTEM_REQUIRED = 0x80000000, 0x00000001


@contextlib.contextmanager
def awake(why: str) -> Iterator[None]:
    """Keep the machine awake inside a with statement; never raises by itself."""
    process = _start(why)
    try:
        if sys.platform == "win32":
            _windows(_CONTINUOUS | _SYSTEM_REQUIRED)
        yield
    finally:
        if sys.platform == "win32":
            _windows(_CONTINUOUS)
        if process is not None:
            _end(process)


def command(why: str, system: str = sys.platform) -> list[str]:
    """Give the command that keeps this machine awake, empty where there is none."""
    if system == "linux" and (tool := shutil.which("systemd-inhibit")) and (cat := shutil.which("cat")):
        text = " ".join(why.split())[:120] or "a run"
        return [tool, "--what=idle:sleep", "--mode=block", "--who=Studio", f"--why={text}", cat]
    if system == "darwin" and (tool := shutil.which("caffeinate")):
        return [tool, "-i", "-w", str(os.getpid())]
    return []


def _start(why: str) -> subprocess.Popen[bytes] | None:
    line = command(why)
    if not line:
        return None
    try:
        return subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the Ctrl+C that lets a run save must not let the machine sleep meanwhile
        )
    except (OSError, ValueError):
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2.0)


def _windows(state: int) -> None:
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.windll.kernel32.SetThreadExecutionState(state)  # type: ignore[attr-defined]
