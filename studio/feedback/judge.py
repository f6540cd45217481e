"""A judge (RLAIF): a model says which of two answers is better, asked in both orders.

With a and b the two answers, P(A | a, b) the judge's probability of the letter A when a is shown as A and b as B:

    p = (P(A | a, b) + P(B | b, a)) / 2

is how probable it finds a the better one: read from the letters' probabilities, not from what it would write, and kept
as a soft label. Where the two orders name different answers, the place of an answer decided and not its worth: the pair
is dropped and counted (Lee et al. 2023, arXiv:2309.00267). Of a judge that tells no probabilities, or finds neither
letter likely as the next word, as one that thinks first, the answer is read.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio import events
from studio.config import setting
from studio.data import preferences, rules
from studio.data.preferences import Record
from studio.errors import ConfigError, InputError
from studio.feedback import making, report, rubric, sampling, scorers
from studio.feedback.given import Task
from studio.feedback.sampling import Sampling
from studio.feedback.speakers import Draw, Said, Speaker, speakers_of, unthought
from studio.runs import Run

Emit = events.Emit
Halt = Callable[[], bool]

LETTERS = ("A", "B")
#: Why a pair is not used.
SAME, EMPTY = "the answers are the same", "an answer is empty"
DISAGREE, TIE = "the two orders disagree", "neither answer is clearly better"
UNREADABLE, LONG = "the judge named neither answer", "too long for the judge"
CUT = "the judge's reply was cut off"


@dataclasses.dataclass(frozen=True)
class Config(Sampling):
    """The judge's settings."""

    n: int = setting(
        2, "Answers to each prompt, in all; every two are compared.", low=2, high=8, unit="answers", advanced=False
    )
    judge: str = setting(
        "", "Who judges: a run, a model, a GGUF file, or an endpoint (http://127.0.0.1:11434/v1#MODEL).", advanced=False
    )
    rubric: str = setting(
        "",
        "What the judge is asked: a text, or a file with one, that holds {question}, {a} and {b}. Empty: our own.",
        advanced=False,
    )
    margin: float = setting(
        0.05,
        "A probability this close to one half is a tie, and the pair is dropped.",
        low=0.0,
        high=0.5,
    )
    against: str = setting(
        "",
        f"A rule to compare the judge with ({rules.FORMS}). What the file itself says of its answers, and people's "
        "votes on the same ones, are compared in any case.",
    )
    judge_tokens: int = setting(
        32, "Longest reply of a judge that tells no probabilities.", low=1, high=32768, unit="tokens"
    )


@dataclasses.dataclass(frozen=True)
class Pair(Task):
    """Two answers to a prompt."""


def ready(config: Config) -> Config:
    """Check the settings before anything is written, and complete them. Raises ConfigError."""
    if not config.judge.strip():
        raise ConfigError("Nobody is named who judges.", "Name a run, a model, a GGUF or an endpoint.", field="judge")
    sampling.check(config, config.judge)
    against = config.against.strip()
    if against:
        rules.rule(against).close()
    return dataclasses.replace(
        config,
        rubric=rubric.read(config.rubric, rubric.COMPARE, ("question", "a", "b")),
        against=rules.absolute(against) if against else "",
    )


def run(run: Run, emit: Emit, should_stop: Halt) -> dict[str, Any]:
    """Fill a set with a judge's comparisons; gives the report on the judge. Raises Stopped."""
    config = making.settings(run, Config)
    found = sampling.tasks(run, config, 2, emit, should_stop)
    todo = [pair for task in found for pair in pairs(task)]
    if making.missing(run, todo):
        rule = rules.rule(config.against) if config.against else None
        try:
            with speakers_of([config.judge], config, emit, should_stop) as (judge,):
                making.fill(run, todo, lambda some: judged(judge, config, some, rule), "Judging", emit, should_stop)
        finally:
            if rule is not None:
                rule.close()
    sampling.finish(run)
    made = preferences.records(run.dir)
    about = report.of(made, report.people())
    if cut := sum(record.dropped == CUT for record in made):
        about["warnings"].append(
            f"{cut:,} pairs have a reply that was cut off at {config.judge_tokens} tokens before it named an answer: "
            "give a judge that thinks first more room (--judge-tokens)."
        )
    report.tell(about, emit)
    return {"by": made[0].by if made else {}, "report": about, "usable": about["usable"]}


def pairs(task: Task) -> Iterator[Pair]:
    """Give every two answers of a prompt."""
    for a, b in itertools.combinations(range(len(task.answers)), 2):
        ranks = [task.ranks[a], task.ranks[b]] if task.ranks else []
        answers = [task.answers[a], task.answers[b]]
        yield Pair(task.turns, task.reference, task.line, f"{task.key}-{a}-{b}", answers, ranks)


