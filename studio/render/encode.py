"""From a record to token ids and labels: what training, preview, chat and export all use.

Labels are -100 except on the assistant's tokens and the token that ends its turn; of a pair or a rated answer, all
answers behind the prompt are learned and none in it. A row that is too long loses its oldest exchanges, then the
beginning of its last question, then what follows an earlier answer; an answer is never cut.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from studio.data.records import Conversation, Message, Prompt, Rated, Record, Text
from studio.errors import InputError, StudioError
from studio.render.labels import IGNORE, Encoded, Plan
from studio.render.renderer import Renderer, load
from studio.render.template import Piece

__all__ = [
    "BATCH",
    "CUTS",
    "IGNORE",
    "Encoded",
    "Example",
    "LeftOut",
    "Plan",
    "Renderer",
    "common_prefix",
    "examples",
    "fit",
    "load",
    "plans",
    "shorten",
]

BATCH = 256

#: What may be cut from a row that is too long: whole exchanges, the oldest first; also the beginning of the last
#: question; or nothing.
CUTS = ("exchanges", "prompt", "none")

Sides = dict[str, tuple[Message, ...]]


@dataclasses.dataclass(frozen=True)
class Example:
    """What one record becomes: its sides by name, and the label of a rated answer.

    Sides: "text" (conversations and texts), "chosen" and "rejected" (pairs), "completion" (rated), "prompt" (prompts).
    """

    line: int
    sides: dict[str, Encoded]
    label: bool | None = None


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A record that cannot be learned from: `reason` is too_long, nothing_learned or template (`error` says why)."""

    line: int
    reason: str
    error: InputError | None = None


def plans(renderer: Renderer, record: Record, train_on: str = "all") -> list[dict[str, Plan]]:
    """Render a record: the sides of every example that it makes. Raises DataError when the template refuses it."""
    (found,) = _planned(renderer, [record], train_on)
    if isinstance(found, StudioError):
        raise found
    return found


def examples(
    renderer: Renderer,
    records: Iterable[Record],
    *,
    max_length: int,
    train_on: str = "all",
    cut: str = "prompt",
    offsets: bool = False,
) -> Iterator[Example | LeftOut]:
    """Encode records in batches, in their order; what does not fit is shortened as `cut` says (CUTS) or left out.

    A long text becomes several rows, and so does a conversation whose template rewrites earlier turns. `offsets` keeps
    each row's text and places.
    """
    stream = iter(records)
    while batch := list(itertools.islice(stream, BATCH)):
        planned = _planned(renderer, batch, train_on)
        flat = [p for rows in planned if isinstance(rows, list) for sides in rows for p in sides.values()]
        encoded = iter(renderer.encode(flat, offsets))
        for record, rows in zip(batch, planned, strict=True):
            if isinstance(rows, StudioError):
                if not isinstance(rows, InputError):
                    raise rows
                rows.line = rows.line or record.line or None
                yield LeftOut(record.line, "template", rows)
                continue
            label = record.label if isinstance(record, Rated) else None
            for sides in rows:
                made = {name: next(encoded) for name in sides}
                if isinstance(record, Text):
                    yield from (Example(record.line, {"text": part}) for part in _parts(made["text"], max_length))
                    continue
                if not isinstance(record, Prompt) and not all(plan.spans for plan in sides.values()):
                    yield LeftOut(record.line, "nothing_learned")
                    continue
                if not all(len(side.ids) <= max_length for side in made.values()):
                    shared = len(record.prompt) if not isinstance(record, Conversation) else None
                    fitting = _shortened(renderer, sides, shared, max_length, cut, offsets)
                    if fitting is None:
                        yield LeftOut(record.line, "too_long")
                        continue
                    made = fitting
                yield Example(record.line, made, label)


def fit(encoded: Encoded, max_length: int) -> bool:
    """Tell whether a row can be learned whole.

    Nothing is ever cut from its end, where the token that stops it stands.
    """
    return len(encoded.ids) <= max_length and encoded.trained > 0


