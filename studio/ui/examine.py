"""What a data file looks like to the model: asked of render/inspect's child, kept while the window lives.

Tokenizers and foreign templates run in that child only. A file is known by its path, its change time and its size, so
that an edited file is read again.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

from studio import paths
from studio.child import Child
from studio.errors import DataError
from studio.ui import choice, live, starter

Document = dict[str, Any]
STEP_OF_KIND = {"sft": "train", "text": "train", "preference": "align", "kto": "align"}

_child = Child("studio.render.inspect:handle")
_known: dict[tuple[str, ...], Document] = {}
_lock = threading.Lock()
_MOST = 64


def model_of(scene: live.Scene) -> str:
    """Give the model whose tokens are shown: the chosen one, else the starter."""
    return scene.model or starter.NAME


def check(file: str, model: str) -> Document:
    """Check a whole file: format, kind, rows, errors, warnings, lengths. Raises what the check raises."""
    return _ask({"op": "check", "data": file, "model": model}, 600.0)


def row(file: str, model: str, index: int, max_length: int) -> Document:
    """Give one row as the model will see it."""
    return _ask({"op": "row", "data": file, "model": model, "index": index, "max_length": max_length}, 120.0)


def known(request: Document) -> Document | None:
    """Give the answer to a request if it was asked before and the file is the same."""
    return _known.get(_key(request))


def known_check(file: str, model: str) -> Document | None:
    """Give a file's check if it was made before."""
    return known({"op": "check", "data": file, "model": model})


def known_row(file: str, model: str, index: int, max_length: int) -> Document | None:
    """Give a row if it was read before."""
    return known({"op": "row", "data": file, "model": model, "index": index, "max_length": max_length})


def _ask(request: Document, timeout: float) -> Document:
    if (found := known(request)) is not None:
        return found
    answer = _child.ask(request, timeout=timeout)
    with _lock:
        while len(_known) >= _MOST:
            del _known[next(iter(_known))]
        _known[_key(request)] = answer
    live.touch()
    return answer


def _key(request: Document) -> tuple[str, ...]:
    try:
        stat = Path(request["data"]).stat()
        version = (str(stat.st_mtime_ns), str(stat.st_size))
    except OSError:
        version = ("", "")
    return (*(f"{name}={value}" for name, value in sorted(request.items())), *version)


def find(text: str) -> str:
    """Turn what the user typed into a file's full path. Raises DataError."""
    cleaned = text.strip().strip("'\"")
    if not cleaned:
        raise DataError("No file is chosen.", "Write its path, drop it here, or use the sample data.")
    path = Path(cleaned).expanduser()
    if not path.is_file():
        raise DataError(
            f"There is no file {cleaned[:200]!r}.", "Check the path; a whole path such as /home/me/rows.jsonl."
        )
    return str(path.resolve())


def keep(uploaded: str) -> str:
    """Move an uploaded file into the data folder under a safe name; the same name with other content gets a number."""
    source = Path(uploaded)
    suffix = (
        source.suffix.lower()
        if source.suffix.lower() in (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet")
        else ""
    )
    folder = paths.home() / "data"
    folder.mkdir(exist_ok=True)
    stem = paths.slug(source.stem, "data")
    data = source.read_bytes()
    for number in range(1, 1000):
        target = folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
        if target.exists() and target.read_bytes() == data:
            break
        if not target.exists():
            shutil.move(source, target)
            break
    else:
        raise DataError(f"There are a thousand files named {stem}.", "Rename yours.")
    source.unlink(missing_ok=True)
    return str(target)


def look_at(file: str, index: int = 0) -> None:
    """Keep which file and row the data page shows."""
    choice.update(looking={"file": file, "index": index})


def max_length(scene: live.Scene, step: str) -> int:
    """Give the longest row that the step's settings keep."""
    from studio.methods import METHODS

    method = "dpo" if step == "align" else "sft"
    context = int((scene.chosen.get("facts") or {}).get("context") or 1 << 30)
    typed = ((scene.chosen.get("form") or {}).get(method) or {}).get("max_length")
    try:
        wanted = max(1, int(str(typed)))
    except ValueError:
        wanted = int(METHODS[method].Config().max_length)
    return min(wanted, context)


def summary(file: str, found: Document) -> Document:
    """Give what the rail and the other pages say about a file in use."""
    flagged = sum(int(item.get("rows") or 0) for item in found.get("warnings") or [])
    return {
        "file": file,
        "kind": found.get("kind"),
        "format": found.get("format"),
        "rows": found.get("rows"),
        "flagged": flagged,
        "trained_tokens": found.get("trained_tokens"),
        "tokens": found.get("tokens"),
    }
