"""Answers criticised by principles and written anew, or compared by them: the two loops of a constitution.

A revision that cannot stand (empty, cut off, the same, a copy of the criticism, a loop) leaves the answer as it was.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.feedback import asking, filters, judge, refusals, rubric, wording
from studio.feedback.making import A, Asked
from studio.feedback.principles import Constitution, Principle
from studio.feedback.speakers import Ask, Draw, Said, Speaker

if TYPE_CHECKING:
    from studio.feedback.constitution import Config

Halt = Callable[[], bool]

#: Prompts that go through a step together.
CHUNK = 8
#: Why a record is not used.
NO_ANSWER, FINE, LONG = "the answer is empty", "nothing was criticised", "too long for the model"
EMPTY, CUT, UNCHANGED = "the revision is empty", "the revision was cut off", "the revision changes nothing"
TALKS = "the revision talks about the task"
COPIED, LOOPED = "the revision repeats what it was shown", "the revision repeats itself"
REFUSED, JUMPED = "a refusal of a harmless prompt", "the revision is much longer or shorter"


def drawn(known: Sequence[Principle], seed: int, key: str, count: int) -> list[Principle]:
    """Draw principles for a prompt, one after the other without repeating one before all were drawn."""
    source = random.Random(f"{seed}\0{key}")
    found: list[Principle] = []
    while len(found) < count:
        found += source.sample(list(known), min(len(known), count - len(found)))
    return found


def chunks(todo: Sequence[A]) -> Iterator[Sequence[A]]:
    """Cut prompts into groups that take each step together."""
    return (todo[at : at + CHUNK] for at in range(0, len(todo), CHUNK))


@dataclasses.dataclass
class _Work:
    """A prompt under way: the answer as it stands, and the steps behind it."""

    asked: Asked
    first: Said
    text: str
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    dropped: str = ""
    harm: str = ""

    def turns(self) -> list[dict[str, Any]]:
        return self.asked.turns


def _echoes(criticism: str, work: _Work) -> bool:
    """Tell whether a critic only said the answer, or the question, again: that is no criticism."""
    said = (work.text, rubric.asked(work.turns()))
    return any(filters.same_words(criticism, one) for one in said) or filters.copies(criticism, said)


@dataclasses.dataclass(frozen=True)
class Revisions:
    """Answers criticised and written anew."""

    config: Config
    known: Constitution
    answerer: Speaker
    critic: Speaker
    reviser: Speaker
    should_stop: Halt

    def records(self, todo: Sequence[Asked]) -> Iterator[Record]:
        """Give a record a prompt, in their order; CHUNK prompts take each step together."""
        for chunk in chunks(todo):
            works = self._answered(chunk)
            for round in range(self.config.revisions):
                self._round(works, round)
            for work in works:
                yield self._record(work)

    def _ask(self, who: Speaker, asks: Sequence[Ask], max_tokens: int) -> list[Said | None]:
        config = self.config
        draw = Draw(1, config.temperature, top_p=config.top_p, max_tokens=max_tokens, seed=config.seed)
        raw, found = bool(who.identity.get("raw")), list[Said | None]()
        for said in asking.answers(who, asks, draw, self.should_stop):
            if said is None:
                found.append(None)
            else:
                text, stopped = wording.spoken(said[0], raw)
                found.append(dataclasses.replace(said[0], text=text, stopped=stopped))
        return found

    def _answered(self, chunk: Sequence[Asked]) -> list[_Work]:
        raw = bool(self.answerer.identity.get("raw"))
        asks = [Ask(wording.answer(one.turns, self.known.examples, raw), f"{one.key}-answer") for one in chunk]
        works = []
        for one, said in zip(chunk, self._ask(self.answerer, asks, self.config.max_tokens), strict=True):
            first = said or Said("", 0, False)
            dropped = LONG if said is None else "" if first.text else NO_ANSWER
            works.append(_Work(one, first, first.text, dropped=dropped))
        return works

    def _round(self, works: Sequence[_Work], round: int) -> None:
        """Criticise every answer by its principle of this round, and have those that were criticised written anew."""
        going = [work for work in works if not work.dropped]
        laws = [drawn(self.known.principles, self.config.seed, work.asked.key, round + 1)[round] for work in going]
        raw = bool(self.critic.identity.get("raw"))
        asks = [
            Ask(
                wording.critique(work.turns(), work.text, law, self.known.examples, raw),
                f"{work.asked.key}-critique-{round}",
            )
            for work, law in zip(going, laws, strict=True)
        ]
        found = []
        for work, law, said in zip(going, laws, self._ask(self.critic, asks, self.config.critique_tokens), strict=True):
            if said is None:
                work.dropped = LONG
                continue
            step = {"principle": law.id, "title": law.title, "critique": said.text, "criticised": False, "revision": ""}
            work.steps.append(step)
            if not (wording.finds_nothing(said.text) or _echoes(said.text, work)):
                step["criticised"] = True
                found.append((work, law, step))
        self._revise(found, round)

    def _revise(self, found: Sequence[tuple[_Work, Principle, dict[str, Any]]], round: int) -> None:
        raw = bool(self.reviser.identity.get("raw"))
        asks = [
            Ask(
                wording.revision(work.turns(), work.text, law, step["critique"], self.known.examples, raw),
                f"{work.asked.key}-revision-{round}",
            )
            for work, law, step in found
        ]
        for (work, law, step), said in zip(found, self._ask(self.reviser, asks, self.config.max_tokens), strict=True):
            if said is None:
                work.dropped = LONG
                continue
            step["revision"] = wording.rewritten(said.text)
            step["seed"] = said.seed
            step["refused"] = self._wrong(work, law, step, said.stopped)
            if not step["refused"]:
                work.text = step["revision"]

    def _wrong(self, work: _Work, law: Principle, step: dict[str, Any], stopped: bool) -> str:
        """Say why a revision cannot stand; the answer then stays as it was before it."""
        text = step["revision"]
        if not text:
            return EMPTY
        if not stopped:
            return CUT
        if filters.same_words(text, work.text):
            return UNCHANGED
        asked = rubric.asked(work.turns())
        if wording.talks_about_it(text, f"{asked} {work.text}"):
            return TALKS
        shown = [part for one in self.known.examples for part in (one.revision, one.criticism)]
        if filters.copies(text, [asked, step["critique"], law.critique, law.revision, *shown], work.text):
            return COPIED
        return LOOPED if filters.loops(text) else ""

    def _record(self, work: _Work) -> Record:
        dropped = work.dropped or self._verdict(work)
        by = {
            "kind": "constitution",
            "name": self.critic.name,
            "principles": [step["principle"] for step in work.steps],
            "critic": self.critic.identity,
        }
        about: dict[str, Any] = {"line": work.asked.line, "steps": work.steps}
        if work.harm:
            about["harm"] = work.harm
        first = _answer(work.first, self.answerer, self.config)
        who = {**self.reviser.identity, "temperature": self.config.temperature}
        last = Answer(
            work.text, {**who, "revision": sum(bool(step["revision"] and not step["refused"]) for step in work.steps)}
        )
        answers, ranks = ([first], []) if work.dropped else ([first, last], [2, 1])
        return Record(
            work.asked.turns,
            answers,
            ranks=ranks,
            by=by,
            dropped=dropped,
            about=about,
            seed=self.config.seed,
            id=work.asked.key,
        )

    def _verdict(self, work: _Work) -> str:
        """Say why the answer that came out is not used, "" where it is."""
        if filters.same_words(work.text, work.first.text):
            reasons = [step["refused"] for step in work.steps if step.get("refused")]
            return reasons[-1] if reasons else UNCHANGED if any(step["criticised"] for step in work.steps) else FINE
        if refusals.refuses(work.text) and self.config.refusals != "keep":
            work.harm = self._harmful(work) if self.config.refusals == "ask" else ""
            if work.harm != "yes":
                return REFUSED
        limit = self.config.length_ratio
        return JUMPED if limit and filters.jump(work.text, work.first.text) > limit else ""

    def _harmful(self, work: _Work) -> str:
        """Ask the critic whether an answer would help to do harm: "yes" or "no"."""
        raw = bool(self.critic.identity.get("raw"))
        turns = wording.harm(work.turns(), raw)
        words = [" Yes", " No"] if raw else ["Yes", "No"]
        if self.critic.weighs and sum(found := self.critic.weigh(turns, words)) > 0:
            return "yes" if found[0] > found[1] else "no"
        said = self.critic.say(turns, Draw(max_tokens=8, seed=self.config.seed), f"{work.asked.key}-harm")[0]
        return "yes" if wording.says_yes(said.text) else "no"


def _answer(said: Said, who: Speaker, config: Config) -> Answer:
    about = {**who.identity, "temperature": config.temperature}
    return Answer(said.text, {**about, "seed": said.seed, "stopped": said.stopped, "tokens": said.tokens})


@dataclasses.dataclass(frozen=True)
class Comparisons:
    """Two samples, compared by a principle."""

    config: Config
    known: Constitution
    answerer: Speaker
    critic: Speaker
    should_stop: Halt

    def records(self, todo: Sequence[Asked]) -> Iterator[Record]:
        """Give a record a prompt, in their order."""
        config, raw = self.config, bool(self.answerer.identity.get("raw"))
        draw = Draw(2, config.temperature, top_p=config.top_p, max_tokens=config.max_tokens, seed=config.seed)
        for chunk in chunks(todo):
            asks = [Ask(wording.answer(one.turns, self.known.examples, raw), f"{one.key}-answer") for one in chunk]
            both = list(asking.answers(self.answerer, asks, draw, self.should_stop))
            for one, said in zip(chunk, both, strict=True):
                yield self._record(one, said, raw)

    def _record(self, one: Asked, both: list[Said] | None, raw: bool) -> Record:
        (law,) = drawn(self.known.principles, self.config.seed, one.key, 1)
        by = {"kind": "judge", "name": self.critic.name, "identity": self.critic.identity, "principles": [law.id]}
        about = {"line": one.line, "steps": [{"principle": law.id, "title": law.title}]}
        texts = [wording.spoken(said, raw)[0] for said in both or [Said("", 0, False)]]
        answers = [
            dataclasses.replace(_answer(said, self.answerer, self.config), text=text)
            for said, text in zip(both or [Said("", 0, False)], texts, strict=True)
        ]
        made = Record(one.turns, answers, by=by, about=about, seed=self.config.seed, id=one.key)
        if both is None:
            return dataclasses.replace(made, dropped=LONG)
        if not all(texts):
            return dataclasses.replace(made, dropped=NO_ANSWER)
        if texts[0] == texts[1]:
            return dataclasses.replace(made, dropped=judge.SAME)
        asked = judge.Config(
            judge=self.critic.name, rubric=wording.comparison(law), margin=self.config.margin, seed=self.config.seed
        )
        return judge.compared(self.critic, asked, made)
