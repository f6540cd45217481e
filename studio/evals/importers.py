"""Files of items: a user's own prompts with checks, and the layouts of public sets, told by their columns.

    own            prompt (or messages, or turns) and one or more checks (checks.py), one item a line
    GSM8K          question, answer with "#### 18" at its end: the last number of an answer counts
    TruthfulQA     Question, Best Answer, Correct Answers, Incorrect Answers: which of them the model finds likelier;
                   or the hub's columns: question, best_answer, ... with lists, or question, mc1_targets, mc2_targets
    IFEval         prompt, instruction_id_list, kwargs: the instructions that are checked here (ifeval.py)
    MT-bench       question_id, category, turns: two turns, each graded by whoever judges; or prompt_id, prompt

XSTest and sycophancy-eval are read by the suites refusal and sycophancy, which ask them in their own way.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.data import files, preferences
from studio.data.records import Problems, Warnings
from studio.errors import DataError
from studio.evals import checks, ifeval
from studio.evals.checks import Check

Row = Mapping[str, Any]
#: What may stand in a row of one's own beside its prompt and its checks.
_BESIDE = ("id", "question_id", "key", "system", "tolerance", "note", "source", "category", "topic", "title", "tags")
#: The hub's names for TruthfulQA's columns.
_TRUTHFUL = {"question": "Question", "best_answer": "Best Answer"}
_TRUTHFUL |= {"correct_answers": "Correct Answers", "incorrect_answers": "Incorrect Answers"}
_ASKED = ("prompt", "messages", "turns")


@dataclasses.dataclass(frozen=True)
class Item:
    """A question and what its answer must be.

    `turns` are asked one after the other, after the turns `before`. `checks` must all hold; `instructions` are
    IFEval's; of `right` and `wrong` answers the likelier ones count, `right[0]` the best; `rated`: a judge grades.
    """

    key: str
    line: int
    turns: tuple[str, ...]
    before: tuple[dict[str, Any], ...] = ()
    checks: tuple[Check, ...] = ()
    instructions: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    rated: bool = False
    skipped: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Imported:
    """A file's layout, its items, and what of it is not checked, by name."""

    layout: str
    items: list[Item]
    skipped: Counter[str]


def numbered(path: Path) -> Sequence[tuple[int, Row]]:
    """Read the rows of a file with their lines. Raises DataError for the first one that cannot be read."""
    problems = Problems()
    found = list(files.read_rows(path, problems, Warnings()))
    if problems.first:
        first = problems.first[0]
        raise DataError(first.problem, first.remedy, file=str(path), line=first.line, field=first.field or None)
    if not found:
        raise DataError("This file holds no rows.", "Name a file with one item a row.", file=str(path))
    return [(line, _spelt(row)) for line, row in found]


def _spelt(row: Row) -> Row:
    """Give a row of a public set under the columns that its authors' own file has, where the hub's names them anew."""
    if _TRUTHFUL.keys() <= row.keys():
        return {_TRUTHFUL.get(name, name): value for name, value in row.items()}
    if "question" in row and (one := _choices(row.get("mc1_targets"))):
        right, wrong = _choices(row.get("mc2_targets")) or one
        best = one[0][:1] or right[:1]
        told = {"Question": row["question"], "Best Answer": "".join(best), "Correct Answers": right}
        return {**told, "Incorrect Answers": wrong}
    turns = row.get("prompt")
    if "prompt_id" in row and isinstance(turns, list) and all(isinstance(turn, str) for turn in turns):
        rest = {name: value for name, value in row.items() if name not in ("prompt", "prompt_id")}
        return {"question_id": row["prompt_id"], "turns": turns, **rest}
    return row


