"""What Studio has on the disk: base models, runs with their checkpoints, exports, chat bases, caches; and deleting it.

`look` measures and says for each thing what still needs it; `delete` and `delete_checkpoints` refuse what is in use or
needed. Only what lies in the data folder or in the hub's cache is ever touched; a thing is found by its key in the
list, never by a path that somebody sent. Most of it goes into the trash (trash.py); what can be fetched or made again
goes at once: a model of the hub's cache through huggingface-hub itself, caches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from studio import disk, jobs, paths, runs, trash
from studio.errors import InputError, ModelError, RunError
from studio.models import hub

#: Kinds of things, as the list and the bar name them.
KINDS = {
    "base": "base models",
    "data": "data sets of the hub",
    "run": "runs",
    "checkpoints": "checkpoints",
    "export": "exports",
    "chat": "chat base files",
    "cache": "caches",
    "trash": "trash",
    "other": "other",
}
_EXPORTS = ("export", "merge")
_CACHES = {
    "tokens": "tokens of data files: made again by the next run",
    "reference": "answers of the reference model: asked again by the next run",
    "uploads": "files that were dropped into the window",
}
OUTSIDE = "It lies outside of Studio's folder, where Studio deletes nothing."


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing: `bytes` without its checkpoints; `needed_by` names what needs it; `refusal` why it cannot be deleted.

    `again`: it goes at once, without the trash, and can be fetched or made again.
    """

    key: str
    kind: str
    name: str
    about: str
    place: Path
    bytes: int
    when: float = 0.0
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    needed_by: tuple[str, ...] = ()
    refusal: str = ""
    again: bool = False
    status: str = ""


@dataclasses.dataclass(frozen=True)
class Stock:
    """All things, the largest first, and the disk of the data folder."""

    items: tuple[Item, ...]
    free: int
    total: int

    @property
    def bytes(self) -> int:
        """What all of it takes in the data folder and the hub's cache."""
        return sum(self.kinds().values())

    def kinds(self) -> dict[str, int]:
        """Give the bytes of each kind, in the order of KINDS; what lies elsewhere is not counted."""
        sums = dict.fromkeys(KINDS, 0)
        for item in self.items:
            if item.refusal != OUTSIDE:
                sums[item.kind] += item.bytes
                sums["checkpoints"] += item.checkpoint_bytes
        return {kind: count for kind, count in sums.items() if count}

    def find(self, key: str) -> Item:
        """Give the thing with a key. InputError: there is none."""
        found = next((item for item in self.items if item.key == key), None)
        if found is None:
            raise InputError("That is not there any more.", "Look at the list again: studio disk")
        return found


def look() -> Stock:
    """Measure everything; files with several names are counted once. Reads no file but configs."""
    trash.tidy()
    seen: set[tuple[int, int]] = set()
    every = runs.all_runs()
    found = [*_runs(every, seen), *_models(every, seen), *_chat_bases(seen), *_caches(seen)]
    thrown = trash.root()
    found.append(Item("trash", "trash", "Trash", "what was deleted", thrown, disk.held(thrown, seen)))
    found.append(_other(seen))
    usage = shutil.disk_usage(paths.home())
    items = sorted(found, key=lambda item: item.bytes + item.checkpoint_bytes, reverse=True)
    return Stock(tuple(item for item in items if item.bytes or item.checkpoints), usage.free, usage.total)


def delete(key: str, for_good: bool = False) -> trash.Entry | None:
    """Delete a thing by its key; give its entry in the trash, or None for what went at once.

    `for_good`: without the trash; it is needed for what has no way back (a model of the hub's cache). Raises RunError
    or InputError with the reason where it is in use, needed, or not ours.
    """
    kind, _, name = key.partition(":")
    if kind == "run":
        return delete_run(_listed(name), for_good)
    item = look().find(key)
    if item.refusal:
        raise InputError(item.refusal, "`studio disk` says what needs what.")
    if kind == "hub":
        if not for_good:
            raise InputError(said_before(item), f"To do it all the same: studio delete {item.name} --for-good")
        _delete_from_hub(item)
        return None
    if item.again or for_good:
        trash.check(item.place)
        trash.empty([trash.put(item.place, item.name)])
        return None
    return trash.put(item.place, item.name)


