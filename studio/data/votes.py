"""Votes: which of two answers was better, whoever judged; kept in one file, and read as preference data.

$STUDIO_HOME/preferences/
├── votes.jsonl     a vote a line (ledger.py), readable by its owner only
└── votes-14-pairs-1a2b3c4d.jsonl, votes-27-rated-....jsonl     what was trained on: named by their content, so that a
                    run can be resumed after more votes

A vote ranks its answers, and each neighbouring pair of the ranking is a preference pair:

    A            A over B                      with an edited answer E: E over A, A over B
    tie, bad     none                          with an edited answer E: E over A, E over B

As rated answers (KTO) the winner is wanted and the loser is not; of "both bad" neither is; a tie says nothing; E is
wanted. Answers that are the same, and empty ones, make no pair.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from studio import paths
from studio.data import landing, ledger, writers
from studio.data.interval import wilson
from studio.errors import ConfigError, DataError

CHOICES = ("a", "b", "tie", "bad")
#: What stands in a file's place on the command line, and the kind of rows that is meant.
NAMES = {"votes": "preference", "votes:kto": "kto"}

_COLUMNS = {
    "preference": {"prompt": "messages", "chosen": "messages", "rejected": "messages"},
    "kto": {"prompt": "messages", "completion": "messages", "label": "bool"},
}
_WORDS = {"preference": "pairs", "kto": "rated"}
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer, and who gave it (`identity` as chat.session tells it: name, file, sha256, adapter, strength...)."""

    text: str
    identity: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Vote:
    """A judgement of two answers to `prompt`, which are messages that end with the question.

    `choice` is one of CHOICES; `edited` a better answer that somebody wrote; `by` a person or the judge's name. `id`
    and `time` (UTC) are filled in by `add`.
    """

    prompt: list[dict[str, Any]]
    a: Answer
    b: Answer
    choice: str
    edited: str = ""
    by: str = "person"
    time: str = ""
    id: str = ""


@dataclasses.dataclass(frozen=True)
class Tally:
    """How often one side won: see `tally`. `rate` is NaN where nothing was compared."""

    wins: int
    losses: int
    ties: int
    bad: int
    rate: float
    low: float
    high: float

    @property
    def n(self) -> int:
        """Give the votes that the rate is of: all but "both bad"."""
        return self.wins + self.losses + self.ties


# --- the store -------------------------------------------------------------------------------------------------------


def file() -> Path:
    """Give the file of votes, whether it is there or not; its folder is made."""
    folder = paths.home() / "preferences"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder / "votes.jsonl"


def add(vote: Vote) -> Path:
    """Append a vote; it is on the disk when this returns.

    An edited answer that is one of the two is none. Raises ConfigError for what is no vote, DataError where it cannot
    be written (then the file is as it was).
    """
    row = writers.line(dataclasses.asdict(_checked(vote)))
    ledger.append(file(), row.rstrip(b"\n"), _is_vote)
    return file()


def all() -> list[Vote]:
    """Give every vote, the oldest first; lines that are none are passed over (see `unreadable`)."""
    return [vote for _, _, vote in _lines() if vote is not None]


def unreadable() -> list[int]:
    """List the lines that are no votes: somebody wrote them by hand. What a crash left is not among them."""
    return [number for number, _, vote in _lines() if vote is None]


def remove(id: str) -> None:
    """Take a vote back; the other lines stay as they are. Raises DataError where there is none of this id."""
    with ledger.alone(file()):
        lines = list(_lines())
        kept = [raw for _, raw, vote in lines if vote is None or vote.id != id]
        if len(kept) == len(lines):
            raise DataError(f"There is no vote {id[:40]!r}.", "`studio votes list --json` gives their ids.")
        ledger.replace(file(), kept)


