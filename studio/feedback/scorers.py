"""What gives each answer a number: a rule, a finished reward run, or a judge that grades; more is better.

A reward run's base and adapter are loaded once for the whole set, on the device that training would take; its scores
are (s - mean) / std of what it gave its own pairs, so that 0 is as good as their chosen answers. A judge's grade is the
mean of the digits 1 to 9 weighed by their probabilities (Lee et al. 2023, arXiv:2309.00267, section 3.2.2).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from studio import config as settings
from studio import events
from studio.data import rules
from studio.data.preferences import Record
from studio.data.records import Message
from studio.data.votes import Answer
from studio.errors import InputError, StudioError
from studio.feedback import making, rubric
from studio.feedback.given import Task, ranks_of
from studio.feedback.speakers import Draw, Speaker, unthought
from studio.runs import Run

GRADES = tuple(str(number) for number in range(1, 10))
_SCALE = re.compile(r"\b1\s*(?:-|–|to)\s*9\b")
#: Gives the score of each answer of a task, None for one that cannot be scored.
Score = Callable[[Task], list[float | None]]


#: Why a record is not used.
UNSCORED = "no answer could be scored"


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Who scores, as a record keeps it, the function, and the score from which an answer counts as good, if any."""

    by: dict[str, Any]
    score: Score
    good: float | None = None


def records(scorer: Scorer, tasks: Sequence[Task], good: float | None, seed: int) -> Iterator[Record]:
    """Give each task as a record: its answers with their scores, ranked by them, the whole list.

    An answer that scores `good` or more is wanted, one below it is not, and a record without a wanted one is bad; where
    that is None, the best are wanted and the worst are not. Answers that could not be scored are left out.
    """
    for task in tasks:
        found = scorer.score(task)
        able = [number for number, score in enumerate(found) if score is not None]
        about: dict[str, Any] = {"line": task.line}
        if task.ranks:
            about["file"] = [task.ranks[number] for number in able]
        if len(able) < len(found):
            about["unscored"] = len(found) - len(able)
        made = Record(task.turns, task.answers, by=scorer.by, about=about, seed=seed, id=task.key)
        if not able:
            yield dataclasses.replace(made, dropped=UNSCORED, about={"line": task.line})
            continue
        scores = [round(score, 6) for score in found if score is not None]
        labels: list[bool | None] = [] if good is None else [score >= good for score in scores]
        yield dataclasses.replace(
            made,
            answers=[task.answers[number] for number in able],
            scores=scores,
            ranks=ranks_of(scores),
            labels=labels,
            bad=bool(labels) and not any(labels),
        )


# --- a rule ----------------------------------------------------------------------------------------------------------


def by_rule(rule: rules.Rule) -> Scorer:
    """Score by a rule; the built-in ones give 1 to what is right."""
    spec = rule.spec.strip()
    own = ":" in spec and not spec.startswith(("regex:", "length:"))

    def score(task: Task) -> list[float | None]:
        return [by_text(rule, task, answer) for answer in task.answers]

    return Scorer({"kind": "rule", "name": spec}, score, None if own else 1.0)


def by_text(rule: rules.Rule, task: Task, answer: Answer) -> float:
    """Score one answer by a rule; an error names the prompt's line."""
    asked = str(task.turns[-1].get("content") or "")
    try:
        return rule(asked, answer.text.strip(), task.reference, bool(answer.identity.get("stopped", True)))
    except StudioError as error:
        where = f"{error.message} (The prompt stands in line {task.line}.)"
        raise type(error)(where, error.remedy, file=error.file, line=error.line, field="rule") from None


# --- a judge ---------------------------------------------------------------------------------------------------------


def by_judge(judge: Speaker, text: str, tokens: int, seed: int) -> Scorer:
    """Score by a judge that grades answers one by one; `text` is the rubric, `tokens` the room for a reply."""
    by = {"kind": "judge", "name": judge.name, "identity": judge.identity}

    def score(task: Task) -> list[float | None]:
        return [graded(judge, text, task, answer, tokens, seed) for answer in task.answers]

    return Scorer(by, score)


