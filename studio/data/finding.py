"""What the lint says: one finding in plain words, with what it does to training and what to do about it.

A finding is JSON: {"code", "level", "rows", "lines", "title", "problem", "remedy", "fix", "fixes", "examples",
"sampled"}. A fix is {"title"} with what it changes: "reading" (what is left out), "settings" (of the run) or "fill"
(names of placeholders to ask for); `fix` is the first of `fixes`, or None. `sampled` is the number of rows looked at
when it was not all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

ERROR, WARNING = "error", "warning"


@dataclasses.dataclass(frozen=True)
class Words:
    """How a finding is told; `one` and `many` are its title, `drop` says that such rows can be left out."""

    one: str
    many: str
    problem: str
    remedy: str
    drop: bool = False
    level: str = WARNING


WORDS: dict[str, Words] = {
    "duplicate": Words(
        "1 row repeats an earlier one",
        "{rows} rows repeat an earlier one",
        "A row that stands twice is learned twice, and is learned by heart sooner than the rest.",
        "Leave the copies out.",
        drop=True,
    ),
    "near_duplicate": Words(
        "1 row is nearly the same as an earlier one",
        "{rows} rows are nearly the same as an earlier one",
        "Rows that share most of their words count several times, and one of them held out says nothing about the "
        "others.",
        "Look at a few; leave the copies out unless their small differences are what you want to teach.",
        drop=True,
    ),
    "leak": Words(
        "1 held-out row has nearly the prompt of a training row",
        "{rows} held-out rows have nearly the prompt of a training row",
        "The held-out loss then measures what was learned by heart, and looks better than the model is.",
        "Keep rows with nearly the same prompt on one side.",
    ),
    "contradiction": Words(
        "1 row contradicts another",
        "{rows} rows contradict one another",
        "The same answers were judged both ways, so these rows pull against each other and teach nothing.",
        "Decide which judgement holds and delete the other.",
    ),
    "hidden_pair": Words(
        "1 prompt has both a wanted and an unwanted answer",
        "{rows} rows have a prompt with both a wanted and an unwanted answer",
        "A wanted and an unwanted answer to one prompt are a preference pair, which teaches more as a pair.",
        "Nothing has to be done; where there are many, make them a preference file and use DPO.",
    ),
    "white_equal": Words(
        "1 pair differs only in white space or case",
        "{rows} pairs differ only in white space or case",
        "Nothing else tells the better answer from the worse one, so white space or case is what is learned.",
        "Leave the pairs out, or write the worse answer.",
        drop=True,
    ),
    "length_bias": Words(
        "The chosen answers are mostly {side}",
        "The chosen answers are mostly {side}",
        "Preference tuning then learns the length before anything else: answers get {side} with every step.",
        "Add pairs that go the other way, or use a method that discounts length (SimPO).",
    ),
    "kto_imbalance": Words(
        "Wanted and unwanted answers are out of balance",
        "Wanted and unwanted answers are out of balance",
        "KTO learns mostly from the label that is more frequent unless the weights even it out (wanted to unwanted "
        "between 1:1 and 4:3).",
        "Set the weight, or add rows of the other label.",
    ),
    "one_label": Words(
        "Every row has the same label",
        "All {rows} rows have the same label",
        "KTO learns from the difference between wanted and unwanted answers, and here is none.",
        "Add rows of the other label, or train on the wanted answers with SFT.",
        level=ERROR,
    ),
    "assistant_first": Words(
        "In 1 row the assistant speaks first",
        "In {rows} rows the assistant speaks first",
        "Some templates refuse this, and a model is never asked that way in a chat.",
        "Put a user's turn before it, or leave the rows out.",
        drop=True,
    ),
    "role_order": Words(
        "In 1 row the turns are in an odd order",
        "In {rows} rows the turns are in an odd order",
        "Some templates refuse such a row, and a model never meets that order in a chat.",
        "Join or reorder the turns, or leave the rows out.",
        drop=True,
    ),
    "empty": Words(
        "1 row has an empty turn",
        "{rows} rows have an empty turn",
        "An answer to nothing teaches the model to answer something that was not asked.",
        "Fill the turns in, or leave the rows out.",
        drop=True,
    ),
    "mojibake": Words(
        "1 row has broken characters",
        "{rows} rows have broken characters",
        "A text that was read in the wrong encoding once (Ã© for é) is learned as it stands, and the model writes it.",
        "Export the data again as UTF-8, or leave the rows out.",
        drop=True,
    ),
    "control_characters": Words(
        "1 row has invisible control characters",
        "{rows} rows have invisible control characters",
        "They come from a broken escape or a copied page; the model learns to write them.",
        "Delete them, or leave the rows out.",
        drop=True,
    ),
    "no_break_space": Words(
        "1 row has no-break spaces",
        "{rows} rows have no-break spaces",
        "They look like spaces and are other tokens, so the same word is learned twice.",
        "Replace U+00A0 by a plain space, unless the language wants it.",
    ),
    "edge_space": Words(
        "In 1 row an answer begins or ends with white space",
        "In {rows} rows an answer begins or ends with white space",
        "Unless the template trims it, the model learns to begin or end its answers with it.",
        "Strip the answers.",
    ),
    "scripts": Words(
        "1 row is in another script than the rest",
        "{rows} rows are in another script than the rest",
        "A few rows in another language teach it hardly, and the model may answer in it where it should not.",
        "Leave them if they are meant; else delete them.",
    ),
    "pii": Words(
        "1 row seems to hold personal data",
        "{rows} rows seem to hold personal data",
        "A model can repeat what it was trained on, word for word, to anyone who asks.",
        "Replace such data by made-up values, or leave the rows out.",
        drop=True,
    ),
    "secret": Words(
        "1 row seems to hold a password or key",
        "{rows} rows seem to hold a password or key",
        "A model can repeat what it was trained on, word for word, to anyone who asks.",
        "Withdraw the key where it was issued, and leave the rows out.",
        drop=True,
    ),
    "foreign_markers": Words(
        "1 row holds the markers of a chat template",
        "{rows} rows hold the markers of a chat template",
        "The template writes its own markers around each turn; those in the text are learned as plain text, "
        "and the model will write them into its answers.",
        "Export the data as messages, without a template, or leave the rows out.",
        drop=True,
    ),
    "placeholder": Words(
        "1 row holds a placeholder",
        "{rows} rows hold placeholders",
        "A placeholder that is not filled in is learned as it stands: the model will write the braces.",
        "Fill them in, or leave the rows out.",
        drop=True,
    ),
    "calculator_marks": Words(
        "1 row has calculator marks",
        "{rows} rows have calculator marks",
        "Marks such as <<48/2=24>> are for a calculator tool; the model learns to write them.",
        "Delete them unless you use such a tool.",
    ),
    "refusal": Words(
        "1 answer is a stock refusal",
        "{rows} answers are stock refusals",
        "Answers such as 'As an AI language model ...' teach the model to refuse, also where it should not.",
        "Keep them only where a refusal is right.",
        drop=True,
    ),
    "short_answers": Words(
        "1 answer is shorter than three words",
        "{rows} answers are shorter than three words",
        "The model learns to answer as briefly as that.",
        "Fine for labels and facts; for a chat, add rows with whole answers.",
    ),
    "same_answer": Words(
        "1 row has the same answer as the others",
        "{rows} rows have the same answer",
        "Giving that answer to everything is the easiest thing to learn here.",
        "Balance the answers.",
    ),
    "nothing_learned": Words(
        "1 row has no token to learn",
        "{rows} rows have no token to learn",
        "All of it is masked: a prompt without an answer that counts.",
        "Add an answer, or leave the rows out.",
        level=ERROR,
    ),
    "template": Words(
        "The template refuses 1 row",
        "The template refuses {rows} rows",
        "It cannot be written as the model would see it in a chat.",
        "Mend the rows, choose another template, or leave the rows out.",
        level=ERROR,
    ),
    "too_long": Words(
        "1 row is too long, and nothing of it could be learned",
        "{rows} rows are too long, and nothing of them could be learned",
        "An answer is never cut, and none of these fits even without what stands before it.",
        "Raise max_length, or leave the rows out.",
        level=ERROR,
    ),
    "shortened": Words(
        "1 row is longer than max_length",
        "{rows} rows are longer than max_length",
        "It loses whole exchanges or the beginning of its prompt, so its answers are learned without them.",
        "Raise max_length if what is lost matters.",
    ),
    "control_tokens": Words(
        "In 1 row someone typed a control token of this model",
        "In {rows} rows someone typed a control token of this model",
        "It is read as plain text, in training and in chat: it neither ends a turn nor opens one.",
        "Nothing has to be done if the row is about such tokens; else delete them.",
    ),
    "split_turns": Words(
        "1 conversation becomes several rows",
        "{rows} conversations become several rows",
        "This template writes earlier turns differently once the conversation goes on, so each answer is learned in a "
        "row of its own, as it will be asked for in a chat.",
        "Nothing has to be done; an epoch takes longer than the number of conversations says.",
    ),
    "thoughts_dropped": Words(
        "The thoughts of 1 row are left out",
        "The thoughts of {rows} rows are left out",
        "This template has no place for what a model thinks before it answers, so only the answers are learned.",
        "Choose a template that has one (qwen3), or go on without the thoughts.",
    ),
    "system_moved": Words(
        "In 1 row the system text goes into the first question",
        "In {rows} rows the system text goes into the first question",
        "This template has no system turn; in a chat the same is done.",
        "Nothing has to be done; another template family keeps them apart.",
    ),
    "equal_tokens": Words(
        "In 1 pair both answers become the same tokens",
        "In {rows} pairs both answers become the same tokens",
        "The template trims what tells them apart, so there is nothing to learn.",
        "Leave the pairs out.",
        level=ERROR,
    ),
}

#: What `Reading.drop` may name. Rows that cannot be used at all are "bad": they never become records, or no examples.
DROPPABLE = frozenset({"bad", *(code for code, words in WORDS.items() if words.drop)})


def finding(
    code: str,
    rows: int,
    lines: Sequence[int],
    *,
    detail: str = "",
    fixes: Sequence[dict[str, Any]] | None = None,
    examples: Sequence[str] = (),
    sampled: int | None = None,
    **names: str,
) -> dict[str, Any]:
    """Make a finding; without `fixes` it offers to leave the rows out where that is possible."""
    words = WORDS[code]
    if fixes is None:
        fixes = [leave_out(code)] if words.drop else []
    problem = words.problem.format(**names) if names else words.problem
    return {
        "code": code,
        "level": words.level,
        "rows": rows,
        "lines": list(lines),
        "title": (words.one if rows == 1 else words.many).format(rows=f"{rows:,}", **names),
        "problem": f"{problem} {detail}".strip(),
        "remedy": words.remedy,
        "fix": fixes[0] if fixes else None,
        "fixes": list(fixes),
        "examples": list(examples),
        "sampled": sampled,
    }


def single(code: str) -> str:
    """Tell a finding about one row: "this row is too long, ..."."""
    title = WORDS[code].one.replace("1 ", "this ", 1)
    return title[0].lower() + title[1:]


def leave_out(code: str) -> dict[str, Any]:
    """Make the fix that leaves such rows out."""
    assert code in DROPPABLE, code
    return {"title": "Leave them out", "reading": {"drop": [code]}}
