"""Find the format of a file by looking at its rows; the file's name is never trusted.

Each row of the sample says which layout it fits and which columns play which role; the layout that most rows fit wins.
Where two readings are plausible, nothing is guessed: a Question comes back, and each of its choices carries the Reading
that settles it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

from studio.data.formats import doubts, messages, preference, prompts, rated, scored, tables, trees, unclear
from studio.data.formats.base import ROLES, WHOLE, Format, Note, Question, Roles, Row, listed, unheard
from studio.data.formats.columns import asking, core, joined, roles_of
from studio.data.formats.names import plain
from studio.data.kinds import OTHERS, as_kind
from studio.data.records import KINDS, Reading, Record
from studio.errors import ConfigError

__all__ = ["Found", "Question", "detect"]

#: A whole file of messages is read as one conversation up to here; beyond it, a column must tell conversations apart.
MOST_MESSAGES = 999


@dataclasses.dataclass(frozen=True)
class Found:
    """What the rows are: a format (None when unclear, then with a question), and the reason in words."""

    format: Format | None
    mapping: dict[str, str]
    why: str
    question: Question | None = None


def detect(rows: Sequence[Row], reading: Reading) -> Found:
    """Choose the format of a sample of rows. Raises ConfigError for a mapping or a kind that the rows do not allow."""
    if reading.kind and reading.kind not in KINDS:
        raise ConfigError(f"There is no kind {reading.kind!r}.", f"Choose one of {', '.join(KINDS)}.", field="kind")
    if not rows:
        return Found(None, {}, "no row can be read", Question("What do the rows hold?", ()))
    natural = _natural(rows)
    if reading.mapping and reading.mapping != natural.mapping:
        return _of_kind(_mapped(reading.mapping, rows, natural), reading.kind)
    if natural.question is not None and reading.kind:
        for _, choice in natural.question.choices:
            found = _mapped(choice.mapping, rows, natural) if choice.mapping else natural
            kinds = {form.kind for form in (found.format, *found.format.also)} if found.format else set()
            if reading.kind in kinds or (choice.kind == reading.kind and found.format):
                return _of_kind(found, reading.kind)
        raise ConfigError(
            f"The rows cannot be read as {reading.kind}.", natural.question.text, field="kind"
        )  # the question says what they can be
    return _of_kind(natural, reading.kind)


def bind(roles: Roles, rows: Sequence[Row]) -> Format | None:
    """Make the format for a set of roles, None when they make no record."""
    have = set(roles.values())
    asks = "prompt" in have or "messages" in have
    if {"chosen", "rejected"} <= have:
        return preference.bind(roles, rows)
    if have - {"system", "tools"} == {"messages", "rejected"}:
        return preference.bind_last(roles, rows)
    if "label" in have:
        return rated.bind(roles, rows) if "messages" in have or {"prompt", "completion"} <= have else None
    if {"chosen", "rejected"} & have or ("text" in have and asks):
        return None
    if "messages" in have:
        return messages.bind(roles, rows) if not {"prompt", "completion"} & have else None
    if "completion" in have:
        return tables.bind(roles, rows) if asks else None
    if "text" in have:
        return prompts.bind_transcript(roles, rows) or prompts.bind_text(roles, rows)
    return prompts.bind(roles, rows) if asks else None


def _found(form: Format, roles: Roles | None = None) -> Found:
    return Found(form, dict(form.mapping if roles is None else roles), f"The rows are {form.title}.")


def _asks(question: Question, roles: Roles) -> Found:
    return Found(None, {}, "The rows can be read in more than one way.", question)


def _natural(rows: Sequence[Row]) -> Found:
    """Read the rows without being told anything."""
    if question := unclear.of_columns(rows):
        return _asks(question, {})
    votes: Counter[object] = Counter()
    cast: dict[object, list[Row]] = {}
    known: dict[object, list[Roles]] = {}
    for row in rows:
        layout, roles = _layout(row)
        votes[layout] += 1
        cast.setdefault(layout, []).append(row)
        known.setdefault(layout, []).append(roles)
    layout, count = max(votes.items(), key=lambda item: (item[1], str(item[0])))
    if len(votes) > 1 and count * 2 <= len(rows):
        return _asks(_mixed(cast), {})
    if layout is None:
        return _asks(unclear.unknown(rows), {})
    mine = cast[layout]
    if isinstance(layout, str):
        return _special(layout, mine)
    roles = joined(known[layout])
    made = doubts.resolve(roles, mine, bind)
    if isinstance(made, Question):
        return _asks(made, roles)
    found = _found(made)
    if count < len(rows):
        found = dataclasses.replace(found, why=f"{found.why} {len(rows) - count} of {len(rows)} rows are not.")
    return found


def _layout(row: Row) -> tuple[object, Roles]:
    """Name the layout that a row fits: a word for those known by their shape, else the columns that matter."""
    if trees.is_tree(row):
        return "trees", {}
    if trees.is_flat(row):
        return "flat", {}
    if tables.has_instances(row):
        return "instances", {}
    roles = roles_of(row)
    if roles is None or set(roles.values()).isdisjoint(("rejected", "messages")):
        if messages.is_message(row):
            return "message", {}
        if scored.answers_column(row) or scored.two_columns(row):
            return "scored", {}
    return (core(roles), roles) if roles else (None, {})


def _special(layout: str, rows: Sequence[Row]) -> Found:
    made: Format | Question
    if layout == "trees":
        made = trees.bind_trees(rows)
    elif layout == "flat":
        made = trees.bind_flat(rows) or unclear.no_group("message_tree_id")
    elif layout == "instances":
        made = tables.bind_instances(rows)
    elif layout == "message":
        made = messages.bind_rows(rows)
        if made.group == WHOLE and len(rows) > MOST_MESSAGES:
            made = unclear.no_group("conversation_id")
    else:
        made = _scored(rows)
    return _asks(made, {}) if isinstance(made, Question) else _found(made)


def _scored(rows: Sequence[Row]) -> Format | Question:
    column = next((name for row in rows if (name := scored.answers_column(row))), "")
    both = next((found for row in rows if (found := scored.two_columns(row))), None)
    row = next(row for row in rows if scored.answers_column(row) or scored.two_columns(row))
    named = {plain(name): name for name, value in row.items() if value is not None}
    roles = asking(row, named, {column, *(both or ())})
    if both and not column:
        return scored.bind_two(both, roles, rows)
    return scored.bind(column, roles, rows) if roles else unclear.unknown(rows)


def _mixed(cast: dict[object, list[Row]]) -> Question:
    choices = []
    for layout, rows in cast.items():
        roles = roles_of(rows[0])
        if isinstance(layout, tuple) and roles and (form := bind(roles, rows)):
            choices.append((f"{len(rows)} of the rows: {form.title}", Reading(dict(form.mapping), form.kind)))
    text = "The rows are of several formats, none of which most of them fit. Which of them is meant?"
    return Question(text, tuple(choices))


def _mapped(mapping: dict[str, str], rows: Sequence[Row], natural: Found) -> Found:
    """Read the rows as the user says; a mapping that is no whole reading is laid over what was found."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column, role in mapping.items():
        if column not in columns:
            raise ConfigError(f"There is no column {column!r}.", f"The file has {listed(columns[:30])}.", field="map")
        if role not in ROLES:
            raise ConfigError(f"There is no role {role!r}.", f"The roles are {', '.join(ROLES)}.", field="map")
    single = Counter(role for role in mapping.values() if role != "prompt")
    if twice := [role for role, count in single.items() if count > 1]:
        raise ConfigError(f"Two columns cannot both be {twice[0]!r}.", "Name one column for it.", field="map")
    form = bind(mapping, rows)
    if form is None:
        taken = set(mapping.values())
        base = natural.mapping or joined([roles for row in rows if (roles := roles_of(row))])
        kept = {c: r for c, r in base.items() if c not in mapping and (r not in taken or r == "prompt") and r in ROLES}
        form = bind({**kept, **mapping}, rows)
    if form is None:
        raise ConfigError(
            f"The roles {listed(list(dict.fromkeys(mapping.values())))} do not make a row.",
            "Name prompt and completion, messages, prompt with chosen and rejected, one of the first two with label,"
            " text, or prompt alone.",
            field="map",
        )
    return _found(form)


def _of_kind(found: Found, kind: str) -> Found:
    """Choose among the readings of the same rows."""
    form = found.format
    if form is None or not kind or form.kind == kind:
        return found
    if other := next((other for other in form.also if other.kind == kind), None):
        return _found(other)
    if (form.kind, kind) not in OTHERS:
        able = [kind for kind in KINDS if kind == form.kind or (form.kind, kind) in OTHERS]
        able += [other.kind for other in form.also if other.kind not in able]
        raise ConfigError(
            f"{form.kind} rows cannot be read as {kind}.", f"They can be: {', '.join(able)}.", field="kind"
        )
    left = OTHERS[form.kind, kind]
    title = f"{form.title}; read as {kind}" + (f", without {left}" if left else "")
    return _found(dataclasses.replace(form, kind=kind, title=title, read=_cast(form, kind), also=()))


def _cast(form: Format, kind: str) -> Callable[..., list[Record]]:
    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        return [made for record in form.read(row, line, note) for made in as_kind(record, kind)]

    return read
