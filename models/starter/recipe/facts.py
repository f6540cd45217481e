"""The facts of the starter's world, read from facts.toml, and how one is put into words."""

import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from kinds import KINDS

FACTS_FILE = Path(__file__).with_name("facts.toml")
LARGEST_TERM = 12
ANIMAL_KINDS = ("class", "habitat", "legs", "sound", "young")
COUNTRY_KINDS = ("capital", "continent", "currency", "language")
# What counts as right beside the word itself.
ALSO_RIGHT = {"zero": ("no", "none"), "grey": ("gray",), "rouble": ("ruble",)}


@dataclass(frozen=True)
class Fact:
    """One fact. Facts with the same `group` are about the same entity and are held out together."""

    kind: str
    subject: str
    answer: str
    group: str

    @property
    def names(self) -> tuple[str, ...]:
        """The words by which a text would mention this fact's entity.

        An answer counts when it belongs to this subject alone; Europe or a calf are shared and belong to nobody.
        """
        if self.kind == "sum":
            x, y = self.subject.split(" plus ")
            return tuple(form for a, b in ((x, y), (y, x)) for form in (f"{a} plus {b}", f"{a} and {b}", f"{a} + {b}"))
        bare = re.sub(r"^(a|an|the) ", "", self.subject)
        own_answer = self.kind in ("capital", "opposite", "plural", "past", "symbol")
        return (bare, self.answer) if own_answer else (bare,)

    def say(self, template: str) -> str:
        """Fill one wording of this fact's kind."""
        x, _, y = self.subject.partition(" plus ")
        return template.format(
            s=self.subject,
            S=capital(self.subject),
            an_s=with_article(self.subject),
            An_s=capital(with_article(self.subject)),
            a=self.answer,
            A=capital(self.answer),
            an_a=with_article(self.answer),
            An_a=capital(with_article(self.answer)),
            x=x,
            y=y,
        )

    @property
    def full(self) -> str:
        """The whole, polite sentence."""
        return self.say(KINDS[self.kind].full)

    @property
    def terse(self) -> str:
        """The answer alone."""
        return self.say(KINDS[self.kind].terse)

    @property
    def completion(self) -> str:
        """The whole sentence up to the answer."""
        return self.say(KINDS[self.kind].full.split("{a}")[0].rstrip())

    @property
    def right_answers(self) -> list[str]:
        """Every short answer that counts as right."""
        return [self.answer, *ALSO_RIGHT.get(self.answer, ())]

    @property
    def right_replies(self) -> list[str]:
        """Every whole reply that counts as right: the terse forms and each wording of the fact."""
        kind = KINDS[self.kind]
        terse = [form for answer in self.right_answers for form in (capital(answer), f"It is {answer}.")]
        if self.kind == "legs":
            terse.append(f"{capital(self.answer)} legs.")
        return [self.terse, *terse, self.full, *(self.say(template) for template in kind.statements)]

    def statement(self, rng: random.Random) -> str:
        """The fact in one of its wordings; the full sentence is as common as two others."""
        kind = KINDS[self.kind]
        return self.say(rng.choice((kind.full, kind.full, *kind.statements)))

    def question(self, rng: random.Random) -> str:
        """A question that this fact answers."""
        return self.say(rng.choice(KINDS[self.kind].questions))

    def ask(self, rng: random.Random) -> str:
        """The fact asked as people ask: mostly a plain question, at times a request or something less tidy."""
        return asked_casually(rng, self.question(rng), self.say(KINDS[self.kind].request))

    @property
    def follow_up(self) -> str:
        """The short question that asks the same of this fact's subject."""
        return f"And {'the ' if self.kind in ANIMAL_KINDS else ''}{self.subject}?"


def asked_casually(rng: random.Random, question: str, request: str) -> str:
    """The question in one case of four made a request, contracted, typed carelessly or preceded by a greeting."""
    draw = rng.random()
    if draw < 0.05:
        return request
    if draw < 0.10:
        polite = rng.choice(("Please t{}.", "Can you t{}?", "Could you t{}?"))
        return polite.format(request[1:].rstrip("."))
    if draw < 0.15:
        return question.replace("What is", "What's")
    if draw < 0.20:
        return question.lower().rstrip("?")
    if draw < 0.23:
        return rng.choice(("Hello! ", "Hi, ", "Please: ")) + question
    return question


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def load_facts(path: Path = FACTS_FILE) -> list[Fact]:
    """Every fact of the world: those of the file and the sums of two terms up to `LARGEST_TERM`."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = {
        name: [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
        for name, table in tables.items()
    }
    facts: list[Fact] = []
    for country, *cells, cities in rows["countries"]:
        facts += [Fact(kind, country, cell, country) for kind, cell in zip(COUNTRY_KINDS, cells, strict=True)]
        facts += [Fact("city", city, country, country) for city in cities.split(", ")]
    for animal, *cells in rows["animals"]:
        facts += [Fact(kind, animal, cell, animal) for kind, cell in zip(ANIMAL_KINDS, cells, strict=True)]
    for kind, table in (("colour", "colours"), ("plural", "plurals"), ("past", "pasts"), ("symbol", "symbols")):
        facts += [Fact(kind, subject, answer, subject) for subject, answer in rows[table]]
    for word, opposite in rows["opposites"]:
        facts += [Fact("opposite", word, opposite, word), Fact("opposite", opposite, word, word)]
    for x in range(1, LARGEST_TERM + 1):
        for y in range(1, LARGEST_TERM + 1):
            facts.append(Fact("sum", f"{x} plus {y}", str(x + y), f"{min(x, y)} plus {max(x, y)}"))
    return [fact for fact in facts if "-" not in (fact.subject, fact.answer)]