def _checked(vote: Vote) -> Vote:
    """Give the vote with its id and time; ConfigError for what could not be used later."""
    turns = vote.prompt
    whole = [isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in turns]
    if not turns or not min(whole) or turns[-1].get("role") not in ("user", "tool"):
        raise ConfigError("A vote needs the turns up to the question.", "End the prompt with a user's turn.")
    if vote.choice not in CHOICES:
        raise ConfigError(f"{vote.choice!r} is no choice.", f"Choose one of {', '.join(CHOICES)}.", field="choice")
    if not min(isinstance(text, str) for text in (vote.a.text, vote.b.text, vote.edited)):
        raise ConfigError("An answer of a vote is no text.", "Give both answers as text.")
    same = vote.edited.strip() in ("", vote.a.text.strip(), vote.b.text.strip())
    stamp = vote.time or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return dataclasses.replace(vote, edited="" if same else vote.edited, time=stamp, id=vote.id or secrets.token_hex(8))


def _lines() -> Iterator[tuple[int, bytes, Vote | None]]:
    return ((number, raw, _vote(raw)) for number, raw in ledger.lines(file(), _is_vote))


def _is_vote(raw: bytes) -> bool:
    return _vote(raw) is not None


def _vote(raw: bytes) -> Vote | None:
    try:
        row = json.loads(raw)
        a, b = (Answer(str(row[side]["text"]), dict(row[side].get("identity") or {})) for side in "ab")
        words = {name: str(row.get(name) or "") for name in ("edited", "by", "time", "id")}
        vote = Vote([dict(turn) for turn in row["prompt"]], a, b, row["choice"], **words)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return vote if vote.choice in CHOICES and vote.prompt else None


# --- who wins --------------------------------------------------------------------------------------------------------


def key(identity: dict[str, Any]) -> str:
    """Name who answered, as `tally` tells sides apart: the adapter's hash, else the file's, else the name.

    A base and what was trained on it share a file, and one adapter may speak at several strengths ("@0.5").
    """
    adapter = str(identity.get("adapter_sha256") or "")
    who = adapter or str(identity.get("sha256") or "") or str(identity.get("name") or "")
    strength = identity.get("strength", 1.0)
    return f"{who}@{strength:g}" if adapter and isinstance(strength, (int, float)) and strength != 1.0 else who


def tally(votes: Sequence[Vote], of: str) -> Tally:
    """Count how often the side whose `key` is `of` won against another, with the 95 % interval of the rate.

    p = (wins + ties / 2) / n,  n = wins + losses + ties: a tie counts half, "both bad" not at all.
    The interval is Wilson's (interval.py). With ties it is a little wider than it need be: halves vary less than wins
    and losses of the same mean. Without votes the rate is NaN and the interval 0 to 1.
    """
    seen: Counter[str] = Counter()
    for vote in votes:
        mine = [side for side, answer in (("a", vote.a), ("b", vote.b)) if key(answer.identity) == of]
        if len(mine) == 1:  # what is compared with itself says nothing
            seen[vote.choice if vote.choice in ("tie", "bad") else "won" if vote.choice == mine[0] else "lost"] += 1
    n = seen["won"] + seen["lost"] + seen["tie"]
    if not n:
        return Tally(0, 0, 0, seen["bad"], math.nan, 0.0, 1.0)
    hits = seen["won"] + seen["tie"] / 2
    return Tally(seen["won"], seen["lost"], seen["tie"], seen["bad"], hits / n, *wilson(hits, n))


# --- as data ---------------------------------------------------------------------------------------------------------


def pairs(votes: Sequence[Vote] | None = None) -> list[Row]:
    """Give votes (all by default) as preference rows: {"prompt", "chosen", "rejected"}, each a list of messages."""
    return [
        {"prompt": vote.prompt, "chosen": _said(better), "rejected": _said(worse)}
        for vote in (all() if votes is None else votes)
        for better, worse in _ranked(vote)
    ]


def rated(votes: Sequence[Vote] | None = None) -> list[Row]:
    """Give votes (all by default) as rated answers: {"prompt", "completion", "label"}."""
    return [
        {"prompt": vote.prompt, "completion": _said(text), "label": label}
        for vote in (all() if votes is None else votes)
        for text, label in _labelled(vote)
    ]


def rows(kind: str, votes: Sequence[Vote] | None = None) -> list[Row]:
    """Give votes as rows of a kind, preference or kto; ConfigError for another one."""
    if kind not in _COLUMNS:
        raise ConfigError(f"Votes are no {kind!r} rows.", f"Choose one of {', '.join(_COLUMNS)}.", field="to")
    return pairs(votes) if kind == "preference" else rated(votes)


