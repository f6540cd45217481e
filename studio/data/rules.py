"""Rules that score an answer where no reward model does.

    exact             1 where the answer is the row's own (spaces aside), else 0
    regex:PATTERN     1 where the pattern is found in the answer, else 0
    length:A-B        1 with A to B words; n / A with n words too few, B / n with too many
    json              1 where the whole answer is JSON, else 0
    sentence          1 where it begins with a capital, ends with . ! or ? and has two words at least, else 0
    FILE.py:FUNCTION  what your function(prompt, answer, reference, stopped) gives

Patterns and functions run in a helper process: one that never ends, or prints, harms nothing.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio.child import Answer, Child, Request
from studio.errors import ChildCrashed, ConfigError, DataError

FORMS = "exact, regex:PATTERN, length:A-B, json, sentence or FILE.py:FUNCTION"
#: Seconds that a pattern, and a function, may take for one answer.
PATTERN_SECONDS, FUNCTION_SECONDS = 5.0, 60.0
_BAND = re.compile(r"(\d+)-(\d+)")
_SHOWN, _ERROR = 120, 500

Scorer = Callable[[str, str, str, bool], float]


class Rule:
    """A rule as a function: (prompt, answer, reference, stopped) -> score, a finite number.

    `reference` is the row's own answer, "" where it has none; `stopped` tells that the answer ended by itself. Raises
    DataError where the rule fails on an answer.
    """

    def __init__(self, spec: str, score: Scorer, needs_reference: bool = False, child: Child | None = None) -> None:
        self.spec, self.needs_reference = spec, needs_reference
        self._score, self._child = score, child

    def __call__(self, prompt: str, answer: str, reference: str = "", stopped: bool = True) -> float:
        """Score an answer."""
        return self._score(prompt, answer, reference, stopped)

    def close(self) -> None:
        """End the helper process, where there is one."""
        if self._child is not None:
            self._child.close()


def rule(spec: str) -> Rule:
    """Make the rule that a text names. Raises ConfigError: it names none, or one that cannot work."""
    kind, _, rest = spec.strip().partition(":")
    if spec.strip() in _PLAIN:
        return Rule(spec, _PLAIN[spec.strip()], needs_reference=kind == "exact")
    if kind == "regex":
        return _pattern(spec, rest)
    if kind == "length":
        return _length(spec, rest)
    if (parts := _parts(spec)) is not None:
        return _function(spec, *parts)
    raise ConfigError(f"{spec[:_SHOWN]!r} is no rule.", f"Write {FORMS}.", field="reward")


def absolute(spec: str) -> str:
    """Give a rule as it can be kept: a file by its whole path."""
    parts = _parts(spec)
    return f"{parts[0].resolve()}:{parts[1]}" if parts is not None else spec.strip()


def _parts(spec: str) -> tuple[Path, str] | None:
    """Split FILE.py:FUNCTION; None for everything else. A drive's colon (C:\\...) is no separator."""
    file, colon, function = spec.strip().rpartition(":")
    if spec.startswith(("regex:", "length:")) or not colon or not file.endswith(".py"):
        return None
    return Path(file).expanduser(), function


def _exact(prompt: str, answer: str, reference: str, stopped: bool) -> float:
    if not reference.strip():
        raise DataError(
            "The rule exact compares with the row's own answer, and this row has none.",
            "Use rows with answers (prompt and completion, or conversations), or another rule.",
        )
    return float(answer.split() == reference.split())