def judged(judge: Speaker, config: Config, todo: Sequence[Pair], rule: rules.Rule | None = None) -> Iterator[Record]:
    """Compare the answers of each pair."""
    by = {"kind": "judge", "name": judge.name, "identity": judge.identity}
    for pair in todo:
        about: dict[str, Any] = {"line": pair.line}
        if pair.ranks:
            about["file"] = pair.ranks
        if rule is not None:
            about["rule"] = [scorers.by_text(rule, pair, answer) for answer in pair.answers]
        made = Record(pair.turns, pair.answers, by=by, about=about, seed=config.seed, id=pair.key)
        texts = [answer.text.strip() for answer in pair.answers]
        if not all(texts):
            yield dataclasses.replace(made, dropped=EMPTY)
        elif texts[0] == texts[1]:
            yield dataclasses.replace(made, dropped=SAME)
        else:
            yield compared(judge, config, made)


def compared(judge: Speaker, config: Config, made: Record) -> Record:
    """Ask the judge for both orders, and give the record with what it said.

    about["orders"] holds how probable the first answer is the better one in either order (None: neither was named), and
    about["said"] the replies of a judge that was read.
    """
    asked, (one, other) = rubric.asked(made.prompt), (answer.text for answer in made.answers)
    said: list[Said] = []
    try:
        first = _first(judge, config, asked, one, other, made.id, said)
        second = _first(judge, config, asked, other, one, made.id, said)
    except InputError as error:
        if not making.too_long(error):
            raise
        return dataclasses.replace(made, dropped=LONG)
    orders = [first, None if second is None else 1 - second]
    about = {**made.about, "orders": orders, **({"said": [one.text for one in said]} if said else {})}
    if orders[0] is None or orders[1] is None:
        cut = any(not one.stopped and not letter(one.text) for one in said)
        return dataclasses.replace(made, dropped=CUT if cut else UNREADABLE, about=about)
    p = (orders[0] + orders[1]) / 2
    dropped = ""
    if (orders[0] - 0.5) * (orders[1] - 0.5) < 0:
        dropped = DISAGREE
    elif abs(p - 0.5) <= config.margin:
        dropped = TIE
    ranks = [1, 1] if dropped else [1, 2] if p > 0.5 else [2, 1]
    return dataclasses.replace(made, p=p, scores=[p, 1 - p], ranks=ranks, dropped=dropped, about=about)


def _first(judge: Speaker, config: Config, asked: str, a: str, b: str, key: str, said: list[Said]) -> float | None:
    """Give how probable the judge finds it that the answer shown as A is the better one; None where it names none."""
    turns = [{"role": "user", "content": rubric.fill(config.rubric, {"question": asked, "a": a, "b": b})}]
    if judge.weighs and (p := weighed(judge, turns)) is not None:
        return p
    said += judge.say(turns, Draw(max_tokens=config.judge_tokens, seed=config.seed), f"{key}-{len(said)}")
    return {"A": 1.0, "B": 0.0}.get(letter(said[-1].text))


def weighed(judge: Speaker, turns: Sequence[dict[str, Any]]) -> float | None:
    """Read P(A) of A and B; a judge that continues raw text writes a space before them."""
    words = [*LETTERS, *(f" {one}" for one in LETTERS if judge.identity.get("raw"))]
    found = judge.weigh(turns, words)
    return sum(found[0::2]) if sum(found) > 0 else None


#: A letter that is not the article of a word behind it ("A better answer is B").
_LETTER = r"([AB])\b(?!\s+(?!(?:is(?! (?:not|worse|less|wrong|incorrect)\b)|because|since|wins?|has)\b)[a-z])"
_CALLED = "answer|response|choice|verdict|option"
_ONLY = re.compile(r"\W*([ABab])\W*")
_LEADS = re.compile(rf"(?i:(?:the )?(?:better |best )?(?:{_CALLED})(?: is)?)?\W*{_LETTER}")
_NAMED = re.compile(rf"\b(?i:{_CALLED}|better|best|is|be|choose|pick|prefer)\W{{1,6}}{_LETTER}")
#: Something is said of either first: A: ..., B: ...; and the letter that stands at the very end then.
_LISTED = re.compile(r".*?\bA\b\W{0,3}:.*?\bB\b\W{0,3}:", re.DOTALL)
_LAST = re.compile(r"\b([AB])\W*\Z")
_CAPITAL = re.compile(r"\b([AB])\b")
#: Says of the only one that is named that it is not the better one, perhaps.
_BLAMED = re.compile(r"\b(?:not|worse|wrong|incorrect)\b|n't\b", re.IGNORECASE)


def letter(reply: str) -> str:
    """Read which letter a reply names, "" where it names none or both.

    Where it says something of A: and B: first, the one that it names then. Else the letter with which it begins; else
    the first that is called an answer or a choice; else the only one, where nothing is blamed.
    """
    text = unthought(reply)
    if both := _LISTED.match(text):
        found = _NAMED.search(text, both.end()) or _LAST.search(text, both.end())
        return found[1] if found else ""
    if found := _ONLY.fullmatch(text) or _LEADS.match(text) or _NAMED.search(text):
        return found[1].upper()
    only = set(_CAPITAL.findall(text))
    return only.pop() if len(only) == 1 and not _BLAMED.search(text) else ""
