"""Your own: a file of prompts with checks, or one of the public layouts (importers.py), asked of both sides."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from studio.config import setting
from studio.data.votes import Answer
from studio.errors import DataError
from studio.evals import checks, ifeval, importers
from studio.evals.checks import Checker
from studio.evals.fit import local
from studio.evals.importers import Item
from studio.evals.suite import Asking, Measure, Outcome, Suite
from studio.feedback import rubric, scorers
from studio.feedback.given import Task
from studio.feedback.speakers import Ask, Draw

Turn = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the suite."""

    n: int = setting(200, "Items, at most.", low=1, high=100000, advanced=False)
    max_tokens: int = setting(256, "The longest answer.", low=1, high=8192, unit="tokens")


def run(asking: Asking) -> Outcome:
    """Ask the items of the file, drawn with the seed where there are more than `n`, and check the answers."""
    assert asking.file is not None
    found = importers.read(asking.file)
    items = found.items
    if len(items) > asking.cfg.n:
        items = sorted(random.Random(asking.seed).sample(items, asking.cfg.n), key=lambda item: item.line)
    asking.note(f"{asking.file.name}: {len(items)} of {len(found.items)} items, in the layout {found.layout}.")
    _skipped(asking, items)
    out, rows = Outcome(), {item.key: _row(item) for item in items}
    checker = Checker(asking.judge, asking.seed)
    try:
        for side in asking.sides:
            chosen = [item for item in items if item.right]
            for item, texts in zip(items, _answers(asking, side, items), strict=True):
                rows[item.key][side] = "\n\n".join(texts) or None
                _mark(asking, checker, side, item, texts, out, rows[item.key])
            _choices(asking, side, chosen, out, rows)
    finally:
        checker.close()
    out.answers = list(rows.values())
    return out


def _skipped(asking: Asking, items: Sequence[Item]) -> None:
    skipped = Counter(name for item in items for name in item.skipped)
    if skipped:
        told = ", ".join(f"{name} ({count})" for name, count in sorted(skipped.items()))
        asking.note(f"Not checked here: {told}. Items with one of them are not among those that pass or fail.")
    if asking.judge is None:
        judged = sum(item.rated or any(check.kind == "judge" for check in item.checks) for item in items)
        if judged:
            asking.note(f"{judged} items need a judge, and none is named (--judge WHO): they are asked, not marked.")


def _row(item: Item) -> dict[str, Any]:
    row = {"item": item.key, "measure": _measure(item), "asked": "\n\n".join(item.turns), "marks": {}}
    wanted = [f"{check.kind}: {check.want}" for check in item.checks] + [name for name, _ in item.instructions]
    return row | ({"wanted": wanted} if wanted else {}) | ({"right": item.right[0]} if item.right else {})


def _measure(item: Item) -> str:
    return "rating" if item.rated else "mc1" if item.right else "passes" if item.checks else "instructions"


def _answers(asking: Asking, side: str, items: Sequence[Item]) -> list[list[str]]:
    """Ask the turns of all items one after the other; those with choices are not asked."""
    said: dict[str, list[str]] = {item.key: [] for item in items}
    draw = Draw(max_tokens=asking.cfg.max_tokens)
    for number in range(max(len(item.turns) for item in items)):
        some = [item for item in items if len(item.turns) > number and not item.right]
        asks = [Ask(_history(item, said[item.key]), f"{item.key}-{number}") for item in some]
        for item, answers in zip(some, asking.ask(side, asks, draw) if asks else [], strict=True):
            said[item.key].append(answers[0].text)
    return [said[item.key] for item in items]


def _history(item: Item, said: Sequence[str]) -> list[Turn]:
    turns: list[Turn] = [dict(turn) for turn in item.before]
    for asked, answer in zip(item.turns, said, strict=False):
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return [*turns, {"role": "user", "content": item.turns[len(said)]}]


# --- marks -----------------------------------------------------------------------------------------------------------


def _mark(
    asking: Asking, checker: Checker, side: str, item: Item, texts: Sequence[str], out: Outcome, row: dict[str, Any]
) -> None:
    if item.checks:
        held = {check.kind: _holds(asking, checker, side, item, check, texts[-1]) for check in item.checks}
        row.setdefault("checks", {})[side] = ", ".join(f"{k}: {_SAID[v]}" for k, v in held.items())
        if None not in held.values():
            _one(out, row, "passes", side, item, float(all(held.values())))
    if item.instructions:
        followed = [ifeval.follows(name, given, texts[-1]) for name, given in item.instructions]
        told = zip((name for name, _ in item.instructions), followed, strict=True)
        row.setdefault("followed", {})[side] = ", ".join(f"{name}: {_SAID[held]}" for name, held in told)
        _one(out, row, "instructions", side, item, sum(followed) / len(followed))
        if not item.skipped:
            out.mark("passes", side, item.key, all(followed))
    if item.rated and asking.judge is not None:
        grades = [_graded(asking, side, item, texts, number) for number in range(len(texts))]
        if None not in grades:
            _one(out, row, "rating", side, item, math.fsum(g for g in grades if g is not None) / len(grades))


