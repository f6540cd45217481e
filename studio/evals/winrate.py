"""Win rate: which side's answer to the same prompt is the better one, by a judge in both orders, or by people.

After wins, loses or ties (1, 0, 1/2), and before has the rest: so the difference of the two is wins less losses, and
its test asks whether one side wins more often than the other. A judge that names another answer when the two are
swapped has not decided: that is a tie, and counted. The length-matched figure is of answers about equally long only;
lengths are in characters, runs of spaces as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from studio.config import setting
from studio.data import preferences, rules, votes
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError
from studio.evals import heldout, stats
from studio.evals.fit import asked
from studio.evals.heldout import Row
from studio.evals.suite import Asking, Measure, Outcome, Suite
from studio.feedback import judge, rubric
from studio.feedback.speakers import Ask, Draw, Said

#: Answers whose lengths differ by no more than this factor are about equally long.
MATCHED = 1.25
#: The rule that decides about the starter where nobody judges: there is one good answer to each of its questions.
_STARTER_RULE = "exact"


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the suite."""

    n: int = setting(100, "Prompts, at most.", low=1, high=5000, advanced=False)
    max_tokens: int = setting(128, "The longest answer.", low=1, high=4096, unit="tokens")
    rubric: str = setting("", "What the judge is asked: a text, or a file with one. Empty: our own.")
    rule: str = setting("", f"Decides where no judge is named: {rules.FORMS}.", advanced=False)


def run(asking: Asking) -> Outcome:
    """Ask both sides, and whoever judges."""
    out = Outcome()
    if "before" not in asking.sides:
        asking.note("There is no other side to win against.")
        return out
    _people(asking, out)
    spec = asking.cfg.rule
    if not spec and asking.judge is None and asking.run is not None and asking.run.config.model == "starter":
        spec = _STARTER_RULE
    if asking.judge is None and not spec:
        asking.note("Nobody judges: name a model with --judge, or a rule with --set winrate.rule=RULE.")
        return out
    found = heldout.rows(asking, asking.cfg.n)
    draw, asks = Draw(max_tokens=asking.cfg.max_tokens), [Ask(row.turns, row.key) for row in found]
    said = {side: [answers[0] for answers in asking.ask(side, asks, draw)] for side in ("before", "after")}
    if asking.judge is not None:
        _judged(asking, found, said, out)
    else:
        _ruled(asking, spec, found, said, out)
    return out


def _win(out: Outcome, measure: str, item: str, mark: float) -> None:
    out.mark(measure, "after", item, mark)
    out.mark(measure, "before", item, 1 - mark)


def _marked(out: Outcome, row: Row, before: Said, after: Said, mark: float, **about: Any) -> None:
    _win(out, "wins", row.key, mark)
    one, two = (len(" ".join(said.text.split())) for said in (before, after))  # tokens of two vocabularies differ
    if max(one, two, 1) <= MATCHED * max(1, min(one, two)):
        _win(out, "wins_matched", row.key, mark)
    if mark != 0.5 and one != two:
        out.mark("longer", "after", row.key, (two > one) == (mark == 1))
    shown = {"item": row.key, "measure": "wins", "asked": asked(row.turns), "before": before.text, "after": after.text}
    out.answers.append({**shown, "marks": {"before": 1 - mark, "after": mark}, **about})


# --- a judge ---------------------------------------------------------------------------------------------------------


def _judged(asking: Asking, found: Sequence[Row], said: dict[str, list[Said]], out: Outcome) -> None:
    config = judge.Config(
        judge=asking.judge.name if asking.judge else "",
        rubric=rubric.read(asking.cfg.rubric, rubric.COMPARE, ("question", "a", "b")),
        seed=asking.seed,
    )
    _warn(asking)
    step, unreadable, same = asking.progress("winrate: judging", len(found)), 0, 0
    for row, before, after in zip(found, said["before"], said["after"], strict=True):
        told = _verdict(asking, config, row, before.text, after.text)
        dropped, p = told["dropped"], told["p"]
        step()
        if dropped in (judge.UNREADABLE, judge.LONG):
            unreadable += 1
            continue
        same += dropped == judge.SAME
        if told["orders"]:
            out.mark("consistent", "after", row.key, dropped != judge.DISAGREE)
        mark = 0.5 if dropped or p is None else float(p > 0.5)
        if dropped == judge.EMPTY and bool(before.text.strip()) != bool(after.text.strip()):
            mark = float(bool(after.text.strip()))
        why = dropped or f"P(after is better) = {p:.2f}"
        _marked(out, row, before, after, mark, judge=why)
    if same:
        asking.note(f"{same} of {len(found)} prompts are answered alike by both sides: they count as ties.")
    if unreadable:
        asking.note(f"{unreadable} pairs could not be judged (too long, or no answer was named) and are left out.")
    _trust(asking, out)


def _verdict(asking: Asking, config: judge.Config, row: Row, before: str, after: str) -> dict[str, Any]:
    """Give {"dropped", "p": that after is better, "orders"} of one pair."""

    def make() -> dict[str, Any]:
        assert asking.judge is not None
        pair = judge.Pair(row.turns, row.answer, row.line, row.key, [Answer(after), Answer(before)], [])
        (made,) = judge.judged(asking.judge, config, [pair])
        return {"dropped": made.dropped, "p": made.p, "orders": made.about.get("orders")}

    return asking.keep(f"judge {row.key} {config.rubric} {before!r} {after!r}", make)


