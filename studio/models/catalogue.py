"""What Studio knows about base models by name (models/catalogue.toml)."""

from __future__ import annotations

import functools
import tomllib
from typing import Any

from studio import paths


@functools.cache
def _read() -> dict[str, Any]:
    with (paths.models() / "catalogue.toml").open("rb") as file:
        return tomllib.load(file)


def settings(model: str, method: str) -> dict[str, Any]:
    """Give the settings that a base asks for with a method; they come before what the user sets. Often none."""
    return dict(_read().get(model, {}).get(method, {}))
