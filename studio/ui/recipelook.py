"""The recipe that is chosen on the Lab page: its file, what it would do here, where its files are now.

Looking at one reads every file that it names, to compare hashes, and counts rows in the child of the Data page: it goes
on in the background, and is done again when the recipe, a place or a file has changed. Kept in the choices under
`recipe`: {"file", "moved": {name of a file, or of the base: its place now}, "id": the run that is shown, "newest"}.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio import paths
from studio.data import preferences
from studio.errors import ConfigError, DataError, StudioError
from studio.lab import recipe, starting
from studio.methods import METHODS
from studio.runs import RunConfig
from studio.ui import choice, examine, live
from studio.ui.live import Scene

#: No recipe is as long: one of a run has some kilobytes.
MOST = 4 << 20
_ENDS = (".toml",)


@dataclasses.dataclass
class Seen:
    """What was found: the look, and the rows of each step that learns or asks ({"rows", "held_out"}) as they come."""

    look: starting.Look
    rows: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    done: bool = False

    @property
    def ready(self) -> bool:
        """Tell whether it could begin; rows that are still being counted do not keep it."""
        return self.look.ready


_lock = threading.Lock()
_known: dict[tuple[Any, ...], Seen] = {}
_going: set[tuple[Any, ...]] = set()


# --- which one -------------------------------------------------------------------------------------------------------


def kept(scene: Scene) -> dict[str, Any]:
    """Give the choices of this part."""
    found = scene.chosen.get("recipe")
    return found if isinstance(found, dict) else {}


def file(scene: Scene) -> str:
    """Give the file that is looked at, "" for none."""
    return str(kept(scene).get("file") or "")


def moved(scene: Scene) -> dict[str, str]:
    """Give where files, or the base, are said to be now."""
    found = kept(scene).get("moved")
    return {str(name): str(place) for name, place in found.items()} if isinstance(found, dict) else {}


def shipped() -> list[Path]:
    """List the recipes that ship with Studio."""
    return sorted((paths.assets() / "recipes").glob("*.toml"))


def open_file(text: str) -> str:
    """Look at a recipe on this machine. Raises DataError: there is none."""
    cleaned = text.strip().strip("'\"")
    if not cleaned:
        raise DataError("No recipe is chosen.", "Write its path, drop it here, or take the sample.")
    path = Path(cleaned)
    try:
        path = path.expanduser()
        there = path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a ~nobody
        there = False
    if not there:
        raise DataError(f"There is no file {cleaned[:200]!r}.", "Check the path: a whole one, such as /home/me/a.toml.")
    _fits(path, path.name)
    _open(path.resolve())
    return ""


def open_shipped(name: str) -> str:
    """Look at a recipe that ships with Studio."""
    found = next((path for path in shipped() if path.stem == name), None)
    if found is None:
        raise DataError("There is no such recipe.", "Choose one of the buttons.")
    _open(found)
    return ""


def open_upload(uploaded: str) -> str:
    """Keep a file that was dropped, and look at it. What is no TOML is refused, and not kept."""
    source = Path(uploaded)
    try:
        _fits(source, source.name)
        _open(Path(examine.keep(uploaded, "recipes", _ENDS)))
    finally:
        source.unlink(missing_ok=True)
    return ""


def _fits(path: Path, name: str) -> None:
    """Raise ConfigError, with the line, for what is no TOML or is too large to be a recipe."""
    if (size := path.stat().st_size) > MOST:
        said = f"That is no recipe: it has {size / 1e6:,.0f} MB, and a recipe is a short text."
        raise ConfigError(said, "Choose a TOML file, such as a card “Where it stands” gives.", file=name)
    try:
        tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        try:
            recipe.read(path)
        except ConfigError as error:
            error.file = name
            raise


def _open(path: Path) -> None:
    choice.update(recipe={"file": str(path), "moved": None})
    again()


def close() -> None:
    """Look at none."""
    choice.update(recipe={"file": "", "moved": None})


def say_where(scene: Scene, name: str, place: str) -> None:
    """Say where a file of the recipe, or its base, is now; "" takes that back."""
    known = (_known.get(_key(scene)) or Seen(starting.Look())).look.recipe
    names = {starting.THE_BASE, *(one.name for one in known.data)} if known else set()
    if name not in names:
        raise DataError("The recipe reads no such file.", "Look at it again.")
    cleaned = place.strip().strip("'\"")[:4000]
    told = {**moved(scene), name: cleaned}
    choice.update(recipe={"moved": {key: value for key, value in told.items() if value} or None})


# --- what it would do ------------------------------------------------------------------------------------------------


def want(scene: Scene) -> Seen | None:
    """Give what was found, or see to it that somebody looks; None as long as nothing is found."""
    if not file(scene):
        return None
    key = _key(scene)
    with _lock:
        found = _known.get(key)
        if (found is None or not found.done) and key not in _going:
            _going.add(key)
            threading.Thread(target=_look, args=(key, file(scene), moved(scene)), daemon=True).start()
    return found


def again() -> None:
    """Forget what was found, so that it is looked for again."""
    with _lock:
        _known.clear()
    live.touch()


def asked(scene: Scene) -> RunConfig:
    """Make the config of the recipe's run; everything is looked for once more."""
    if not file(scene):
        raise DataError("No recipe is chosen.", "Choose one first.")
    places = moved(scene)
    base = places.pop(starting.THE_BASE, "")
    return starting.asked(Path(file(scene)), places, base)


