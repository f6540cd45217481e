"""Checkpoints that are whole or not there: written beside, fsynced, listed in a manifest, renamed.

A run can be killed at any moment. A checkpoint is used for resuming only when every file in it has the length and the
sha256 that its manifest says; otherwise the one before it is taken.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from studio import paths

MANIFEST = "manifest.json"


def seal(staging: Path, folder: Path) -> None:
    """Make a checkpoint out of a staged folder: manifest, fsync of every file and folder, rename."""
    files = sorted(path for path in staging.rglob("*") if path.is_file() and path.name != MANIFEST)
    manifest = {
        str(path.relative_to(staging)): {"bytes": path.stat().st_size, "sha256": paths.sha256(path)} for path in files
    }
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for path in [*files, staging / MANIFEST]:
        handle = os.open(path, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    paths.fsync_dir(staging)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(staging, folder)
    paths.fsync_dir(folder.parent)


def verify(folder: Path) -> str:
    """Say what is wrong with a checkpoint, "" when it is whole."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        for name, facts in manifest.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != facts["bytes"]:
                return f"{name} is missing or cut off"
            if paths.sha256(path) != facts["sha256"]:
                return f"{name} was changed"
    except FileNotFoundError:
        return "it has no manifest"
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        return "its manifest cannot be read"
    return "" if manifest else "its manifest is empty"


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Give the newest checkpoint that is whole, and why newer ones were passed over."""
    passed: list[str] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        problem = verify(path)
        if not problem:
            return path, passed
        passed.append(f"{path.name}: {problem}")
    return None, passed


def place(folder: Path, step: int) -> Path:
    """Name the checkpoint of a step."""
    return folder / f"step-{step:06d}"


def prune(folder: Path, keep: int, spare: Path | None = None) -> None:
    """Delete all but the `keep` newest checkpoints (and the one to `spare`), and what a killed save left behind."""
    for path in sorted(folder.glob("step-*"))[:-keep]:
        if path != spare:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".staging*"):
        shutil.rmtree(path, ignore_errors=True)
