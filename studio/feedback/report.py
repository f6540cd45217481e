"""How far a judge can be trusted, read from the set that it made: a judge no better than chance is called that.

    swap        how often both orders of a pair name the same answer. A coin that is tossed for each gives one half, a
                judge who always names the first gives none
    position    how often the answer that was shown first was named: one half, where only worth decides
    length      how often the longer of two answers won, where they differ in length: by how much length alone
                predicts the judge
    agreement   with what the file itself says, with a rule, and with people, on the pairs that both decided: the share,
                and Cohen's kappa, which takes off what two who know nothing would agree on

Every share has its n and Wilson's 95 % interval.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from studio import events
from studio.data import preferences, trial, votes
from studio.data.interval import wilson
from studio.data.preferences import Record
from studio.feedback import agreement

#: Pairs below which nothing is concluded: from agreement, or against a judge who mostly agrees with itself.
LEAST = 10
Share = dict[str, float]
#: (prompt, answer, other answer) -> 1 where people found the answer better, -1 the other one.
People = dict[tuple[str, str, str], int]


def share(count: int, n: int) -> Share | None:
    """Give a share of n with its interval; None of nothing."""
    if not n:
        return None
    low, high = wilson(count, n)
    return {"n": n, "count": count, "share": count / n, "low": low, "high": high}


def of(made: Sequence[Record], people: People | None = None) -> dict[str, Any]:
    """Report on whoever judged these records.

    {"judged", "kept", "swap", "position", "length": shares or None, "agreement": {"file", "rule", "people": {share,
    "kappa"}}, "usable", "warnings": sentences}. `swap` and `position` are of judges that were asked in two orders.
    """
    ordered = [orders for record in made if None not in (orders := record.about.get("orders") or [None])]
    told = [orders for orders in ordered if all(p != 0.5 for p in orders)]
    same = sum((one > 0.5) == (other > 0.5) for one, other in told)
    named = [p > 0.5 for one, other in told for p in (one, 1 - other)]
    kept = [record for record in made if not record.dropped]
    longer = [won for record in kept for won in _longer(record)]
    asked = any(record.by.get("kind") == "judge" for record in made)
    found: dict[str, Any] = {
        "judged": len(made),
        "kept": sum(bool(preferences.pairs(record)) for record in kept),
        "swap": share(same, len(told)),
        "position": share(sum(named), len(named)),
        "length": share(sum(longer), len(longer)),
        "agreement": {name: both for name in ("file", "rule", "people") if (both := _agreement(kept, name, people))},
    }
    reasons = _reasons(found, bool(ordered)) if asked else []
    return {**found, "usable": not reasons and bool(kept), "warnings": [*reasons, *_cautions(found, made, kept)]}


def _reasons(found: dict[str, Any], in_orders: bool) -> list[str]:
    """Say why a judge is no better than chance; nothing where it is."""
    said = []
    swap, place = found["swap"], found["position"]
    if in_orders and (swap is None or swap["low"] <= 0.5):
        if swap is None:
            said.append("The judge decided nothing: its probabilities are the same for both answers.")
        else:
            text = f"Asked in both orders the judge names the same answer in {_percent(swap)} of {swap['n']} pairs"
            why = " and a coin would in 50 %: it is no better than chance."
            if swap["share"] > 0.5 and swap["n"] < LEAST:
                why = ": so few pairs do not show that it is better than chance."
            if swap["high"] < 0.5:
                side, often = ("first", place) if place["share"] > 0.5 else ("second", _other(place))
                why = f": it follows the place, mostly the {side} one ({_percent(often)}). It is no better than chance."
            said.append(text + why)
    for name, words in (("file", "what the file says"), ("people", "people"), ("rule", "the rule")):
        both = found["agreement"].get(name)
        if both and both["n"] >= LEAST and both["low"] <= 0.5:
            how = "the opposite of" if both["high"] < 0.5 else "no better than a coin against"
            said.append(f"The judge agrees with {words} in {_percent(both)} of {both['n']} pairs: {how} {words}.")
    return said


def _cautions(found: dict[str, Any], made: Sequence[Record], kept: Sequence[Record]) -> list[str]:
    said, long = [], found["length"]
    if long is not None and (long["low"] > 0.5 or long["high"] < 0.5):
        which = "longer" if long["low"] > 0.5 else "shorter"
        won = long["share"] if long["low"] > 0.5 else 1 - long["share"]
        said.append(
            f"The {which} answer won in {won:.0%} of {long['n']} pairs: length alone predicts that much, and a model "
            f"trained on this may learn to be {which}."
        )
    if made and not kept:
        said.append("No record is left to train on.")
    return said


def _other(found: Share) -> Share:
    """Give the share of the rest."""
    return {**found, "share": 1 - found["share"], "low": 1 - found["high"], "high": 1 - found["low"]}


def _percent(found: Share) -> str:
    return f"{found['share']:.0%} ({found['low']:.0%} to {found['high']:.0%})"


# --- pairs of a record -----------------------------------------------------------------------------------------------


def _ends(ranks: Sequence[float]) -> tuple[int, int] | None:
    """Give the best and the worst of some ranks; one pair a record, for more of one prompt are not independent."""
    if len(ranks) < 2 or min(ranks) == max(ranks):
        return None
    return ranks.index(min(ranks)), ranks.index(max(ranks))


def _longer(record: Record) -> Iterator[bool]:
    sizes = [len(answer.text.strip()) for answer in record.answers]
    if (ends := _ends(record.ranks)) is not None and sizes[ends[0]] != sizes[ends[1]]:
        yield sizes[ends[0]] > sizes[ends[1]]


def _agreement(kept: Iterable[Record], name: str, people: People | None) -> dict[str, Any] | None:
    both = [pair for record in kept for pair in _both(record, name, people or {})]
    found = share(sum(one == other for one, other in both), len(both))
    value = agreement.kappa([one for one, _ in both], [other for _, other in both]).value
    return found and {**found, "kappa": None if math.isnan(value) else value}


def _both(record: Record, name: str, people: People) -> Iterator[tuple[bool, bool]]:
    """Give what whoever judged and the other said of the two answers that the other finds the best and the worst.

    The two are put in an order that nobody chose, by the hashes of their texts: a file's best answer may always stand
    first, and then nothing could be told from chance.
    """
    texts = [answer.text.strip() for answer in record.answers]
    if name == "people":
        ends = _by_people(_asked(record.prompt), texts, people)
    else:
        given = record.about.get(name) or []
        ends = _ends([-score for score in given] if name == "rule" else given)
    if ends is None or not record.ranks or record.ranks[ends[0]] == record.ranks[ends[1]]:
        return
    better, worse = ends
    turned = preferences.key(texts[better]) > preferences.key(texts[worse])
    yield (record.ranks[better] < record.ranks[worse]) != turned, not turned


def _by_people(asked: str, texts: Sequence[str], people: People) -> tuple[int, int] | None:
    """Give two answers of which people found the first one better, the furthest apart where they ranked several."""
    won = [sum(people.get((asked, one, other), 0) for other in texts) for one in texts]
    ends = _ends([-count for count in won])
    return ends if ends and people.get((asked, texts[ends[0]], texts[ends[1]]), 0) > 0 else None


def people(beside: str = "") -> People:
    """Give what people said of answers: their votes, and the sets that they ranked (but for the run `beside`).

    Where they contradict each other, the majority counts, and an even split says nothing.
    """
    tally: Counter[tuple[str, str, str]] = Counter()

    def tell(prompt: Sequence[dict[str, Any]], better: str, worse: str) -> None:
        asked = _asked(prompt)
        tally[asked, better.strip(), worse.strip()] += 1
        tally[asked, worse.strip(), better.strip()] -= 1

    for vote in votes.all():
        if vote.by == "person" and vote.choice in ("a", "b"):
            a, b = vote.a.text, vote.b.text
            tell(vote.prompt, *((a, b) if vote.choice == "a" else (b, a)))
    for made in preferences.sets():
        if made.id == beside or made.config.options.get("source") != "rank":
            continue
        for record in preferences.records(made.dir):
            if record.by.get("kind") == "person" and not record.dropped:
                for better, worse in preferences.pairs(record):
                    tell(record.prompt, better, worse)
    return {key: 1 if count > 0 else -1 for key, count in tally.items() if count}


def _asked(prompt: Sequence[dict[str, Any]]) -> str:
    turns = [(turn.get("role"), str(turn.get("content") or "").strip()) for turn in prompt]
    return json.dumps(turns, ensure_ascii=False)


# --- told ------------------------------------------------------------------------------------------------------------


def tell(found: dict[str, Any], emit: events.Emit) -> None:
    """Tell the warnings as events."""
    for text in found["warnings"]:
        emit(events.event("note", level="warning", code="judge", text=text))


def lines(result: dict[str, Any]) -> list[str]:
    """Write a set's result for people."""
    said = [
        f"{result['records']:,} records: {result['preference']:,} pairs, {result['kto']:,} rated answers, "
        f"{result['sft']:,} answers to imitate"
    ]
    said += [f"dropped: {count:,} ({why})" for why, count in result["dropped"].items()]
    if result.get("comparison"):
        said += trial.lines(result["comparison"])
    found = result.get("report")
    if not found:
        return said
    for name, words in (
        ("swap", "Asked in both orders, the same answer is named"),
        ("position", "The answer shown first is named"),
        ("length", "The longer answer wins"),
    ):
        if found.get(name):
            said.append(f"{words}: {_percent(found[name])} of {found[name]['n']:,}")
    for name, words in (("file", "what the file says"), ("rule", "the rule"), ("people", "people")):
        if both := found["agreement"].get(name):
            extra = "" if both["kappa"] is None else f", kappa {both['kappa']:.2f}"
            said.append(f"Agrees with {words}: {_percent(both)} of {both['n']:,}{extra}")
    return [*said, *(f"! {text}" for text in found["warnings"])]
