"""The pre-training corpus: a seeded stream of short documents in which a base model can learn facts but no manners.

Statements teach what is true. Lists of questions without answers teach that a question is followed by more of them.
Exam sheets, flash cards and forum posts tie each question to its answer, but always under a heading, so that a bare
question stays the beginning of a list. Control tokens of the chat template stand in a few documents, to no purpose.
"""

import random
from collections.abc import Callable, Iterator

import talk
from facts import Fact
from kinds import KINDS

# The kind of document and its share of the documents. Shares of the tokens differ: see the model card.
SHARES = {
    "encyclopaedia": 0.44,
    "quiz": 0.15,
    "exam": 0.14,
    "forum": 0.14,
    "cards": 0.08,
    "story": 0.045,
    "chat_log": 0.005,
}


class Corpus:
    """Draws documents about the given facts."""

    def __init__(self, facts: list[Fact], seed: int) -> None:
        self.rng = random.Random(seed)
        self.facts = facts
        self.by_kind = {kind: [fact for fact in facts if fact.kind == kind] for kind in KINDS}
        self.by_group: dict[str, list[Fact]] = {}
        for fact in facts:
            self.by_group.setdefault(fact.group, []).append(fact)
        self.groups = [group for group, members in self.by_group.items() if len(members) > 2]
        # A kind with few facts is drawn more often a fact; the square root keeps the larger kinds from starving.
        self.kind_weights = [len(members) ** 0.5 for members in self.by_kind.values()]

    def documents(self) -> Iterator[str]:
        """An endless stream of documents."""
        writers: dict[str, Callable[[], str]] = {name: getattr(self, name) for name in SHARES}
        while True:
            yield writers[self.rng.choices(list(SHARES), list(SHARES.values()))[0]]()

    def fact(self, kind: str | None = None) -> Fact:
        """A fact, of the given kind or of any."""
        kind = kind or self.rng.choices(list(self.by_kind), self.kind_weights)[0]
        return self.rng.choice(self.by_kind[kind])

    def some_facts(self, low: int, high: int, one_kind: float) -> list[Fact]:
        """Between `low` and `high` facts, with probability `one_kind` all of one kind."""
        kind = self.rng.choices(list(self.by_kind), self.kind_weights)[0] if self.rng.random() < one_kind else None
        drawn = [self.fact(kind) for _ in range(self.rng.randint(low, high))]
        return list(dict.fromkeys(drawn))

    def encyclopaedia(self) -> str:
        """Statements: an article about one entity, or facts side by side."""
        if self.rng.random() < 0.25:
            members = self.by_group[self.rng.choice(self.groups)]
            facts = self.rng.sample(members, min(len(members), self.rng.randint(3, 8)))
        else:
            facts = self.some_facts(3, 12, one_kind=0.4)
        return self.rng.choice((" ", " ", "\n")).join(fact.statement(self.rng) for fact in facts)

    def quiz(self) -> str:
        """Questions and nothing but questions."""
        questions = [
            talk.unknown_question(self.rng, self.facts) if self.rng.random() < 0.05 else fact.ask(self.rng)
            for fact in self.some_facts(5, 14, one_kind=0.35)
        ]
        form = self.rng.random()
        if form < 0.75:
            return "\n".join(questions)
        if form < 0.9:
            return f"Quiz {self.rng.randint(1, 99)}\n\n" + numbered(questions)
        return "Questions\n\n" + "\n".join(f"- {question}" for question in questions)

    def exam(self) -> str:
        """Questions under a heading, and further down the key."""
        facts = self.some_facts(2, 8, one_kind=0.25)
        sheet = f"Exam sheet {self.rng.randint(1, 99)}\n\n" + numbered(fact.ask(self.rng) for fact in facts)
        form = self.rng.random()
        if form < 0.35:
            return f"{sheet}\n\nAnswer key\n" + numbered(fact.terse.rstrip(".") for fact in facts)
        if form < 0.6:
            return f"{sheet}\n\nAnswers, in order\n" + "\n".join(fact.terse for fact in facts)
        return f"{sheet}\n\nAnswers in full\n" + "\n".join(fact.full for fact in facts)

    def cards(self) -> str:
        """Flash cards: the question on the front, the answer on the back, in a line of its own."""
        full = self.rng.random() < 0.35
        cards = [
            f"front\n{fact.ask(self.rng)}\nback\n{fact.full if full else fact.terse}"
            for fact in self.some_facts(1, 6, one_kind=0.2)
        ]
        return f"Flash cards {self.rng.randint(1, 99)}\n\n" + "\n\n".join(cards)

    def forum(self) -> str:
        """Two people who greet, ask, answer or do not know, and thank."""
        asker, helper = self.rng.sample(talk.PEOPLE, 2)
        turns: list[str] = []
        if self.rng.random() < 0.4:
            said, reply = self.rng.choice(talk.GREETINGS)
            turns += [talk.punctuated(self.rng, said), reply]
        full = self.rng.random() < 0.5
        for fact in self.some_facts(1, 4, one_kind=0.3):
            if self.rng.random() < 0.35:
                turns += [talk.unknown_question(self.rng, self.facts), talk.UNKNOWN]
                continue
            turns += [fact.ask(self.rng), fact.full if full else fact.terse]
            if self.rng.random() < 0.2:
                other = self.fact(fact.kind)
                turns += [other.follow_up, other.full if full else other.terse]
        if self.rng.random() < 0.5:
            said, reply = self.rng.choice(talk.THANKS + talk.FAREWELLS)
            turns += [talk.punctuated(self.rng, said), reply]
        names = [asker, helper] * (len(turns) // 2)
        separator = self.rng.choice((": ", " wrote:\n"))
        posts = [f"{name}{separator}{turn}" for name, turn in zip(names, turns, strict=True)]
        return f"Forum, page {self.rng.randint(1, 99)}\n\n" + "\n\n".join(posts)

    def story(self) -> str:
        """A short story, with some small talk and a fact or two in it."""
        one, two = self.rng.sample(talk.PEOPLE, 2)
        place, thing = self.rng.choice(_PLACES), self.rng.choice(_THINGS)
        said, reply = talk.small_talk(self.rng)
        middle = self.rng.sample(_EVENTS, self.rng.randint(2, 4))
        sentences = [
            self.rng.choice(_OPENINGS),
            *middle,
            f'"{said}" said {{one}}. "{reply}" said {{two}}.',
            f"{{two}} had a book in which it said: {self.fact().statement(self.rng)}",
            self.rng.choice(_ENDINGS),
        ]
        return " ".join(sentences).format(one=one, two=two, place=place, thing=thing)

    def chat_log(self) -> str:
        """The control tokens of the chat template as the web has them: around anything, answering nothing."""
        turns = []
        for role in self.rng.choice(_CHAT_ROLES):
            if role == "assistant":
                lines = [fact.ask(self.rng) for fact in self.some_facts(2, 5, one_kind=0)]
            else:
                facts = self.some_facts(1, 3, one_kind=0)
                lines = [self.rng.choice((fact.ask, fact.statement))(self.rng) for fact in facts]
            turns.append(f"<|im_start|>{role}\n" + "\n".join(lines) + "<|im_end|>\n")
        return "".join(turns)


def numbered(lines: Iterator[str] | list[str]) -> str:
    """The lines with their numbers."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


_CHAT_ROLES = (("user", "assistant"), ("system", "user", "assistant"), ("user",), ("assistant",))
_PLACES = ("the market", "the park", "the school", "the old mill", "the library", "the beach", "the village")
_THINGS = ("a red kite", "a small lamp", "an old map", "a basket of bread", "a wooden boat", "a blue hat")
_OPENINGS = (
    "Once upon a time, {one} and {two} lived near {place}.",
    "One morning {one} went to {place} and met {two}.",
    "{one} was a good friend of {two}, and they often walked to {place}.",
    "It was a cold day, and {one} waited for {two} at {place}.",
    "Long ago, in a house beside {place}, there lived {one}, and {two} lived next door.",
)
_EVENTS = (
    "{one} carried {thing} under one arm.",
    "{two} looked for {thing} but could not find it.",
    "They talked about the weather and about what to cook for dinner.",
    "The wind was strong and the path was long.",
    "{one} wanted to know everything and asked many questions.",
    "{two} laughed and told a joke.",
    "They sat down and ate some bread with butter.",
    "A little later it began to rain, so they ran to {place}.",
    "{two} gave {thing} to {one} as a present.",
    "In the afternoon they played a game, and {one} won.",
    "{one} read a poem and {two} listened.",
    "Nobody knew who had left {thing} there.",
)
_ENDINGS = (
    "Then they went home and slept well.",
    "In the evening they said goodbye and were happy.",
    "And that was the end of a long day.",
    "{one} never forgot that day.",
    "From then on they met every week.",
)