def delete_run(run: runs.Run, for_good: bool = False) -> trash.Entry | None:
    """Move a run into the trash, or delete it for good. RunError: it is going, or others need it."""
    runs.refuse_deletion(run)
    if for_good:
        runs.delete(run)
        jobs.leave(run)
        return None
    jobs.leave(run)
    with _held(run):
        return trash.put(run.dir, run.config.title or run.id)


def delete_checkpoints(run: runs.Run, for_good: bool = False) -> trash.Entry | None:
    """Move the checkpoints of a run that is over into the trash; what was trained stays. RunError says why not."""
    if run.alive():
        raise RunError(f"Run {run.id} is going.", f"Stop it first: studio stop {run.id}")
    if not run.checkpoints():
        raise RunError(f"Run {run.id} has no checkpoints.", "`studio disk` lists what there is.")
    if run.result() is None:
        raise RunError(
            f"Run {run.id} has not finished: it goes on from its checkpoints.",
            f"Finish it first: studio resume {run.name}. Or delete it whole: studio delete {run.name}",
        )
    with _held(run):
        entry = trash.put(run.dir / "checkpoints", f"checkpoints of {run.config.title or run.id}")
    if for_good:
        trash.empty([entry])
        return None
    return entry


def _held(run: runs.Run) -> contextlib.AbstractContextManager[None]:
    """Hold a run's lock, so that no worker begins meanwhile; Windows moves no folder with an open file in it."""
    if sys.platform == "win32" or not (run.dir / "lock").exists():
        return contextlib.nullcontext()
    return run.hold()


def said_before(item: Item) -> str:
    """Say what deleting a thing means, before it is done."""
    needed = f" It is needed by: {listed(item.needed_by)}." if item.needed_by else ""
    if item.key.startswith("hub:"):
        return (
            f"{item.name} ({disk.size(item.bytes)}) lies in the hub's cache, which other programs use too; there is no "
            f"trash for it: it can only be downloaded again.{needed}"
        )
    where = "It can be made again." if item.again else "It goes into the trash and can be put back."
    return f"{item.name} ({disk.size(item.bytes + item.checkpoint_bytes)}). {where}{needed}"


def listed(names: tuple[str, ...], most: int = 5) -> str:
    """List names for people."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _listed(name: str) -> runs.Run:
    """Give a run of the data folder by its whole id."""
    found = next((run for run in runs.all_runs() if run.id == name), None)
    if found is None:
        raise RunError("That run is not there any more.", "Look at the list again: studio disk")
    return found


def _runs(every: list[runs.Run], seen: set[tuple[int, int]]) -> Iterator[Item]:
    """Describe the runs, with what exports wrote elsewhere."""
    for run in every:
        try:
            config, result = run.config, run.result() or {}
            needed = runs.needed_by(run)
        except (OSError, ValueError, TypeError):
            continue  # being written, or not a run of this version
        exported = config.kind in _EXPORTS
        saved = disk.held(run.dir / "checkpoints", seen)
        status = run.status()
        yield Item(
            key=f"run:{run.id}",
            kind="export" if exported else "run",
            name=config.title or run.id,
            about=f"{config.method if config.kind == 'train' else config.kind} of {config.model or '?'}",
            place=run.dir,
            bytes=sum(disk.held(part, seen) for part in _parts(run.dir) if part.name != "checkpoints"),
            when=_when(run.dir / "config.json"),
            checkpoints=len(run.checkpoints()),
            checkpoint_bytes=saved,
            needed_by=tuple(f"{other.config.title} ({other.id})" for other, _ in needed),
            refusal="It is going." if status == "running" else "",
            status=status,
        )
        out = Path(str(result.get("dir") or result.get("out") or config.options.get("out") or run.dir))
        if exported and out.is_dir() and not out.resolve().is_relative_to(paths.home()):
            about = f"files of {config.title}"
            size = disk.held(out, seen)
            yield Item(f"outside:{run.id}", "export", str(out), about, out, size, _when(out), refusal=OUTSIDE)


def _parts(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _when(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _models(every: list[runs.Run], seen: set[tuple[int, int]]) -> Iterator[Item]:
    """Describe what lies in the hub's cache, and the folders that runs took their base from."""
    from huggingface_hub import constants

    cache, users = Path(constants.HF_HUB_CACHE), _users(every)
    for folder in _parts(cache):
        kind, _, rest = folder.name.partition("--")
        if kind not in ("models", "datasets") or folder.is_symlink() or not folder.is_dir():
            continue
        name = rest.replace("--", "/", 1)
        using = users.get(name, []) if kind == "models" else _readers(every, name)
        whole = any((folder / "snapshots").glob("*/*"))
        yield Item(
            key=f"hub:{folder.name}",
            kind="base" if kind == "models" else "data",
            name=name,
            about="in the hub's cache" if whole else "a download that did not end",
            place=folder,
            bytes=disk.held(folder, seen),
            when=_when(folder),
            needed_by=tuple(f"{run.config.title} ({run.id})" for run in using),
            refusal="A run that is going uses it." if any(run.alive() for run in using) else "",
        )
    for name, using in users.items():
        place = Path(name)
        if place.is_absolute() and place.is_dir():
            size, needed = disk.held(place, seen), tuple(f"{run.config.title} ({run.id})" for run in using)
            about, when = "a folder of yours", _when(place)
            yield Item(
                f"folder:{name}", "base", place.name, about, place, size, when, needed_by=needed, refusal=OUTSIDE
            )


