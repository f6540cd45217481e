"""The run of a recipe: looked at, made and checked before anything starts, or found again to go on with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from studio import runs
from studio.data import hubdata, preferences, votes
from studio.errors import ConfigError, DataError, ModelError, RunError, StudioError
from studio.lab import recipe, sources, toml
from studio.models import hub
from studio.runs import Run, RunConfig

KIND = "recipe"


@dataclasses.dataclass
class Look:
    """What a recipe would do here: `recipe` is None where it cannot be read.

    `places` says where its files were found; `missing` why one was not, THE_BASE for the model; `wrong` is all else
    that stands in its way.
    """

    recipe: recipe.Recipe | None = None
    places: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: dict[str, StudioError] = dataclasses.field(default_factory=dict)
    wrong: list[StudioError] = dataclasses.field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Tell whether it could begin."""
        return self.recipe is not None and not self.missing and not self.wrong


#: How `look` names the model; with its space it is the name of no file.
THE_BASE = "base model"


def look(file: Path, data: Mapping[str, str], model: str = "") -> Look:
    """Read a recipe, look for what it needs, and say all that stands in its way at once; nothing is fetched.

    `data` says where files are now, by their names in the recipe; `model` where the base is.
    """
    errors: list[ConfigError] = []
    try:
        wanted = recipe.read(file, errors)
    except ConfigError as error:
        return Look(wrong=[error])
    found = Look(wanted, wrong=[*errors])
    try:
        _fetched(wanted, model)
        sources.check(dataclasses.replace(wanted, data=()), {}, model)
    except StudioError as error:
        found.missing[THE_BASE] = error
    for one in wanted.data:
        alone = dataclasses.replace(wanted, base=recipe.Base(""), data=(one,))
        place = data.get(one.name, one.path)
        try:
            if hubdata.reference(place) is not None and not hubdata.here(place):
                raise DataError(f"The data set {place} is not on this machine.", "Fetch it first.")
            found.places |= sources.check(alone, {one.name: place})[1]
        except StudioError as error:
            found.missing[one.name] = error
        except (OSError, ValueError):  # a name that no file can have
            found.missing[one.name] = DataError(f"There is no file {place[:200]}.", field=f"data.{one.name}")
    found.wrong += _missing(wanted, file)
    return found


def _fetched(wanted: recipe.Recipe, model: str) -> None:
    """Raise ModelError for a base of the hub that is not here yet."""
    name = model or wanted.base.model
    if name and hub.here(name) is None and (model or hub.here(f"{name}@{wanted.base.revision or 'main'}") is None):
        raise ModelError(f"The base {name} is not on this machine.", "Fetch it first.", field="base.model")


def begin(file: Path, out: Path | None, data: dict[str, str], model: str, resume: bool) -> Run:
    """Give the run that does a recipe; what it needs is looked for first. Raises StudioErrors."""
    if resume:
        if data or model:
            raise ConfigError(
                "A recipe that is gone on with keeps its files and its base.", "Leave --data and --model out."
            )
        return _unfinished(recipe.read(file), out)
    return runs.create(asked(file, data, model, inside=out is not None), out)


def asked(file: Path, data: Mapping[str, str], model: str = "", inside: bool = False) -> RunConfig:
    """Make the config of a recipe's run, once all that it needs is found; `inside`: its steps' runs lie in its own."""
    wanted = recipe.read(file)
    absolute = {old: str(Path(new).expanduser().resolve()) if Path(new).exists() else new for old, new in data.items()}
    found, _ = sources.check(wanted, absolute, model)
    for error in _missing(wanted, file):
        raise error
    options: dict[str, Any] = {
        "recipe": wanted.to_dict(),
        "file": str(file.resolve()),
        "data": absolute,
        "model": found.base.model,
    }
    options |= {"inside": True} if inside else {}
    return RunConfig(KIND, wanted.title, found.base.model, options=options)


def _missing(wanted: recipe.Recipe, file: Path) -> Iterator[ConfigError]:
    """Look for what steps name themselves, not through [[data]]: a missing one is said now, not when its turn comes."""
    text = file.read_text("utf-8")
    for number, step in enumerate(wanted.steps):
        for key, name in (("data", step.data), ("parent", step.parent)):
            if not name or name.startswith("@"):
                continue
            known = runs.is_run(name) if key == "parent" else _is_data(name)
            if not known:
                line = toml.line_of(text, "step", number, key)
                what = "run" if key == "parent" else "file or set"
                remedy = f"Name a step, a file of [[data]] (@NAME) or a {what} that is there."
                yield ConfigError(f"There is no {what} {name}.", remedy, file=str(file), line=line, field=f"step.{key}")


def _is_data(name: str) -> bool:
    return (
        Path(name).expanduser().is_file()
        or name in votes.NAMES
        or preferences.of(name) is not None
        or preferences.of(name.rpartition(":")[0]) is not None
        or hubdata.reference(name) is not None
    )


def _unfinished(wanted: recipe.Recipe, out: Path | None) -> Run:
    """Find the run of this recipe that was not finished; RunError where there is none, or it has finished."""
    if out is not None:
        run = runs.find(str(out))
        if run.config.options.get("recipe") != wanted.to_dict():
            raise RunError(f"{out} is a run of another recipe.", "Name its own file, or another place with --out.")
        found = [run]
    else:
        mine = [run for run in runs.all_runs() if run.config.kind == KIND]
        found = [run for run in mine if run.config.options.get("recipe") == wanted.to_dict()]
    left = [run for run in found if run.result() is None]
    if not left:
        why = f"Run {found[0].name} has finished." if found else "This recipe was not run before."
        raise RunError(why, "Start it without --resume.")
    (left[0].dir / "stop").unlink(missing_ok=True)
    return left[0]
