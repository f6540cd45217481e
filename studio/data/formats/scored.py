"""Several answers to one prompt: scored or ranked (UltraFeedback), or two columns and the name of the winner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from studio.data.formats.base import Format, Note, Question, Roles, Row, RowError, listed, unheard
from studio.data.formats.names import plain
from studio.data.formats.preference import implied, said
from studio.data.formats.rated import label_of, number_of
from studio.data.formats.sides import Turns, asked, wants_question
from studio.data.formats.turns import side
from studio.data.records import Preference, Reading, Record

LISTS = ("completions", "responses", "answers", "candidates", "generations", "outputs", "samples")
_TEXTS = ("response", "completion", "text", "answer", "content", "output", "message", "generation")
_SCORES = ("overall_score", "score", "fine-grained_score", "rating", "reward")
_RANKS = ("rank", "ranking")
_BESIDE = ("scores", "ratings", "rewards", "ranks", "rankings", "labels")
_VERDICTS = (
    "winner", "preference", "preferred", "better_response_id", "choice", "verdict", "label", "chosen", "better", "best",
)  # fmt: skip
_SIDE = re.compile(
    r"(response|answer|completion|output|candidate|conversation|assistant|generation|reply)s?_?([ab0-9])"
)
_TIES = ("tie", "tie (bothbad)", "both", "neither", "equal", "none", "same", "draw")


def answers_column(row: Row) -> str:
    """Name the column that lists several answers, "" when there is none."""
    for column, value in row.items():
        if isinstance(value, list) and len(value) > 1 and plain(column) in LISTS:
            first = value[0]
            if isinstance(first, str) or (isinstance(first, dict) and any(key in first for key in _TEXTS)):
                return column
    return ""


def score_key(items: Sequence[Any]) -> str:
    """Name the key that scores or ranks nearly every answer, "" when there is none."""
    told = [item for item in items if isinstance(item, dict)]
    for key in (*_SCORES, *_RANKS):
        if told and sum(number_of(item.get(key)) is not None for item in told) * 2 > len(told):
            return key
    return ""


def bind(column: str, roles: Roles, rows: Sequence[Row]) -> Format | Question:
    """Make the format of listed answers; without scores, ask what to do with them."""
    items = [item for row in rows if isinstance(row.get(column), list) for item in row[column]]
    key = score_key(items)
    beside = next((c for c in (rows[0] if rows else ()) if plain(c) in _BESIDE and _numbers(rows, c)), "")
    if not key and not beside:
        return no_verdict(f"'{column}' holds several answers to each prompt", roles)
    falls = (key or plain(beside).removesuffix("s")) in (*_RANKS, "rank")
    ask = asked(roles, rows)

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        answers = row[column]
        if not isinstance(answers, list) or not answers:
            raise RowError(column, "expected a list of answers", "Write [{'response': ..., 'score': ...}, ...].")
        scored = []
        for index, item in enumerate(answers):
            score = _score(_at(row.get(beside), index) if beside else item.get(key) if isinstance(item, dict) else 0)
            if score is not None:
                scored.append((-score if falls else score, index))
        if len(scored) < 2:
            note("no_score", "Rows with fewer than two scored answers make no pair and are left out.")
            return []
        best, worst = max(scored, key=lambda s: (s[0], -s[1])), min(scored)
        chosen, rejected = (answer_of(answers[i], f"{column}[{i}]") for i in (best[1], worst[1]))
        if said(chosen) == said(rejected):  # where all scores tie, both are the first
            note("tie", "Rows whose best and worst answers tie make no pair and are left out.")
            return []
        prompt = ask(row)
        wants_question(prompt, "prompt")
        return [Preference(prompt, chosen, rejected, line)]

    by = beside or key
    title = f"scored answers: of {column!r}, the best by {by!r} is chosen and the worst rejected"
    mapping = {**roles, column: "completions"} | ({beside: "scores"} if beside else {})
    return Format("scored", "preference", title, mapping, lambda row: answers_column(row) == column, read)


def _numbers(rows: Sequence[Row], column: str) -> bool:
    values = [row.get(column) for row in rows]
    return all(isinstance(value, list) and _score(_at(value, 0)) is not None for value in values)


def _score(value: Any) -> float | None:
    """Read a score; a label that says yes or no counts 1 or 0."""
    number = number_of(value)
    return number if number is not None or (label := label_of(value)) is None else float(label)


def _at(values: Any, index: int) -> Any:
    return values[index] if isinstance(values, list) and index < len(values) else None


def answer_of(item: Any, field: str) -> Turns:
    """Read a listed answer: a text, a message, or an object that holds one beside its scores."""
    if isinstance(item, dict):
        key = next((key for key in _TEXTS if key in item), _TEXTS[0])
        item = item.get(key)
        field = f"{field}.{key}"
    return side(item, field, "assistant")


def no_verdict(what: str, roles: Roles) -> Question:
    """Ask about answers that nobody has compared."""
    prompts = {column: role for column, role in roles.items() if role in ("prompt", "system", "history", "messages")}
    return Question(
        f"{what}, and nothing says which is better. Rank them first (`studio feedback rank`),"
        " or read the prompts alone?",
        (("The prompts alone", Reading(prompts, "prompt")),) if prompts else (),
    )


def two_columns(row: Row) -> tuple[str, str] | None:
    """Name two columns such as response_a and response_b, in order; None when there are not exactly two."""
    found: dict[str, list[tuple[str, str]]] = {}
    for column, value in row.items():
        match = _SIDE.fullmatch(plain(column))
        if match and value is not None:
            found.setdefault(match[1], []).append((match[2], column))
    both = next((sorted(columns) for columns in found.values() if len(columns) == 2), None)
    return (both[0][1], both[1][1]) if both else None


def bind_two(both: tuple[str, str], roles: Roles, rows: Sequence[Row]) -> Format | Question:
    """Make the format of two answers and a verdict."""
    names = [column for column in (rows[0] if rows else ()) if plain(column) in _VERDICTS and column not in both]
    verdict = max(names, key=lambda name: -_VERDICTS.index(plain(name)), default="")
    marks = [_SIDE.fullmatch(plain(column))[2] for column in both]  # type: ignore[index]
    sure = [v for row in rows if (v := _verdict(row.get(verdict), both, marks)) is not None] if verdict else []
    told = len(sure) * 2 > len(rows)
    scores = () if told else _scores_of(rows, marks)
    if not told and not scores:
        return no_verdict(f"{listed(list(both))} hold two answers to each prompt", roles)
    ask = asked(roles, rows) if any(role in ("prompt", "messages") for role in roles.values()) else None

    def read(row: Row, line: int, note: Note = unheard, /) -> list[Record]:
        which = _higher(row, scores) if scores else _verdict(row[verdict], both, marks)
        if which is None:
            raise RowError(
                verdict, f"expected one of the two answers, found {str(row[verdict])[:40]!r}",
                f"Write {marks[0]!r} or {marks[1]!r}, or 'tie'.",
            )  # fmt: skip
        sides = [side(row[column], column, "assistant") for column in both]
        if which < 0 or said(sides[0]) == said(sides[1]):
            note("tie", "Rows whose answers tie make no pair and are left out.")
            return []
        chosen, rejected = sides[which], sides[1 - which]
        if ask is None:
            prompt, chosen, rejected = implied(chosen, rejected, both[0])
        else:
            prompt = ask(row)
        wants_question(prompt, "prompt")
        return [Preference(prompt, chosen, rejected, line)]

    by = listed(list(scores)) if scores else repr(verdict)
    title = (
        f"two answers and a verdict: {by} {'say' if scores else 'says'} whether {both[0]!r} or {both[1]!r} is better"
    )
    mapping = {**roles, **dict.fromkeys(both, "completions"), **dict.fromkeys(scores or (verdict,), "scores")}
    return Format("compared", "preference", title, mapping, lambda row: two_columns(row) == both, read)


def _scores_of(rows: Sequence[Row], marks: Sequence[str]) -> tuple[str, ...]:
    """Name the columns that score the one answer and the other (score_0, score_1), () when there are none."""
    named = {plain(column): column for row in rows for column in row}
    for word in ("score", "rating", "reward"):
        both = [named.get(f"{word}_{mark}", "") for mark in marks]
        if all(both) and all(number_of(row.get(column)) is not None for row in rows for column in both):
            return tuple(both)
    return ()


def _higher(row: Row, scores: Sequence[str]) -> int:
    """Give the answer with the higher score, -1 for a tie."""
    numbers = []
    for column in scores:
        number = number_of(row[column])
        if number is None:
            raise RowError(column, f"expected a score, found {str(row[column])[:40]!r}", "Write a number.")
        numbers.append(number)
    return -1 if numbers[0] == numbers[1] else int(numbers[1] > numbers[0])


def _verdict(value: Any, both: tuple[str, str], marks: Sequence[str]) -> int | None:
    """Read a verdict: 0 or 1 for the first or second answer, -1 for a tie, None when it says nothing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    told = str(value).strip().lower()
    if told in _TIES or told.startswith("tie"):
        return -1
    for number, (mark, column) in enumerate(zip(marks, both, strict=True)):
        if told in (mark, plain(column), column.lower(), f"model_{mark}", f"{mark}.", f"[[{mark}]]"):
            return number
    return None
