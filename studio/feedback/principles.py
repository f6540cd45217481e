"""A constitution: the principles that answers are held against, as cards in a TOML file that people edit.

    [[principle]]    id, group, title, critique (the question asked about an answer), revision (what is asked then)
    [[example]]      prompt, answer, question, criticism, revision: how it is done, for models that were never tuned

The starter set is assets/constitution.toml; the user's own copy is $STUDIO_HOME/constitution.toml. A change of one card
leaves the rest of the file, comments too, as it is.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio import paths
from studio.errors import DataError

FILE = "constitution.toml"
GROUPS = ("helpful", "honest", "harmless", "autonomy")
MAX_BYTES, MAX_PRINCIPLES, MAX_TEXT = 1 << 20, 500, 2000
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
_HEAD = re.compile(r"\s*\[\[\s*(\w+)\s*\]\]\s*(?:#.*)?")


@dataclasses.dataclass(frozen=True)
class Principle:
    """A card."""

    id: str
    group: str
    title: str
    critique: str
    revision: str


@dataclasses.dataclass(frozen=True)
class Example:
    """An answer, what was asked about it, what a critic said, and the answer written anew ("" where nothing was)."""

    prompt: str
    answer: str
    question: str
    criticism: str
    revision: str = ""


@dataclasses.dataclass(frozen=True)
class Constitution:
    """Principles in their order, examples, and the text that says so."""

    principles: tuple[Principle, ...]
    examples: tuple[Example, ...]
    text: str

    def among(self, groups: Iterable[str]) -> Constitution:
        """Give the principles of these groups only (none: of all)."""
        wanted = set(groups)
        kept = tuple(one for one in self.principles if not wanted or one.group in wanted)
        return dataclasses.replace(self, principles=kept)


# --- reading ---------------------------------------------------------------------------------------------------------


def starter() -> Path:
    """Give the file that ships with Studio."""
    return paths.assets() / FILE


def own() -> Path:
    """Give the user's copy, which need not be there."""
    return paths.home() / FILE


def place(name: str = "") -> Path:
    """Give the file that a name means; "" is the user's copy, else the starter set."""
    if name:
        return Path(name).expanduser()
    return own() if own().is_file() else starter()


def load(path: Path) -> Constitution:
    """Read a constitution. Raises DataError that says in which line and field it is wrong."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError("That is no constitution: it is larger than 1 MB.", "Name another file.", file=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"It cannot be read: {error.strerror or error}.", "Name another file.", file=str(path)
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError("It is not UTF-8.", "Save it as UTF-8.", file=str(path), line=line) from None
    return parse(text, str(path))


def parse(text: str, file: str = "") -> Constitution:
    """Read a constitution's text. Raises DataError as `load` does."""
    text = text.replace("\r\n", "\n")
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = re.sub(r" ?\(at (line \d+.*|end of document)\)$", "", str(error))
        at = re.search(r"at line (\d+)", str(error))
        raise DataError(
            f"This is no TOML: {said[:200]}.",
            'Write texts in quotes: title = "...". A quote inside a text is written \\".',
            file=file or None,
            line=int(at[1]) if at else text.count("\n") + 1,
        ) from None
    places = _places(text, file)
    for name in found:
        if name not in ("principle", "example"):
            raise places.error(f"{name!r} has no meaning here.", "Use [[principle]] and [[example]].", field=name)
    rows = {name: _rows(found.get(name, []), name, places) for name in ("principle", "example")}
    if not rows["principle"]:
        raise places.error("It holds no principle.", "Add one that begins with a line [[principle]].")
    if len(rows["principle"]) > MAX_PRINCIPLES:
        raise places.error(f"It holds more than {MAX_PRINCIPLES} principles.", "Leave some out.")
    principles = tuple(Principle(**_checked(row, i, "principle", places)) for i, row in enumerate(rows["principle"]))
    examples = tuple(Example(**_checked(row, i, "example", places)) for i, row in enumerate(rows["example"]))
    for index, principle in enumerate(principles):
        _check_principle(principle, index, Counter(one.id for one in principles), places)
    return Constitution(principles, examples, text)


@dataclasses.dataclass(frozen=True)
class _Places:
    """Where each table begins, by its name and number, so that an error names its line."""

    file: str
    lines: list[str]
    heads: dict[tuple[str, int], int]

    def error(self, message: str, remedy: str, *, at: tuple[str, int] | None = None, field: str = "") -> DataError:
        line = self.heads.get(at) if at else None
        begin = line or 0
        for number in range(begin, len(self.lines) if field else 0):
            if number > begin and line is not None and _HEAD.fullmatch(self.lines[number]):
                break
            if re.match(rf"\s*(?:\[\[?\s*)?[\"']?{re.escape(field)}\b", self.lines[number]):
                line = number + 1
                break
        return DataError(message, remedy, file=self.file or None, line=line, field=field or None)


def _places(text: str, file: str) -> _Places:
    heads: dict[tuple[str, int], int] = {}
    seen: Counter[str] = Counter()
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if match := _HEAD.fullmatch(line):
            heads[match[1], seen[match[1]]] = number
            seen[match[1]] += 1
    return _Places(file, lines, heads)


def _rows(found: Any, name: str, places: _Places) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise places.error(f"{name!r} must be a list of tables.", f"Begin each with a line [[{name}]].", field=name)
    return found


