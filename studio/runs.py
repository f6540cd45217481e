"""A run is a directory. Its status and its lineage are read from it, never stored twice.

RUN/
├── config.json     what was asked for; fixed after the start
├── events.jsonl    what happened (events.py)
├── worker.log      the worker's own output, tracebacks included
├── lock            held while a worker lives
├── stop            its presence asks the worker to stop
├── checkpoints/    step-000123/ with a manifest
├── adapter/        adapter_model.safetensors, adapter_config.json, tokenizer and template
├── elsewhere       the directories of runs that need this one and lie elsewhere, a line each
└── result.json     written last
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from studio import events, paths
from studio.errors import RunError
from studio.events import Event
from studio.redact import redact

STATUSES = ("new", "queued", "running", "finished", "failed", "stopped", "interrupted")
#: Kinds that wait for a network or a disk: one of them may go beside a run that computes.
LIGHT = ("download", "check", "push")
#: Kinds that need nothing once they are over: what they were made from may be deleted.
_LEAVES_NOTHING = ("rehearse", "push", "eval")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a run was asked to do.

    `kind` names the worker's job (train, feedback, eval, merge, export, push, demo, download,
    check); `method` the training
    method; `model` is `starter`, a folder or a hub id; `data` a file; `parent` a run directory; `settings` the values
    that differ from the method's defaults.
    """

    kind: str
    title: str
    model: str = ""
    method: str = ""
    data: str = ""
    parent: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def light(self) -> bool:
        """Tell whether it goes beside a run that computes."""
        return self.kind in LIGHT


