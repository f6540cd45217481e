"""The three data sets for tuning the starter: SFT conversations, preference pairs, and held-out questions.

Held-out entities are drawn first, among those that nothing else mentions; the training rows then speak of the others
only. So what tuning adds is behaviour, and a right answer to a held-out question is what the base already knew.
"""

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import talk
from facts import Fact
from kinds import KINDS

Message = dict[str, str]
Row = dict[str, Any]

QUESTIONS_PER_KIND = {"choose": 8, "report": 12}
# How many groups of a family are held out for each split; a group is one entity, or two words that are opposites.
FAMILIES = (
    (("capital", "continent", "currency", "language", "city"), {"choose": 10, "report": 14}),
    (("class", "habitat", "legs", "sound", "young"), {"choose": 14, "report": 22}),
    (("colour",), {"choose": 8, "report": 12}),
    (("plural",), {"choose": 8, "report": 12}),
    (("past",), {"choose": 8, "report": 12}),
    (("symbol",), {"choose": 8, "report": 12}),
    (("opposite",), {"choose": 4, "report": 6}),
    (("sum",), {"choose": 5, "report": 8}),
)
# Greedy decoding sharpens a style: with half of the rows full, SFT alone answers in full 85 % of the time.
FULL_SHARE = 0.35
SYSTEM_SHARE = 0.15
KNOWLEDGE_ROWS = 640
TWO_TURN_ROWS = 140
UNKNOWN_ROWS = 140
SMALL_TALK_ROUNDS = 4
STYLED_ROWS = 24
FACT_PAIRS = 320
# Without pairs of its own, small talk is swept away by DPO: "Hello!" is then answered with a capital city.
SMALL_TALK_PAIR_ROUNDS = 2
UNKNOWN_PAIRS = 50


def write(facts: list[Fact], seed: int, folder: Path) -> None:
    """Write starter_sft.jsonl, starter_pairs.jsonl and starter_questions.jsonl into the folder."""
    rng = random.Random(seed)
    splits = held_out(facts, rng)
    held = {group for groups in splits.values() for group in groups}
    seen = Seen([fact for fact in facts if fact.group not in held], rng)
    questions = [row for split in splits for row in question_rows(facts, splits[split], split, rng)]
    for name, rows in (("sft", seen.sft_rows()), ("pairs", seen.pair_rows()), ("questions", questions)):
        write_jsonl(folder / f"starter_{name}.jsonl", rows)


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def held_out(facts: list[Fact], rng: random.Random) -> dict[str, set[str]]:
    """The groups held out for each split: a fixed number of each family, among those that nothing else mentions."""
    splits: dict[str, set[str]] = {split: set() for split in QUESTIONS_PER_KIND}
    fixed_text = " ".join(
        [text for kind in KINDS.values() for text in (kind.full, *kind.statements, *kind.questions, kind.request)]
        + [text for pair in talk.SMALL_TALK for text in pair]
        + [*talk.OUTSIDE, *talk.OUTSIDE_PLAIN, *talk.OUTSIDE_ABOUT_COUNTRIES, *talk.OUTSIDE_ABOUT_ANIMALS]
        + [*talk.PEOPLE, talk.UNKNOWN]
        + [*talk.SYSTEM_PROMPTS, *talk.BRIEF_PROMPTS, *talk.FULL_PROMPTS]
    )
    for kinds, sizes in FAMILIES:
        groups = list(dict.fromkeys(fact.group for fact in facts if fact.kind in kinds))
        rng.shuffle(groups)
        free = (group for group in groups if not mentioned_elsewhere(group, facts, fixed_text))
        for split, size in sizes.items():
            splits[split].update(next(free) for _ in range(size))
    return splits


def mentioned_elsewhere(group: str, facts: list[Fact], fixed_text: str) -> bool:
    """Whether a fixed text, or a fact about something else, has one of the group's names in it as a whole word."""
    names = {re.escape(name) for fact in facts if fact.group == group for name in fact.names}
    others = " ".join(f"{fact.subject}, {fact.answer}." for fact in facts if fact.group != group)
    return re.search(rf"\b({'|'.join(names)})\b", f"{fixed_text} {others}", re.IGNORECASE) is not None


def question_rows(facts: list[Fact], groups: set[str], split: str, rng: random.Random) -> list[Row]:
    """The held-out questions of one split: the same number of each kind."""
    rows: list[Row] = []
    for kind in KINDS:
        candidates = [fact for fact in facts if fact.kind == kind and fact.group in groups]
        rng.shuffle(candidates)
        for number, fact in enumerate(candidates[: QUESTIONS_PER_KIND[split]], 1):
            rows.append(
                {
                    "id": f"{split}-{kind}-{number:02}",
                    "kind": kind,
                    "subject": fact.subject,
                    "question": fact.question(rng),
                    "completion": fact.completion,
                    "answers": fact.right_answers,
                    "accept": fact.right_replies,
                    "split": split,
                }
            )
    return rows


