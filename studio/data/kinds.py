"""What a record of one kind is as another: a pair is an answer to imitate, two rated answers, or a prompt."""

from __future__ import annotations

from studio.data.records import Conversation, Preference, Prompt, Rated, Record

#: The kinds that each kind can be read as, with what that leaves out, in words.
OTHERS: dict[tuple[str, str], str] = {
    ("preference", "sft"): "the rejected answers",
    ("preference", "kto"): "",
    ("preference", "prompt"): "the answers",
    ("kto", "sft"): "the labels, and the answers that were not wanted",
    ("kto", "prompt"): "the answers",
    ("sft", "prompt"): "the answers to imitate, but for the last: it is kept as the reference",
}


def as_kind(record: Record, kind: str) -> list[Record]:
    """Give a record as records of another kind; none where it has none (an unwanted answer to imitate)."""
    if isinstance(record, Preference):
        if kind == "sft":
            return [Conversation(record.prompt + record.chosen, record.line, record.tools)]
        if kind == "kto":
            sides = ((record.chosen, True), (record.rejected, False))
            return [Rated(record.prompt, said, label, record.line, record.tools) for said, label in sides]
        return [Prompt(record.prompt, record.line)]
    if isinstance(record, Rated):
        if kind == "sft":
            turns = record.prompt + record.completion
            return [Conversation(turns, record.line, record.tools)] if record.label else []
        return [Prompt(record.prompt, record.line)]
    if isinstance(record, Conversation):
        turns = record.messages
        last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=-1)
        reference = turns[-1].content if turns[-1].role == "assistant" else ""
        return [Prompt(turns[: last + 1], record.line, reference)] if last >= 0 else []
    return [record]
