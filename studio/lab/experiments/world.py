"""The starter's small world as the experiments use it: facts to train on, questions to measure on, other wordings.

Facts come from the starter's preference pairs, questions from its held-out ones: no fact is about a subject that a
question is about.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import re
from collections.abc import Sequence
from typing import Any

from studio import paths
from studio.lab import demo

UNKNOWN = "Sorry, I do not know that."


@dataclasses.dataclass(frozen=True)
class Fact:
    """A question with its answer as words, and the sentence that says it: `before` + answer + `after`."""

    kind: str
    question: str
    answer: str
    before: str
    after: str
    right: tuple[str, ...] = ()

    def say(self, answer: str = "") -> str:
        """Give the whole sentence, with another answer if one is given."""
        return f"{self.before}{answer or self.answer}{self.after}"


def rows(name: str) -> list[dict[str, Any]]:
    """Read one of the starter's files."""
    path = paths.assets() / "data" / f"starter_{name}.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def questions(split: str = "report") -> list[dict[str, Any]]:
    """Give the held-out questions of a split: `choose` to find settings on, `report` to measure on."""
    return demo.load_questions(split)


@functools.cache
def _sentences() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Give the sentence of each kind as a pattern: what stands before the answer, the answer, what stands behind."""
    found: dict[str, re.Pattern[str]] = {}
    for row in questions("choose"):
        start = row["completion"]
        for part in row["subject"].split(" plus ") if row["kind"] == "sum" else [row["subject"]]:
            start = start.replace(part, "\0", 1)
        pattern = re.escape(start).replace("\0", ".+?")
        tail = r"( legs\.|\.)" if row["kind"] == "legs" else r"(\.)"
        found.setdefault(row["kind"], re.compile(rf"({pattern} )(.+?){tail}"))
    return tuple(found.items())


@functools.cache
def facts() -> tuple[Fact, ...]:
    """Give the facts that training may speak of, in the order of the file, each question once."""
    found: dict[str, Fact] = {}
    for row in rows("pairs"):
        asked, said = row["prompt"][-1]["content"], row["chosen"][-1]["content"]
        for kind, sentence in _sentences():
            if match := sentence.fullmatch(said):
                found.setdefault(asked, Fact(kind, asked, match[2], match[1], match[3], (match[2],)))
                break
    return tuple(found.values())


def held(split: str = "report") -> list[Fact]:
    """Give the held-out questions as facts; the sentence is cut before the answer, as the base completes it."""
    return [
        Fact(row["kind"], row["question"], row["answers"][0], f"{row['completion']} ", ".", tuple(row["answers"]))
        for row in questions(split)
    ]


def wrong(fact: Fact, among: Sequence[Fact], rng: random.Random) -> str:
    """Draw a wrong answer to a question: another one of its kind."""
    others = sorted({one.answer for one in among if one.kind == fact.kind} - {fact.answer, *fact.right})
    return rng.choice(others) if others else "nothing"


def typos(text: str, share: float, rng: random.Random) -> str:
    """Spoil a share of the letters as hurried fingers do: swapped with the next, left out, or typed twice."""
    letters, at = list(text), 0
    while at < len(letters):
        if letters[at].isalpha() and rng.random() < share:
            way = rng.choice(("swap", "drop", "double"))
            if way == "swap" and at + 1 < len(letters):
                letters[at], letters[at + 1] = letters[at + 1], letters[at]
            elif way == "drop":
                letters[at] = ""
            else:
                letters[at] *= 2
        at += 1
    return "".join(letters)


#: Things that are nowhere in the starter's world, for questions that nobody can answer.
_NOWHERE = (
    "Vendoria", "Maletto", "Quaskar", "Orsimund", "Tilvanor", "Brestolia", "Yandreth", "Polquist", "Karvoleen",
    "Umbresk", "Fendalia", "Zorvath",
)  # fmt: skip
_ASKED = (
    "What is the capital of {n}?",
    "Which currency is used in {n}?",
    "Who wrote the {n} letters?",
    "When did the war of {n} end?",
)


def unknowable() -> list[str]:
    """Give questions about what does not exist: the right answer is that it does not know."""
    return [asked.format(n=name) for name in _NOWHERE for asked in _ASKED]


def refuses(reply: str) -> bool:
    """Tell whether a reply says that it does not know."""
    return "do not know" in reply or "don't know" in reply


#: Made-up countries: so many as have names of their own. (First half, second half.)
_COUNTRIES = (("Bal", "Dor", "Fel", "Gar", "Hel", "Jor", "Lam", "Nor"), ("avia", "mund", "ester", "ovia"))
_TOLD = (
    "What is the capital of {s}?",
    "Which city is the capital of {s}?",
    "What is the name of the capital of {s}?",
    "Tell me the capital of {s}.",
)
_OTHERWISE = "What is the capital city of {s}?"


def new_facts(rng: random.Random) -> list[tuple[str, str, list[str], str]]:
    """Make up facts that no base knows: (country, its capital, wordings to teach it in, a wording to ask it in).

    The capitals are cities that the starter knows as those of other countries, so that only the tie is new.
    """
    cities = sorted({fact.answer for fact in (*facts(), *held("choose")) if fact.kind == "capital"})
    names = [f"{first}{second}" for first in _COUNTRIES[0] for second in _COUNTRIES[1]]
    rng.shuffle(names)
    drawn = [rng.choice(cities) for _ in names]
    return [
        (name, city, [asked.format(s=name) for asked in _TOLD], _OTHERWISE.format(s=name))
        for name, city in zip(names, drawn, strict=True)
    ]
