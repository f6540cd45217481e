"""Settings declared once, on the dataclass field: default, help, range, unit, source.

Flags, forms, the README's tables and validation are all read from here. A config is a frozen dataclass whose fields are
made with `setting(...)`; nothing in it depends on torch, so the window can draw a form without loading a framework.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from studio.errors import ConfigError

T = TypeVar("T")


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] = (),
    unit: str = "",
    source: str = "",
    advanced: bool = True,
) -> Any:
    """Declare one setting: `low` and `high` are inclusive; `source` says where the default comes from."""
    meta = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "unit": unit,
        "source": source,
        "advanced": advanced,
    }
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting as forms and flags need it."""

    name: str
    type: type
    optional: bool
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[Any, ...]
    unit: str
    source: str
    advanced: bool


def settings(cls: type) -> list[Setting]:
    """List the settings of a config class, in the order they are declared."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        inner, optional = _unwrap(hints[field.name])
        found.append(Setting(name=field.name, type=inner, optional=optional, default=field.default, **field.metadata))
    return found


def _unwrap(hint: Any) -> tuple[type, bool]:
    """Split `X | None` into X and whether None is allowed."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        return parts[0], True
    return hint, False


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Make a config from names and values (strings are converted); all problems are raised together.

    Raises ConfigError: an unknown name, a value of the wrong type, or one out of its range.
    """
    known = {s.name: s for s in settings(cls)}
    problems, made = [], {}
    for name, value in values.items():
        if name not in known:
            near = ", ".join(sorted(known))
            problems.append((name, f"there is no setting {name!r}", f"Choose one of: {near}."))
            continue
        try:
            made[name] = _convert(known[name], value)
        except ValueError as error:
            problems.append((name, str(error), known[name].help))
    if not problems:
        config = cls(**made)
        problems = validate(config)
        if not problems:
            return config
    message = "; ".join(f"{name}: {what}" for name, what, _ in problems)
    remedy = " ".join(dict.fromkeys(remedy for *_, remedy in problems if remedy))
    raise ConfigError(message, remedy, field=problems[0][0])


def validate(config: Any) -> list[tuple[str, str, str]]:
    """Check every field against its declaration: a list of (name, problem, remedy), empty when all is well."""
    problems = []
    for s in settings(type(config)):
        value = getattr(config, s.name)
        if value is None:
            continue
        if s.choices and value not in s.choices:
            problems.append((s.name, f"{value!r} is not one of {', '.join(map(str, s.choices))}", s.help))
        if s.type in (int, float) and not isinstance(value, bool):
            if not math.isfinite(value):
                problems.append((s.name, f"{value} is not a finite number", s.help))
            elif s.low is not None and value < s.low:
                problems.append((s.name, f"{value} is below {s.low:g}", f"Use {s.low:g} or more. {s.help}"))
            elif s.high is not None and value > s.high:
                problems.append((s.name, f"{value} is above {s.high:g}", f"Use {s.high:g} or less. {s.help}"))
    return problems


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _convert(s: Setting, value: Any) -> Any:
    """Turn a form's or a flag's value into the field's type; ValueError says what was expected."""
    empty = isinstance(value, str) and value.lower() in ("", "none", "auto") and value not in s.choices
    if value is None or (s.optional and empty):
        if s.optional:
            return None
        raise ValueError("a value is needed")
    if s.type is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in _WORDS:
            return _WORDS[str(value).lower()]
        raise ValueError(f"{value!r} is not true or false")
    if s.type is int:
        number = _number(value)
        if not math.isfinite(number) or number != int(number):
            raise ValueError(f"{value!r} is not a whole number")
        return int(number)
    if s.type is float:
        return _number(value)
    if isinstance(value, list | tuple | dict):
        raise ValueError(f"{value!r} is not a text")
    return str(value)


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{str(value)[:40]!r} is not a number") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Give a config as plain JSON values."""
    return dataclasses.asdict(config)