def graded(judge: Speaker, text: str, task: Task, answer: Answer, tokens: int, seed: int) -> float | None:
    """Give a judge's grade, 1 to 9; None where it gives none, or the answer is too long for it."""
    asked = rubric.fill(text, {"question": rubric.asked(task.turns), "answer": answer.text})
    turns = [{"role": "user", "content": asked}]
    try:
        words = [*GRADES, *(f" {grade}" for grade in GRADES if judge.identity.get("raw"))]
        if judge.weighs and sum(shares := judge.weigh(turns, words)) > 0:
            return sum(share * int(word) for share, word in zip(shares, words, strict=True))
        return digit(judge.say(turns, Draw(max_tokens=tokens, seed=seed), task.key)[0].text)
    except InputError as error:
        if not making.too_long(error):
            raise
        return None


def digit(reply: str) -> float | None:
    """Read the grade of a reply: its first number, where that is one of 1 to 9 and not of the scale ("from 1 to 9")."""
    found = re.search(r"\d+(?:\.\d+)?", _SCALE.sub("", unthought(reply)))
    return grade if found and 1 <= (grade := float(found[0])) <= 9 else None


# --- a reward run ----------------------------------------------------------------------------------------------------


def by_reward(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> Scorer:
    """Load a reward run's base and adapter once, and score by them."""
    from studio.methods import METHODS, reward
    from studio.models import check
    from studio.render import encode
    from studio.train import judges, memory, model, prepare, proof

    about = prepare.adapter_about(run.adapter)
    info = check.inspect(about["base"], emit, should_stop)
    names = {s.name for s in settings.settings(METHODS["reward"].Config)}
    given = {name: value for name, value in {**run.config.settings, **about}.items() if name in names}
    config = settings.build(METHODS["reward"].Config, {**given, "gradient_checkpointing": False})
    config = dataclasses.replace(model.fill_in(config, info.parameters), init_lora_weights="default")
    renderer = encode.load(Path(about["base"]), config.template)

    def note(code: str, text: str) -> None:
        emit(events.event("note", level="info", code=code, text=text))

    policy = model.load(Path(about["base"]), renderer, config, run.adapter)
    proof.settle(policy, config, note)
    policy.add_head(reward.HEAD)
    policy.load_heads(run.adapter)
    policy.model.eval()
    mean, std = judges.scale(run)
    most = info.context or config.max_length

    def score(task: Task) -> list[float | None]:
        rows = [_ids(renderer, task.turns, answer) for answer in task.answers]
        found = _scores(policy, [row for row in rows if len(row) <= most], memory.room(config, policy), renderer.pad_id)
        each = iter(found)
        return [(next(each) - mean) / std if len(row) <= most else None for row in rows]

    return Scorer({"kind": "reward", "name": run.id}, score)


def _ids(renderer: Any, turns: Sequence[dict[str, Any]], answer: Answer) -> list[int]:
    """Give the tokens of prompt and answer as the reward model learned them; what was cut off has no end."""
    from studio.data.formats.turns import messages
    from studio.render.labels import IGNORE

    said = [*messages(list(turns), "prompt"), Message("assistant", answer.text.strip())]
    row = renderer.conversation(said)
    if answer.identity.get("stopped", True):
        return list(row.ids)
    last = max(at for at, label in enumerate(row.labels) if label != IGNORE)
    return list(row.ids[:last])


def _scores(policy: Any, rows: Sequence[list[int]], room: int, pad_id: int) -> list[float]:
    import torch

    from studio.methods import METHODS, reward
    from studio.train import layout

    examples = [{"0": {"ids": ids, "labels": ids}} for ids in rows]
    scores = [0.0] * len(rows)
    with torch.no_grad():
        for numbers in layout.passes(METHODS["sft"], examples, room, policy.packed) if examples else ():
            some = [examples[at]["0"] for at in numbers]
            batch = layout.to(layout.lay(some, pad_id, policy.packed), policy.device)
            for at, score in zip(numbers, policy.scores(batch, reward.HEAD).tolist(), strict=True):
                scores[at] = score
    return scores
