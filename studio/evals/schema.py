"""JSON schemas as far as answers are checked by them: a documented part of the standard, and a clear no to the rest.

type (one or several), enum, const; properties, required, additionalProperties, minProperties, maxProperties; items,
minItems, maxItems, uniqueItems; minLength, maxLength, pattern; minimum, maximum, exclusiveMinimum, exclusiveMaximum,
multipleOf; allOf, anyOf, oneOf, not. title, description, default, examples, $schema, $id and $comment are read over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

_OVER = {"title", "description", "default", "examples", "$schema", "$id", "$comment"}
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": lambda v: _number(v),
    "integer": lambda v: _number(v) and (isinstance(v, int) or v.is_integer()),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}


def _number(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and math.isfinite(value))


def refuse(schema: Any, place: str = "schema") -> str:
    """Say what in a schema is not known or makes no sense, "" for nothing."""
    if isinstance(schema, bool):
        return ""
    if not isinstance(schema, dict):
        return f"{place} is no schema: an object is needed"
    for name, value in schema.items():
        if name in _OVER:
            continue
        if name not in _CHECKS and name not in ("properties", "required", "additionalProperties", "items"):
            return f"{place} uses {name!r}, which is not checked here"
        if said := _refuse(name, value, f"{place}.{name}"):
            return said
    return ""


def _refuse(name: str, value: Any, place: str) -> str:
    if name == "type":
        names = value if isinstance(value, list) else [value]
        odd = [one for one in names if not isinstance(one, str) or one not in _TYPES]
        return f"{place}: there is no type {odd[0]!r}" if odd else ""
    if name == "properties":
        if not isinstance(value, dict):
            return f"{place} is no object"
        return next(filter(None, (refuse(one, f"{place}.{key}") for key, one in value.items())), "")
    if name in ("items", "additionalProperties", "not"):
        return refuse(value, place)
    if name in ("allOf", "anyOf", "oneOf"):
        if not isinstance(value, list) or not value:
            return f"{place} is no list of schemas"
        return next(filter(None, (refuse(one, f"{place}[{at}]") for at, one in enumerate(value))), "")
    if name == "pattern":
        try:
            re.compile(value)
        except (re.error, TypeError, OverflowError, RecursionError) as error:
            return f"{place} is no pattern: {error}"
    if name in ("enum", "required") and not isinstance(value, list):
        return f"{place} is no list"
    if name == "required" and not all(isinstance(one, str) for one in value):
        return f"{place} is no list of names"
    return "" if name not in _NUMBERS or _number(value) else f"{place} is no number"


def holds(value: Any, schema: Any) -> bool:
    """Tell whether a value is as a schema says; the schema must be one that `refuse` has nothing against."""
    if isinstance(schema, bool):
        return schema
    if not all(check(value, schema[name]) for name, check in _CHECKS.items() if name in schema):
        return False
    if isinstance(value, dict):
        return _object(value, schema)
    return not isinstance(value, list) or all(holds(one, schema.get("items", True)) for one in value)


def _object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    return all(name in value for name in schema.get("required", ())) and all(
        holds(one, known.get(name, rest)) for name, one in value.items()
    )


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: true is not 1, 1.0 is 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other if not (_number(one) and _number(other)) else one == other


def _unlike(values: list[Any]) -> bool:
    return not any(_same(one, other) for at, one in enumerate(values) for other in values[:at])


def _is_type(value: Any, names: Any) -> bool:
    return any(_TYPES[name](value) for name in (names if isinstance(names, list) else [names]))


def _of(kind: type[Any], check: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Check what is of a kind; what is of another one is the type's business."""
    return lambda value, limit: not isinstance(value, kind) or check(value, limit)


def _if_number(check: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, limit: not _number(value) or check(value, limit)


_CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is_type,
    "enum": lambda value, among: any(_same(value, one) for one in among),
    "const": _same,
    "minProperties": _of(dict, lambda v, n: len(v) >= n),
    "maxProperties": _of(dict, lambda v, n: len(v) <= n),
    "minItems": _of(list, lambda v, n: len(v) >= n),
    "maxItems": _of(list, lambda v, n: len(v) <= n),
    "uniqueItems": _of(list, lambda v, wanted: not wanted or _unlike(v)),
    "minLength": _of(str, lambda v, n: len(v) >= n),
    "maxLength": _of(str, lambda v, n: len(v) <= n),
    "pattern": _of(str, lambda v, pattern: re.search(pattern, v) is not None),
    "minimum": _if_number(lambda v, n: v >= n),
    "maximum": _if_number(lambda v, n: v <= n),
    "exclusiveMinimum": _if_number(lambda v, n: v > n),
    "exclusiveMaximum": _if_number(lambda v, n: v < n),
    "multipleOf": _if_number(lambda v, n: n > 0 and Fraction(str(v)) % Fraction(str(n)) == 0),
    "allOf": lambda v, parts: all(holds(v, one) for one in parts),
    "anyOf": lambda v, parts: any(holds(v, one) for one in parts),
    "oneOf": lambda v, parts: sum(holds(v, one) for one in parts) == 1,
    "not": lambda v, one: not holds(v, one),
}
_NUMBERS = {name for name in _CHECKS if name.startswith(("min", "max", "exclusive", "multiple"))}
