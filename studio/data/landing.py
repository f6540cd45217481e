"""Where a file that was asked for lands: on a name that is free, and whole or not at all.

A path is the user's own choice. What stands there already is not ours to lose: only a plain file is replaced, and only
when that was asked for (`force`). A link is never followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from studio import paths
from studio.data.strict import visible
from studio.errors import ConfigError, DataError, StudioError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def named(out: str | Path) -> Path:
    """Give the absolute path of something to write; its last part is not followed where it is a link.

    ConfigError for a name that no system takes: none at all, control characters, a name that Windows keeps for itself.
    """
    text = os.path.expanduser(out)
    path = Path(text)
    if not text or not _possible(text) or _CONTROL.search(path.name):
        raise ConfigError(
            f"'{visible(text)[:80]}' is no name to write to.", "Write a name without such signs.", field="out"
        )
    if paths.is_reserved(path.name):
        raise ConfigError(f"Windows keeps the name {path.name} for itself.", "Choose another name.", field="out")
    if path.name in ("", ".."):  # a folder such as . or /
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent), path.name)


def file(out: str | Path, read: Iterable[Path] = (), force: bool = False) -> Path:
    """Give the absolute path of a file to write: its folder is there, and its name is free or may be replaced.

    ConfigError when not, and when it is one of the files that are read.
    """
    path = named(out)
    _need_folder(path.parent)
    _refuse_input(path, read)
    _refuse_taken(path, force)
    return path


def files(out: str | Path, names: Sequence[str], read: Iterable[Path] = (), force: bool = False) -> list[Path]:
    """Give the absolute paths of files to write into a folder; it may be missing, its parent may not.

    ConfigError as `file` gives it, and for a folder that is a link or a file.
    """
    folder, read = named(out), list(read)
    if os.path.islink(folder):
        raise _link(folder)
    if os.path.lexists(folder):
        _need_folder(folder)
    else:
        _need_folder(folder.parent)
    made = [folder / name for name in names]
    for path in made:
        _refuse_input(path, read)
    for path in made:
        _refuse_taken(path, force)
    return made


@contextlib.contextmanager
def beside(targets: Sequence[Path], force: bool = False) -> Iterator[Sequence[BinaryIO]]:
    """Open files of one folder that take their names when all went well, together; else nothing is left behind.

    The folder is made where it is missing. What has come to stand there in the meantime is replaced by `force` only.
    """
    folder, landed = targets[0].parent, list[Path]()
    made = [path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in targets]
    new, done = False, False
    try:
        if not folder.is_dir():
            folder.mkdir()
            new = True
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(one.open("wb")) for one in made]
            yield opened
            for each in opened:
                each.flush()
                os.fsync(each.fileno())
        for one, path in zip(made, targets, strict=True):
            _refuse_taken(path, force)
            landed += [] if force else [path]
            os.replace(one, path)
        done = True
    except StudioError:
        raise
    except OSError as error:
        where = str(targets[0] if len(targets) == 1 else folder)
        raise DataError(
            f"The file cannot be written: {error.strerror}.", "Choose another place.", file=where
        ) from error
    finally:
        with contextlib.suppress(OSError):
            for path in [*made, *([] if done else landed)]:
                path.unlink(missing_ok=True)
            if new and not done:
                folder.rmdir()
    paths.fsync_dir(folder)


def _possible(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _need_folder(folder: Path) -> None:
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.lexists(folder) else "does not exist"
        raise ConfigError(f"{folder} {problem}.", "Choose another place, or make the folder first.", field="out")


def _refuse_input(path: Path, read: Iterable[Path]) -> None:
    for one in read:
        if os.path.exists(path) and os.path.exists(one) and os.path.samefile(path, one):
            raise ConfigError("That is the file that is read.", "Choose another name.", file=str(path), field="out")


def _refuse_taken(path: Path, force: bool) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:  # it is free, or writing will say why not
        return
    if stat.S_ISLNK(mode):
        raise _link(path)
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no plain file"
        raise ConfigError(f"That is {what}.", "Choose another name.", file=str(path), field="out")
    if not force:
        remedy = "Choose another name, or replace it with --force."
        raise ConfigError("A file of that name is there already.", remedy, file=str(path), field="out")


def _link(path: Path) -> ConfigError:
    remedy = "Name the place that it leads to, or choose another name."
    return ConfigError("That is a link, and links are not followed.", remedy, file=str(path), field="out")
