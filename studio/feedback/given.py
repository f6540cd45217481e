"""What is judged: prompts to be answered, or the answers that a file, a set or the votes already hold.

A file of pairs holds two answers to a prompt and says which is better; one that lists completions holds two or more,
with or without scores; rated answers and conversations hold one a row, and rows that ask the same go together. What the
file itself says of its answers is kept beside, so that a judge can be compared with it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from studio import events, runs
from studio.data import dataset, preferences
from studio.data.dataset import Dataset
from studio.data.files import Rows
from studio.data.formats import scored
from studio.data.formats.base import Row, RowError
from studio.data.formats.columns import asking
from studio.data.formats.names import plain
from studio.data.formats.rated import number_of
from studio.data.formats.sides import Turns, asked, wants_question
from studio.data.records import Conversation, Message, Preference, Problems, Rated, Reading, Record, Warnings
from studio.data.votes import Answer
from studio.errors import DataError
from studio.feedback import making
from studio.feedback.making import Asked

#: Rows by which the columns of listed answers are told.
_SAMPLE = 256
#: Keys under which a listed answer names who gave it, and those of a row's own scores that fall.
_WHO = ("model", "source", "name", "generator")
_FALL = ("rank", "ranking")


@dataclasses.dataclass(frozen=True)
class Task(Asked):
    """A prompt with its answers (none where they are still to be sampled), and the ranks that the file gives them."""

    answers: list[Answer] = dataclasses.field(default_factory=list)
    ranks: list[int] = dataclasses.field(default_factory=list)


def ranks_of(scores: Sequence[float]) -> list[int]:
    """Rank scores: 1 is the highest, equal ones share a rank, and the next one counts all before it (1, 2, 2, 4)."""
    return [1 + sum(other > score for other in scores) for score in scores]


def prompts(
    file: str,
    reading: Reading,
    *,
    limit: int = 0,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Task]:
    """Give the prompts of a file or a set, to be answered. Raises DataError where it has none."""
    if not reading.kind and making.of_set(file) is None:
        data = dataset.check(file, reading, emit=emit, should_stop=should_stop)
        if data.kind == "unclear" and (listed := _listed(data, reading)) is not None:
            return [dataclasses.replace(task, answers=[], ranks=[]) for task in itertools.islice(listed, limit or None)]
    some = making.prompts(file, reading, limit=limit, emit=emit, should_stop=should_stop)
    return [Task(one.turns, one.reference, one.line, one.key) for one in some]


def answers(
    file: str,
    reading: Reading,
    *,
    least: int = 1,
    limit: int = 0,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Task]:
    """Give the prompts that have `least` answers or more, with these; of the others it is told how many there are.

    Raises DataError where there are none.
    """
    short: list[Task] = []
    found = list(itertools.islice(_enough(_read(file, reading, emit, should_stop), least, short), limit or None))
    if not found:
        many = "an answer" if least == 1 else f"{least} answers to one prompt"
        raise DataError(
            f"This file holds no {'answers' if least == 1 else 'prompt with several answers'} to judge.",
            f"Use rows with {many} (pairs, or a list of completions), or name who is to answer: --answers-from RUN.",
            file=file,
        )
    if short and emit is not None:
        lines = ", ".join(str(task.line) for task in short[:10])
        few = "no answer of one text" if least == 1 else f"fewer than {least} answers of one text each"
        text = f"{len(short):,} prompts have {few} and were left out (lines {lines}{', …' * (len(short) > 10)})."
        emit(events.event("note", level="warning", code="few_answers", text=text))
    return found


def _enough(found: Iterable[Task], least: int, short: list[Task]) -> Iterator[Task]:
    for task in found:
        if len(task.answers) >= least:
            yield task
        else:
            short.append(task)


def _read(
    file: str, reading: Reading, emit: events.Emit | None, should_stop: Callable[[], bool] | None
) -> Iterable[Task]:
    if (made := making.of_set(file)) is not None:
        return _of_set(made)
    data = dataset.check(file, reading, emit=emit, should_stop=should_stop)
    if data.format in ("scored", "unclear") and (listed := _listed(data, reading)) is not None:
        return listed
    data = dataset.load(file, reading, emit=emit, should_stop=should_stop)
    if data.kind == "preference":
        return _pairs(data)
    return _together(data)


# --- a set of judged answers -----------------------------------------------------------------------------------------


def _of_set(made: runs.Run) -> Iterator[Task]:
    for line, record in enumerate(preferences.records(made.dir), 1):
        yield Task(record.prompt, "", line, preferences.key(record.id), list(record.answers), list(record.ranks))


# --- pairs, and single answers ---------------------------------------------------------------------------------------


def _pairs(data: Dataset) -> Iterator[Task]:
    """Give pairs in an order that says nothing: by the prompt's key, the chosen answer is the first or the second."""
    for number, record in enumerate(data.records()):
        if not isinstance(record, Preference):
            continue
        texts = [_text(record.chosen), _text(record.rejected)]
        turns = [turn.to_dict() for turn in record.prompt]
        key = preferences.key(turns, record.line, number)
        if None in texts:
            yield Task(turns, "", record.line, key)
            continue
        both = [Answer(str(text), _who(data, name)) for text, name in zip(texts, ("chosen", "rejected"), strict=True)]
        turned = int(key, 16) % 2
        yield Task(turns, "", record.line, key, both[::-1] if turned else both, [2, 1] if turned else [1, 2])


