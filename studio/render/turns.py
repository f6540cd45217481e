"""Find what is learned in a rendered conversation: which stretch of the text each assistant turn is.

Works on text alone, with a function that renders; so it runs beside the template, in the child for foreign ones.

A turn is found by rendering the conversation up to it with the generation prompt, and through it. The first must be the
beginning of the second, and the second, up to the token that ends the turn, of the whole. Where a template writes an
earlier turn differently once the conversation goes on, the conversation is split: each learned turn gets a row of its
own that begins exactly as the prompt would in a chat. Our own templates mark the turns while they render, and those
that never rewrite are taken at their word; tests prove it for each.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from studio.errors import DataError

Turn = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A rendered conversation, and the stretches that the template itself marks as written by the assistant."""

    text: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A text to learn from: the first `upto` turns of a conversation, learned in `spans` (start, end)."""

    text: str
    spans: list[tuple[int, int]]
    upto: int


Render = Callable[[Sequence[Turn], bool], Rendered]

OTHER = "Choose another template family (the setting `template`), or leave such rows out."
TOOLS = "Choose a template family with tools (chatml, qwen2.5, llama3.1)"
_SHOWN = 40  # characters of what differs


class Rewritten(Exception):
    """An earlier turn is written differently in the whole conversation; `index` is the turn."""

    def __init__(self, index: int) -> None:
        self.index = index


def rows(
    render: Render, turns: Sequence[Turn], learned: Sequence[int], stops: Sequence[str], *, linear: bool, split: bool
) -> list[Row]:
    """Render a conversation as the rows that teach its `learned` turns: one, or one a turn where `split` allows it.

    `stops` are the texts of the tokens that end an answer, the template's own first; a turn that the template leaves
    open gets that one. `linear` templates are trusted to append only. Raises DataError naming the turn.
    """
    whole = render(turns, False)
    assistants = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
    if linear and len(whole.marks) == len(assistants):
        marks = dict(zip(assistants, whole.marks, strict=True))
        if all(whole.text.endswith(tuple(stops), *marks[index]) for index in learned):
            return [Row(whole.text, [marks[index] for index in learned], len(turns))]
    if list(learned) == [len(turns) - 1]:
        return [_alone(render, turns, stops, whole)]
    try:
        return [_together(render, turns, learned, stops, whole)]
    except Rewritten as found:
        if not split and len(learned) > 1:
            raise DataError(
                f"The chat template writes turn {found.index + 1} differently once the conversation goes on, "
                "so it cannot be learned as it will be asked.",
                "Keep one answer per conversation, train on the last answer only (the setting `train_on`), or choose "
                "another template family.",
                field=f"messages[{found.index}]",
            ) from None
    try:
        return [_alone(render, turns[: index + 1], stops) for index in learned]
    except DataError as error:
        if len(learned) > 1 and _last_works(render, turns[: learned[-1] + 1], stops):
            error.remedy = (
                "Train on the last answer only (the setting `train_on`): that one can be. Or: " + error.remedy
            )
        raise


def _last_works(render: Render, turns: Sequence[Turn], stops: Sequence[str]) -> bool:
    try:
        _alone(render, turns, stops)
    except DataError:
        return False
    return True


def _together(
    render: Render, turns: Sequence[Turn], learned: Sequence[int], stops: Sequence[str], whole: Rendered
) -> Row:
    """Find all turns in one text. Raises Rewritten where it is not what a chat would have shown."""
    text, spans = whole.text, []
    for index in learned:
        last = index == len(turns) - 1
        if last:
            row = _alone(render, turns, stops, whole)
            if not row.text.startswith(text[: row.spans[0][0]]):
                raise Rewritten(index)
            text = row.text
            spans += row.spans
            continue
        through = render(turns[: index + 1], False)
        before = _before(render, turns[: index + 1], through)
        start, end = _span(before, through, turns[index], stops, index)
        if end is None:  # some templates write the end of a turn with the next one
            tail = text[len(through.text) :].lstrip() if text.startswith(through.text) else ""
            stop = next((stop for stop in stops if tail.startswith(stop)), None)
            if stop is None:
                raise Rewritten(index)
            end = len(text) - len(tail) + len(stop)
        elif not text.startswith(through.text[:end]):
            raise Rewritten(index)
        spans.append((start, end))
    return Row(text, spans, len(turns))


def _alone(render: Render, turns: Sequence[Turn], stops: Sequence[str], whole: Rendered | None = None) -> Row:
    """Make the row of a conversation's last turn: the prompt as a chat gives it, the turn, the token that ends it."""
    index = len(turns) - 1
    through = whole or render(turns, False)
    before = _before(render, turns, through)
    if not through.text.startswith(before):
        before, through = _transplanted(render, turns, before, through, index)
    start, end = _span(before, through, turns[index], stops, index)
    if end is None:
        text = through.text.rstrip() if len(through.text.rstrip()) > start else through.text
        return Row(text + stops[0], [(start, len(text) + len(stops[0]))], len(turns))
    return Row(through.text, [(start, end)], len(turns))