def _warn(asking: Asking) -> None:
    """Say where the judge is one of those it judges, or stands on the same base."""
    assert asking.judge is not None
    who = asking.judge.identity.get("sha256")
    if who and any(asking.speaker(side).identity.get("sha256") == who for side in ("before", "after")):
        asking.note("Self-judged: the judge is of the same base as what it judges, and such judges like their own.")


def _trust(asking: Asking, out: Outcome) -> None:
    """Say where the judge does not agree with itself beyond chance: a coin agrees with itself half the time."""
    found = list(out.marks.get("consistent", {}).get("after", {}).values())
    low, _ = stats.wilson(sum(found), len(found))
    if found and low <= 0.5:
        asking.note(
            f"The judge names the same answer when the two are swapped in {sum(found):.0f} of {len(found)} pairs only: "
            "that is no better than chance, and its win rate says nothing."
        )


# --- a rule ----------------------------------------------------------------------------------------------------------


def _ruled(asking: Asking, spec: str, found: Sequence[Row], said: dict[str, list[Said]], out: Outcome) -> None:
    rule = rules.rule(spec)
    asking.note(f"No judge is named: the rule {spec} decides, and equal scores are ties.")
    left = 0
    try:
        for row, before, after in zip(found, said["before"], said["after"], strict=True):
            try:
                scores = [rule(asked(row.turns), one.text, row.answer, one.stopped) for one in (before, after)]
            except DataError:
                left += 1
                continue
            mark = 0.5 if scores[0] == scores[1] else float(scores[1] > scores[0])
            _marked(out, row, before, after, mark, score=dict(zip(("before", "after"), scores, strict=True)))
    finally:
        rule.close()
    if left == len(found):
        raise ConfigError(f"The rule {spec} scored no answer.", "Choose a rule that fits the rows.", field="rule")
    if left:
        asking.note(f"The rule could not score the answers to {left} prompts, which are left out.")


# --- people ----------------------------------------------------------------------------------------------------------


def _people(asking: Asking, out: Outcome) -> None:
    """Count people's votes on the Chat page, and their rankings of a set, between these two sides, whatever was asked.

    A ranking may have several answers of a side: it counts once, by the share of pairs in which after stands higher.
    """
    keys = {side: votes.key(asking.speaker(side).identity) for side in ("before", "after")}
    if keys["before"] == keys["after"]:
        return
    for vote in votes.all():
        said = {votes.key(one.identity): (choice, one.text) for choice, one in (("a", vote.a), ("b", vote.b))}
        if vote.by != "person" or vote.choice == "bad" or set(said) != set(keys.values()):
            continue
        mark = 0.5 if vote.choice == "tie" else float(vote.choice == said[keys["after"]][0])
        _voted(out, vote.id, vote.prompt, {side: said[key][1] for side, key in keys.items()}, mark, "Chat page")
    for made in preferences.sets():
        for record in preferences.records(made.dir):
            if record.by.get("kind") == "person" and record.ranks and not record.bad and not record.dropped:
                _ranked(out, f"{made.name}/{record.id}", record, keys)


def _ranked(out: Outcome, item: str, record: Record, keys: dict[str, str]) -> None:
    """Count a ranking, where both sides have an answer in it."""
    places = {
        side: [at for at, one in enumerate(record.answers) if votes.key(one.identity) == key]
        for side, key in keys.items()
    }
    pairs = [(record.ranks[one], record.ranks[two]) for one in places["before"] for two in places["after"]]
    if not pairs:
        return
    mark = sum(0.5 if before == after else float(after < before) for before, after in pairs) / len(pairs)
    best = {side: min(found, key=lambda at: record.ranks[at]) for side, found in places.items()}
    said = {side: record.answers[at].text for side, at in best.items()}
    _voted(out, item, record.prompt, said, mark, f"ranked by {record.by.get('name')}")


def _voted(
    out: Outcome, item: str, prompt: Sequence[dict[str, Any]], said: dict[str, str], mark: float, how: str
) -> None:
    _win(out, "people", item, mark)
    row = {"item": item, "measure": "people", "asked": asked(list(prompt)), **said, "votes": how}
    out.answers.append({**row, "marks": {"before": 1 - mark, "after": mark}})


SUITE = Suite(
    name="winrate",
    title="Win rate",
    says="How often its answer to a held-out prompt is the better one of the two sides'.",
    cannot="Whether an answer is true: a judge has tastes of its own, for its own kind and for length among them.",
    measures=(
        Measure("wins", "wins", "Share of prompts where this side's answer is the better one; a tie is a half."),
        Measure("wins_matched", "wins, length-matched", "The same, of answers about equally long (a factor of 1.25)."),
        Measure("people", "wins, by people's votes", "The same of people's votes and rankings."),
        Measure(
            "consistent", "judge agrees with itself", "Share of pairs where it names the same answer when swapped."
        ),
        Measure(
            "longer", "the longer one wins", "How often the winner is the longer one: 50 % where length is nothing.", ""
        ),
    ),
    Config=Config,
    run=run,
)