def _together(data: Dataset) -> Iterator[Task]:
    """Give the answers of rows that ask the same together; of rated ones the wanted are the better ones."""
    groups: dict[str, tuple[int, list[dict[str, Any]], list[tuple[str, bool | None]]]] = {}
    for record in data.records():
        found = _asked_and_said(record)
        if found is None:
            yield Task([], "", record.line, "")
            continue
        prompt, text, label = found
        turns = [turn.to_dict() for turn in prompt]
        groups.setdefault(preferences.key(turns), (record.line, turns, []))[2].append((text, label))
    for key, (line, turns, said) in groups.items():
        told = [label for _, label in said if label is not None]
        ranks = [1 if label else 2 for label in told] if len(told) == len(said) > 1 else []
        made = [Answer(text, _who(data, f"answer {number}")) for number, (text, _) in enumerate(said, 1)]
        yield Task(turns, "", line, key, made, ranks)


def _asked_and_said(record: Record) -> tuple[Turns, str, bool | None] | None:
    if isinstance(record, Rated):
        text = _text(record.completion)
        return None if text is None else (record.prompt, text, record.label)
    if isinstance(record, Conversation) and len(record.messages) > 1:
        prompt, text = record.messages[:-1], _text(record.messages[-1:])
        if text is not None and prompt[-1].role in ("user", "tool"):
            return prompt, text, None
    return None


def _text(turns: Sequence[Message]) -> str | None:
    """Give an answer's text; None for one of several turns, or one that calls a tool."""
    plainly = len(turns) == 1 and turns[0].role == "assistant" and not turns[0].tool_calls
    return turns[0].content if plainly else None


def _who(data: Dataset, name: str) -> dict[str, Any]:
    return {"name": name, "file": data.path.name}


# --- listed completions ----------------------------------------------------------------------------------------------


def _listed(data: Dataset, reading: Reading) -> Iterator[Task] | None:
    """Give the answers of rows that list them, or have them in two columns; None where the rows do neither."""
    head = [row for _, row in itertools.islice(_rows(data), _SAMPLE)]
    fits = [row for row in head if scored.answers_column(row) or scored.two_columns(row)]
    if len(fits) * 2 <= len(head):
        return None
    column, both = scored.answers_column(fits[0]), scored.two_columns(fits[0])
    named = {plain(name): name for name, value in fits[0].items() if value is not None}
    mapped = {name: role for name, role in reading.mapping.items() if role in ("prompt", "system", "history")}
    roles = mapped or asking(fits[0], named, {column, *(both or ())})
    if not roles:
        return None
    ask = asked(roles, fits)
    items = [item for row in fits for item in row[column]] if column else []
    by = scored.score_key(items)
    return _tasks(data, reading, lambda row: _answers(data, row, column, both, by), ask, next(iter(roles)))


def _tasks(
    data: Dataset,
    reading: Reading,
    read: Callable[[Row], tuple[list[Answer], list[int]]],
    ask: Callable[[Row], Turns],
    field: str,
) -> Iterator[Task]:
    for number, (line, row) in enumerate(_rows(data)):
        try:
            prompt = ask(row)
            wants_question(prompt, field)
            found, ranks = read(row)
        except (RowError, KeyError, TypeError) as error:
            if "bad" in reading.drop:
                continue
            where = error.field if isinstance(error, RowError) else str(error.args[0])
            said = str(error) if isinstance(error, RowError) else "the answers of this row cannot be read"
            remedy = error.remedy if isinstance(error, RowError) else "Correct it, or leave it out with --drop-bad."
            raise DataError(said, remedy, file=str(data.path), line=line, field=where) from None
        turns = [turn.to_dict() for turn in prompt]
        yield Task(turns, "", line, preferences.key(turns, line, number), found, ranks)


def _answers(
    data: Dataset, row: Row, column: str, both: tuple[str, str] | None, by: str
) -> tuple[list[Answer], list[int]]:
    """Read the answers of a row, and their ranks where it scores every one of them."""
    items: list[Any] = list(row[column]) if column else [row[name] for name in both or ()]
    made, scores = [], []
    for number, item in enumerate(items):
        field = f"{column}[{number}]" if column else (both or ("", ""))[number]
        said = _text(scored.answer_of(item, field))
        if said is None:
            raise RowError(field, "expected one answer as text", "Write the answer as text.")
        about = item if isinstance(item, dict) else {}
        who = next((str(about[key]) for key in _WHO if isinstance(about.get(key), str)), "")
        made.append(Answer(said, _who(data, who or (f"answer {number + 1}" if column else field))))
        if by and (score := number_of(about.get(by))) is not None:
            scores.append(-score if by in _FALL else score)
    return made, ranks_of(scores) if len(scores) == len(made) else []


def _rows(data: Dataset) -> Iterator[tuple[int, Row]]:
    return iter(Rows(data.sources, Problems(), Warnings()))