def unused(kind: str, votes: Sequence[Vote]) -> dict[str, int]:
    """Count the votes that make no row of a kind, by the reason."""
    why: Counter[str] = Counter()
    for vote in votes:
        if not rows(kind, [vote]):
            same = vote.a.text.strip() == vote.b.text.strip()
            empty = vote.choice != "tie" and not (vote.a.text.strip() and vote.b.text.strip())
            only = "both bad" if vote.choice == "bad" else "ties"
            why["empty answers" if empty else "the same answer twice" if same else only] += 1
    return dict(why)


def contradictory(votes: Sequence[Vote]) -> list[list[Vote]]:
    """Group the votes that prefer each of the same two answers to the same prompt, once this and once the other."""
    groups: dict[str, list[tuple[str, Vote]]] = {}
    for vote in votes:
        for better, worse in _ranked(vote):
            about = json.dumps([vote.prompt, sorted((better.strip(), worse.strip()))], sort_keys=True)
            groups.setdefault(about, []).append((better.strip(), vote))
    return [[vote for _, vote in found] for found in groups.values() if len({better for better, _ in found}) > 1]


def export(to: str, out: str | Path, *, force: bool = False) -> dict[str, Any]:
    """Write all votes as rows of a kind to a .jsonl, .csv or .parquet file; gives {"rows", "votes", "unused"}.

    Raises ConfigError for a place that is taken (`force` replaces a file), DataError where no vote makes a row.
    """
    votes = all()
    made = rows(to, votes)
    path = landing.file(out, [file()], force)
    if not made:
        raise _none(to)
    writers.write(path, _COLUMNS[to], made, force)
    return {"rows": len(made), "votes": len(votes), "unused": unused(to, votes), "file": str(path)}


def snapshot(kind: str = "preference") -> Path:
    """Give a file with the rows that all votes make now; it is named by them and stays as it is when more are added."""
    made = rows(kind)
    if not made:
        raise _none(kind)
    data = b"".join(map(writers.line, made))
    name = f"votes-{len(made)}-{_WORDS[kind]}-{hashlib.sha256(data).hexdigest()[:8]}.jsonl"
    path = file().with_name(name)
    if not path.is_file():
        ledger.write(path, data)
    return path


def named(data: str | Path, kind: str = "") -> Path:
    """Give the file that a name of data means: one of NAMES is a snapshot, unless a file of that name is there.

    `kind` is the kind of rows that "votes" alone stands for.
    """
    path, name = Path(data).expanduser(), str(data)
    if name not in NAMES or os.path.lexists(path):
        return path
    return snapshot(kind if name == "votes" and kind else NAMES[name])


def _none(kind: str) -> DataError:
    what = "a preference pair" if kind == "preference" else "a rated answer"
    return DataError(
        f"No vote makes {what} yet.",
        "Vote on the Chat page, side by side: A, B, tie or both bad. Ties and equal answers make no pair.",
    )


def _ranked(vote: Vote) -> list[tuple[str, str]]:
    """Give the neighbours of the ranking, (better, worse)."""
    a, b, edited = vote.a.text, vote.b.text, vote.edited
    if vote.choice in ("a", "b"):
        better, worse = (a, b) if vote.choice == "a" else (b, a)
        found = [(better, worse), (edited, better)]
    else:
        found = [(edited, a), (edited, b)]
    distinct = {(one.strip(), other.strip()): (one, other) for one, other in found if one.strip() and other.strip()}
    return [both for (one, other), both in distinct.items() if one != other]


def _labelled(vote: Vote) -> list[tuple[str, bool]]:
    """Give the answers that a vote calls wanted or unwanted."""
    a, b = vote.a.text, vote.b.text
    found = {"a": [(a, True), (b, False)], "b": [(a, False), (b, True)], "bad": [(a, False), (b, False)], "tie": []}
    said = found[vote.choice]
    if vote.choice in ("a", "b") and a.strip() == b.strip():
        said = []
    said = [*said, (vote.edited, True)]
    return list({text.strip(): (text, label) for text, label in said if text.strip()}.values())


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
