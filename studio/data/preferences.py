"""Judged answers, whoever judged: one record for all sources of feedback, kept in sets that every method can train on.

A set is the directory of the run that made it (kind `feedback`), and says there how it was made:

RUN/
├── records.jsonl    a record a line (ledger.py), in the order they were finished
└── pairs-14-1a2b3c4d.jsonl, rated-....jsonl, answers-....jsonl     what was trained on: named by their content

What a record gives, by kind of rows:

    preference   each better answer over each worse one ("all"), or the best over the worst ("ends")
    kto          the best answers are wanted, the worst are not; of bad ones none is wanted; labels go before ranks
    sft          the best answer (of equals the first)

A record that was `dropped` gives nothing, nor do answers that are empty or the same. Votes of the chat page are a set
of their own (votes.py) and give the same kinds of rows; its thumbs are a set like any other (thumbs.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from studio import runs
from studio.data import ledger, votes, writers
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError
from studio.runs import Run

KIND = "feedback"
FILE = "records.jsonl"
#: Kinds of rows, and what their files are called.
KINDS = {"preference": "pairs", "kto": "rated", "sft": "answers"}
PAIRINGS = ("all", "ends")
#: The source of the chat page's thumbs, and what stands for their set on the command line.
THUMBS = "thumbs"
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Record:
    """Answers to `prompt` (messages that end with the question), judged.

    `ranks`: 1 is the best, equal numbers are ties, () where nobody ranked; `scores`: what the judge gave, more is
    better; `labels`: whether each answer is wanted, None where that is not said; `bad`: none of them is any good; `p`:
    how probable the judge finds it that the first of two answers is the better one. `by` names who judged: {"kind":
    person, judge, constitution, reward, rule or producer, "name": ...}. `dropped` says why it is not used, `about`
    what the source wants to keep beside. `id` tells records of a set apart and is the same when a set is made again.
    """

    prompt: list[dict[str, Any]]
    answers: list[Answer]
    ranks: list[int] = dataclasses.field(default_factory=list)
    scores: list[float] = dataclasses.field(default_factory=list)
    labels: list[bool | None] = dataclasses.field(default_factory=list)
    bad: bool = False
    p: float | None = None
    by: dict[str, Any] = dataclasses.field(default_factory=dict)
    dropped: str = ""
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    time: str = ""
    id: str = ""


# --- the store -------------------------------------------------------------------------------------------------------


def add(folder: Path, record: Record) -> Record:
    """Append a record to a set; it is on the disk when this returns. Gives it with its id and time.

    Raises ConfigError for what is no record, DataError where it cannot be written (then the file is as it was).
    """
    made = _checked(record)
    row = writers.line(dataclasses.asdict(made))
    ledger.append(folder / FILE, row.rstrip(b"\n"), _is_record)
    return made


def records(folder: Path) -> list[Record]:
    """Give the records of a set in the order they were made; of one id the last. Lines that are none are left out."""
    found = {made.id: made for _, raw in ledger.lines(folder / FILE, _is_record) if (made := _record(raw))}
    return list(found.values())


def remove(folder: Path, id: str) -> None:
    """Take a record back; the other lines stay as they are. Raises DataError where there is none of this id."""
    path = folder / FILE
    with ledger.alone(path):
        lines = [(raw, _record(raw)) for _, raw in ledger.lines(path, _is_record)]
        kept = [raw for raw, made in lines if made is None or made.id != id]
        if len(kept) == len(lines):
            raise DataError(f"There is no record {id[:40]!r}.", "Look at the set again.", file=str(path))
        ledger.replace(path, kept)


def key(*about: Any) -> str:
    """Name a record by what it is about, so that the same one has the same name when a set is made again."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def _checked(record: Record) -> Record:
    turns, count = record.prompt, len(record.answers)
    if not turns or turns[-1].get("role") not in ("user", "tool"):
        raise ConfigError("A judgement needs the turns up to the question.", "End the prompt with a user's turn.")
    if not count or any(not isinstance(answer.text, str) for answer in record.answers):
        raise ConfigError("A judgement needs answers, each a text.", "Give at least one answer.")
    for name in ("ranks", "scores", "labels"):
        if len(getattr(record, name)) not in (0, count):
            raise ConfigError(f"{count} answers have {len(getattr(record, name))} {name}.", "Give one each, or none.")
    stamp = record.time or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    name = record.id or key(record.prompt, [answer.text for answer in record.answers], record.by, stamp)
    return dataclasses.replace(record, time=stamp, id=name)


def _is_record(raw: bytes) -> bool:
    return _record(raw) is not None


def _record(raw: bytes) -> Record | None:
    names = {field.name for field in dataclasses.fields(Record)}
    try:
        row = json.loads(raw)
        answers = [Answer(str(one["text"]), dict(one.get("identity") or {})) for one in row["answers"]]
        made = Record(**{**{name: row[name] for name in names & row.keys()}, "answers": answers})
        return _checked(made)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError):
        return None


# --- as data ---------------------------------------------------------------------------------------------------------


def rows(kind: str, found: Iterable[Record], pairing: str = "all") -> list[Row]:
    """Give records as rows of a kind (KINDS); ConfigError for another one, or another pairing."""
    if kind not in KINDS:
        raise ConfigError(f"Judged answers are no {kind!r} rows.", f"Choose one of {', '.join(KINDS)}.", field="to")
    if pairing not in PAIRINGS:
        raise ConfigError(f"There is no pairing {pairing!r}.", f"Choose one of {', '.join(PAIRINGS)}.", field="pairing")
    made: list[Row] = []
    for record in found:
        if record.dropped:
            continue
        prompt = record.prompt
        if kind == "preference":
            for better, worse in pairs(record, pairing):
                made.append({"prompt": prompt, "chosen": _said(better), "rejected": _said(worse)})
        elif kind == "kto":
            for text, label in labelled(record):
                made.append({"prompt": prompt, "completion": _said(text), "label": label})
        elif best := _best(record):
            made.append({"messages": [*prompt, *_said(best)]})
    return made


