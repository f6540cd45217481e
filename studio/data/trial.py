"""Two models in use: who answers a conversation, what its people thought of the answer, and the difference at any time.

A trial is a set of judged answers (preferences.py) of the source `trial`: a record an answer, labelled once somebody
puts a thumb up or down, so that it trains by its name (KTO).

An arm is drawn by the hash of the conversation, so that one conversation stays with one model:

    arm = first  where  SHA-256(salt, conversation) / 2^64 < share     (the first 8 bytes as a number)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

from studio import runs
from studio.data import preferences
from studio.data.interval import always_valid
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError
from studio.runs import Run, RunConfig

SOURCE = "trial"
RATINGS = {"up": True, "down": False, "none": None}
Turn = dict[str, Any]


class Trial:
    """A comparison of two named arms that goes on; every method is safe to call from several threads.

    `identities` tell who the arms are, as chat/session tells it; `share` is the first one's share of conversations.
    """

    def __init__(self, run: Run, arms: Sequence[str], identities: Sequence[dict[str, Any]], share: float = 0.5) -> None:
        self.run, self.arms, self.share = run, list(arms), share
        self._identities = list(identities)
        self._salt = str(run.config.options.get("salt") or run.id)
        self._lock = threading.Lock()
        self._records = {record.id: record for record in preferences.records(run.dir)}

    @classmethod
    def begin(
        cls, arms: Sequence[str], identities: Sequence[dict[str, Any]], share: float | None = None, more: str = ""
    ) -> Trial:
        """Begin a trial (by halves, where no share is given), or go on with one (`more`: its run) as it was begun.

        ConfigError for a run of another kind, other models, or another share, which would move conversations.
        """
        who = [_who(identity) for identity in identities]
        if not more:
            share = 0.5 if share is None else share
            options = {"source": SOURCE, "arms": list(arms), "who": who, "share": share}
            title = f"{arms[0]} against {arms[1]}"
            return cls(runs.create(RunConfig(preferences.KIND, title, options=options)), arms, identities, share)
        run = runs.find(more)
        asked = run.config.options
        if run.config.kind != preferences.KIND or asked.get("source") != SOURCE:
            raise ConfigError(f"{run.id} is no comparison of models in use.", "Leave --trial out to begin one.")
        names, begun = list(map(str, asked.get("arms", ()))), float(asked.get("share", 0.5))
        if asked.get("who") != who:
            raise ConfigError(
                f"{run.id} compares {' and '.join(names)}, in the state they were in then.",
                "Leave --trial out to begin a new comparison: one of two pairs of models says nothing about either.",
            )
        if share not in (None, begun):
            raise ConfigError(
                f"{run.id} sends {begun:.0%} of the conversations to {names[0]}, and each stays with its model.",
                "Leave --split out to go on with it, or --trial to begin a new comparison.",
                field="split",
            )
        return cls(run, names, identities, begun)  # its records name the arms as they were called then

    def arm(self, conversation: str) -> int:
        """Give the arm of a conversation: 0 or 1."""
        drawn = hashlib.sha256(f"{self._salt}\0{conversation}".encode("utf-8", "surrogatepass")).digest()[:8]
        return 0 if int.from_bytes(drawn, "big") / 2**64 < self.share else 1

    def said(self, id: str, arm: int, conversation: str, turns: Sequence[Turn], text: str) -> None:
        """Keep an answer. One to the same turns of the same conversation was asked for again: that is kept with it."""
        about = {"arm": self.arms[arm], "conversation": conversation, "regenerated": False}
        with self._lock:
            for record in list(self._records.values()):
                same = record.about.get("conversation") == conversation and record.prompt == list(turns)
                if same and not record.about.get("regenerated"):
                    self._keep(dataclasses.replace(record, about={**record.about, "regenerated": True}))
            by = {"kind": "person", "name": "thumbs"}
            self._keep(
                Record(list(turns), [Answer(text, self._identities[arm])], labels=[None], by=by, about=about, id=id)
            )

    def rate(self, id: str, rating: str) -> None:
        """Put a thumb up or down, or take it back (RATINGS). DataError for an answer that is not known."""
        if rating not in RATINGS:
            raise ConfigError(f"{rating[:40]!r} is no rating.", f"Choose one of {', '.join(RATINGS)}.", field="rating")
        with self._lock:
            record = self._records.get(id)
            if record is None:
                raise DataError(f"No answer {id[:60]!r} was given here.", "The id is that of a chat completion.")
            self._keep(dataclasses.replace(record, labels=[RATINGS[rating]]))

    def comparison(self) -> dict[str, Any]:
        """Compare the arms by what was rated so far; see `compare`."""
        with self._lock:
            return compare(list(self._records.values()), self.arms)

    def _keep(self, record: Record) -> None:
        made = preferences.add(self.run.dir, record)
        self._records[made.id] = made


def compare(found: Sequence[Record], arms: Sequence[str], alpha: float = 0.05) -> dict[str, Any]:
    """Compare two arms by their thumbs, in a way that may be looked at any time.

    {"arms": [{"name", "answers", "conversations", "rated", "up", "share", "low", "high", "regenerated"}],
    "difference": {"value", "low", "high"} or None, "verdict": sentence, "alpha"}. Each share has a confidence sequence
    at level alpha / 2 (interval.always_valid); the difference of the arms lies between the differences of their ends
    with probability 1 - alpha for all times at once (a union bound), so that it may be stopped whenever it is clear.
    Answers of one conversation are taken as if each were asked by somebody else: where people rate many answers of
    one conversation, the interval is too narrow.
    """
    told = [_arm(name, [record for record in found if record.about.get("arm") == name], alpha / 2) for name in arms]
    a, b = told
    difference = None
    if a["rated"] and b["rated"]:
        low, high = a["low"] - b["high"], a["high"] - b["low"]
        difference = {"value": a["share"] - b["share"], "low": low, "high": high}
    return {"arms": told, "difference": difference, "verdict": _verdict(arms, difference), "alpha": alpha}


def lines(found: dict[str, Any]) -> list[str]:
    """Write a comparison for people."""
    said = []
    for arm in found["arms"]:
        rate = f"{arm['share']:.0%} up ({100 * arm['low']:.0f}-{arm['high']:.0%})" if arm["rated"] else "not rated yet"
        said.append(
            f"{arm['name']}: {rate}, {arm['rated']:,} of {arm['answers']:,} answers rated, in "
            f"{arm['conversations']:,} conversations; asked again {arm['regenerated']:,} times"
        )
    return [*said, found["verdict"]]


def _arm(name: str, found: Sequence[Record], alpha: float) -> dict[str, Any]:
    thumbs = [label for record in found for label in record.labels if label is not None]
    low, high = always_valid(sum(thumbs), len(thumbs), alpha)
    return {
        "name": name,
        "answers": len(found),
        "conversations": len({record.about.get("conversation") for record in found}),
        "rated": len(thumbs),
        "up": sum(thumbs),
        "share": sum(thumbs) / len(thumbs) if thumbs else None,
        "low": low,
        "high": high,
        "regenerated": sum(bool(record.about.get("regenerated")) for record in found),
    }


def _verdict(arms: Sequence[str], difference: dict[str, float] | None) -> str:
    if difference is None:
        return "Nothing can be said before both were rated."
    span = (
        f"{100 * difference['value']:+.0f} points ({100 * difference['low']:+.0f} to {100 * difference['high']:+.0f})"
    )
    if difference["low"] > 0 or difference["high"] < 0:
        better = arms[0] if difference["low"] > 0 else arms[1]
        return f"{better} is liked better: {arms[0]} against {arms[1]} {span}. You may stop here."
    return f"No difference is shown yet: {arms[0]} against {arms[1]} {span}."


def conversation_of(turns: Sequence[Turn], named: str = "") -> str:
    """Name a conversation: as the client does, else by its turns up to the first question."""
    if named:
        return named
    first = next((at for at, turn in enumerate(turns) if turn.get("role") == "user"), len(turns) - 1)
    return hashlib.sha256(json.dumps(list(turns[: first + 1]), sort_keys=True).encode()).hexdigest()[:16]


def _who(identity: dict[str, Any]) -> str:
    adapter = f"-{identity['adapter_sha256']}x{identity['strength']:g}" if identity.get("adapter") else ""
    return f"{identity.get('sha256')}{adapter}"
