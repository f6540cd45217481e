"""What people's rankings show: which runs or temperatures are ranked higher, and how far two people agree."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from studio.data import votes
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.feedback import agreement


@dataclasses.dataclass(frozen=True)
class Won:
    """How often the answers of one kind were better: `share` of the others beaten (ties half), over its rankings."""

    name: str
    share: agreement.Share


def wins(found: Sequence[Record]) -> list[Won]:
    """Tell which runs, or which temperatures, people rank higher; the best first.

    A ranking gives each kind of answer the share of the other kinds' answers that it beats, a tie counts half; of n
    rankings that is a mean, with Wilson's interval (agreement.py), for which a ranking counts once however many
    answers it has. "All bad", skipped ones and what somebody wrote do not count.
    """
    rankings = [r for r in found if r.ranks and not r.bad and not r.dropped and r.about.get("order")]
    who = {votes.key(a.identity) for r in rankings for a in _sampled(r)}
    heat = {a.identity.get("temperature") for r in rankings for a in _sampled(r)}
    scores: dict[str, list[float]] = {}
    for record in rankings:
        kinds = [_kind(answer, len(who) > 1, len(heat) > 1) for answer in _sampled(record)]
        for kind in set(kinds):
            scores.setdefault(kind, []).extend(_beaten(kind, kinds, record.ranks))
    made = [Won(kind, agreement.share(sum(values), len(values))) for kind, values in scores.items() if values]
    return sorted(made, key=lambda won: -won.share.rate)


def _sampled(record: Record) -> list[Answer]:
    return record.answers[: len(record.about["order"])]


def _kind(answer: Answer, several: bool, heated: bool) -> str:
    name, t = Path(str(answer.identity.get("name") or "?")).name, answer.identity.get("temperature")
    warm = f"temperature {t:g}" if isinstance(t, int | float) else ""
    return ", ".join(part for part in (name if several or not heated else "", warm if heated else "") if part)


def _beaten(kind: str, kinds: Sequence[str], ranks: Sequence[int]) -> Iterator[float]:
    mine = [rank for one, rank in zip(kinds, ranks, strict=False) if one == kind]
    others = [rank for one, rank in zip(kinds, ranks, strict=False) if one != kind]
    if mine and others:
        yield statistics.mean(1.0 if a < b else 0.5 if a == b else 0.0 for a in mine for b in others)


def report(found: Sequence[Record], *, shares: bool = True) -> list[str]:
    """Say in sentences what people's rankings show; without `shares`, all but who was ranked higher."""
    people = [record for record in found if record.by.get("kind") == "person"]
    names = sorted({str(record.by.get("name")) for record in people})
    if not people:
        return ["Nobody has ranked yet."]
    ranked = sum(not record.dropped for record in people)
    said = [f"{ranked:,} ranking{'s' * (ranked != 1)} by {', '.join(names)}."]
    if bad := sum(bool(record.about.get("all_bad")) for record in people):
        said.append(f"All answers were bad in {bad:,} of them.")
    if written := sum(any(a.identity.get("written") for a in record.answers) for record in people):
        said.append(f"A better answer was written in {written:,}.")
    for won in wins(people)[:4] if shares else ():
        s = won.share
        n = f"{s.n:,} ranking{'s' * (s.n != 1)}"
        said.append(f"{won.name}: better than {s.rate:.0%} of the others (95 %: {s.low:.0%} to {s.high:.0%}; {n}).")
    return [*said, *(overlap.said() for overlap in agreement.overlaps(people))]