def _choices(targets: Any) -> tuple[list[Any], list[Any]] | None:
    """Read {"choices": [...], "labels": [1, 0, ...]} as the right ones and the wrong ones."""
    if not isinstance(targets, Mapping):
        return None
    choices, labels = targets.get("choices"), targets.get("labels")
    if not isinstance(choices, list) or not isinstance(labels, list) or len(choices) != len(labels):
        return None
    both = list(zip(choices, labels, strict=True))
    return [one for one, label in both if label], [one for one, label in both if not label]


def read(path: Path) -> Imported:
    """Read a file of items, of whatever layout. Raises DataError with the line and the field."""
    rows = numbered(path)
    layout = layout_of(rows[0][1])
    if layout in _ELSEWHERE:
        suite = _ELSEWHERE[layout]
        raise DataError(f"This is the layout of {layout}.", f"Use --suite {suite} --data FILE.", file=str(path))
    items = []
    for number, (line, row) in enumerate(rows):
        try:
            items.append(_LAYOUTS[layout](line, row, number))
        except _Odd as odd:
            raise DataError(odd.said, odd.remedy, file=str(path), line=line, field=odd.field) from None
    return Imported(layout, items, Counter(name for item in items for name in item.skipped))


def layout_of(row: Row) -> str:
    """Tell a layout by a row's columns."""
    names = {str(name).strip() for name in row}
    if {"Question", "Best Answer", "Correct Answers", "Incorrect Answers"} <= names:
        return "TruthfulQA"
    if {"prompt", "instruction_id_list", "kwargs"} <= names:
        return "IFEval"
    checked = bool(names & set(checks.KINDS))
    if {"question_id", "turns"} <= names and not checked:
        return "MT-bench"
    if {"prompt", "type"} <= names and names & {"label", "focus"} and not checked:
        return "XSTest"
    if {"prompt", "base", "metadata"} <= names:
        return "sycophancy-eval"
    if {"question", "answer"} <= names and "####" in str(row.get("answer")):
        return "GSM8K"
    return "own"


class _Odd(Exception):
    def __init__(self, field: str, said: str, remedy: str) -> None:
        self.field, self.said, self.remedy = field, said, remedy


