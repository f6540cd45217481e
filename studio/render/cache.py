"""A data file's tokens, made once: encoded in batches, written to memory-mapped files, found again by the next run.

The folder's name is a hash of all that the tokens depend on: the file's bytes, how it is read, template, tokenizer,
settings, and the code that makes them. It is written beside and renamed when it is whole; a half-written one is never
used, and goes with the next build. Folders live in $STUDIO_HOME/cache/tokens, 20 GB or a fifth of the free disk at
most: past that, those that were not used for the longest time go.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from studio import disk, events, paths
from studio.data.dataset import Dataset
from studio.data.records import LISTED
from studio.errors import Stopped, TrainingError
from studio.render.batches import encoded, token_type
from studio.render.renderer import Renderer
from studio.render.tokens import ABOUT, SIDES, Cache, View

__all__ = ["Cache", "View", "build", "key", "missing"]

VERSION = 1
MOST_BYTES, MOST_SHARE = 20 << 30, 0.2
_PART, _LOCK = ".part", ".lock"
_RESERVE = 200 << 20
_CODE = ("data", "render")


def _quiet(_: events.Event) -> None:
    """Tell nobody."""


def build(
    dataset: Dataset,
    renderer: Renderer,
    *,
    max_length: int,
    train_on: str = "all",
    cut: str = "prompt",
    folder: Path | None = None,
    emit: events.Emit = _quiet,
    should_stop: Callable[[], bool] = lambda: False,
    processes: int | None = None,
) -> Cache:
    """Give the tokens of a file, from the disk where they are there already.

    `processes` (default: one a core, for a file that is worth it) share the work. Rows keep the file's order. Raises
    InputError at a row that the template refuses (unless the reading drops "bad" rows) and when the file changes
    meanwhile, TrainingError when the disk is full, Stopped when `should_stop` says so.
    """
    root = folder or paths.cache() / "tokens"
    root.mkdir(parents=True, exist_ok=True)
    name = key(dataset, renderer, max_length, train_on, cut)
    place = root / name
    with _alone(root / (name + _LOCK), should_stop):
        if (cache := _whole(place)) is not None:
            os.utime(place / ABOUT)
            emit(events.event("note", level="info", code="tokens", text="The tokens of this file are there already."))
            return cache
        _sweep(root)
        _room(root, dataset.size * len(SIDES[dataset.kind]))
        beside = root / (name + _PART)
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
        try:
            beside.mkdir(exist_ok=True)
            settings = {"max_length": max_length, "train_on": train_on, "cut": cut}
            _fill(beside, dataset, renderer, settings, emit, should_stop, processes)
            os.replace(beside, place)
            paths.fsync_dir(root)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise _full(root) from None
            raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    _prune(root, name, emit)
    return Cache(place)


def missing(dataset: Dataset, renderer: Renderer, max_length: int, train_on: str = "all", cut: str = "prompt") -> int:
    """Give about so many bytes as the tokens of a file will take, 0 where they are there already.

    A token takes 3 to 5 bytes here and 3 to 5 in the file, so that both are about as large.
    """
    place = paths.cache() / "tokens" / key(dataset, renderer, max_length, train_on, cut)
    return 0 if _whole(place) is not None else dataset.size * len(SIDES[dataset.kind])


def key(dataset: Dataset, renderer: Renderer, max_length: int, train_on: str = "all", cut: str = "prompt") -> str:
    """Hash all that the tokens of a file depend on.

    A template that writes the date gives another key for each `now` of its renderer: let that be a day, not a second.
    """
    code = [path for room in _CODE for path in sorted((Path(__file__).parent.parent / room).rglob("*.py"))]
    said = {
        "version": VERSION,
        "code": [paths.sha256(path) for path in code],
        "file": dataset.sha256,
        "format": dataset.format,
        "reading": dataset.reading.to_dict(),
        "renderer": renderer.key,
        "max_length": max_length,
        "train_on": train_on,
        "cut": cut,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:40]


def _whole(place: Path) -> Cache | None:
    try:
        return Cache(place)
    except ValueError:
        return None


@contextlib.contextmanager
def _alone(lock: Path, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Wait until no other process makes the same tokens."""
    held = filelock.FileLock(lock)
    while True:
        _halt(should_stop)
        try:
            held.acquire(timeout=0.2)
            break
        except filelock.Timeout:
            continue
    try:
        yield
    finally:
        held.release()


