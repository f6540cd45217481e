"""From a run to its recipe: the run, and all that it needs, in the order in which they were made."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio import config, paths, runs
from studio.data import hubdata, preferences, writers
from studio.errors import ModelError, RunError
from studio.lab import likeness, sources
from studio.lab.recipe import KINDS, Base, Data, Recipe, Step, from_dict, literal
from studio.models import hub
from studio.runs import Run
from studio.train import memory, prepare

#: Options that say where something was written, not what.
_PLACES = ("out", "place")
#: Kinds whose whole configuration is a recipe's step; another kind has made no run that can be trained on or used.
_SAME = "recipe"


def record(run: Run) -> Recipe:
    """Write down what made a run. Raises RunError: it has not finished, or something before it is gone."""
    if run.config.kind == _SAME:
        return from_dict(run.config.options["recipe"])
    made = _Record()
    made.visit(run)
    base = made.base or Base(run.config.model)
    return Recipe(run.config.title, base, tuple(made.data.values()), tuple(made.steps), written=sources.written())


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Write down the run in the directory `dir`, for a child of the window (child.py): weights are read with torch."""
    yield {"text": record(Run(Path(request["dir"]))).text()}


class _Record:
    """Collects files and steps, each once."""

    def __init__(self) -> None:
        self.base: Base | None = None
        self.data: dict[str, Data] = {}  # by hash
        self.steps: list[Step] = []
        self.names: dict[Path, str] = {}  # of runs
        self.through: dict[str, Run] = {}  # of the run that is looked at: the exports that spoke for runs

    def visit(self, run: Run) -> str:
        """Add a run and what it needs, unless it is there; give its name."""
        if run.dir in self.names:
            return self.names[run.dir]
        asked, result = run.config, run.result()
        if asked.kind not in KINDS:
            raise RunError(f"A {asked.kind} run has no recipe.", "Name a run that was trained or exported.")
        if result is None:
            raise RunError(f"Run {run.name} has not finished.", f"Let it finish first: studio resume {run.name}")
        if run.lost():
            raise RunError(
                f"Run {run.name} started from {run.lost()}, which is gone.",
                "Put that one back (studio trash), or write the recipe of a run whose line is whole.",
            )
        parent = run.parent()
        before = f"@{self.visit(parent)}" if parent is not None else ""
        name = self._free(asked.method or str(asked.options.get("source") or "") or asked.kind)
        self.names[run.dir] = name  # before those of the files: a step has the plain name
        model = self._model(asked.model)
        data = self._data(asked.data) if asked.data else ""
        settings = _settings(run) if asked.kind == "train" else dict(asked.settings)
        self.through = _through(run, result)
        told = {name: value for name, value in asked.options.items() if _says(value) and name not in _PLACES}
        options = {name: self._option(value) for name, value in told.items()}
        if asked.kind == "train":
            options |= {**_day(run), **_processes(result)}
        if asked.kind == "eval" and not asked.options.get("against"):
            options["against"] = "none"  # "" would mean the parent
        fields = {"title": asked.title, "method": asked.method, "model": model, "data": data, "parent": before}
        self.steps.append(Step(name, asked.kind, **fields, settings=settings, options=options, made=made(run)))
        return name

    def _free(self, name: str) -> str:
        taken = {*self.names.values(), *(one.name for one in self.data.values()), "best"}
        plain = paths.slug(name)
        return next(n for n in (plain, *(f"{plain}-{i}" for i in range(2, 10_000))) if n not in taken)

    def _model(self, name: str) -> str:
        """Give a step's model: "" for the base, which the first one that is named becomes."""
        if not name:
            return ""
        if self.base is None:
            self.base = sources.base(name)
        if name == self.base.model:
            return ""
        other = sources.base(name)
        if (other.sha256, other.beside) == (self.base.sha256, self.base.beside):
            return ""
        return self._file(name) if Path(name).is_dir() else _pinned(name)

    def _file(self, path: Path | str, note: str = "") -> str:
        """Add a file (or a data set of the hub); give its reference."""
        place = Path(path).expanduser()
        files = sources.parts(place) if place.exists() else hubdata.paths_of(str(path))
        sha256 = sources.hashed(files)
        if not sha256:
            raise RunError(f"{path} cannot be read any more.", "Put it back where it was: the recipe needs its hash.")
        if sha256 not in self.data:
            whole = str(place.resolve()) if place.exists() else str(path)
            self.data[sha256] = Data(self._free(Path(path).stem), whole, sha256, note)
        return f"@{self.data[sha256].name}"

    def _data(self, name: str) -> str:
        """Give what a run learned from: a file, or the rows of a set of judged answers, which is a step of its own."""
        place = Path(name)
        made_by = Run(place.parent) if runs.is_run(str(place.parent)) else None
        if made_by is None or made_by.config.kind != preferences.KIND:
            if not place.is_file() and hubdata.reference(name) is None:
                raise RunError(f"The data of the run is gone: {name}.", "Put the file back: the recipe needs its hash.")
            return self._file(name)
        found = preferences.records(made_by.dir)
        if place.name == preferences.FILE and all(one.by.get("kind") != "person" for one in found):
            return f"@{self.visit(made_by)}"
        if any(one.by.get("kind") == "person" for one in found):
            return self._file(name, f"judged by people in {made_by.id}")
        if (wanted := _rows(made_by, place, found)) is None:
            return self._file(name, f"rows of {made_by.id} as they were then; it has grown since")
        return f"@{self.visit(made_by)}:{wanted}"

    def _option(self, value: Any) -> Any:
        """Put references where runs and files are named, wherever in an option."""
        if isinstance(value, dict):
            return {key: self._option(one) for key, one in value.items() if one is not None}
        if isinstance(value, list | tuple):
            return [self._option(one) for one in value]
        if not isinstance(value, str) or not ({"/", "\\"} & {*value} or _is_id(value)):
            return literal(value) if isinstance(value, str) else value
        if (whole := self._named(value)) != value:  # a place may have commas in its name
            return whole
        return ",".join(self._named(part) for part in value.split(","))

    def _named(self, text: str) -> str:
        place, colon, rest = text.rpartition(":")
        for name, behind in ((text.strip(), ""), (place.strip(), f"{colon}{rest}")):
            path = Path(name) if name else None
            if path is not None and (path.is_absolute() or _is_id(name)) and runs.is_run(name):
                return f"@{self.visit(self.through.get(name) or runs.find(name))}{behind}"
            if path is not None and path.is_absolute() and path.exists():
                return f"{self._file(name)}{behind}"
        return _pinned(text)


