"""A recipe: everything that makes a run, as one TOML file that anyone can run again (rounds.py).

    recipe = 1
    title = "..."
    keep = "last"              # or "best": the round with the best `figure`
    figure = "heldout"         # a training run's own held-out figure, or SUITE.MEASURE of the eval steps

    [base]                     # model: starter, a folder or a hub id; sha256: of its weights (without any trained or
                               # written model there may be none)
    [[data]]                   # name, path (a hint), sha256; relative places begin at the recipe's folder
    [[step]]                   # name, kind (train, feedback, eval, merge, export), and what that command takes:
                               # method, model, data, parent, title
    [step.settings]            # of the method
    [step.options]             # of the kind: what scores answers, a source of feedback and its settings, types of files
    [step.made]                # what came out the first time: the hash of the adapter, its place (a hint)

`@NAME` in a field, a setting or an option means a file of [[data]] or an earlier step: its run, or with `@NAME:kto` the
rows of a set of judged answers. `@best` is the best training run so far, the last one with keep = "last". What a text
has behind `@@` is meant as it stands.

Held-out figures compare runs of one method with the same held-out rows (dpo, ipo and kto: the same parent, too),
figures of eval steps those that were asked alike; of equals the earlier one is kept. What does not compare is refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.errors import ConfigError
from studio.lab import keeping, steps, toml
from studio.lab.toml import Where

LAYOUT = 1
KINDS = ("train", "feedback", "eval", "merge", "export")
KEEPS = ("last", "best")
BEST = "best"
LITERAL = "@@"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REFERENCE = re.compile(r"@([a-z0-9][a-z0-9._-]*)((?::\S*)?)")
_TOP = {"recipe", "title", "keep", "figure", "written", "base", "data", "step"}


@dataclasses.dataclass(frozen=True)
class Data:
    """A file that was read: its hash decides, its path is where it was. `note` says what it is."""

    name: str
    path: str
    sha256: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Base:
    """The model that everything begins with; `revision` is its commit on the hub, `sha256` that of its weights.

    `beside` is that of what stands beside them: the tokenizer, the chat template, the shape.
    """

    model: str
    revision: str = ""
    sha256: str = ""
    beside: str = ""


@dataclasses.dataclass(frozen=True)
class Step:
    """A run of the recipe: the fields of its RunConfig with references, and what it made the first time."""

    name: str
    kind: str
    title: str = ""
    method: str = ""
    model: str = ""
    data: str = ""
    parent: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    made: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A whole recipe. `written` says with what it was written: versions, the processor."""

    title: str
    base: Base
    data: tuple[Data, ...]
    steps: tuple[Step, ...]
    keep: str = "last"
    figure: str = "heldout"
    written: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give it as TOML has it, without what is empty."""
        about = {"recipe": LAYOUT, "title": self.title, "keep": self.keep, "figure": self.figure}
        rest = {"written": self.written, "base": _filled(self.base)}
        return {
            **about,
            **{name: value for name, value in rest.items() if value},
            "data": [_filled(one) for one in self.data],
            "step": [_filled(one) for one in self.steps],
        }

    def text(self) -> str:
        """Write it."""
        head = "# What made this, in order. Do it again: studio recipe run FILE\n"
        return head + toml.write(self.to_dict())


def _filled(one: Any) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(one).items() if value not in ("", {}, ())}


# --- references ------------------------------------------------------------------------------------------------------


def reference(text: str) -> tuple[str, str] | None:
    """Read `@NAME:REST` as (NAME, ":REST"); None for anything else."""
    found = _REFERENCE.fullmatch(text.strip())
    return (found[1], found[2]) if found else None


def _several(value: Any) -> list[str]:
    """Give the parts of a text that has references: itself, or names with commas between; [] for any other text."""
    there = isinstance(value, str) and "@" in value and not value.startswith(LITERAL)
    parts = value.split(",") if there else []
    return parts if any(map(reference, parts)) and not any(" " in part.strip() for part in parts) else []


def references(value: Any) -> Iterator[str]:
    """Give the names that a value, or anything in it, refers to."""
    for found in filter(None, map(reference, _several(value))):
        yield found[0]
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from references(one)


def fill(value: Any, places: Mapping[str, str]) -> Any:
    """Put places where names are; what is no reference stays."""
    if parts := _several(value):
        found = [(part, reference(part)) for part in parts]
        return ",".join(places[named[0]] + named[1] if named else part for part, named in found)
    if isinstance(value, str):
        return value.removeprefix(LITERAL)
    if isinstance(value, Mapping):
        return {key: fill(one, places) for key, one in value.items()}
    return [fill(one, places) for one in value] if isinstance(value, list | tuple) else value


def literal(text: str) -> str:
    """Give a text as a recipe has it: one that would be taken for a reference is marked as none."""
    return f"{LITERAL}{text}" if _several(text) or text.startswith("@") else text


def run_fields(step: Step) -> dict[str, Any]:
    """Give the fields of a step that may refer to others."""
    return {name: getattr(step, name) for name in ("model", "data", "parent", "settings", "options")}


# --- reading ---------------------------------------------------------------------------------------------------------


def read(file: Path, wrong: list[ConfigError] | None = None) -> Recipe:
    """Read a recipe. Raises ConfigError with the line and the field of what is wrong.

    With `wrong`, what is wrong with single steps is put there instead, so that all of it can be told at once.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"The recipe cannot be read: {why}.", "Name a TOML file.", file=str(file)) from None
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"This is not TOML: {error}.",
            "Correct the line. `studio recipe RUN` writes whole ones.",
            file=str(file),
            line=toml.line_in(str(error), text),
        ) from None
    return from_dict(document, str(file), text, file.resolve().parent, wrong)