def _halt(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise Stopped("Stopped before the first step.", "Start it again when you like.")


def _fill(
    beside: Path,
    dataset: Dataset,
    renderer: Renderer,
    settings: dict[str, Any],
    emit: events.Emit,
    should_stop: Callable[[], bool],
    processes: int | None,
) -> None:
    """Write all files of a folder, the description last."""
    sides, rated, dtype = SIDES[dataset.kind], dataset.kind == "kto", token_type(renderer)
    names = ["ids.bin", "learned.bin", "ends.bin", "lines.bin", "records.bin", *(["rated.bin"] if rated else [])]
    progress = events.Progress(emit, "Reading rows", dataset.usable, "rows")
    left_out: dict[str, dict[str, Any]] = {}
    end = 0
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((beside / name).open("wb")) for name in names}
        files["ends.bin"].write(np.zeros(1, np.uint64).tobytes())
        made = stack.enter_context(contextlib.closing(encoded(dataset, renderer, settings, beside, processes)))
        for packed in made:
            _halt(should_stop)
            for reason, line, error in packed.left_out:
                if error is not None and "bad" not in dataset.reading.drop:
                    error.file, error.line = error.file or str(dataset.path), line
                    raise error
                entry = left_out.setdefault(reason, {"count": 0, "lines": []})
                entry["count"] += 1
                if len(entry["lines"]) < LISTED:
                    entry["lines"].append(line)
            ends = end + np.cumsum(packed.sizes, dtype=np.uint64)
            end = int(ends[-1]) if len(ends) else end
            columns = [packed.ids, packed.learned, ends, packed.lines, packed.records, packed.rated]
            for file, column in zip(files.values(), columns, strict=False):
                file.write(column.tobytes())
            progress.step(packed.taken)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    for source in dataset.sources:
        source.open().close()  # raises DataError when it is no longer the file that was checked
    about = {
        "sides": sides,
        "dtype": dtype,
        "tokens": end,
        "left_out": left_out,
        "files": {name: (beside / name).stat().st_size for name in names},
    }
    paths.write_text(beside / ABOUT, json.dumps(about, indent=1) + "\n")


def _room(root: Path, size: int) -> None:
    """Raise TrainingError when the disk can hardly take the tokens of a file of so many bytes."""
    if disk.free(root) < size + _RESERVE:
        raise _full(root)


def _full(root: Path) -> TrainingError:
    have = disk.free(root) / 1e9
    return TrainingError(
        f"The disk has no room for the file's tokens ({have:.2f} GB free in {root}).",
        "Free some, or let STUDIO_HOME name a folder on a larger disk.",
    )


def _sweep(root: Path) -> None:
    """Remove what a build that was killed left half-written. A build that lives holds its lock and is left alone."""
    for beside in root.glob(f"*{_PART}"):
        with _unused(root / (beside.stem + _LOCK)) as unused:
            if unused:
                shutil.rmtree(beside, ignore_errors=True)


def _prune(root: Path, keep: str, emit: events.Emit) -> None:
    """Remove the tokens that were not used for the longest time, past what the cache may take; never `keep`."""
    folders = {about.parent: about.stat().st_mtime for about in root.glob(f"*/{ABOUT}") if about.parent.suffix != _PART}
    sizes = {place: sum(file.stat().st_size for file in place.iterdir()) for place in folders}
    total = sum(sizes.values())
    most = min(MOST_BYTES, int(MOST_SHARE * (disk.free(root) + total)))
    gone = 0
    for place in sorted(folders, key=lambda place: folders[place]):
        if total <= most:
            break
        with _unused(root / (place.name + _LOCK)) as unused:
            if place.name != keep and unused:
                shutil.rmtree(place, ignore_errors=True)
                total -= sizes[place]
                gone += sizes[place]
    if gone:
        text = f"Removed tokens that were not used for long ({gone / 1e9:.1f} GB); the cache keeps {most / 1e9:.0f} GB."
        emit(events.event("note", level="info", code="tokens_removed", text=text))


@contextlib.contextmanager
def _unused(lock: Path) -> Iterator[bool]:
    """Try to hold a lock for a moment, and say whether that went."""
    held = filelock.FileLock(lock)
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()
