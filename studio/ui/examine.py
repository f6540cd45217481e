"""What a data file looks like to the model: asked of render/inspect's child, kept while the window lives.

Tokenizers and foreign templates run in that child only. A file is known by its path, its change time and its size, so
that an edited file is read again. Long work goes on in the background, one piece of each kind at a time; every tab sees
how far it is, and may stop it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio import paths
from studio.child import Child
from studio.data import hubdata
from studio.errors import DataError, StudioError
from studio.ui import live

Document = dict[str, Any]
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".gz")
#: The longest silence, in seconds, that is still taken for work.
PATIENCE = {"row": 60.0}
PATIENT = 300.0

_child = Child("studio.render.inspect:handle")
_lock = threading.RLock()
_known: dict[tuple[str, ...], Document] = {}
_MOST = 128


@dataclass
class Work:
    """A question that is being answered: its progress event, and since when."""

    request: Document
    key: tuple[str, ...]
    began: float = field(default_factory=time.monotonic)
    progress: Document = field(default_factory=dict)
    stopped: bool = False

    def rate(self) -> float:
        """Give how many units a second were done so far; 0 when that is not known yet."""
        seconds = time.monotonic() - self.began
        done = float(self.progress.get("done") or 0)
        return float(self.progress.get("rate") or (done / seconds if seconds > 0.5 else 0))

    def seconds_left(self) -> float | None:
        """Give how long it will still take, or None."""
        if self.progress.get("seconds_left") is not None:
            return float(self.progress["seconds_left"])
        total, rate = float(self.progress.get("total") or 0), self.rate()
        return (total - float(self.progress.get("done") or 0)) / rate if total and rate else None


_going: dict[str, Work] = {}


def known(request: Document) -> Document | None:
    """Give the answer to a request if it is there and the file is the same; a failure is {"error": {...}}."""
    key = _key(request)
    with _lock:
        found = _known.pop(key, None)
        if found is not None:
            _known[key] = found  # asked for again: forgotten last
        return found


def ask(request: Document) -> Document:
    """Give the answer, waiting for it. Raises what the child raises."""
    if (found := known(request)) is None:
        found = _child.ask(request, timeout=PATIENCE.get(str(request["op"]), PATIENT))
        _keep(_key(request), found)
    if "error" in found:
        raise _raised(found["error"])
    return found


def want(request: Document) -> Document | None:
    """Give the answer if it is there, else see to it that somebody works on it (and on nothing else of its kind)."""
    if (found := known(request)) is not None:
        return found
    op, key = str(request["op"]), _key(request)
    with _lock:
        busy = _going.get(op)
        if busy is not None and busy.key == key:
            return None
        if busy is not None:
            busy.stopped = True
        work = _going[op] = Work(request, key)
    threading.Thread(target=_follow, args=(work,), daemon=True).start()
    return None


def soon(request: Document, seconds: float = 3.0) -> Document | None:
    """Give the answer as `want` does, after waiting a moment for it."""
    end = time.monotonic() + seconds
    while (found := want(request)) is None and time.monotonic() < end:
        time.sleep(0.02)
    return found


def going(op: str) -> Work | None:
    """Give the work of a kind that is going on."""
    return _going.get(op)


def stop() -> None:
    """Stop everything that is going on; what was asked counts as stopped until it is asked again."""
    with _lock:
        for work in _going.values():
            work.stopped = True
            _keep(work.key, {"error": {"kind": "Stopped", "message": "It was stopped.", "remedy": "Read it again."}})
    live.touch()


def again() -> None:
    """Forget what went wrong, so that it is tried again."""
    with _lock:
        for key in [key for key, answer in _known.items() if "error" in answer]:
            del _known[key]
    live.touch()


def _follow(work: Work) -> None:
    """Take the child's answers as they come. Runs in a thread."""
    answer: Document = {}
    stream = _child.stream(work.request, timeout=PATIENCE.get(str(work.request["op"]), PATIENT))
    try:
        for answer in stream:
            if work.stopped:
                break
            if "progress" in answer:
                work.progress = answer["progress"]
                live.touch()
    except StudioError as error:
        answer = {"error": error.to_dict()}
    except Exception as error:
        logging.getLogger("studio.window").error("a question about data failed", exc_info=error)
        answer = {"error": {"message": "Studio made a mistake of its own.", "remedy": "window.log says more."}}
    finally:
        if isinstance(stream, Generator):
            stream.close()  # the child stops
        with _lock:
            if not work.stopped and answer:
                _keep(work.key, answer)
            if _going.get(str(work.request["op"])) is work:
                del _going[str(work.request["op"])]
        live.touch()


def _keep(key: tuple[str, ...], answer: Document) -> None:
    with _lock:
        while len(_known) >= _MOST:
            del _known[next(iter(_known))]
        _known[key] = answer


def _key(request: Document) -> tuple[str, ...]:
    try:
        stat = Path(str(request["data"])).stat()
        version = (str(stat.st_mtime_ns), str(stat.st_size))
    except OSError:
        version = ("", "")
    return (*(f"{name}={value}" for name, value in sorted(request.items())), *version)


def _raised(error: Document) -> StudioError:
    return DataError(
        str(error.get("message")),
        str(error.get("remedy") or ""),
        file=error.get("file"),
        line=error.get("line"),
        field=error.get("field"),
    )


def find(text: str) -> str:
    """Turn what the user typed into a file's full path, or a hub data set's name. Raises DataError."""
    cleaned = text.strip().strip("'\"")
    if not cleaned:
        raise DataError("No file is chosen.", "Write its path, drop it here, or use the sample data.")
    if hubdata.reference(cleaned) is not None:
        return cleaned
    try:
        path = Path(cleaned).expanduser()
        here = path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a ~nobody
        here = False
    if not here:
        raise DataError(
            f"There is no file {cleaned[:200]!r}.",
            "Check the path (a whole one, such as /home/me/rows.jsonl); a data set of the hub is org/name.",
        )
    return str(path.resolve())


def keep(uploaded: str, folder: str = "data", suffixes: tuple[str, ...] = SUFFIXES) -> str:
    """Move an uploaded file into the data folder under a safe name; the same name with other content gets a number."""
    source = Path(uploaded)
    suffix = source.suffix.lower() if source.suffix.lower() in suffixes else ""
    sha256 = paths.sha256(source)
    for target in free_names(source.stem, suffix, folder):
        if target.exists() and paths.sha256(target) == sha256:
            break
        if not target.exists():
            shutil.move(source, target)
            break
    source.unlink(missing_ok=True)
    return str(target)


def free_names(stem: str, suffix: str, of: str = "data") -> list[Path]:
    """Give the names that a file may get in a folder of the data folder, the plain one first."""
    folder = paths.home() / of
    folder.mkdir(exist_ok=True)
    name = paths.slug(stem, of)
    names = [folder / (f"{name}{suffix}" if number == 1 else f"{name}-{number}{suffix}") for number in range(1, 1000)]
    if all(path.exists() for path in names):
        raise DataError(f"There are a thousand files named {name}.", "Rename yours.")
    return names
