"""The trash: what was deleted lies in $STUDIO_HOME/trash until it is emptied, and can be put back.

trash/
├── ID/what.json     what it was, where it lay, when it was deleted, its bytes
├── ID/item          the thing itself, moved there by one rename
└── keep.json        the days after which it goes by itself; only where the user asked for that

A thing is in its place or in the trash, never half in both: it is renamed on the same disk. What cannot be renamed
there is refused. Links are never followed, and what is inside of one is not touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from studio import disk, paths
from studio.errors import InputError, StudioError

DAYS = 30
_DAY = 86400.0
_WHAT, _ITEM, _KEEP, _GONE = "what.json", "item", "keep.json", ".gone-"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One thing in the trash: `place` is where it lay, `when` it was deleted in seconds since 1970."""

    id: str
    what: str
    place: str
    when: float
    bytes: int


def root() -> Path:
    """Give the trash's folder; InputError where something else stands in its place."""
    folder = paths.home() / "trash"
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.is_symlink():
        raise InputError(f"{folder} is a link, not a folder.", "Take it away; Studio makes the folder itself.")
    return folder


def put(place: Path, what: str) -> Entry:
    """Move a file or a folder into the trash. InputError: it is a link, not there, or on another disk."""
    folder, path = root(), Path(os.path.abspath(place))
    check(path)
    entry = Entry(
        id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{paths.slug(what, 'item')}-{secrets.token_hex(2)}",
        what=what,
        place=str(path),
        when=time.time(),
        bytes=disk.held(path),
    )
    home = folder / entry.id
    home.mkdir(mode=0o700)
    try:
        told = {key: value for key, value in dataclasses.asdict(entry).items() if key != "id"}
        paths.write_text(home / _WHAT, json.dumps(told, ensure_ascii=False, indent=1) + "\n")
        _move(path, home / _ITEM)
    except BaseException:
        if not os.path.lexists(home / _ITEM):
            shutil.rmtree(home, ignore_errors=True)
        raise
    return entry


def check(path: Path) -> None:
    """Raise InputError for what cannot be thrown away: a link, nothing, or a folder that holds the data folder."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        raise InputError(f"{path} is not there.", "Look at the list again: studio disk") from None
    if stat.S_ISLNK(mode) or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise InputError(
            f"{path} is not a file or a folder of its own.", "Studio deletes no links. Take it away yourself."
        )
    if paths.home().is_relative_to(path.resolve()):
        raise InputError(f"{path} holds the data folder itself.", "Choose what to delete with: studio disk")


def _move(path: Path, to: Path) -> None:
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise InputError(
                f"{path} lies on another disk than the trash, so it cannot be moved there at once.",
                "Delete it without the trash: studio delete NAME --for-good",
            ) from None
        raise InputError(
            f"{path} could not be moved: {error.strerror}.", "Close what uses it, then try again."
        ) from None
    for folder in {path.parent, to.parent}:
        paths.fsync_dir(folder)


def entries() -> list[Entry]:
    """List what lies in the trash, the newest first."""
    found = []
    for folder in root().iterdir():
        if not folder.name.startswith(".") and os.path.lexists(folder / _ITEM) and not folder.is_symlink():
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                told = json.loads((folder / _WHAT).read_text("utf-8"))
                texts = {key: str(told[key]) for key in ("what", "place")}
                found.append(Entry(folder.name, **texts, when=float(told["when"]), bytes=int(told["bytes"])))
    return sorted(found, key=lambda entry: (entry.when, entry.id), reverse=True)


def find(name: str) -> Entry:
    """Find an entry by its id or the beginning of one. InputError: none, or several."""
    listed = entries()
    fits = [entry for entry in listed if entry.id == name] or [entry for entry in listed if entry.id.startswith(name)]
    if len(fits) == 1 and name:
        return fits[0]
    said = f"{name!r} fits {len(fits)} things in the trash." if fits else f"There is no {name!r} in the trash."
    raise InputError(said, "`studio trash` lists what is there.")


def restore(name: str) -> Entry:
    """Put a thing back where it lay. InputError: something is there now, or what it belongs to is not."""
    entry = find(name)
    place = Path(entry.place)
    if os.path.lexists(place):
        raise InputError(f"{place} is there already.", "Move that away first, then restore again.")
    if not place.parent.is_dir():
        raise InputError(
            f"{place.parent}, where it lay, is not there.", "Restore first what it belongs to: studio trash lists it."
        )
    home = root() / entry.id
    _move(home / _ITEM, place)
    shutil.rmtree(home, ignore_errors=True)
    return entry


def empty(some: Iterable[Entry] | None = None) -> int:
    """Delete for good what is in the trash (or some of it); give the bytes that it held."""
    folder, freed = root(), 0
    for entry in entries() if some is None else some:
        home = folder / entry.id
        freed += disk.held(home / _ITEM)
        # Out of the list first, so that a break leaves nothing that could be put back by half.
        os.replace(home, folder / f"{_GONE}{entry.id}")
    for left in folder.glob(f"{_GONE}*"):
        _remove(left)
    return freed


def _remove(folder: Path) -> None:
    """Delete a folder, also where parts of it are read-only; what cannot be deleted is said."""
    for here, folders, files in os.walk(folder):
        for name in folders + (files if sys.platform == "win32" else []):
            path = os.path.join(here, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise StudioError(
            f"Not all of {folder} could be deleted: {error.strerror}.",
            "Close what uses it, then empty the trash again.",
        ) from None


def days() -> float | None:
    """Give the days after which things go by themselves; None: never, as long as nobody asked for it."""
    try:
        found = float(json.loads((root() / _KEEP).read_text("utf-8"))["days"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if math.isfinite(found) and found > 0 else None


def keep(wanted: float | None) -> None:
    """Let things go by themselves after so many days; None: never."""
    if wanted is None:
        (root() / _KEEP).unlink(missing_ok=True)
        return
    if not math.isfinite(wanted) or wanted <= 0:
        raise InputError(f"{wanted} is not a number of days.", "Name the days, 30 for instance, or `never`.")
    paths.write_text(root() / _KEEP, json.dumps({"days": wanted}) + "\n")


def tidy(now: float | None = None) -> int:
    """Empty what is older than the user asked for; give the bytes that it held."""
    limit = days()
    if limit is None:
        return 0
    oldest = (time.time() if now is None else now) - limit * _DAY
    return empty([entry for entry in entries() if entry.when < oldest])
