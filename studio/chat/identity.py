"""Which file answers: short hashes of files, read once for as long as a file stays as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from studio import paths

SHORT = 12
_sums: dict[str, str] = {}


def sha256(file: str) -> str:
    """Give a file's sha256, kept under its path, size and time of change; "" when it cannot be read."""
    try:
        stat = os.stat(file)
        key = f"{os.path.realpath(file)}:{stat.st_size}:{stat.st_mtime_ns}"
        if key not in _sums:
            _sums.update(_kept())
        if key not in _sums:
            _sums[key] = paths.sha256(Path(file))
            paths.write_text(_place(), json.dumps(_sums, indent=1) + "\n")
        return _sums[key]
    except OSError:
        return ""


def known(file: str) -> str:
    """Give a file's sha256 if it was read before, else "": never waits."""
    try:
        stat = os.stat(file)
    except OSError:
        return ""
    _sums.update({} if _sums else _kept())
    return _sums.get(f"{os.path.realpath(file)}:{stat.st_size}:{stat.st_mtime_ns}", "")


def _place() -> Path:
    return paths.cache() / "sums.json"


def _kept() -> dict[str, str]:
    try:
        found: Any = json.loads(_place().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    there = {str(key): str(value) for key, value in found.items()}
    return {key: value for key, value in there.items() if os.path.exists(key.rsplit(":", 2)[0])}
