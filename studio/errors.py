"""The error tree. Every error says what happened, where, and what to do about it.

    StudioError
    ├── InputError      the user's input is at fault (exit code 2)
    │   ├── ConfigError     a setting                      (also ValueError)
    │   ├── DataError       a data file: file, line, field (also ValueError)
    │   ├── ModelError      a model folder, a hub id, a GGUF file
    │   ├── RunError        a run: unknown, already going, cannot be resumed
    │   └── ToolMissing     something is not installed     (also FileNotFoundError)
    ├── CheckFailed     a check was made and does not hold (exit code 3)
    ├── TrainingError   a run broke: loss not finite, disk full (exit code 1)
    │   └── OutOfMemory     the device's memory ran out
    ├── ExportError     a file could not be written or did not come out right
    ├── ChildCrashed    a helper process died, or took too long, or too much memory
    └── Stopped         the user asked to stop (exit code 130)

Caught in three places only: the worker's edge, the command line's edge, the window's edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.redact import redact


class StudioError(Exception):
    """An error made for the user: a message, where it happened, and a remedy."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        remedy: str = "",
        *,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        message = redact(message)
        super().__init__(message)
        self.message, self.remedy = message, redact(remedy)
        self.file, self.line, self.field = file, line, field

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with every part, so that an error crosses process borders whole."""
        return _rebuild, (type(self), self.message, self.remedy, self.file, self.line, self.field)

    def __str__(self) -> str:
        """One paragraph for a terminal: where, what, what to do."""
        where = self.file or ""
        if self.line is not None:
            where += f", line {self.line}" if where else f"line {self.line}"
        if self.field:
            where += f", field {self.field}" if where else f"field {self.field}"
        head = f"{where}: {self.message}" if where else self.message
        return f"{head}\n  {self.remedy}" if self.remedy else head

    def to_dict(self) -> dict[str, Any]:
        """Give the error as the JSON that scripts may rely on."""
        return {
            "kind": type(self).__name__,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "field": self.field,
            "remedy": self.remedy,
        }


def from_dict(parts: Mapping[str, Any]) -> StudioError:
    """Make the error again that `to_dict` described; of a kind that is not known, a ChildCrashed."""
    cls = globals().get(str(parts.get("kind")))
    known = cls if isinstance(cls, type) and issubclass(cls, StudioError) else ChildCrashed
    where = {name: parts.get(name) for name in ("file", "line", "field")}
    return known(str(parts.get("message", "")), str(parts.get("remedy") or ""), **where)


def _rebuild(
    cls: type[StudioError], message: str, remedy: str, file: str | None, line: int | None, field: str | None
) -> StudioError:
    return cls(message, remedy, file=file, line=line, field=field)


class InputError(StudioError):
    """The user's input is at fault."""

    exit_code = 2


class ConfigError(InputError, ValueError):
    """A setting is unknown, of the wrong type, or out of its range."""


class DataError(InputError, ValueError):
    """A data file, or a row of one, cannot be used."""


class ModelError(InputError):
    """A model cannot be found, read or used."""


class RunError(InputError):
    """A run is unknown, already going, or cannot be resumed."""


class ToolMissing(InputError, FileNotFoundError):
    """Something that this step needs is not installed."""


class CheckFailed(StudioError):
    """A check was made and does not hold."""

    exit_code = 3


class TrainingError(StudioError, RuntimeError):
    """A run broke while it trained."""


class OutOfMemory(TrainingError):
    """The device's memory ran out."""


class ExportError(StudioError):
    """An export could not be written, or is not what was trained."""


class ChildCrashed(StudioError):
    """A helper process died, took too long, or took too much memory."""


class Stopped(StudioError):
    """The user asked to stop."""

    exit_code = 130