def _text(row: Row, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise _Odd(field, "A text is needed here.", f"Write the {field} as a text that is not empty.")
    return value


# --- one's own -------------------------------------------------------------------------------------------------------


def _own(line: int, row: Row, number: int) -> Item:
    asked = [name for name in _ASKED if row.get(name) not in (None, "", [])]
    if len(asked) != 1:
        found = "No question is asked" if not asked else f"Two things are asked ({' and '.join(asked)})"
        raise _Odd("prompt", f"{found}.", "Give a row one of prompt, messages or turns.")
    given = {name: row[name] for name in checks.KINDS if row.get(name) is not None}
    odd = [name for name in row if name not in (*_ASKED, *_BESIDE, *checks.KINDS) and row[name] is not None]
    if odd:
        raise _Odd(str(odd[0]), f"{odd[0]!r} is no check.", f"The checks are: {', '.join(checks.KINDS)}.")
    if not given:
        raise _Odd("check", "Nothing says what the answer must be.", f"Add one of: {', '.join(checks.KINDS)}.")
    tolerance = row.get("tolerance") or 0
    if not isinstance(tolerance, (int, float)) or isinstance(tolerance, bool) or not tolerance >= 0:
        raise _Odd("tolerance", "The tolerance is no number of 0 or more.", "Write it as a number: 0.01")
    made = []
    for kind, want in given.items():
        if said := checks.refuse(kind, want):
            raise _Odd(kind, f"The check {kind} cannot be used: {said}.", "Correct it.")
        made.append(Check(kind, want, float(tolerance) if kind == "number" else 0.0))
    before, turns = _asked(row, asked[0])
    if row.get("system"):
        before = ({"role": "system", "content": _text(row, "system")}, *before)
    return Item(_key(row, line, number, before, turns), line, turns, before, tuple(made))


def _asked(row: Row, name: str) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Give the turns before, and what is asked."""
    if name == "prompt":
        return (), (_text(row, name),)
    value = row[name]
    if name == "turns":
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
            raise _Odd(name, "The turns are no list of texts.", "Write what the user says, turn by turn.")
        return (), tuple(value)
    if not isinstance(value, list) or not all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        for one in value
    ):
        raise _Odd(name, "The messages are no list of turns.", 'Write them as {"role": "user", "content": "..."}.')
    if value[-1]["role"] != "user":
        raise _Odd(name, "The messages do not end with the user's.", "End them with the question.")
    turns = [{"role": one["role"], "content": one["content"]} for one in value]
    return tuple(turns[:-1]), (turns[-1]["content"],)


def _key(row: Row, line: int, number: int, *about: Any) -> str:
    name = str(row.get("id") or row.get("question_id") or row.get("key") or "")
    return f"{name or 'row'}-{preferences.key(name, line, number, *about)[:8]}"


# --- public layouts --------------------------------------------------------------------------------------------------


def _gsm8k(line: int, row: Row, number: int) -> Item:
    question, answer = _text(row, "question"), _text(row, "answer")
    final = checks.last_number(answer.rpartition("####")[2].replace(" ", ""))
    if "####" not in answer or final is None:
        raise _Odd("answer", 'There is no number behind "####".', "End the answer with #### and the number.")
    return Item(_key(row, line, number, question), line, (question,), checks=(Check("number", final),))


def _truthful(line: int, row: Row, number: int) -> Item:
    cells = {str(name).strip(): value for name, value in row.items()}
    question, best = _text(cells, "Question").strip(), _text(cells, "Best Answer").strip()
    right = [best, *(one for one in _listed(cells, "Correct Answers") if one != best)]
    wrong = [one for one in _listed(cells, "Incorrect Answers") if one not in right]
    if not wrong:
        raise _Odd("Incorrect Answers", "No answer is wrong.", "Give the row a wrong answer.")
    return Item(_key(row, line, number, question), line, (question,), right=tuple(right), wrong=tuple(wrong))


def _listed(cells: Row, name: str) -> list[str]:
    """Read a list, or one inside a cell, joined by semicolons."""
    value = cells.get(name)
    parts = value if isinstance(value, list) else _text(cells, name).split(";")
    return list(dict.fromkeys(part.strip() for part in parts if isinstance(part, str) and part.strip()))


def _ifeval(line: int, row: Row, number: int) -> Item:
    prompt, names, given = _text(row, "prompt"), row["instruction_id_list"], row["kwargs"]
    if not isinstance(names, list) or not isinstance(given, list) or len(names) != len(given):
        raise _Odd("kwargs", "The instructions and what they are given are not as many.", "Give one object each.")
    if not all(isinstance(some, dict) or some is None for some in given):
        raise _Odd("kwargs", "What an instruction is given is no object.", "Give one object each.")
    known = [(str(name), dict(some or {})) for name, some in zip(names, given, strict=True) if ifeval.known(str(name))]
    for name, some in known:
        if said := ifeval.refuse(name, some):
            raise _Odd("kwargs", said, "Give it, as in IFEval's own file.")
    skipped = tuple(str(name) for name in names if not ifeval.known(str(name)))
    key = _key(row, line, number, prompt)
    return Item(key, line, (prompt,), instructions=tuple(known), skipped=skipped)


def _mtbench(line: int, row: Row, number: int) -> Item:
    _, turns = _asked(row, "turns")
    return Item(_key(row, line, number, turns), line, turns, rated=True)


_LAYOUTS: Mapping[str, Callable[[int, Row, int], Item]] = {
    "own": _own,
    "GSM8K": _gsm8k,
    "TruthfulQA": _truthful,
    "IFEval": _ifeval,
    "MT-bench": _mtbench,
}
#: Layouts that other suites read.
_ELSEWHERE = {"XSTest": "refusal", "sycophancy-eval": "sycophancy"}
LAYOUTS: Sequence[str] = (*_LAYOUTS, *_ELSEWHERE)