_SAID = {True: "yes", False: "no", None: "not judged"}


def _one(out: Outcome, row: dict[str, Any], measure: str, side: str, item: Item, mark: float) -> None:
    out.mark(measure, side, item.key, mark)
    if row["measure"] == measure:
        row["marks"][side] = mark


def _holds(asking: Asking, checker: Checker, side: str, item: Item, check: checks.Check, answer: str) -> bool | None:
    asked = rubric.asked(_history(item, []) if len(item.turns) == 1 else [{"role": "user", "content": item.turns[-1]}])
    try:
        if check.kind == "judge":
            about = f"meets {item.key} {check.want} {answer!r}"
            return asking.keep(about, partial(checker.holds, check, asked, answer))
        return checker.holds(check, asked, answer)
    except DataError as error:  # a pattern without an end is no reason to lose what was answered
        asking.note(f"Line {item.line}, not marked: {error.message} {error.remedy}")
        return None


def _graded(asking: Asking, side: str, item: Item, texts: Sequence[str], number: int) -> float | None:
    """Let the judge grade the answer to a turn, 1 to 9."""
    turns, judge = _history(item, texts[:number]), asking.judge
    assert judge is not None
    task = Task(turns, "", item.line, f"{item.key}-{number}")
    answer = Answer(texts[number])
    about = f"grade {item.key} {number} {texts[: number + 1]!r}"
    return asking.keep(about, partial(scorers.graded, judge, rubric.GRADE, task, answer, 16, asking.seed))


# --- choices ---------------------------------------------------------------------------------------------------------


def _choices(asking: Asking, side: str, items: Sequence[Item], out: Outcome, rows: dict[str, dict[str, Any]]) -> None:
    """Mark how likely the right answers are beside the wrong ones (Lin et al. 2021, arXiv:2109.07958).

    mc1: whether the best answer is likelier than every wrong one; mc2: the right ones' share of the probability of all.
    """
    if not items:
        return
    step, long = asking.progress(f"own: answers to choose from, {side}", len(items)), 0
    for item in items:
        logs = asking.keep(f"choices {side} {item.key}", partial(_likely, asking, side, item))
        step()
        if logs is None:
            long += 1
            continue
        right, wrong = logs[: len(item.right)], logs[len(item.right) :]
        _one(out, rows[item.key], "mc1", side, item, float(right[0] > max(wrong)))
        most = max(logs)
        shares = [math.exp(log - most) for log in logs]
        out.mark("mc2", side, item.key, math.fsum(shares[: len(item.right)]) / math.fsum(shares))
        best = max(zip(logs, (*item.right, *item.wrong), strict=True))[1]
        rows[item.key].setdefault("likeliest", {})[side] = best
    if long:
        asking.note(f"{side}: {long} items are longer than the context and are left out.")


def _likely(asking: Asking, side: str, item: Item) -> list[float] | None:
    """Give sum log p of each answer, right ones first; None where there is no room."""
    speaker, turns = local(asking, side), _history(item, [])
    try:
        found = [speaker.scores(turns, text)["tokens"] for text in (*item.right, *item.wrong)]
    except DataError:
        return None
    return [math.fsum(math.log(max(token["p"], 1e-300)) for token in tokens) for tokens in found]


SUITE = Suite(
    name="own",
    title="Your own",
    says="Whether its answers do what your own items ask of them.",
    cannot="What you did not ask: a check by words passes what has the words, and fails what says it with others.",
    measures=(
        Measure("passes", "passes", "Share of items whose answer holds every check."),
        Measure("instructions", "instructions followed", "Share of an item's instructions.", "more", "mean", "share"),
        Measure(
            "mc1", "the best answer is the likeliest", "Share of questions where no wrong answer is as likely (MC1)."
        ),
        Measure(
            "mc2", "probability of right answers", "Their share beside the wrong ones (MC2).", "more", "mean", "share"
        ),
        Measure("rating", "rating", "The judge's grade, 1 to 9.", "more", "mean"),
    ),
    Config=Config,
    run=run,
    needs_file=True,
    reads=importers.read,
)
