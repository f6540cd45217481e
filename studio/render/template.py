"""Render a chat template in a sandbox, and keep apart what the template wrote and what people wrote.

The rendered text equals transformers' `apply_chat_template(tokenize=False)`. Text that looks like a control token but
was typed by a person is marked, so that it is tokenised as plain text, in training and in chat alike. The templates of
our families render here; any other one renders in a child with limits (`foreign`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from studio.data.records import Message
from studio.errors import DataError, ModelError, StudioError
from studio.models import family
from studio.render import foreign, sandbox
from studio.render.turns import Turn, check_written

PROBE = "zebra crossing"
_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of rendered text; `plain` text never becomes a control token."""

    text: str
    plain: bool


@dataclasses.dataclass(frozen=True)
class Asked:
    """A conversation to render: its `learned` turns by index; `split` allows a row for each of them."""

    messages: Sequence[Message]
    tools: Sequence[Any] = ()
    learned: Sequence[int] = ()
    split: bool = False


@dataclasses.dataclass(frozen=True)
class Made:
    """A rendered row: its pieces, its learned stretches (start, end), and how many turns it holds."""

    pieces: list[Piece]
    spans: list[tuple[int, int]]
    upto: int


class ChatTemplate:
    """A Jinja chat template with the special tokens it may name (bos_token, eos_token, ...).

    `stops` are the texts of the tokens that end an answer. `now` is the date that templates write: the same for as long
    as the template is in use, so that a row and its prompt agree over midnight. `options` are passed to every rendering
    (`enable_thinking`). Raises ModelError with the line of a mistake.
    """

    def __init__(
        self,
        source: str,
        tokens: dict[str, str],
        control_tokens: Sequence[str] = (),
        *,
        stops: Sequence[str] = (),
        now: datetime | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.source, self.stops, self.now = source, list(stops), now or datetime.now().replace(microsecond=0)
        self.family = family.known(source)
        self._setup = {
            "source": self.family.marked if self.family else source,
            "tokens": dict(tokens),
            "now": self.now.isoformat(),
            "options": dict(options or {}),
        }
        self._linear = self.family is not None and not self.family.rewrites
        control = sorted({token for token in control_tokens if token}, key=len, reverse=True)
        self._typed = re.compile("|".join(map(re.escape, control)) or "(?!)")
        self._first = sorted({token[0] for token in control})
        self._ask([{}])

    @property
    def settings(self) -> dict[str, Any]:
        """Give what a rendering depends on beside source and conversation; the date only where it is written."""
        dated = "strftime_now" in self.source
        return {name: self._setup[name] for name in ("tokens", "options", *(["now"] if dated else []))}

    def text(self, messages: Sequence[Message], generate: bool = False, **extra: Any) -> str:
        """Render to text; `generate` adds the opening of the assistant's turn."""
        return "".join(piece.text for piece in self.pieces(messages, generate, **extra))

    def pieces(
        self, messages: Sequence[Message], generate: bool = False, tools: Sequence[Any] = (), **extra: Any
    ) -> list[Piece]:
        """Render to pieces; control tokens that a person typed come out in plain pieces."""
        turns, tools, quotes = self._quote(self.placed(messages)[0], tools)
        (answer,) = self._ask([{"turns": turns, "tools": tools, "generate": generate, "options": extra}])
        return quotes.pieces(_value(answer)["text"], self._typed)

    def rows(self, asked: Sequence[Asked]) -> list[list[Made] | StudioError]:
        """Render conversations as the rows that teach their learned turns, all in one go.

        One that cannot be rendered gives the error instead: what the template refuses, a turn that it leaves out, one
        that it writes differently from how it is asked for.
        """
        quoted, jobs = [], []
        for one in asked:
            messages, kept = self.placed(one.messages)
            turns, tools, quotes = self._quote(messages, one.tools)
            quoted.append((turns, tools, quotes, kept))
            learned = [kept.index(index) for index in one.learned]
            jobs.append({"turns": turns, "tools": tools, "learned": learned, "split": one.split})
        return [self._made(answer, *how) for answer, how in zip(self._ask(jobs), quoted, strict=True)]

    def _made(
        self, answer: dict[str, Any], turns: Sequence[Turn], tools: Sequence[Any], quotes: Quotes, kept: Sequence[int]
    ) -> list[Made] | StudioError:
        """Make rows of an answer, or its error; `kept` says which turn of the conversation each rendered one is."""
        try:
            found = _value(answer)["rows"]
            for text, _, upto in found:
                check_written(text, turns[:upto], tools)
        except StudioError as error:
            return _renumbered(error, kept)
        return [
            Made(quotes.pieces(text, self._typed), quotes.moved(text, spans), kept[upto - 1] + 1 if upto else 0)
            for text, spans, upto in found
        ]

    @functools.cached_property
    def system(self) -> str:
        """Tell where a system text goes: as `Family.system` says, or `moved` where the template has no place for it."""
        if self.family is not None:
            return self.family.system
        head, question, said = Message("system", PROBE), Message("user", "question"), Message("assistant", "answer")
        talks = [head, question], [question], [head, question, said, question]
        jobs = [
            {"turns": [turn.to_dict() for turn in talk], "tools": [], "generate": True, "options": {}} for talk in talks
        ]
        asked, without, later = (answer.get("text", "") for answer in self._ask(jobs))
        if PROBE not in asked:
            return "moved"
        if later.find(PROBE) > later.find("answer"):
            return "last"
        opens = without.partition("question")[0][-8:]  # what stands before a question: is it there again?
        return "turn" if asked.partition(PROBE)[2].partition("question")[0].endswith(opens) else "first"

    def moves_system(self, messages: Sequence[Message]) -> bool:
        """Tell whether the template has no place for this conversation's system text, so that it goes elsewhere."""
        return any(message.role == "system" for message in messages) and self.system == "moved"

    def placed(self, messages: Sequence[Message]) -> tuple[list[Message], list[int]]:
        """Put a system text that the template has no place for in front of the first question.

        Gives the turns to render and which turn of the conversation each is.
        """
        if not self.moves_system(messages):
            return list(messages), list(range(len(messages)))
        kept = [index for index, message in enumerate(messages) if message.role != "system"]
        text = "\n\n".join(m.content for m in messages if m.role == "system" and m.content.strip())
        rest = [messages[index] for index in kept]
        first = next((i for i, m in enumerate(rest) if m.role == "user"), None)
        if text and first is not None:
            rest[first] = dataclasses.replace(rest[first], content=f"{text}\n\n{rest[first].content}")
        return rest, kept

    def _ask(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        setup = {**self._setup, "linear": self._linear, "stops": self.stops}
        return sandbox.work(setup, jobs) if self.family else foreign.work(setup, jobs)

    def _quote(self, messages: Sequence[Message], tools: Sequence[Any]) -> tuple[list[Turn], list[Any], Quotes]:
        """Put marks in the place of typed control tokens, everywhere in messages and tools."""
        turns, plain = [_turn(message) for message in messages], list(tools)
        if not any(map(self._has_typed, _said(messages, tools))):
            return turns, plain, Quotes()
        texts = "".join(_strings([turns, plain])) + self.source
        free = (
            mark for mark in map(chr, itertools.chain(*_PRIVATE)) if mark not in texts and _escaped(mark) not in texts
        )
        quotes = Quotes(next(free), next(free))
        return quotes.put(turns, self._typed), quotes.put(plain, self._typed), quotes

    def _has_typed(self, value: Any) -> bool:
        if isinstance(value, str):
            for first in self._first:
                if first in value:
                    return self._typed.search(value) is not None
            return False
        if isinstance(value, dict):
            return any(self._has_typed(part) for pair in value.items() for part in pair)
        return isinstance(value, list | tuple) and any(self._has_typed(part) for part in value)


class Quotes:
    """Typed control tokens, taken out of a conversation before it is rendered and put back into the text after.

    A mark is the number of the token between two characters that occur nowhere else in the conversation, nor does what
    JSON writes for them.
    """

    def __init__(self, opening: str = "", closing: str = "") -> None:
        self._open, self._close = opening, closing
        self._tokens: list[str] = []
        written = [[re.escape(form(mark)) for mark in (opening, closing)] for form in (str, _escaped)]
        self._mark = re.compile("|".join(f"{a}(\\d+){b}" for a, b in written)) if opening else None

    def put(self, value: Any, typed: re.Pattern[str]) -> Any:
        """Replace typed control tokens in all texts of a value; roles stay as they are."""
        if isinstance(value, str):
            return typed.sub(self._take, value)
        if isinstance(value, dict):
            return {self.put(key, typed): self.put(part, typed) for key, part in value.items()}
        return [self.put(part, typed) for part in value] if isinstance(value, list | tuple) else value

    def _take(self, match: re.Match[str]) -> str:
        self._tokens.append(match[0])
        return f"{self._open}{len(self._tokens) - 1}{self._close}"

    def _token(self, match: re.Match[str]) -> str:
        return self._tokens[int(match[1] or match[2])]

    def pieces(self, text: str, control: re.Pattern[str]) -> list[Piece]:
        """Cut a rendered text at the control tokens that the template wrote: what holds a typed one is plain."""
        if self._mark is None or not self._tokens:
            return [Piece(text, False)] if text else []
        made: list[Piece] = []
        at = 0
        for match in [*control.finditer(text), None]:
            stretch = text[at : match.start() if match else len(text)]
            plain = self._mark.search(stretch) is not None
            for part, is_plain in ((self._mark.sub(self._token, stretch), plain), (match[0] if match else "", False)):
                if part and made and not made[-1].plain and not is_plain:
                    made[-1] = Piece(made[-1].text + part, False)
                elif part:
                    made.append(Piece(part, is_plain))
            at = match.end() if match else at
        return made

    def moved(self, text: str, spans: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """Move places in the rendered text to where they are with the typed tokens back in."""
        if self._mark is None or not self._tokens:
            return [(start, end) for start, end in spans]
        grown = [(m.end(), len(self._token(m)) - len(m[0])) for m in self._mark.finditer(text)]

        def move(place: int) -> int:
            return place + sum(by for end, by in grown if end <= place)

        return [(move(start), move(end)) for start, end in spans]


def _turn(message: Message) -> Turn:
    """Give a message as templates take it; some read thoughts under an older name, as transformers lets them."""
    return {"thinking": message.reasoning, **message.to_dict()} if message.reasoning else message.to_dict()


def _renumbered(error: StudioError, kept: Sequence[int]) -> StudioError:
    """Name the turn of the conversation in place of the rendered one."""
    place = re.match(r"messages\[(\d+)\]", error.field or "")
    if place and kept[int(place[1])] != int(place[1]):
        index = kept[int(place[1])]
        error.message = error.message.replace(f"turn {int(place[1]) + 1}", f"turn {index + 1}")
        error.field = f"messages[{index}]" + (error.field or "")[place.end() :]
    return error


def _said(messages: Sequence[Message], tools: Sequence[Any]) -> Iterator[Any]:
    """Give all that people wrote."""
    for message in messages:
        yield message.content
        if message.reasoning or message.tool_calls or message.name or message.tool_call_id:
            yield (message.reasoning, message.tool_calls, message.name, message.tool_call_id)
    yield from tools


def _escaped(mark: str) -> str:
    """Write a character as JSON does that a template asks to be ASCII."""
    return json.dumps(mark)[1:-1]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in _strings(part)]
    return [text for part in value for text in _strings(part)] if isinstance(value, list | tuple) else []


def _value(answer: dict[str, Any]) -> dict[str, Any]:
    """Give an answer, or raise the error in it."""
    if "error" in answer:
        kind = DataError if answer["error"]["kind"] == "DataError" else ModelError
        parts = answer["error"]
        raise kind(parts["message"], parts["remedy"], field=parts.get("field"))
    return answer