def pairs(record: Record, pairing: str = "all") -> list[tuple[str, str]]:
    """Give (better, worse) texts of a record: every two that differ in rank, or one of the best and of the worst."""
    texts = [_usable(answer.text) for answer in record.answers]
    ranked = sorted((rank, at) for at, rank in enumerate(record.ranks) if texts[at].strip())
    if pairing == "ends":
        ranked = [ranked[0], ranked[-1]] if len(ranked) > 1 else []
    found = [(texts[a], texts[b]) for (high, a), (low, b) in itertools.combinations(ranked, 2) if high < low]
    distinct = {(one.strip(), other.strip()): (one, other) for one, other in found}
    return [both for (one, other), both in distinct.items() if one != other]


def labelled(record: Record) -> list[tuple[str, bool]]:
    """Give the answers that a record calls wanted or unwanted."""
    texts = [_usable(answer.text) for answer in record.answers]
    said: list[bool | None] = list(record.labels)
    if not said and record.bad:
        said = [False] * len(texts)
    if not said and record.ranks:
        best, worst = min(record.ranks), max(record.ranks)
        said = [None if best == worst else {best: True, worst: False}.get(rank) for rank in record.ranks]
    found = {
        text.strip(): (text, label)
        for text, label in zip(texts, said, strict=False)
        if text.strip() and label is not None
    }
    return list(found.values())


def _best(record: Record) -> str:
    texts = [_usable(answer.text).strip() for answer in record.answers]
    if record.bad:
        return ""
    if record.labels and not record.ranks:
        return next((text for text, label in zip(texts, record.labels, strict=True) if label), "")
    return texts[record.ranks.index(min(record.ranks))] if record.ranks else ""


def _usable(text: str) -> str:
    """Give a text that can be learned; "" for one that no data file may hold."""
    return "" if "\0" in text else text


def counts(found: Sequence[Record], pairing: str = "all") -> dict[str, Any]:
    """Count what a set gives: {"records", "dropped": {reason: n}, "preference", "kto", "sft"}."""
    why = Counter(record.dropped for record in found if record.dropped)
    return {"records": len(found), "dropped": dict(why), **{kind: len(rows(kind, found, pairing)) for kind in KINDS}}


def doubt(file: str | Path) -> str:
    """Say why what was made of a set should not be trained on without a thought, "" where nothing speaks against it.

    `file` is what `named` gave for the set.
    """
    run = of(str(Path(file).parent))
    told = (run.result() or {}) if run is not None else {}
    if run is None or told.get("usable", True):
        return ""
    why = (told.get("report") or told).get("warnings") or ["Whoever judged it is not shown to be better than chance."]
    return f"The set {run.id} is doubtful. {why[0]}"


def snapshot(run: Run, kind: str, pairing: str = "all") -> Path:
    """Give a file of the rows that a set's records give now; it stays as it is when more are added."""
    made = rows(kind, records(run.dir), pairing)
    if not made:
        raise DataError(
            f"No record of {run.id} gives {'an' if kind == 'sft' else 'a'} {kind} row.",
            f"`studio show {run.name}` says what became of its records.",
        )
    data = b"".join(map(writers.line, made))
    path = run.dir / f"{KINDS[kind]}-{len(made)}-{hashlib.sha256(data).hexdigest()[:8]}.jsonl"
    if not path.is_file():
        ledger.write(path, data)
    return path


def named(data: str | Path, kind: str = "") -> Path:
    """Give the file that a name of data means: a set's run ("ID", "ID:kto"), the votes (votes.py), thumbs, or a path.

    `kind` is the kind of rows that a set's name alone stands for.
    """
    name = str(data)
    if name in votes.NAMES or os.path.isfile(Path(name).expanduser()):
        return votes.named(data, kind)
    set_, colon, wanted = name.rpartition(":")
    if not colon or wanted not in (*KINDS, *(f"{one}/ends" for one in KINDS)):
        set_, wanted = name, kind
    if (run := of(set_)) is None:
        if set_ == THUMBS and not os.path.lexists(name):
            raise DataError("No answer has a thumb yet.", "Thumbs are given on the Chat page, below each answer.")
        return votes.named(data, kind)
    wanted, _, pairing = (wanted or default(run)).partition("/")
    return snapshot(run, wanted, pairing or str(run.config.options.get("pairing") or "all"))


def of(name: str) -> Run | None:
    """Find the set that a name means; None where it means none. THUMBS is the newest set of that source."""
    try:
        if not name or not runs.is_run(name):
            return newest(THUMBS) if name == THUMBS else None
        run = runs.find(name)
    except OSError:  # a name that the system does not take, or a data folder that cannot be read: no set
        return None
    return run if run.config.kind == KIND else None


def sets() -> list[Run]:
    """List the sets of the data folder, the newest first."""
    return [run for run in runs.all_runs() if run.config.kind == KIND]


def newest(source: str) -> Run | None:
    """Give the newest set of a source; None where there is none."""
    return next((run for run in sets() if run.config.options.get("source") == source), None)


def default(run: Run) -> str:
    """Give the kind of rows that a set is best at: the first one that it has rows of."""
    found = counts(records(run.dir))
    return next((kind for kind in KINDS if found[kind]), "preference")


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