def _json(prompt: str, answer: str, reference: str, stopped: bool) -> float:
    try:
        json.loads(answer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return 0.0
    return 1.0


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _sentence(prompt: str, answer: str, reference: str, stopped: bool) -> float:
    text = answer.strip()
    return float(text[:1].isupper() and text[-1:] in (".", "!", "?") and len(text.split()) >= 2)


_PLAIN: dict[str, Scorer] = {"exact": _exact, "json": _json, "sentence": _sentence}


def _length(spec: str, band: str) -> Rule:
    found = _BAND.fullmatch(band.strip())
    low, high = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= low <= high:
        raise ConfigError(
            f"{band[:_SHOWN]!r} is no band of words.",
            "Write the fewest and the most words: length:20-80.",
            field="reward",
        )

    def score(prompt: str, answer: str, reference: str, stopped: bool) -> float:
        words = len(answer.split())
        return words / low if words < low else high / words if words > high else 1.0

    return Rule(spec, score)


def _pattern(spec: str, pattern: str) -> Rule:
    try:
        if not pattern:
            raise re.error("it is empty")
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"The pattern is not one: {error}.", r"Write a regular expression: regex:^[A-Z].*\.$", field="reward"
        ) from None
    child = Child(f"{__name__}:handle")

    def score(prompt: str, answer: str, reference: str, stopped: bool) -> float:
        try:
            return float(child.ask({"pattern": pattern, "answer": answer}, PATTERN_SECONDS)["score"])
        except ChildCrashed:
            raise DataError(
                f"The pattern took more than {PATTERN_SECONDS:g} s on an answer: {answer[:_SHOWN]!r}",
                "A repetition inside a repetition, as in (a+)+, can take for ever. Write it without.",
                field="reward",
            ) from None

    return Rule(spec, score, child=child)


def _function(spec: str, file: Path, name: str) -> Rule:
    if not file.is_file():
        raise ConfigError(f"There is no file {file}.", "Write the path of your Python file.", field="reward")
    child = Child(f"{__name__}:handle")
    asked = {"file": str(file.resolve()), "function": name}
    try:
        child.ask(asked, FUNCTION_SECONDS)
    except ChildCrashed as error:
        child.close()
        raise ConfigError(
            f"{file.name} could not be loaded: {error.message}",
            f"It is run as Python once; let it define {name}(prompt, answer, reference, stopped).",
            file=str(file),
            field="reward",
        ) from None
    except ConfigError:
        child.close()
        raise

    def score(prompt: str, answer: str, reference: str, stopped: bool) -> float:
        about = {"prompt": prompt, "answer": answer, "reference": reference, "stopped": stopped}
        try:
            return float(child.ask({**asked, **about}, FUNCTION_SECONDS)["score"])
        except ChildCrashed as error:
            raise DataError(
                f"{name} did not score an answer: {error.message}", f"The answer was {answer[:_SHOWN]!r}."
            ) from None

    return Rule(spec, score, child=child)


def handle(request: Request, cancelled: Callable[[], bool]) -> Iterator[Answer]:
    """Apply a pattern, or a function of a file, to an answer (the helper's side); without an answer, only load."""
    if "pattern" in request:
        yield {"score": float(_compiled(request["pattern"]).search(request["answer"].strip()) is not None)}
        return
    function = _loaded(request["file"], request["function"])
    if "answer" not in request:
        yield {}
        return
    try:
        found = function(*(request[name] for name in ("prompt", "answer", "reference", "stopped")))
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == request["file"]]
        where = f" in its line {frames[-1].lineno}" if frames else ""
        raise DataError(
            f"{request['function']} failed{where}: {type(error).__name__}: {str(error)[:_ERROR]}",
            f"Try it yourself: {request['function']}({request['prompt'][:_SHOWN]!r}, {request['answer'][:_SHOWN]!r}, "
            f"{request['reference'][:_SHOWN]!r}, {request['stopped']})",
            file=request["file"],
        ) from None
    yield {"score": _number(found, request)}


def _number(found: Any, request: Request) -> float:
    try:
        score = float(found)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise DataError(
            f"{request['function']} gave {str(found)[:_SHOWN]!r} for an answer: {request['answer'][:_SHOWN]!r}",
            "Let it give a finite number for every answer: the more, the better.",
            file=request["file"],
        )
    return score


@functools.lru_cache(maxsize=8)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@functools.lru_cache(maxsize=8)
def _loaded(file: str, name: str) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("studio_rule", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as an import does: dataclasses look there
    sys.path.append(str(Path(file).parent))  # what lies beside it can be imported
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = getattr(error, "lineno", None) or (frames[-1].lineno if frames else None)
        raise ConfigError(
            f"{Path(file).name} could not be loaded: {type(error).__name__}: {error}",
            "It is run as Python once, before the run. Correct it.",
            file=file,
            line=line,
            field="reward",
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(
            f"{Path(file).name} has no function {name!r}.",
            f"Define it: def {name if name.isidentifier() else 'score'}(prompt, answer, reference, stopped):",
            file=file,
            field="reward",
        )
    return function
