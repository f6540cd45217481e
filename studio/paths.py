"""Where things live, and which names are allowed.

$STUDIO_HOME (else the platform's data folder)/studio
├── runs/     one directory a run
├── data/     what was imported or made: uploads, rows written by hand
├── recipes/  recipes that were dropped into the window
├── preferences/   votes and judgements (data/votes.py)
├── cache/    what can be made again: tokens of data files
├── base/     bases as files for the chat
├── trash/    what was deleted, until it is emptied (trash.py)
└── window.json   what the window's user chose last
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

from studio.errors import InputError

_PACKAGE = Path(__file__).resolve().parent
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def home() -> Path:
    """Give the data folder, made on first use and readable by its owner only."""
    chosen = os.environ.get("STUDIO_HOME")
    if chosen:
        folder = Path(chosen).expanduser()
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "studio"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support" / "studio"
    else:
        folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "studio"
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def runs() -> Path:
    """Give the folder of runs."""
    folder = home() / "runs"
    folder.mkdir(exist_ok=True)
    return folder


def cache() -> Path:
    """Give the folder of what can be made again at any time."""
    folder = home() / "cache"
    folder.mkdir(exist_ok=True)
    return folder


def models() -> Path:
    """Give the folder of what ships with Studio as models: the starter and the catalogue."""
    return _shipped("models")


def assets() -> Path:
    """Give the folder of css, icons and sample data."""
    return _shipped("assets")


def _shipped(name: str) -> Path:
    """A checkout keeps them beside the package, a wheel inside it."""
    beside = _PACKAGE.parent / name
    return beside if beside.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file() else _PACKAGE / "_data" / name


def check_name(name: str) -> str:
    """Give the name back if it is safe as a file name on every system; else raise InputError."""
    if not _NAME.fullmatch(name) or name.endswith(".") or is_reserved(name):
        raise InputError(
            f"{name[:80]!r} cannot be a name",
            "Use 1 to 64 small letters, digits, dots, dashes and underscores, beginning with a letter or a digit.",
        )
    return name


def is_reserved(name: str) -> bool:
    """Say whether Windows keeps a name for itself (con, nul.txt, ...)."""
    return name.split(".")[0].rstrip().lower() in _RESERVED


def slug(text: str, fallback: str = "run") -> str:
    """Make a name out of any text."""
    made = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:32].strip("-")
    return made if made and made not in _RESERVED else fallback


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one whole: beside, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    fsync_dir(path.parent)


def fsync_dir(folder: Path) -> None:
    """Make renames in a folder durable (a no-op on Windows, where folders cannot be opened)."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hash a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