def _says(value: Any) -> bool:
    return value is not None and value not in ({}, [])


def _is_id(name: str) -> bool:
    """Tell whether a word is a run's whole id: what merely begins like one is a word."""
    return Path(name).name == name and (paths.runs() / name / "config.json").is_file()


def _pinned(name: str) -> str:
    """Give a model of the hub that is here with its commit; what is none stays as it is."""
    try:
        folder = hub.here(name.strip()) if "/" in name and "@" not in name else None
    except (ModelError, OSError):
        return name
    revision = hub.revision(folder) if folder is not None else ""
    return f"{name.strip()}@{revision}" if revision and not Path(name).exists() else name


def _through(run: Run, result: dict[str, Any]) -> dict[str, Run]:
    """Find for which runs an exported file answered: a run is asked through its newest export, where there is one."""
    if run.config.kind == "eval":
        who = [*(result.get("sides") or {}).values(), result.get("judge")]
    elif run.config.kind == preferences.KIND:
        found = preferences.records(run.dir)
        who = [one.identity for record in found for one in record.answers]
        who += [record.by.get("identity") for record in found]
    else:
        who = []
    told = {str(one["name"]): one for one in who if one and one.get("name") and not one.get("adapter")}
    named = {name: runs.find(name) for name in told if runs.is_run(name)}
    return {name: made for name, of in named.items() if (made := _wrote(of, told[name])) is not None}


def _wrote(run: Run, identity: dict[str, Any]) -> Run | None:
    """Find the export of a run that wrote the file of an identity."""
    for child in runs.children(run) if run.config.kind == "train" else []:
        files = (child.result() or {}).get("files") or [] if child.config.kind == "export" else []
        if any(str(file.get("sha256", "")).startswith(identity.get("sha256") or "-") for file in files):
            return child
    return None


def _processes(result: dict[str, Any]) -> dict[str, int]:
    """Keep in how many processes a run learned: a step is of so many times batch_size rows."""
    count = int((result.get("chosen") or {}).get("processes", 1))
    return {"processes": count} if count > 1 else {}


def _settings(run: Run) -> dict[str, Any]:
    """Give every setting of a training run, also those that nobody set; what is chosen for the machine stays so.

    Where the memory ran out and shorter rows were learned, that length is the setting.
    """
    made = prepare.settled(run)
    if lowered := memory.recall(run.dir).get("max_length"):
        made = dataclasses.replace(made, max_length=min(made.max_length, lowered))
    usual = {s.name: s.default for s in config.settings(type(made))}
    values = {
        name: "auto" if value is None and usual[name] is not None else value
        for name, value in config.to_dict(made).items()
    }
    return {name: value for name, value in values.items() if value is not None}


def _day(run: Run) -> dict[str, str]:
    """Keep the day: some templates write it into every prompt."""
    began = next((item["time"] for item in run.events() if item["type"] == "started"), None)
    if "day" in run.config.options or began is None:
        return {}
    return {"day": datetime.date.fromtimestamp(began).isoformat()}


def _rows(made_by: Run, file: Path, found: list[preferences.Record]) -> str | None:
    """Say which rows of a set a file holds, as "kto" or "preference/ends"; None where the set gives others now."""
    kind = next((kind for kind, word in preferences.KINDS.items() if file.name.startswith(f"{word}-")), None)
    match = re.search(r"-([0-9a-f]{8})\.jsonl$", file.name)
    usual = str(made_by.config.options.get("pairing") or "all")
    for pairing in dict.fromkeys((usual, *preferences.PAIRINGS)):
        if kind and match:
            data = b"".join(map(writers.line, preferences.rows(kind, found, pairing)))
            if hashlib.sha256(data).hexdigest()[:8] == match[1]:
                return kind if pairing == usual else f"{kind}/{pairing}"
    return None


def made(run: Run) -> dict[str, Any]:
    """Say what a run came to: its weights by hash and where they are, its rows, its held-out figure."""
    said: dict[str, Any] = {"run": str(run.dir)}
    if (folder := sources.trained(run)) is not None and run.config.kind == "train":
        said["weights"] = sources.weights(folder)
        said["rows"] = paths.sha256(Path(run.config.data)) if Path(run.config.data).is_file() else ""
        held = (run.result() or {}).get("heldout") or {}
        said |= {"figure": held["name"], "after": held["after"]} if held.get("after") is not None else {}
        said |= {"sketch": likeness.sketch(folder), "chosen": (run.result() or {}).get("chosen") or {}}
    if run.config.kind == preferences.KIND:
        said["records"] = len(preferences.records(run.dir))
    return {name: value for name, value in said.items() if value not in ("", [], {})}
