"""What Studio knows about base models by name (models/catalogue.toml): facts to choose by, settings they ask for."""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from typing import Any

from studio import paths
from studio.models.shape import Shape


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model that people tune. `context` in tokens; `kind` is `base` or `instruct`.

    `gated`: the hub asks for a click on its licence first. `own_code`: its config names Python code of its own
    (auto_map), which Studio never runs, so that it is refused.
    """

    id: str
    family: str
    architecture: str
    kind: str
    parameters: int
    shape: Shape
    context: int
    licence: str
    gated: bool
    own_code: bool = False


@functools.cache
def _read() -> dict[str, Any]:
    with (paths.models() / "catalogue.toml").open("rb") as file:
        return tomllib.load(file)


@functools.cache
def entries() -> tuple[Entry, ...]:
    """List the models, the starter first, then by family and size."""
    return tuple(_entry({**group, **member}) for group in _read()["model"] for member in group["members"])


def _entry(facts: dict[str, Any]) -> Entry:
    numbers: list[Any] = [*facts.pop("shape"), facts.pop("vocab"), facts.pop("tied")]
    del facts["members"]
    return Entry(shape=Shape(*numbers), **facts)


def search(query: str = "") -> list[Entry]:
    """List the models that every word of the query fits: id, family, kind, licence, or size as in `7.6B`."""
    # A number is meant from its beginning: 8b is not 14.8b.
    rules = [re.compile(r"(?<![\d.])" * word[0].isdigit() + re.escape(word)) for word in query.lower().split()]
    return [entry for entry in entries() if all(rule.search(_text(entry)) for rule in rules)]


def find(model: str) -> Entry | None:
    """Give the entry of a model by its id, None when there is none."""
    return next((entry for entry in entries() if entry.id == model), None)


def settings(model: str, method: str) -> dict[str, Any]:
    """Give the settings that a base asks for with a method; they come before what the user sets. Often none."""
    return dict(_read()["settings"].get(model, {}).get(method, {}))


def _text(entry: Entry) -> str:
    gated = "gated" if entry.gated else "open"
    return f"{entry.id} {entry.family} {entry.kind} {entry.licence} {gated} {amount(entry.parameters)}".lower()


def amount(parameters: int) -> str:
    """Write a number of weights for people: 6M, 0.5B, 14.8B."""
    return f"{parameters / 1e6:.0f}M" if parameters < 1e8 else f"{parameters / 1e9:.1f}B"
