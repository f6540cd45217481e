"""Rows without an answer that can be told: text, prompts, columns with names that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.data.formats import names, transcripts
from studio.data.formats.base import Question, Roles, Row, columns_of, listed
from studio.data.formats.cells import cells, choice, columns_in, spare_texts
from studio.data.formats.names import is_answer, is_aside, plain
from studio.data.formats.prompts import bind_transcript
from studio.data.formats.turns import are_texts
from studio.data.records import Reading

_Choice = tuple[str, Reading]
_TELLING = ("label", "labels", "sentiment", "summary", "class", "answer", "target")
_FEW = 0.1
_MOST = 0.8


def of_text(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Text that may be something else: a transcript, a prompt, or one half of a table."""
    column = columns_of(roles, "text")[0]
    told = [value for value in cells(rows, column) if isinstance(value, str)]
    others = [
        name for name in columns_in(rows)
        if plain(name) in _TELLING and name not in roles and len(cells(rows, name)) * 2 >= len(rows)
    ]  # fmt: skip
    plainly = (f"Plain text to continue: {column!r}", choice({column: "text"}, "text"))
    asks = (f"Prompts: {column!r}", choice({column: "prompt"}, "prompt"))
    if others:
        pairs = [
            (f"{column!r} is the prompt, {name!r} the answer", choice({column: "prompt", name: "completion"}, "sft"))
            for name in others
        ]
        return Question(f"Is {listed(others)} the answer to {column!r}, or is the text alone meant?", (*pairs, plainly))
    marked = sum(transcripts.dialect_of(text) is not None or transcripts.looks_unsure(text) for text in told)
    if marked > _FEW * len(told) and bind_transcript(roles, rows) is None:
        return Question(
            f"{marked} of {len(told)} texts carry the marks of a chat, but not in one way that can be read exactly."
            " Are they plain text, marks and all? Otherwise write their turns as messages.",
            (plainly,),
        )
    short = sum(text.rstrip().endswith("?") and len(text) < 300 for text in told)
    if told and short > _MOST * len(told):
        return Question(
            f"{column!r} holds questions. Are they prompts to answer, or text to continue?", (asks, plainly)
        )
    return None


