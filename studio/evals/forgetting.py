"""Forgetting: what the base knew and the tuned one no longer says.

A fact is asked in two ways: as a text to go on with, which a base can do, and as a question, which an assistant can. A
side says a fact where it gets it right in either way; `kept` is about the facts that the base said. The same prompts
are answered before, at the run's checkpoints, and after, side by side.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import paths
from studio.config import setting
from studio.errors import ConfigError, DataError, RunError, StudioError
from studio.evals import heldout, importers, road, starter
from studio.evals.suite import Asking, Measure, Outcome, Suite
from studio.export.speaking import Stage
from studio.feedback.speakers import Ask, Draw, Speaker
from studio.runs import Run

#: Tokens of a text gone on with, and of an answer.
_GO_ON, _ANSWER = 10, 48
_NEEDS = 'A row is {"question": ..., "answers": [...]}, with "completion", the text to go on with, where you like.'
Turns = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the suite."""

    n: int = setting(100, "Facts, at most.", low=1, high=5000, advanced=False)
    shown: int = setting(8, "Facts shown side by side, which the checkpoints are asked, too.", low=0, high=100)
    checkpoints: int = setting(4, "At most so many checkpoints of the run are asked.", low=0, high=50)


@dataclasses.dataclass(frozen=True)
class Fact:
    """A question, its text to go on with ("" for none), and its right answers."""

    key: str
    question: str
    completion: str
    answers: tuple[str, ...]

    def goes_on(self, text: str) -> bool:
        """Tell whether the text goes on with a right answer."""
        return starter.knows(text, self._row)

    def answered(self, text: str) -> bool:
        """Tell whether a right answer stands in the reply, before any further question."""
        return starter.answers(text, self._row)

    @property
    def _row(self) -> starter.Question:
        return {"answers": list(self.answers), "accept": []}


def run(asking: Asking) -> Outcome:
    """Ask every side, and the base where it is known."""
    found, out = _facts(asking), Outcome()
    said = {side: _asked(asking, side, found) for side in asking.sides}
    right = {side: _right(found, answers) for side, answers in said.items()}
    for side in asking.sides:
        for fact, (went, told) in zip(found, right[side], strict=True):
            if fact.completion:
                out.mark("goes_on", side, fact.key, went)
            out.mark("answers", side, fact.key, told)
    _kept(asking, found, right, out)
    for number, fact in enumerate(found):
        out.answers.append(_row(fact, {side: answers[number] for side, answers in said.items()}, right, number))
    _side_by_side(asking, found, said, right, out)
    return out


def _row(
    fact: Fact,
    said: Mapping[str, tuple[str, str]],
    right: Mapping[str, Sequence[tuple[bool, bool]]],
    number: int,
) -> dict[str, Any]:
    row: dict[str, Any] = {"item": fact.key, "measure": "answers", "asked": fact.question}
    row |= {side: told for side, (_, told) in said.items()}
    row["marks"] = {side: float(right[side][number][1]) for side in said}
    row["right"] = " / ".join(fact.answers)
    if fact.completion:
        row["goes_on_with"] = {side: f"{fact.completion}{text}" for side, (text, _) in said.items()}
    return row


def _asked(asking: Asking, side: str, found: Sequence[Fact]) -> list[tuple[str, str]]:
    """Give (how a side goes on with the text, what it answers) of each fact."""
    texts = [Ask(_user(fact.completion), f"{fact.key}-text") for fact in found if fact.completion]
    went = asking.ask(side, texts, Draw(max_tokens=_GO_ON), raw=True) if texts else []
    told = asking.ask(side, [Ask(_user(f.question), f.key) for f in found], Draw(max_tokens=_ANSWER))
    rest = iter(went)
    return [(next(rest)[0].text if f.completion else "", answer[0].text) for f, answer in zip(found, told, strict=True)]


def _right(found: Sequence[Fact], said: Sequence[tuple[str, str]]) -> list[tuple[bool, bool]]:
    return [
        (bool(fact.completion) and fact.goes_on(went), fact.answered(told))
        for fact, (went, told) in zip(found, said, strict=True)
    ]


def _user(text: str) -> Turns:
    return [{"role": "user", "content": text}]


# --- what was lost ---------------------------------------------------------------------------------------------------


def _kept(
    asking: Asking, found: Sequence[Fact], right: Mapping[str, Sequence[tuple[bool, bool]]], out: Outcome
) -> None:
    """Mark the facts that the base said: whether a side still says them."""
    try:
        base = asking.speaker("base")
    except (ConfigError, RunError) as error:
        asking.note(f"What the base knew is not known: {error.message}")
        return
    itself = [side for side in asking.sides if _same(asking.speaker(side), base)]
    knew = right[itself[0]] if itself else _right(found, _asked(asking, "base", found))
    known = [number for number, ways in enumerate(knew) if any(ways)]
    for side in (side for side in asking.sides if side not in itself):
        for number in known:
            out.mark("kept", side, found[number].key, any(right[side][number]))
    lost = [found[number].question for number in known if not any(right["after"][number])]
    if known and lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        asking.note(f"Of {len(known)} facts that the base said, {len(lost)} are lost: {' '.join(lost[:5])}{more}")
    if not known:
        asking.note("The base said none of these facts, so there was nothing to forget.")


def _same(one: Speaker, other: Speaker) -> bool:
    return all(one.identity.get(name) == other.identity.get(name) for name in ("sha256", "adapter_sha256"))


# --- side by side ----------------------------------------------------------------------------------------------------

#: A column of answers: who gave them, and (how it goes on, what it answers) of each sample.
Column = tuple[str, Sequence[tuple[str, str]]]