def _before(render: Render, turns: Sequence[Turn], through: Rendered) -> str:
    """Give the prompt of the last turn; a first turn that is an answer has none, and begins where its text does."""
    if len(turns) > 1:
        return render(turns[:-1], True).text
    return through.text[: max(0, through.text.find(turns[0]["content"].strip()))]


def _transplanted(
    render: Render, turns: Sequence[Turn], before: str, through: Rendered, index: int
) -> tuple[str, Rendered]:
    """Put the turn, as the template writes it after the last question alone, behind the prompt of the whole.

    Templates that move a system text into the question being asked no longer write it once there is an answer.
    """
    question = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=0)
    short = turns[question:]
    opened, closed = render(short[:-1], True).text if len(short) > 1 else "", render(short, False).text
    turn = closed.removeprefix(opened)
    if not opened or not closed.startswith(opened) or not through.text.endswith(turn):
        raise DataError(
            f"The chat template writes turn {index + 1} differently from how it is asked for: "
            f"{_difference(before, through.text, turns[index])}. So it cannot be learned as it will be asked.",
            OTHER,
            field=f"messages[{index}]",
        )
    return before, Rendered(before + turn)


def _difference(asked: str, written: str, turn: Turn) -> str:
    """Say what differs between the prompt of a turn and the text that holds the turn."""
    at = next(
        (i for i, (a, b) in enumerate(zip(asked, written, strict=False)) if a != b), min(len(asked), len(written))
    )
    opens = asked.rfind("<", 0, at)
    if opens >= 0 and ">" not in asked[opens:at]:
        at = opens  # not from the middle of a token
    prompt, there = (repr(text[at : at + _SHOWN]) if text[at:] else "nothing more" for text in (asked, written))
    stripped = "it leaves the thought of the turn out; " if _thought(turn) and _thought(turn) not in written else ""
    return f"{stripped}the prompt goes on with {prompt} and the conversation with {there}"


def _thought(turn: Turn) -> str:
    """Give what a turn thinks, in a field of its own or in its text."""
    text = turn.get("reasoning_content") or turn["content"].partition("</think>")[0].partition("<think>")[2]
    return str(text).strip()


def _span(before: str, through: Rendered, turn: Turn, stops: Sequence[str], index: int) -> tuple[int, int | None]:
    """Find a turn in the text that ends with it: (start, end behind the stop token or None where there is none)."""
    text, start = through.text, len(before)
    if not text.startswith(before):
        raise Rewritten(index)
    if through.marks and through.marks[-1][1] > start:
        start = max(start, through.marks[-1][0])
    at = start
    calls = turn.get("tool_calls") or ()
    said = [turn.get("reasoning_content"), turn.get("content"), *(_name(call) for call in calls)]
    for part in said:
        found = text.find(part.strip(), at) if part and part.strip() else -1
        at = found + len(part.strip()) if part and found >= 0 else at
    ends = [(text.find(stop, at), -len(stop)) for stop in stops if text.find(stop, at) >= 0]
    if not ends:
        return start, None
    place, length = min(ends)
    return start, place - length


def check_written(text: str, turns: Sequence[Turn], tools: Sequence[Any]) -> None:
    """Check that a rendering leaves no turn, no tool and no call out. Raises DataError naming what is missing."""
    for index, turn in enumerate(turns):
        content = turn["content"].strip()
        if content and content not in text and not _partly(content, text):
            raise DataError(
                f"The chat template {'changes' if _mostly(content, text) else 'leaves out'} what turn {index + 1} "
                f"({turn['role']}) says.",
                OTHER,
                field=f"messages[{index}]",
            )
        for call in turn.get("tool_calls") or ():
            if _name(call) not in text:
                raise DataError(
                    f"The chat template does not write the call of the tool {_name(call)!r} in turn {index + 1}.",
                    f"{TOOLS}, or leave such rows out.",
                    field=f"messages[{index}].tool_calls",
                )
    for number, tool in enumerate(tools):
        if _name(tool) not in text:
            raise DataError(
                f"The chat template does not write the tool {_name(tool)!r}.",
                f"{TOOLS}, take the tools out of the rows, or leave such rows out.",
                field=f"tools[{number}]",
            )


def _partly(content: str, text: str) -> bool:
    """Tell whether a line of it is there: a template may cut thoughts off, or write it as JSON."""
    lines = (line.strip() for line in content.splitlines())
    return any(line in text or json.dumps(line, ensure_ascii=False)[1:-1] in text for line in lines if line)


def _mostly(content: str, text: str) -> bool:
    """Tell whether most of its words are there, in whatever case: then it was rewritten, not left out."""
    words = content.lower().split()
    return 2 * sum(word in text.lower() for word in words) > len(words)


def _name(call: Any) -> str:
    """Give the name of a tool or of a call, "" where there is none."""
    inner = call.get("function", call) if isinstance(call, dict) else {}
    name = inner.get("name", "") if isinstance(inner, dict) else ""
    return name if isinstance(name, str) else ""
