"""The run of a recipe: made and checked before anything starts, or found again to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio import runs
from studio.data import hubdata, preferences, votes
from studio.errors import ConfigError, RunError
from studio.lab import recipe, sources, toml
from studio.runs import Run, RunConfig

KIND = "recipe"


def begin(file: Path, out: Path | None, data: dict[str, str], model: str, resume: bool) -> Run:
    """Give the run that does a recipe; what it needs is looked for first. Raises StudioErrors."""
    wanted = recipe.read(file)
    if resume:
        if data or model:
            raise ConfigError(
                "A recipe that is gone on with keeps its files and its base.", "Leave --data and --model out."
            )
        return _unfinished(wanted, out)
    absolute = {old: str(Path(new).expanduser().resolve()) if Path(new).exists() else new for old, new in data.items()}
    found, _ = sources.check(wanted, absolute, model)
    _there(wanted, file)
    options: dict[str, Any] = {
        "recipe": wanted.to_dict(),
        "file": str(file.resolve()),
        "data": absolute,
        "model": found.base.model,
    }
    options |= {"inside": True} if out is not None else {}
    return runs.create(RunConfig(KIND, wanted.title, found.base.model, options=options), out)


def _there(wanted: recipe.Recipe, file: Path) -> None:
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
                raise ConfigError(f"There is no {what} {name}.", remedy, file=str(file), line=line, field=f"step.{key}")


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