def shorten(renderer: Renderer, row: Plan | Sequence[Message], max_length: int, cut: str = "prompt") -> Encoded | None:
    """Encode a conversation, or a planned row of one, within `max_length` tokens as `cut` says (CUTS).

    Gives None when that cannot be done, or when nothing in it is learned.
    """
    plan = row if isinstance(row, Plan) else renderer.plan(row)
    encoded = renderer.encode([plan])[0]
    if len(encoded.ids) > max_length:
        found = _shortened(renderer, {"text": plan}, None, max_length, cut, True)
        if found is None:
            return None
        encoded = found["text"]
    return encoded if encoded.trained else None


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Count the tokens that two rows share at their beginning."""
    count = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        count += 1
    return count


def _planned(renderer: Renderer, records: Sequence[Record], train_on: str) -> list[list[dict[str, Plan]] | StudioError]:
    """Render records, all their conversations in one go; an error stands in the place of its record."""
    talks: list[tuple[Sequence[Message], Sequence[Any], bool]] = []
    for record in records:
        if isinstance(record, Conversation):
            talks.append((record.messages, record.tools, train_on == "last"))
        elif not isinstance(record, Text | Prompt):
            asked = _unlearned(record.prompt)
            talks += [((*asked, *getattr(record, name)), record.tools, False) for name in _names(record)]
    found = iter(renderer.plan_all(talks))
    return [_sides(renderer, record, found) for record in records]


def _names(record: Record) -> tuple[str, ...]:
    return ("completion",) if isinstance(record, Rated) else ("chosen", "rejected")


def _unlearned(prompt: Sequence[Message]) -> tuple[Message, ...]:
    """Give the turns of a prompt as none of the answers in it is learned."""
    return tuple(dataclasses.replace(turn, train=False) if turn.role == "assistant" else turn for turn in prompt)


def _sides(
    renderer: Renderer, record: Record, found: Iterator[list[Plan] | StudioError]
) -> list[dict[str, Plan]] | StudioError:
    if isinstance(record, Text):
        return [{"text": _text(renderer, record.text)}]
    if isinstance(record, Prompt):
        try:
            pieces = renderer.template.pieces(record.prompt, generate=True)
        except StudioError as error:
            return error
        return [{"prompt": Plan(pieces, [], tuple(record.prompt))}]
    if isinstance(record, Conversation):
        rows = next(found)
        return rows if isinstance(rows, StudioError) else [{"text": plan} for plan in rows]
    sides: dict[str, Plan] = {}
    failed: StudioError | None = None
    for name in _names(record):
        rows = next(found)
        if isinstance(rows, StudioError):
            failed = failed or rows
        else:
            sides[name] = rows[-1]  # of several rows, where the template rewrites: the one with the last answer
    return failed or [sides]


def _text(renderer: Renderer, text: str) -> Plan:
    """Plan a text to continue: all of it is learned, and the token that ends a document."""
    start = renderer.document_start
    pieces = [Piece(start, False), Piece(text, True), Piece(renderer.document_end, False)]
    return Plan([piece for piece in pieces if piece.text], [(0, sum(len(piece.text) for piece in pieces))])


def _parts(encoded: Encoded, max_length: int) -> Iterator[Encoded]:
    """Cut a text into rows of at most `max_length` tokens, one behind the other."""
    if len(encoded.ids) <= max_length:
        yield encoded
        return
    for start in range(0, len(encoded.ids), max_length):
        part = slice(start, start + max_length)
        yield Encoded(encoded.ids[part], encoded.labels[part], encoded.text, encoded.offsets[part])


def _shortened(
    renderer: Renderer, sides: dict[str, Plan], shared: int | None, max_length: int, cut: str, offsets: bool
) -> dict[str, Encoded] | None:
    """Shorten the sides of an example alike until each fits; `shared` is the length of their common prompt in turns.

    The fewest oldest exchanges go, then (with `cut` = prompt) the fewest words from the beginning of the last question.
    Where the last answer fits in no way, a conversation ends with the latest earlier one that does.
    """
    first = next(iter(sides.values()))
    if cut == "none" or not first.turns:
        return None
    head = 1 if first.turns[0].role == "system" else 0
    limit = len(first.turns) if shared is None else shared
    answers = [i for i, turn in enumerate(first.turns) if turn.role == "assistant" and turn.train and first.spans]

    def attempt(start: int, end: int | None, text: str | None = None) -> dict[str, Encoded] | None:
        made = []
        for plan in sides.values():
            turns = [*plan.turns[:head], *plan.turns[start:end]]
            if text is not None:
                turns[head] = dataclasses.replace(turns[head], content=text)
            made.append(_again(renderer, turns, plan))
        encoded = renderer.encode(made, offsets)
        return dict(zip(sides, encoded, strict=True)) if all(len(e.ids) <= max_length for e in encoded) else None

    def ending(last: int, end: int | None) -> dict[str, Encoded] | None:
        """Shorten the row from its beginning, with all turns up to `end`; `last` is the last answer before it."""
        starts = [i for i in range(head, min(limit, last + 1)) if first.turns[i].role == "user"]
        later = [start for start in starts if start != head]
        found = _first(later if end is None else [head, *later], lambda start: attempt(start, end))
        if found is not None or cut != "prompt" or not starts:
            return found
        question = first.turns[starts[-1]].content
        words = [match.start() for match in re.finditer(r"\S{1,24}\s*", question)][1:]
        return _first(words, lambda place: attempt(starts[-1], end, question[place:]))

    found = ending(max(answers, default=limit), None)
    if found is None and shared is None:
        earlier = (ending(answer, answer + 1) for answer in reversed(answers[:-1]))
        found = next((made for made in earlier if made is not None), None)
    return found


def _again(renderer: Renderer, turns: Sequence[Message], plan: Plan) -> Plan:
    """Plan other turns as a row was planned; a row without learned turns is a prompt."""
    if plan.spans:
        return renderer.plan(turns, tools=plan.tools)
    return Plan(renderer.template.pieces(turns, generate=True, tools=plan.tools), [], tuple(turns))


def _first(places: Sequence[int], attempt: Callable[[int], dict[str, Encoded] | None]) -> dict[str, Encoded] | None:
    """Find the first place at which an attempt succeeds, when all behind it succeed too."""
    low, high, best = 0, len(places), None
    while low < high:
        middle = (low + high) // 2
        made = attempt(places[middle])
        if made is None:
            low = middle + 1
        else:
            high, best = middle, made
    return best