def from_dict(
    document: Mapping[str, Any],
    file: str = "",
    text: str = "",
    folder: Path | None = None,
    wrong: list[ConfigError] | None = None,
) -> Recipe:
    """Make a recipe of what TOML holds, checked; relative paths of data begin at `folder`."""
    where = Where(file, text)
    document = {name: _dated(value) for name, value in document.items()}
    if document.get("recipe") != LAYOUT or document["recipe"] is True:
        raise where.error(
            f"This is no recipe of layout {LAYOUT}.", f"Begin the file with: recipe = {LAYOUT}", key="recipe"
        )
    if unknown := set(document) - _TOP:
        name = min(unknown)
        raise where.error(f"A recipe has no {name!r}.", f"Choose one of: {', '.join(sorted(_TOP))}.", key=name)
    data = tuple(_data(one, n, where, folder) for n, one in enumerate(_list(document, "data", where)))
    base = _base(document, where, folder)
    made = Recipe(
        title=_top(document, "title", "recipe", where),
        base=base,
        data=data,
        steps=tuple(_step(one, n, where, folder) for n, one in enumerate(_list(document, "step", where))),
        keep=_top(document, "keep", "last", where),
        figure=_top(document, "figure", keeping.HELDOUT, where),
        written=_top(document, "written", {}, where),
    )
    _check(made, where, wrong)
    return made


def _dated(value: Any) -> Any:
    """Write TOML's days and times as texts, which JSON has too."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _dated(one) for key, one in value.items()}
    return [_dated(one) for one in value] if isinstance(value, list) else value


def _top(document: Mapping[str, Any], name: str, usual: Any, where: Where) -> Any:
    """Give a value that stands above all tables, of the type of what is usual."""
    value = document.get(name, usual)
    if not isinstance(value, type(usual)):
        kind, how = ("a text", 'Write it in "quotes".') if isinstance(usual, str) else ("a table", f"Write [{name}].")
        raise where.error(f"{name!r} is {kind}, not {value!r}.", how, key=name)
    return value or usual


def _list(document: Mapping[str, Any], name: str, where: Where) -> list[Any]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise where.error(f"{name!r} is a list of tables.", f"Write [[{name}]] above each.", name)
    return found


def _base(document: Mapping[str, Any], where: Where, folder: Path | None) -> Base:
    found = document.get("base")
    if found is None and not any(one.get("kind") in steps.ON_BASE for one in _list(document, "step", where)):
        return Base("")
    if not isinstance(found, dict) or not found.get("model"):
        raise where.error("The recipe names no base model.", "Write [base] with model = NAME.", "base")
    made = Base(**_texts(found, Base, where, "base", 0))
    return made if made.model == "starter" else dataclasses.replace(made, model=_from(folder, made.model))


def _from(folder: Path | None, name: str) -> str:
    """Give a relative place that is there from the recipe's folder as a whole one; else the name as it is."""
    place = Path(name).expanduser()
    there = folder is not None and not place.is_absolute() and (folder / place).exists()
    return str((folder / place).resolve()) if folder is not None and there else name


