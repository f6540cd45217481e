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
from studio.evals import heldout, importers, starter
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
    shown: int = setting(8, "Facts that the checkpoints are asked, too.", low=0, high=100)


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
    _checkpoints(asking, found[: asking.cfg.shown], out)
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


def _checkpoints(asking: Asking, found: Sequence[Fact], out: Outcome) -> None:
    """Answer some of the questions at the checkpoints that are still there."""
    run = heldout.trained(asking.run)
    folders = run.checkpoints() if run is not None and found else []
    rows = {row["item"]: row for row in out.answers}
    for folder in folders:
        assert run is not None
        try:
            asking.add(Stage(folder.name, run, folder.name))
        except StudioError as error:
            asking.note(f"The checkpoint {folder.name} cannot be asked: {error.message}")
            continue
        step = folder.name.removeprefix("step-").lstrip("0") or "0"
        for fact, (_, told) in zip(found, _asked(asking, folder.name, found), strict=True):
            rows[fact.key].setdefault("during", {})[f"step {step}"] = told


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
