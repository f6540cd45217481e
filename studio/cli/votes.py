"""`studio votes list|tally|export|remove`: which answers were found better, who wins, and the votes as data."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from studio.cli.output import Out, table
from studio.data import votes
from studio.data.strict import excerpt
from studio.data.votes import Answer, Tally, Vote

_SAID = {"a": "A", "b": "B", "tie": "tie", "bad": "both bad"}
_SHORT = 12


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    group = verbs.add_parser("votes", help="votes on answers: list, tally, export, remove").add_subparsers(
        dest="what", metavar="list|tally|export|remove", required=True
    )
    listing = group.add_parser("list", parents=[common], help="every vote, the oldest first")
    listing.set_defaults(do=_list)
    tally = group.add_parser("tally", parents=[common], help="how often each side won, with the 95 %% interval")
    tally.add_argument("--by", default="", metavar="NAME", help="only the votes of this judge, or of `person`")
    tally.set_defaults(do=_tally)
    export = group.add_parser("export", parents=[common], help="write the votes as a file to train on")
    export.add_argument("--to", required=True, metavar="FORMAT", help="preference (pairs) or kto (rated answers)")
    export.add_argument("--out", required=True, metavar="FILE", help="a .jsonl, .csv or .parquet file")
    export.add_argument("--force", action="store_true", help="replace a file that is there")
    export.set_defaults(do=_export)
    remove = group.add_parser("remove", parents=[common], help="take a vote back")
    remove.add_argument("id")
    remove.set_defaults(do=_remove)


def _list(args: argparse.Namespace, out: Out) -> None:
    found = votes.all()
    odd, against = votes.unreadable(), votes.contradictory(found)
    document = {
        "file": str(votes.file()),
        "votes": [dataclasses.asdict(vote) for vote in found],
        "unreadable": odd,
        "contradictory": [[vote.id for vote in group] for group in against],
        "pairs": len(votes.pairs(found)),
        "rated": len(votes.rated(found)),
    }
    if not found and not odd:
        out.result(document, "No votes yet: they are given on the Chat page, side by side.")
        return
    lines = [table([_row(vote) for vote in found], ("ID", "TIME", "BY", "QUESTION", "A", "B", "VOTE"))]
    lines.append(f"{len(found):,} votes: {document['pairs']:,} pairs, {document['rated']:,} rated answers")
    lines += _doubts(odd, against)
    out.result(document, "\n".join(lines))


def _row(vote: Vote) -> tuple[str, ...]:
    asked = excerpt(str(vote.prompt[-1].get("content") or ""))[:48]
    said = _SAID[vote.choice] + (", edited" if vote.edited else "")
    return vote.id, vote.time, vote.by, asked, _name(vote.a), _name(vote.b), said


def _name(answer: Answer) -> str:
    """Name who answered: its name, and the strength where it is not the usual one."""
    strength = answer.identity.get("strength", 1.0)
    name = excerpt(str(answer.identity.get("name") or "?"))[:24]
    return f"{name} x{strength:g}" if answer.identity.get("adapter") and strength != 1.0 else name


def _doubts(odd: Sequence[int], against: Sequence[Sequence[Vote]]) -> list[str]:
    """Say what is wrong with the votes."""
    lines = []
    if odd:
        lines.append(f"Lines that are no votes and are passed over: {', '.join(map(str, odd[:10]))}")
    for group in against:
        lines.append(f"These contradict each other: {', '.join(vote.id for vote in group)}. Take back what is wrong.")
    return lines


def _tally(args: argparse.Namespace, out: Out) -> None:
    found = [vote for vote in votes.all() if not args.by or vote.by == args.by]
    names: dict[str, str] = {}
    for vote in found:
        for answer in (vote.a, vote.b):
            names.setdefault(votes.key(answer.identity), _name(answer))
    sides = [(key, name, votes.tally(found, key)) for key, name in names.items()]
    sides = [side for side in sides if side[2].n or side[2].bad]
    sides.sort(key=lambda side: -side[2].rate if side[2].n else 1.0)
    document = [{"of": key, "name": name, "n": t.n, **dataclasses.asdict(t)} for key, name, t in sides]
    rows = [(name, key[:_SHORT], t.wins, t.losses, t.ties, t.bad, rate(t)) for key, name, t in sides]
    head = ("WHO", "HASH", "WON", "LOST", "TIES", "BOTH BAD", "WIN RATE (95 %)")
    out.result(document, table(rows, head) if rows else "No votes yet.")


def rate(found: Tally) -> str:
    """Write a win rate with its interval: 67% (35-88%)."""
    return f"{found.rate:.0%} ({100 * found.low:.0f}-{found.high:.0%})" if found.n else "-"


def _export(args: argparse.Namespace, out: Out) -> None:
    done = votes.export(args.to, args.out, force=args.force)
    against = votes.contradictory(votes.all())
    done["contradictory"] = [[vote.id for vote in group] for group in against]
    lines = [f"{done['rows']:,} rows of {done['votes']:,} votes, as {args.to}: {done['file']}"]
    lines += [f"without a row: {count:,} ({why})" for why, count in done["unused"].items()]
    out.result(done, "\n".join([*lines, *_doubts([], against)]))


def _remove(args: argparse.Namespace, out: Out) -> None:
    votes.remove(args.id)
    out.result({"removed": args.id}, f"Taken back: {args.id}")