def _users(every: list[runs.Run]) -> dict[str, list[runs.Run]]:
    """Give the runs that need a base, by its hub id or its folder: those that trained on it, and those that go."""
    found: dict[str, list[runs.Run]] = {}
    for run in every:
        try:
            model, kind = run.config.model, run.config.kind
        except (OSError, ValueError, TypeError):
            continue
        if not model or model == "starter" or (kind != "train" and not run.alive()):
            continue
        if not Path(model).is_absolute():
            try:
                model = hub.reference(model).repo
            except ModelError:
                continue
        found.setdefault(model, []).append(run)
    return found


def _readers(every: list[runs.Run], name: str) -> list[runs.Run]:
    """Give the runs that read a data set of the hub's cache."""
    part = f"datasets--{name.replace('/', '--')}"
    return [run for run in every if part in Path(_data_of(run)).parts or _data_of(run).split("@")[0] == name]


def _data_of(run: runs.Run) -> str:
    try:
        return run.config.data
    except (OSError, ValueError, TypeError):
        return ""


def _chat_bases(seen: set[tuple[int, int]]) -> Iterator[Item]:
    """Describe the files that the chat made: bases, and the adapters that stand on them."""
    for path in _parts(paths.home() / "base"):
        if path.is_file() and not path.is_symlink():
            what = "an adapter for the chat" if path.stem.endswith("-lora") else "a base for the chat"
            about = f"{what}: made again when it is opened"
            size = disk.held(path, seen)
            yield Item(f"chat:{path.name}", "chat", path.name, about, path, size, _when(path))


def _caches(seen: set[tuple[int, int]]) -> Iterator[Item]:
    """Describe the caches; while something computes they are in use."""
    busy = "A run that is going uses it." if runs.computing() else ""
    for path in [*_parts(paths.home() / "cache"), paths.home() / "uploads"]:
        if path.is_dir() and not path.is_symlink():
            size, about = disk.held(path, seen), _CACHES.get(path.name, "made again when it is needed")
            key, when = f"cache:{path.name}", _when(path)
            yield Item(key, "cache", path.name, about, path, size, when, refusal=busy, again=True)


def _other(seen: set[tuple[int, int]]) -> Item:
    """Sum up the rest of the data folder: votes, choices, logs; none of it is deleted here."""
    known = {"runs", "base", "cache", "uploads", "trash"}
    size = sum(disk.held(part, seen) for part in _parts(paths.home()) if part.name not in known)
    size += sum(disk.held(part, seen) for part in _parts(paths.runs()) if not (part / "config.json").is_file())
    about, why = "votes, choices, logs", "Studio keeps these: what you voted and chose."
    return Item("other", "other", "Other files", about, paths.home(), size, refusal=why)


def _delete_from_hub(item: Item) -> None:
    """Delete a repository of the hub's cache, all its revisions; half a download has none and goes as a folder."""
    from huggingface_hub import constants, scan_cache_dir

    trash.check(item.place)
    if item.place.parent != Path(constants.HF_HUB_CACHE):
        raise InputError(OUTSIDE, "Look at the list again: studio disk")
    cache = scan_cache_dir()
    for repo in cache.repos:
        if Path(repo.repo_path) == item.place:
            alone = dataclasses.replace(cache, repos=frozenset([repo]))  # a copy of it elsewhere has the same commits
            alone.delete_revisions(*(revision.commit_hash for revision in repo.revisions)).execute()
    if item.place.is_dir():
        shutil.rmtree(item.place)