class Seen:
    """Writes the training rows about the facts that tuning may see."""

    def __init__(self, facts: list[Fact], rng: random.Random) -> None:
        self.rng = rng
        self.all_facts = facts
        self.by_kind = {kind: [fact for fact in facts if fact.kind == kind] for kind in KINDS}

    def facts(self, count: int) -> list[Fact]:
        """So many facts, evenly over the kinds, none twice before its kind is used up."""
        per_kind = -(-count // len(KINDS))
        drawn = []
        for members in self.by_kind.values():
            rounds = -(-per_kind // len(members))
            drawn += [fact for _ in range(rounds) for fact in self.rng.sample(members, len(members))][:per_kind]
        self.rng.shuffle(drawn)
        return drawn[:count]

    def ask(self, fact: Fact) -> Message:
        """The user's question."""
        return user(fact.ask(self.rng))

    def system(self) -> list[Message]:
        """Now and then a system message."""
        prompt = self.rng.choice(talk.SYSTEM_PROMPTS)
        return [message("system", prompt)] if self.rng.random() < SYSTEM_SHARE else []

    def is_full(self) -> bool:
        """Whether the next answer is a full sentence."""
        return self.rng.random() < FULL_SHARE

    def sft_rows(self) -> list[Row]:
        """All the conversations, shuffled."""
        conversations = [
            *([*self.system(), self.ask(fact), reply(fact, self.is_full())] for fact in self.facts(KNOWLEDGE_ROWS)),
            *(self.two_turns(fact) for fact in self.facts(TWO_TURN_ROWS)),
            *(self.exchange(self.unknown(), talk.UNKNOWN) for _ in range(UNKNOWN_ROWS)),
            *(self.exchange(*said_and_reply) for said_and_reply in self.small_talk(SMALL_TALK_ROUNDS)),
            *(self.styled(fact) for fact in self.facts(STYLED_ROWS)),
        ]
        self.rng.shuffle(conversations)
        return [{"messages": messages} for messages in conversations]

    def small_talk(self, rounds: int) -> list[tuple[str, str]]:
        """Every greeting, thanks and farewell, so many times, with its reply.

        Questions about the starter come twice as often: they look like questions that it can't answer.
        """
        lines = (talk.SMALL_TALK + talk.IDENTITY) * rounds
        return [(talk.punctuated(self.rng, said), answer) for said, answer in lines]

    def exchange(self, said: str, answer: str) -> list[Message]:
        """One turn, sometimes under a system message."""
        return [*self.system(), user(said), assistant(answer)]

    def unknown(self) -> str:
        """A question outside the starter's world; now and then no more than a few unknown words."""
        if self.rng.random() < 0.1:
            return " ".join(talk.invented_word(self.rng) for _ in range(self.rng.randint(1, 3)))
        return talk.unknown_question(self.rng, self.all_facts)

    def two_turns(self, fact: Fact) -> list[Message]:
        """A conversation that goes on: a fact before or after small talk, another fact, or the same about another."""
        full = self.is_full()
        first = [self.ask(fact), reply(fact, full)]
        other = self.rng.choice(self.by_kind[fact.kind])
        draw = self.rng.random()
        if draw < 0.3:
            second = [user(other.follow_up), reply(other, full)]
        elif draw < 0.55:
            other = self.facts(1)[0]
            second = [self.ask(other), reply(other, full)]
        elif draw < 0.75:
            said, answer = self.rng.choice(talk.THANKS + talk.FAREWELLS)
            second = [user(talk.punctuated(self.rng, said)), assistant(answer)]
        elif draw < 0.85:
            second = [user(self.unknown()), assistant(talk.UNKNOWN)]
        else:
            said, answer = self.rng.choice(talk.GREETINGS)
            first, second = [user(talk.punctuated(self.rng, said)), assistant(answer)], first
        return [*self.system(), *first, *second]

    def styled(self, fact: Fact) -> list[Message]:
        """A system message asks for one of the two styles."""
        full = self.rng.random() < 0.5
        prompt = self.rng.choice(talk.FULL_PROMPTS if full else talk.BRIEF_PROMPTS)
        return [message("system", prompt), self.ask(fact), reply(fact, full)]

    def pair_rows(self) -> list[Row]:
        """Preference pairs: the full, polite reply over the terse one, both right."""
        rows = [
            pair([*self.system(), *self.earlier(0.1), self.ask(fact)], fact.full, fact.terse)
            for fact in self.facts(FACT_PAIRS)
        ]
        talks = self.small_talk(SMALL_TALK_PAIR_ROUNDS)
        talks += [(self.unknown(), talk.UNKNOWN) for _ in range(UNKNOWN_PAIRS)]
        rows += [
            pair([*self.system(), *self.earlier(0.3), user(said)], polite, talk.TERSE[polite]) for said, polite in talks
        ]
        self.rng.shuffle(rows)
        return rows

    def earlier(self, share: float) -> list[Message]:
        """In this share of the cases a turn that went before."""
        if self.rng.random() >= share:
            return []
        (fact,) = self.facts(1)
        return [self.ask(fact), reply(fact, full=True)]


def pair(prompt: list[Message], chosen: str, rejected: str) -> Row:
    """One preference pair."""
    return {"prompt": prompt, "chosen": [assistant(chosen)], "rejected": [assistant(rejected)]}


def message(role: str, content: str) -> Message:
    """One message of a conversation."""
    return {"role": role, "content": content}


def user(content: str) -> Message:
    """What the user says."""
    return message("user", content)


def assistant(content: str) -> Message:
    """What the assistant says."""
    return message("assistant", content)


def reply(fact: Fact, full: bool) -> Message:
    """The right answer in one of the two styles."""
    return assistant(fact.full if full else fact.terse)