def _side_by_side(
    asking: Asking,
    found: Sequence[Fact],
    said: Mapping[str, Sequence[tuple[str, str]]],
    right: Mapping[str, Sequence[tuple[bool, bool]]],
    out: Outcome,
) -> None:
    """Put some facts before, at the checkpoints that are left, and after side by side; what was lost comes first.

    plots["side_by_side"] = {"columns": [...], "rows": [{"asked", "right", "said": [{"text", "right", "goes_on"}]}]};
    "goes_on" is the text gone on with rightly, where the answer itself is not right.
    """
    chosen = sorted(range(len(found)), key=lambda at: _told_first(at, right))[: asking.cfg.shown]
    if not chosen:
        return
    facts = [found[at] for at in chosen]
    ends = {side: (side, [answers[at] for at in chosen]) for side, answers in said.items()}
    along = _checkpoints(asking, facts)
    columns: list[Column] = [*(ends[side] for side in ("before",) if side in ends), *along, ends["after"]]
    rows: list[dict[str, Any]] = [
        {
            "asked": fact.question,
            "right": " / ".join(fact.answers),
            "said": [_cell(fact, told[at]) for _, told in columns],
        }
        for at, fact in enumerate(facts)
    ]
    out.plots["side_by_side"] = {"columns": [name for name, _ in columns], "rows": rows}
    answers = {row["item"]: row for row in out.answers}
    for name, told in along:
        for fact, (_, text) in zip(facts, told, strict=True):
            answers[fact.key].setdefault("during", {})[name] = text


def _told_first(at: int, right: Mapping[str, Sequence[tuple[bool, bool]]]) -> int:
    """Give the place of a fact: 0 lost in both ways, 1 no longer answered, 2 any other."""
    if "before" not in right:
        return 2
    before, after = right["before"][at], right["after"][at]
    return 0 if any(before) and not any(after) else 1 if before[1] and not after[1] else 2


def _cell(fact: Fact, said: tuple[str, str]) -> dict[str, Any]:
    went, told = said
    answered = fact.answered(told)
    goes_on = f"{fact.completion}{went}" if fact.completion and not answered and fact.goes_on(went) else ""
    return {"text": told, "right": answered, "goes_on": goes_on}


def _checkpoints(asking: Asking, facts: Sequence[Fact]) -> list[Column]:
    """Ask the checkpoints that are still there, in their order."""
    run = heldout.trained(asking.run)
    folders = road.evenly(run.checkpoints(), asking.cfg.checkpoints) if run is not None else []
    made: list[Column] = []
    for folder in folders:
        assert run is not None
        try:
            asking.add(Stage(folder.name, run, folder.name))
        except StudioError as error:
            asking.note(f"The checkpoint {folder.name} cannot be asked: {error.message}")
            continue
        step = folder.name.removeprefix("step-").lstrip("0") or "0"
        made.append((f"step {step}", _asked(asking, folder.name, facts)))
    if run is not None and not folders and asking.cfg.checkpoints:
        asking.note("No checkpoint of the run is left, so nobody was asked during the training.")
    return made


# --- the facts -------------------------------------------------------------------------------------------------------


def _facts(asking: Asking) -> list[Fact]:
    """Give the facts of the user's file; without one those that the starter was made to know, or our own."""
    if asking.file is not None:
        rows = [(line, dict(row)) for line, row in importers.numbered(asking.file)]
        found = [_fact(asking.file, line, row) for line, row in rows]
    else:
        model = asking.run.config.model if asking.run is not None else ""
        found = _starter() if _is_starter(asking.run, model) else _own()
    return found[: asking.cfg.n]


def _is_starter(run: Run | None, model: str) -> bool:
    return model == "starter" or (run is not None and run.lineage()[0].config.model == "starter")


def _starter() -> list[Fact]:
    text = (paths.assets() / "data" / "starter_questions.jsonl").read_text("utf-8")
    rows = [row for row in map(json.loads, text.splitlines()) if row["split"] == "report"]
    return [Fact(row["id"], row["question"], row["completion"], tuple(row["answers"])) for row in rows]


def _own() -> list[Fact]:
    text = (paths.assets() / "evals" / "knowledge.jsonl").read_text("utf-8")
    rows = map(json.loads, text.splitlines())
    return [Fact(row["id"], row["question"], row["completion"], tuple(row["answers"])) for row in rows]


def _fact(file: Path, line: int, row: dict[str, Any]) -> Fact:
    given: Any = row.get("answers", row.get("answer"))
    answers: Any = [given] if isinstance(given, str) else given
    question, completion = row.get("question"), row.get("completion") or ""
    fits = {
        "question": isinstance(question, str) and bool(question.strip()),
        "answers": isinstance(answers, list)
        and bool(answers)
        and all(isinstance(a, str) and a.strip() for a in answers),
        "completion": isinstance(completion, str),
    }
    if odd := next((name for name, good in fits.items() if not good), ""):
        raise DataError(f"The {odd} of this row cannot be used.", _NEEDS, file=str(file), line=line, field=odd)
    return Fact(f"row-{line}", str(question), completion, tuple(answers))


SUITE = Suite(
    name="forgetting",
    title="Forgetting",
    says="Whether it still says what the base knew.",
    cannot="What it knows beyond these few facts, and whether it knows a fact that it would say in other words.",
    measures=(
        Measure(
            "kept", "kept of what the base knew", "Share of the facts that the base said in either way, said still."
        ),
        Measure("goes_on", "goes on with the fact", "Share of texts gone on with rightly."),
        Measure("answers", "answers the question", "Share of questions answered rightly."),
    ),
    Config=Config,
    run=run,
)
