"""Pairs for the starter's reward model: what is better, where length does not tell.

In starter_pairs.jsonl the chosen answer is always the longer one, so a judge taught by them need only count. Here each
way in which an answer is better comes with another one in which length says the opposite, or nothing:

    a full sentence over a terse answer, both right             longer is better
    a full sentence over one that rambles on, both right        shorter is better
    a right sentence over a wrong one of the same form          as long
    a right terse answer over a wrong full sentence             shorter is better
    a refusal over an invented answer about an unknown thing    as long
    a polite reply over a curt one, and over one off the point  either
"""

import random
from pathlib import Path

import talk
from facts import Fact
from tuning_data import Message, Row, Seen, held_out, pair, user, write_jsonl

TERSE_PAIRS = 144
RAMBLING_PAIRS = 192
WRONG_PAIRS = 224
TERSE_BUT_RIGHT_PAIRS = 64
INVENTED_PAIRS = 96
# Kinds of fact in which another's answer is surely wrong: many an animal lives in several places, or barks.
CLEAR = (
    "capital", "continent", "currency", "language", "city", "class", "legs", "colour", "opposite", "plural", "past",
    "sum", "symbol",
)  # fmt: skip


def write(facts: list[Fact], seed: int, folder: Path) -> None:
    """Write starter_ranked.jsonl into the folder; what the other sets hold out is held out here too."""
    held = {group for groups in held_out(facts, random.Random(seed)).values() for group in groups}
    seen = Seen([fact for fact in facts if fact.group not in held], random.Random(f"{seed} ranked"))
    write_jsonl(folder / "starter_ranked.jsonl", rows(seen))


def rows(seen: Seen) -> list[Row]:
    """All pairs, shuffled."""
    rng = seen.rng
    made = [pair(asked(seen, fact), fact.full, fact.terse) for fact in seen.facts(TERSE_PAIRS)]
    made += [pair(asked(seen, fact), fact.full, rambling(seen, fact)) for fact in seen.facts(RAMBLING_PAIRS)]
    made += [pair(asked(seen, fact), fact.full, wrong(seen, fact).full) for fact in clear(seen, WRONG_PAIRS)]
    made += [pair(asked(seen, fact), fact.terse, wrong(seen, fact).full) for fact in clear(seen, TERSE_BUT_RIGHT_PAIRS)]
    made += [invented(seen) for _ in range(INVENTED_PAIRS)]
    for number, (said, polite) in enumerate(seen.small_talk(2)):
        other = talk.TERSE[polite] if number % 2 else rng.choice(seen.facts(len(seen.by_kind))).full
        made.append(pair([*seen.system(), user(said)], polite, other))
    rng.shuffle(made)
    return made


def asked(seen: Seen, fact: Fact) -> list[Message]:
    """The prompt of a pair about a fact."""
    return [*seen.system(), seen.ask(fact)]


def clear(seen: Seen, count: int) -> list[Fact]:
    """So many facts of the kinds in which wrong is wrong."""
    drawn = [fact for fact in seen.facts(2 * count) if fact.kind in CLEAR]
    return drawn[:count]


def rambling(seen: Seen, fact: Fact) -> str:
    """The full sentence, and then more than was asked for: itself again, in other words, or another fact."""
    rng = seen.rng
    more = [rng.choice((fact.full, fact.statement(rng), seen.facts(1)[0].full)) for _ in range(rng.randint(1, 3))]
    return " ".join((fact.full, *more))


def wrong(seen: Seen, fact: Fact) -> Fact:
    """The same fact with the answer of another of its kind."""
    right = {other.answer for other in seen.all_facts if (other.kind, other.subject) == (fact.kind, fact.subject)}
    if fact.kind == "sum":
        answers = [str(int(fact.answer) + step) for step in (-3, -2, -1, 1, 2, 3) if int(fact.answer) + step > 0]
    else:
        answers = sorted({other.answer for other in seen.by_kind[fact.kind]} - right - {fact.subject})
    return Fact(fact.kind, fact.subject, seen.rng.choice(answers), fact.group)


def invented(seen: Seen) -> Row:
    """A question about a thing that does not exist: to say so is better than any answer."""
    rng = seen.rng
    kind = rng.choice(CLEAR)
    known = rng.choice(seen.by_kind[kind])
    unknown = Fact(kind, talk.invented_subject(rng, kind), known.answer, "")
    prompt = [*seen.system(), user(unknown.ask(rng))]
    return pair(prompt, talk.UNKNOWN, rng.choice((unknown.full, unknown.full, unknown.terse)))