def _checked(row: Mapping[str, Any], index: int, table: str, places: _Places) -> dict[str, str]:
    """Give a table's texts; a field that is missing, unknown, empty or too long is an error with its line."""
    cls = Principle if table == "principle" else Example
    optional = {"revision"} if table == "example" else set()
    known = [field.name for field in dataclasses.fields(cls)]
    at = (table, index)
    for name in row:
        if name not in known:
            raise places.error(f"A {table} has no field {name!r}.", f"It has: {', '.join(known)}.", at=at, field=name)
    for name in known:
        value = row.get(name, "" if name in optional else None)
        if value is None:
            raise places.error(f"The {table} has no {name}.", f'Add a line: {name} = "..."', at=at, field=name)
        if not isinstance(value, str):
            raise places.error(f"{name} must be a text.", f'Write it in quotes: {name} = "..."', at=at, field=name)
        if not value.strip() and name not in optional:
            raise places.error(f"{name} is empty.", "Write it, or leave the whole table out.", at=at, field=name)
        if len(value) > MAX_TEXT:
            raise places.error(f"{name} is longer than {MAX_TEXT} characters.", "Say it shorter.", at=at, field=name)
    return {name: str(row.get(name, "")).strip() for name in known}


def _check_principle(one: Principle, index: int, ids: Counter[str], places: _Places) -> None:
    at = ("principle", index)
    if not _ID.fullmatch(one.id):
        remedy = "Use 1 to 48 small letters, digits and dashes."
        raise places.error(f"{one.id[:60]!r} cannot be an id.", remedy, at=at, field="id")
    if one.group not in GROUPS:
        raise places.error(
            f"There is no group {one.group[:60]!r}.", f"It is one of {', '.join(GROUPS)}.", at=at, field="group"
        )
    if ids[one.id] > 1:
        raise places.error(f"The id {one.id!r} is there twice.", "Give one of them another id.", at=at, field="id")


# --- writing ---------------------------------------------------------------------------------------------------------


def save(text: str) -> Constitution:
    """Make a text the user's own constitution. Raises DataError, and keeps the old one, where it is none."""
    made = parse(text, str(own()))
    paths.write_text(own(), made.text)
    return made


def put(text: str, principle: Principle, instead: str = "") -> str:
    """Give a constitution's text with a card in the place of the one with the id `instead` (""; behind the others).

    Everything else, comments too, stays as it is. Raises DataError where the new one does not fit.
    """
    before = parse(text).principles
    principle = Principle(*(value.strip() for value in dataclasses.astuple(principle)))
    index = next((i for i, one in enumerate(before) if one.id == instead), None) if instead else None
    if instead and index is None:
        raise DataError(f"There is no principle {instead!r}.", "It may have been removed meanwhile; load it again.")
    expected = [*before]
    if index is None:
        expected.append(principle)
    else:
        expected[index] = principle
    lines = text.replace("\r\n", "\n").split("\n")
    if (place := _block(text, len(before) - 1 if index is None else index)) is None:
        return _sure("", parse(text), expected)
    begin, end = place
    block = _written("principle", dataclasses.asdict(principle)).split("\n")
    made = [*lines[:end], "", *block, *lines[end:]] if index is None else lines[:begin] + block + lines[end:]
    return _sure("\n".join(made), parse(text), expected)


def remove(text: str, id: str) -> str:
    """Give a constitution's text without the card of this id. Raises DataError where it is the only one, or none."""
    before = parse(text).principles
    index = next((i for i, one in enumerate(before) if one.id == id), None)
    if index is None:
        raise DataError(f"There is no principle {id!r}.", "It may have been removed meanwhile; load it again.")
    if len(before) == 1:
        raise DataError("A constitution needs a principle.", "Add another one before you remove this one.")
    lines = text.replace("\r\n", "\n").split("\n")
    expected = [*before[:index], *before[index + 1 :]]
    if (place := _block(text, index)) is None:
        return _sure("", parse(text), expected)
    begin, end = place
    while end < len(lines) and not lines[end].strip() and (not begin or not lines[begin - 1].strip()):
        end += 1
    return _sure("\n".join(lines[:begin] + lines[end:]), parse(text), expected)


def _block(text: str, index: int) -> tuple[int, int] | None:
    """Give the lines of a card: from its head to the last one that is not blank or a comment before the next head.

    None where it has no line of its own for a head: TOML can be written in other ways.
    """
    places = _places(text.replace("\r\n", "\n"), "")
    if ("principle", index) not in places.heads:
        return None
    begin = places.heads["principle", index] - 1
    end = next((n for n in range(begin + 1, len(places.lines)) if _HEAD.fullmatch(places.lines[n])), len(places.lines))
    while end > begin + 1 and (not places.lines[end - 1].strip() or places.lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return begin, end


def _sure(made: str, before: Constitution, expected: list[Principle]) -> str:
    """Give the text if it says what is meant; else (a head inside a text) one written anew, without comments."""
    try:
        found = parse(made)
    except DataError:
        found = None
    if found is not None and list(found.principles) == expected and found.examples == before.examples:
        return made
    tables = [("principle", one) for one in expected] + [("example", one) for one in before.examples]
    anew = "\n\n".join(_written(name, dataclasses.asdict(one)) for name, one in tables) + "\n"
    parse(anew)
    return anew


def _written(table: str, fields: Mapping[str, str]) -> str:
    return "\n".join([f"[[{table}]]", *(f"{name} = {_quoted(value)}" for name, value in fields.items() if value)])


def _quoted(text: str) -> str:
    """Write a TOML string; JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
