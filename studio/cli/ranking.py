"""`studio feedback rank`: answers are sampled, then whoever sits at the terminal puts them in order, blind."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import re
import sys
from typing import Any

import studio
from studio import runs
from studio.cli.data import reading
from studio.cli.output import Out
from studio.cli.running import watching
from studio.data import preferences
from studio.data.strict import visible
from studio.errors import ConfigError, RunError, StudioError
from studio.feedback import agreement, rank, ranked, report
from studio.runs import Run

SOURCE = "rank"
_KEYS = (
    "The numbers in the order of your liking, the best first: 2 1 3, with = for a tie: 2=1 3. What you leave out "
    "shares the last place. b all are bad, e N write a better answer than N, s skip, u undo, q quit."
)
_TIED = re.compile(r"\s*=\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def add(verb: argparse.ArgumentParser) -> None:
    """Add what ranking has beside the flags of every source."""
    verb.add_argument("who", nargs="*", metavar="RUN", help="who answers the prompts; or a set, to go on ranking it")
    verb.add_argument("--by", default="", metavar="NAME", help="who ranks (by default the name of this account)")


def do(args: argparse.Namespace, out: Out, settings: dict[str, Any]) -> None:
    """Sample the answers, or take those of a set; then ask, where somebody sits at a terminal."""
    made = _set(args)
    if made is None:
        with watching() as watch:
            done = studio.make_feedback(
                SOURCE,
                data=args.data,
                settings={**({"answers_from": ",".join(args.who)} if args.who else {}), **settings},
                reading=reading(args),
                out=args.out,
                title=args.title,
                **watch,
            )
        made = runs.find(done["dir"])
    by = rank.person(args.by or _account())
    if not out.as_json and sys.stdin.isatty() and sys.stdout.isatty():
        ask(made, by)
    out.result(document(made, by), said(made, by))


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name
        return ""


def _set(args: argparse.Namespace) -> Run | None:
    """Give the set that is named to go on with; RunError for one that cannot be ranked."""
    made = preferences.of(args.who[0]) if len(args.who) == 1 and not args.data else None
    if made is None:
        if not args.data:
            raise ConfigError("No prompts are named.", "Name a file: --data prompts.jsonl; or a set to go on with.")
        return None
    if made.config.options.get("source") != SOURCE:
        raise RunError(f"{made.id} was not made for people to rank.", "`studio runs` lists the sets.")
    if made.result() is None:
        raise RunError(f"The answers of {made.id} are not all sampled.", f"Go on with: studio resume {made.name}")
    return made


def document(made: Run, by: str) -> dict[str, Any]:
    """Give what is known of a set as it stands now."""
    found = preferences.records(made.dir)
    far = rank.progress(made, by)
    return {
        **(made.result() or {}),
        **preferences.counts(found, str(made.config.options.get("pairing") or "all")),
        "ranked": {"by": by, "done": far.done, "of": far.total},
        "wins": [{"name": won.name, **dataclasses.asdict(won.share)} for won in ranked.wins(found)],
        "agreement": [overlap.to_dict() for overlap in agreement.overlaps(found)],
    }


def said(made: Run, by: str) -> str:
    """Say the same in words, and how to go on."""
    found, told = preferences.records(made.dir), document(made, by)
    lines = [f"Set {made.id}: {made.dir}", *report.lines({**told, "report": None}), *ranked.report(found)]
    if told["ranked"]["done"] < told["ranked"]["of"]:
        lines.append(f"Rank the answers in a terminal, or on the Feedback page: {rank.how_to_go_on(made)}")
    if told["preference"]:
        lines.append(f"Train on it: studio train dpo --data {made.name}")
    return "\n".join(lines)


def ask(made: Run, by: str) -> None:
    """Ask for one prompt after the other, until nothing is left or somebody leaves."""
    print(f"{_KEYS}\n")
    while (shown := rank.next_prompt(made, by)) is not None:
        far = rank.progress(made, by)
        print(f"--- {far.done + 1} of {far.total} ---")
        for turn in shown.prompt:
            print(f"{turn.get('role')}: {_seen(str(turn.get('content') or ''))}")
        for number, text in enumerate(shown.texts, 1):
            print(f"\n[{number}] {_seen(text) or '(nothing)'}")
        try:
            if not _answered(made, shown, by):
                return
        except EOFError:
            print()
            return


def _seen(text: str) -> str:
    """Give a text for the terminal, which obeys what is written to it."""
    return _CONTROL.sub(lambda found: visible(found[0]), text)


def _answered(made: Run, shown: rank.Shown, by: str) -> bool:
    """Take one answer and keep it; tell whether to go on."""
    while True:
        word = input("\n> ").strip()
        if word.lower() in ("q", "quit"):
            return False
        if word.lower() == "u":
            if rank.undo(made, by) is not None:
                return True
            print("There is nothing to take back.")
            continue
        edited = ""
        try:
            if word[:1].lower() == "e":
                number = _number(word[1:], len(shown.texts))
                print(f"It was: {_seen(shown.texts[number - 1])}")
                edited = input("Better: ")
                word = input("Ranks of the others (Enter: all the same)> ").strip()
            bad, skip = word.lower() == "b", word.lower() == "s"
            ranks = [0] * len(shown.texts) if bad or skip or (edited and not word) else ranks_of(word, len(shown.texts))
            rank.save(made, shown.id, ranks, by, edited=edited, bad=bad, skip=skip)
            return True
        except StudioError as error:
            print(f"{error.message} {error.remedy}")


def ranks_of(text: str, count: int) -> list[int]:
    """Read "2 1=3" (or "213") as ranks: 1 is the best, = ties, 0 for what is left out. Raises ConfigError."""
    found = [0] * count
    place = 0
    for group in _TIED.sub("=", text.strip()).replace(",", " ").split():
        for same in re.findall(r"\d(?:=\d)*", group) if re.fullmatch(r"\d(?:=?\d)*", group) else [group]:
            place += 1
            for word in same.split("="):
                number = _number(word, count)
                if found[number - 1]:
                    raise ConfigError(f"Answer {number} is named twice.", "Name each once.")
                found[number - 1] = place
    return found


def _number(word: str, count: int) -> int:
    word = word.strip()
    if not (word.isascii() and word.isdigit() and 1 <= int(word) <= count):
        raise ConfigError(f"{word[:20]!r} is none of the answers.", f"Write numbers from 1 to {count}.")
    return int(word)