def _key(scene: Scene) -> tuple[Any, ...]:
    places = moved(scene)
    return (file(scene), _stamp(file(scene)), *((name, place, _stamp(place)) for name, place in sorted(places.items())))


def _stamp(place: str) -> tuple[int, int]:
    try:
        stat = os.stat(os.path.expanduser(place))
        return stat.st_mtime_ns, stat.st_size
    except (OSError, ValueError):
        return 0, 0


def _look(key: tuple[Any, ...], file: str, places: dict[str, str]) -> None:
    """Look at a recipe, then count rows; every piece that is found is shown at once. Runs in a thread."""
    base = places.pop(starting.THE_BASE, "")
    seen = Seen(starting.Look())
    try:
        seen.look = starting.look(Path(file), places, base)
        _put(key, seen)
        for name, request in _questions(seen.look):
            _count(seen, name, request)
            live.touch()
    except Exception as error:
        logging.getLogger("studio.window").error("a recipe could not be looked at", exc_info=error)
        seen.look.wrong.append(StudioError("Studio made a mistake of its own.", "window.log says more."))
    finally:
        seen.done = True
        with _lock:
            _going.discard(key)
        _put(key, seen)


def _put(key: tuple[Any, ...], seen: Seen) -> None:
    with _lock:
        _known.clear()  # one is shown
        _known[key] = seen
    live.touch()


def _questions(look: starting.Look) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give what is asked about rows: the files that training steps learn from, and those with prompts."""
    for step in look.recipe.steps if look.recipe else ():
        named = recipe.reference(step.data)
        place = look.places.get(named[0], "") if named and not named[1] else step.data
        if step.kind not in ("train", preferences.KIND) or not place or not Path(place).is_file():
            continue
        yield step.name, {"op": "split", "data": place, "reading": step.options.get("reading") or {}, **_aside(step)}


def _aside(step: recipe.Step) -> dict[str, float]:
    """Give what a step holds out of its rows: of prompts nothing."""
    usual = METHODS[step.method].Config() if step.method in METHODS else None
    told = {name: step.settings.get(name, getattr(usual, name, 0)) for name in ("held_out", "seed")}
    return {
        name: value if step.kind == "train" and isinstance(value, int | float) else 0 for name, value in told.items()
    }


def _count(seen: Seen, step: str, request: dict[str, Any]) -> None:
    """Count the rows of a step; what cannot be learned from is said before it starts."""
    every = seen.look.recipe.steps if seen.look.recipe else ()
    learns = any(one.name == step and one.kind == "train" for one in every)
    try:
        found = examine.ask(request)
    except StudioError as error:
        if learns:
            seen.look.wrong.append(error)
        return
    seen.rows[step] = {name: int(found[name]) for name in ("rows", "held_out")}
    if learns and not found["rows"]:
        said = f"Step {step}: no row of the file can be learned from."
        seen.look.wrong.append(DataError(said, "The Data page says why.", file=str(request["data"])))