@dataclasses.dataclass(frozen=True)
class Run:
    """A handle on a run's directory; every property reads the disk."""

    dir: Path

    @property
    def id(self) -> str:
        """Give the directory's name."""
        return self.dir.name

    @property
    def name(self) -> str:
        """Give what the command line finds it by: the id, or the directory of one that lies elsewhere."""
        return self.id if self.dir.parent == paths.runs() else str(self.dir)

    @property
    def config(self) -> RunConfig:
        """Read config.json."""
        values = json.loads((self.dir / "config.json").read_text("utf-8"))
        names = {field.name for field in dataclasses.fields(RunConfig)}
        return RunConfig(**{name: value for name, value in values.items() if name in names})

    @property
    def adapter(self) -> Path:
        """Give the folder of the trained adapter (there only after training)."""
        return self.dir / "adapter"

    @property
    def log(self) -> Path:
        """Give the worker's log file."""
        return self.dir / "worker.log"

    def events(self) -> list[Event]:
        """Read all events."""
        return events.read(self.dir / "events.jsonl")

    def result(self) -> dict[str, Any] | None:
        """Read result.json, or None before the run has finished."""
        path = self.dir / "result.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def alive(self) -> bool:
        """Tell whether a worker holds the lock (a process id can be reused, a lock cannot)."""
        if not (self.dir / "lock").exists():
            return False
        lock = FileLock(self.dir / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def status(self, seen: list[Event] | None = None) -> str:
        """Derive one of STATUSES from the lock, the queue and the last terminal event."""
        if self.alive():
            return "running"
        if self.id in queued():
            return "queued"
        happened = self.events() if seen is None else seen
        last = next((item["type"] for item in reversed(happened) if item["type"] != "note"), None)
        if last is None:
            return "interrupted" if (self.dir / "lock").exists() else "new"
        return last if last in events.TERMINAL else "interrupted"

    def ask_to_stop(self) -> None:
        """Leave the file that the worker looks for at every step."""
        (self.dir / "stop").touch()

    def should_stop(self) -> bool:
        """Tell whether somebody asked this run to stop."""
        return (self.dir / "stop").exists()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the run's lock; RunError when another worker has it."""
        lock = FileLock(self.dir / "lock")
        try:
            lock.acquire(timeout=1.0)  # a look at the lock holds it for a moment
        except Timeout:
            raise RunError(
                f"Run {self.id} is already going.", "Wait for it, or stop it first: studio stop " + self.id
            ) from None
        try:
            yield
        finally:
            lock.release()

    def parent(self) -> Run | None:
        """Give the run this one started from."""
        name = self.config.parent
        return find(name) if name else None

    def lineage(self) -> list[Run]:
        """List the runs from the first to this one: base -> SFT -> DPO. One that was deleted ends the line."""
        line = [self]
        while (here := line[0]._found_parent()) is not None and here not in line:
            line.insert(0, here)
        return line

    def lost(self) -> str:
        """Name the run that this one started from where it is no longer there, else ""."""
        return Path(self.config.parent).name if self.config.parent and self._found_parent() is None else ""

    def _found_parent(self) -> Run | None:
        try:
            return self.parent()
        except RunError:
            return None

    def checkpoints(self) -> list[Path]:
        """List the checkpoint folders, oldest first (whether they are sound is the trainer's to verify)."""
        return sorted((self.dir / "checkpoints").glob("step-*"))


def place(config: RunConfig) -> Path:
    """Choose a new directory for a run, in the data folder; it is not made yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return paths.runs() / f"{stamp}-{paths.slug(redact(config.title))}-{secrets.token_hex(2)}"


def create(config: RunConfig, out: Path | None = None) -> Run:
    """Make a run's directory and write its config; `out` puts it elsewhere and must be new or empty."""
    if out is None:
        out = place(config)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there already and is not empty.", "Choose another folder with --out.")
    run, text = Run(out.resolve()), json.dumps(dataclasses.asdict(config), indent=1, ensure_ascii=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        paths.write_text(run.dir / "config.json", redact(text) + "\n")
    except OSError as error:
        why = error.strerror or str(error)
        raise RunError(f"{out} cannot be made: {why}.", "Make room, or choose another folder with --out.") from None
    if not any(_is_run(folder) for folder in run.dir.parents):  # a part of another run, a rehearsal's, goes with it
        for needed in map(Path, _needed(config)):
            if not needed.parent == run.dir.parent == paths.runs().resolve():  # where all are listed
                _tell(needed, run)
    return run


def _needed(config: RunConfig) -> list[str]:
    """Give the directories of the runs that this one cannot do without.

    Its parent, what scores its answers, and the set of judged answers that it learns from, which holds its file.
    """
    scorer, file = str(config.options.get("reward") or ""), Path(config.data) if config.data else None
    places = (config.parent, scorer, str(file.parent) if file else "")
    return [place for place in places if place and _is_run(Path(place))]


def _tell(needed: Path, run: Run) -> None:
    """Write down a run that stands in no list beside the one it needs; a directory that is read-only stays so."""
    try:
        with (needed / "elsewhere").open("a", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.write(f"{run.dir}\n")
    except OSError:
        pass


def all_runs() -> list[Run]:
    """List the runs of the data folder, newest first."""
    found = [Run(path.parent) for path in paths.runs().glob("*/config.json")]
    return sorted(found, key=lambda run: run.id, reverse=True)


def find(name: str) -> Run:
    """Find a run by its id, the beginning of one, or its directory."""
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file() and (folder / "events.jsonl").parent.is_dir() and _is_run(folder):
        return Run(folder.resolve())
    ids = [run for run in all_runs() if run.id == name] or [run for run in all_runs() if run.id.startswith(name)]
    if len(ids) == 1:
        return ids[0]
    if len(ids) > 1:
        raise RunError(f"{name!r} fits {len(ids)} runs.", "Write more of the id; `studio runs` lists them.")
    raise RunError(f"There is no run {name!r}.", "`studio runs` lists the runs; a run's directory works too.")


def _is_run(folder: Path) -> bool:
    """A model folder has a config.json too; a run's says what kind of run it is."""
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
        return isinstance(found, dict) and {"kind", "title"} <= found.keys()
    except (ValueError, OSError, RecursionError):
        return False


def is_run(name: str) -> bool:
    """Tell whether a name is a run (not a model folder, a file, or a hub id)."""
    try:
        find(name)
    except RunError:
        return False
    return True


def running() -> list[Run]:
    """List the runs that a worker is busy with now."""
    return [run for run in all_runs() if run.alive()]


def computing() -> list[Run]:
    """List the runs that the processor or the GPU is busy with now."""
    return [run for run in running() if not run.config.light]


def queue_file() -> Path:
    """Give the file that lists the runs waiting for their turn (jobs.py writes it)."""
    return paths.home() / "queue.json"


def queued() -> list[str]:
    """List the ids of the runs that wait, the next one first; a file that is missing or broken counts as none."""
    try:
        found = json.loads(queue_file().read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def children(run: Run) -> list[Run]:
    """List the runs that started from this one, the newest first; some kinds need it no longer."""
    return [other for other in others(run) if _names(other.config.parent, run)]


def needed_by(run: Run) -> list[tuple[Run, str]]:
    """List the runs that cannot do without this one, each with the words that say why."""
    scored = [other for other in others(run) if _names(str(other.config.options.get("reward") or ""), run)]
    learned = [other for other in others(run) if other.config.data and Path(other.config.data).parent == run.dir]
    started = [(other, f"started from {run.id}") for other in children(run)]
    told = [*started, *((other, f"has its answers scored by {run.id}") for other in scored)]
    return [*told, *((other, f"learned from {run.id}") for other in learned)]


def refuse_deletion(run: Run) -> None:
    """Raise RunError, with the reason, for a run that is going or that others need."""
    if run.alive():
        raise RunError(f"Run {run.id} is going.", f"Stop it first: studio stop {run.id}")
    if needed := needed_by(run):
        said = "; ".join(f"{other.name} {why}" for other, why in needed[:5])
        more = f"; and {len(needed) - 5} more" if len(needed) > 5 else ""
        raise RunError(f"{said}{more}.", f"Delete {'that one' if len(needed) == 1 else 'those'} first.")


def delete(run: Run) -> None:
    """Delete a run for good, one that is not going and that no other needs (stock.py has the trash)."""
    refuse_deletion(run)
    shutil.rmtree(run.dir)


def others(run: Run, every: bool = False) -> list[Run]:
    """List the runs that could need this one: those of the data folder, and those it was told of.

    `every`: also those of kinds that need nothing once they are over.
    """
    listed = all_runs()
    apart = {other.dir: other for other in elsewhere(run)}
    for one in listed:
        apart.pop(one.dir.resolve(), None)
    found = [*listed, *apart.values()]
    found = [other for other in found if other.dir != run.dir]
    return found if every else [other for other in found if other.config.kind not in _LEAVES_NOTHING]


def elsewhere(run: Run) -> list[Run]:
    """List the runs that this one was told of because they stand in no list."""
    try:
        lines = (run.dir / "elsewhere").read_text("utf-8", errors="surrogateescape").split("\n")
    except OSError:
        return []
    return [Run(Path(line)) for line in dict.fromkeys(lines) if line and _is_run(Path(line))]


def _names(place: str, run: Run) -> bool:
    """Tell whether a directory that was written down is this run's; where it is gone (moved), its name decides."""
    there = Path(place.replace("\\", "/"))
    return there.name == run.id and (not there.is_dir() or there.resolve() == run.dir.resolve())
