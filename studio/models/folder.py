"""Read the small files of a model's folder with care: nothing that leads out of it is opened, no code of it is run."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.errors import ModelError

#: bytes: the largest tokenizer.json of the known models is 40 MB
MAX_JSON = 200 << 20
MAX_TEXT = 4 << 20

_IMPLEMENTATION = re.compile("_?(attn|experts)_implementation")


def inside(path: Path) -> Path:
    """Give the path back if it is a plain file of its folder (or is not there); else raise ModelError.

    A symbolic link may lead to another place in the folder, and in a snapshot of the hub's cache to that cache's
    blobs: nowhere else. A pipe or a device is never opened: reading one may hang, or do anything.
    """
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise ModelError(
                f"{path.name} is a link to nothing.", "Download the model again.", file=str(path)
            ) from None
        return path
    except OSError:
        raise ModelError(f"{path.name} cannot be read.", "Look at its rights.", file=str(path)) from None
    home = path.parent.resolve()
    real = path.resolve()
    if not real.is_relative_to(home) and not _in_cache(real, home):
        raise ModelError(
            f"{path.name} is a link that leaves the model's folder.",
            "Copy the file itself there, if you trust it.",
            file=str(path),
        )
    if not stat.S_ISREG(kind):
        raise ModelError(
            f"{path.name} is not a plain file.", "Do not use this folder: nothing of a model is a pipe, a device or a "
            "folder by that name.", file=str(path)
        )  # fmt: skip
    return path


def _in_cache(real: Path, snapshot: Path) -> bool:
    """Say whether a snapshot's file is where huggingface-hub keeps it: the repository's blobs, or those of all."""
    if snapshot.parent.name != "snapshots":
        return False
    repo = snapshot.parent.parent
    shared = repo.parent / "blobs" / real.name[:2]
    return real.parent == repo / "blobs" or (real.parent == shared and bool(re.fullmatch("[0-9a-f]{64}", real.name)))


def read_json(path: Path) -> Any:
    """Read a JSON file of a model folder; ModelError when it is missing or broken."""
    try:
        with inside(path).open("rb") as file:
            data = file.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            raise ModelError(f"{path.name} is larger than {MAX_JSON >> 20} MB.", "It is not a model's.", file=str(path))
        return json.loads(data)
    except FileNotFoundError:
        raise ModelError(f"{path.name} is missing.", "Choose a folder with a whole model.", file=str(path)) from None
    except (ValueError, RecursionError, UnicodeError):
        raise ModelError(f"{path.name} is not valid JSON.", "Download the model again.", file=str(path)) from None
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read ({error.strerror}).", "Look at it.", file=str(path)) from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; ModelError when it holds anything else."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise ModelError(f"{path.name} is not an object.", "Download the model again.", file=str(path))
    return data


def read_text(path: Path, strict: bool = False) -> str:
    """Read a small text file of a model folder, "" when it is not there; `strict` refuses what is not UTF-8."""
    try:
        with inside(path).open("rb") as file:
            data = file.read(MAX_TEXT + 1)
        if strict and len(data) > MAX_TEXT:
            raise ModelError(f"{path.name} is larger than {MAX_TEXT >> 20} MB.", "It is not a model's.", file=str(path))
        return data.decode("utf-8", errors="strict" if strict else "replace")
    except FileNotFoundError:
        return ""
    except UnicodeError:
        raise ModelError(f"{path.name} is not UTF-8 text.", "Download the model again.", file=str(path)) from None
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read ({error.strerror}).", "Look at it.", file=str(path)) from None


def refuse_code(config: dict[str, Any], file: str) -> None:
    """Refuse a config that asks, at any depth, for code which is not transformers' own."""
    name = Path(file).name
    for key, value in _keys(config):
        if key == "auto_map" and value:
            raise ModelError(
                "The model wants its own Python code to be run (auto_map).",
                "Studio never runs code from a model folder. Choose a model that transformers supports by itself.",
                file=file,
            )
        # transformers writes `_attn_implementation_autoset` itself, true or false; the others may name a kernel of
        # the hub, which is code.
        harmless = key == "_attn_implementation_autoset" and isinstance(value, bool)
        if (_IMPLEMENTATION.match(key) and not harmless) or key == "model_file":
            raise ModelError(f"{name} sets {key[:80]!r}, which can load foreign code.", "Remove it.", file=file)


def _keys(config: Any) -> Iterator[tuple[str, Any]]:
    todo = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            yield from item.items()
            todo += item.values()
        elif isinstance(item, list):
            todo += item