def of_prompts(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Prompts beside which there may be an answer after all, or that hold it themselves."""
    asks = columns_of(roles, "prompt")
    whole = [bind_transcript({name: "text"}, rows) for name in asks[:1]]
    if whole[0] is not None and _answered(rows, asks[0]):
        return Question(
            f"{asks[0]!r} holds whole conversations, answers and all. How are they meant?",
            (
                ("Conversations to imitate", choice({asks[0]: "text"}, "sft")),
                ("Plain text to continue", choice({asks[0]: "text"}, "text")),
            ),
        )
    texts = list(spare_texts(roles, rows))
    others = [name for name in texts if is_answer(name) or _speaks(rows, name)]
    packed = [c for c in columns_in(rows) if c not in (*roles, *texts) and plain(c) in ("answer", "answers", "output")]
    if not others and not packed:
        return None
    if not others:
        text = f"{listed(packed)} may be the answer to {listed(asks)}, but holds no text. Read the prompts alone?"
        return Question(text, (("Prompts alone", choice(roles, "prompt")),))
    prompt = {name: role for name, role in roles.items() if role != "reference"}
    return Question(
        f"Is {listed(others)} the answer to {listed(asks)}?",
        (
            *((f"{name!r} is the answer to imitate", choice(prompt, {name: "completion"}, "sft")) for name in others),
            ("Prompts alone", choice(roles, "prompt")),
        ),
    )


def _answered(rows: Sequence[Row], column: str) -> bool:
    """Say whether the transcripts of a column end in the assistant's words."""
    dialects = [(text, transcripts.dialect_of(text)) for text in cells(rows, column) if isinstance(text, str)]
    told = [transcripts.parse(text, dialect, column)[-1] for text, dialect in dialects[:1] if dialect]
    return any(role == "assistant" and said for role, said in told)


def _speaks(rows: Sequence[Row], column: str) -> bool:
    """Say whether a column holds running text that differs from row to row."""
    told = [str(value) for value in cells(rows, column)]
    return sum(len(text.split(None, 3)) > 3 for text in told) * 2 > len(rows) and len(set(told)) * 2 > len(told)


def of_turns(column: str) -> Question:
    """Ask about a conversation that does not say who speaks."""
    return Question(
        f"{column!r} holds texts and does not say who speaks. Do the user and the assistant speak in turn?",
        (("Yes, the user first", choice({column: "messages"}, "sft")),),
    )


def _as_they_stand(rows: Sequence[Row]) -> Question | None:
    """Tell what is to be done with rows that hold no cells: empty ones, columns of lists, objects around the row."""
    columns = columns_in(rows)
    if not columns:
        return Question("The rows are empty objects. Choose a file whose rows hold something.", ())
    talks = [c for c in columns if (told := cells(rows, c)) and sum(map(are_texts, told)) * 2 > len(told)]
    if len(talks) == 1 and not is_aside(talks[0]):
        return of_turns(talks[0])
    inner = [c for c in columns if (told := cells(rows, c)) and all(isinstance(value, dict) for value in told)]
    if len(inner) == 1 and not list(spare_texts({}, rows)):
        return Question(f"Each row is inside {inner[0]!r}. Save the rows without an object around each of them.", ())
    return None


def of_columns(rows: Sequence[Row]) -> Question | None:
    """Tell that a file is one object whose columns are lists of the same length."""
    values = list(rows[0].values()) if len(rows) == 1 else []
    lists = [
        v for v in values if isinstance(v, list) and len(v) > 1 and not any(isinstance(i, (list, dict)) for i in v)
    ]
    if len(lists) < 2 or len(lists) < len(values) or len(set(map(len, lists))) > 1:
        return None
    called = set(map(plain, rows[0]))
    if called.isdisjoint(names.PROMPTS) or called.isdisjoint(names.ANSWERS):
        return None
    text = f"The file is one object, and each of its columns ({listed(list(rows[0]))}) is a list of {len(lists[0]):,}."
    return Question(f"{text} Write one object for each row.", ())


def unknown(rows: Sequence[Row]) -> Question:
    """Ask about columns whose names say nothing."""
    if question := _as_they_stand(rows):
        return question
    columns = list(spare_texts({}, rows)) or [
        c for c in columns_in(rows) if any(isinstance(v, str) for v in cells(rows, c))
    ]
    inside = [c for c in columns_in(rows) if len(rows) == 1 and isinstance(v := rows[0][c], list) and _objects(v)]
    if inside and not columns:
        return Question(
            f"The file is one object. Are its rows the list in {inside[0]!r}? Then save that list alone.", ()
        )
    if not columns:
        has = listed(columns_in(rows)[:20])
        return Question(f"No column holds text that can be read: the file has {has}. Name them with --map.", ())
    choices: list[_Choice] = []
    columns = [name for name in columns if plain(name) not in names.SYSTEMS] or columns
    asks = [name for name in columns if plain(name) in names.PROMPTS]
    for one in (asks or columns)[:3]:
        for other in columns[:4]:
            if one != other and other not in asks and len(choices) < 6:
                title = f"{one!r} is the prompt, {other!r} the answer"
                choices.append((title, choice({one: "prompt", other: "completion"}, "sft")))
    choices += [(f"Prompts: {name!r}", choice({name: "prompt"}, "prompt")) for name in columns[:4]]
    choices += [(f"Plain text to continue: {name!r}", choice({name: "text"}, "text")) for name in columns[:2]]
    held = "does the column" if len(columns) == 1 else "do the columns"
    return Question(f"What {held} {listed(columns[:12])} hold?", tuple(choices))


def _objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def no_group(name: str) -> Question:
    """Ask for the column that says which rows belong together."""
    return Question(
        f"Each row is one message, and no column says which of them belong together. Add {name!r} to the rows.", ()
    )