def _data(found: dict[str, Any], number: int, where: Where, folder: Path | None) -> Data:
    texts: dict[str, str] = {"name": "", "path": ""}
    made = Data(**(texts | _texts(found, Data, where, "data", number)))
    for key in ("name", "path"):
        if not getattr(made, key):
            raise where.error(f"A file of data has no {key}.", f"Give it one: {key} = ...", "data", number, key)
    if made.sha256 and not re.fullmatch("[0-9a-f]{64}", made.sha256):
        raise where.error("This is no sha256.", "64 digits of 0-9 and a-f.", "data", number, "sha256")
    return dataclasses.replace(made, path=_from(folder, made.path))


def _step(found: dict[str, Any], number: int, where: Where, folder: Path | None) -> Step:
    tables = {name: found[name] for name in ("settings", "options", "made") if name in found}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise where.error(f"{name!r} is a table.", f"Write [step.{name}].", "step", number, name)
    texts = _texts({k: v for k, v in found.items() if k not in tables}, Step, where, "step", number)
    fields: dict[str, Any] = {"name": "", "kind": ""}
    made = Step(**(fields | texts | tables))
    return dataclasses.replace(made, data=_from(folder, made.data)) if made.data else made


def _texts(found: dict[str, Any], cls: type[Any], where: Where, table: str, number: int) -> dict[str, str]:
    names = [field.name for field in dataclasses.fields(cls)]
    for key, value in found.items():
        if key not in names:
            said = f"There is no {key!r} in [{table}]."
            raise where.error(said, f"Choose one of: {', '.join(names)}.", table, number, key)
        if not isinstance(value, str):
            raise where.error(f"{key!r} is a text, not {value!r}.", 'Write it in "quotes".', table, number, key)
    return found


def _check(made: Recipe, where: Where, found: list[ConfigError] | None) -> None:
    """Check names, kinds, methods, settings and references; errors of single steps go to `found` where it is given."""
    if made.keep not in KEEPS:
        raise where.error(f"{made.keep!r} is not kept.", f"Choose one of: {', '.join(KEEPS)}.", key="keep")
    known = {BEST}
    for number, one in enumerate(made.data):
        _name(one.name, known, where, "data", number)
    if not made.steps:
        raise where.error("The recipe has no step.", "Write [[step]] with name and kind.", "step")
    for number, step in enumerate((*made.steps, None)):
        try:
            if step is not None:
                _check_step(step, number, known, where)
            elif not found:  # what the steps come to is known once each is right
                keeping.check(made, where.error)
        except ConfigError as error:
            if found is None:
                raise
            found.append(error)
        known |= {step.name} if step is not None else set()


def _check_step(step: Step, number: int, known: set[str], where: Where) -> None:
    def wrong(message: str, remedy: str, key: str) -> ConfigError:
        return where.error(message, remedy, "step", number, key)

    _name(step.name, known, where, "step", number, add=False)
    if step.kind not in KINDS:
        raise wrong(f"There is no kind of step {step.kind!r}.", f"Choose one of: {', '.join(KINDS)}.", "kind")
    for key, value in run_fields(step).items():
        _known(value, known, wrong, key)
    steps.check(step, wrong)


def _name(name: str, known: set[str], where: Where, table: str, number: int, add: bool = True) -> None:
    if not _NAME.fullmatch(name):
        said = f"{name!r} cannot be a name." if name else f"A [[{table}]] has no name."
        raise where.error(said, "Small letters, digits, dots, dashes, underscores.", table, number, "name")
    if name in known:
        raise where.error(f"The name {name!r} is taken.", "Choose another.", table, number, "name")
    if add:
        known.add(name)


def _known(value: Any, known: set[str], wrong: Callable[..., ConfigError], key: str) -> None:
    for name in references(value):
        if name not in known:
            raise wrong(f"Nothing before this step is called {name!r}.", f"There are: {', '.join(sorted(known))}.", key)
    if key in ("settings", "options"):  # texts of their own, which may begin as they like
        return
    if isinstance(value, str) and value.startswith("@") and not _several(value):
        raise wrong(f"{value!r} is no reference.", "Write @NAME or @NAME:REST.", key)
