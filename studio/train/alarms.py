"""What goes wrong while a policy learns from scores, in plain words: once each, as soon as it is seen.

A score can be had in ways that nobody wanted (Goodhart's law): longer answers, one answer to everything, answers that
never end. Pure functions of the steps' figures; `Alarms` stands between a run and its events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studio import events

#: Steps that are averaged, at the beginning and at the end.
SPAN = 5
#: Answers ran away when they are so many times as long (or as short) as at first, and by so many tokens.
_LONGER, _TOKENS = 1.5, 8.0
#: The policy has collapsed when so small a share of its first entropy is left, and less than so many nats a token.
_COLLAPSED, _NATS = 0.2, 0.2
_HARDLY_STOP = 0.2

Figures = Mapping[str, float]


class Alarms:
    """An `emit` that follows a run's steps and raises each alarm once."""

    def __init__(self, emit: events.Emit, kl_limit: float, seen: Iterable[dict[str, Any]] = ()) -> None:
        self.emit, self.kl_limit = emit, kl_limit
        self.steps: dict[int, Figures] = {}
        self.raised: dict[str, str] = {}
        for item in seen:  # of a run that is resumed
            if item["type"] == "step":
                self.steps[item["step"]] = item
            if item["type"] == "note" and item.get("level") == "alarm":
                self.raised[item["code"]] = item["text"]

    def __call__(self, item: dict[str, Any]) -> None:
        """Pass an event on; behind a step, what it alarms of."""
        self.emit(item)
        if item["type"] != "step":
            return
        self.steps[item["step"]] = item
        for code, text in alarms([self.steps[step] for step in sorted(self.steps)], self.kl_limit).items():
            if code not in self.raised:
                self.raised[code] = text
                self.emit(events.event("note", level="alarm", code=code, text=text))

    def last(self, kl: float) -> None:
        """Raise the alarm of the distance from what was measured at the end, where it was not raised before."""
        if kl > self.kl_limit and "kl" not in self.raised:
            self.raised["kl"] = _far("The answers have left", kl, self.kl_limit)
            self.emit(events.event("note", level="alarm", code="kl", text=self.raised["kl"]))


def _far(what: str, kl: float, limit: float) -> str:
    return (
        f"{what} the parent: KL {kl:.1f} nats, past the limit of {limit:g}. What scores may no longer be what you "
        "want. Raise kl_coef, lower learning_rate, or take fewer steps."
    )


def alarms(steps: Sequence[Figures], kl_limit: float) -> dict[str, str]:
    """Give what the steps so far alarm of, by code."""
    if len(steps) < SPAN:
        return {}
    first, now = _mean(steps[:SPAN]), _mean(steps[-SPAN:])
    rises = len(steps) >= 2 * SPAN and now["score"] > first["score"]
    found = {}
    if now["kl"] > kl_limit:
        gain = "The score rises while the answers leave" if rises else "The answers have left"
        found["kl"] = _far(gain, now["kl"], kl_limit)
    longer, shorter = now["length"] / max(1e-9, first["length"]), first["length"] / max(1e-9, now["length"])
    if rises and max(longer, shorter) > _LONGER and abs(now["length"] - first["length"]) > _TOKENS:
        word = "longer" if longer > shorter else "shorter"
        found["length"] = (
            f"The score rises while answers become much {word}: {first['length']:.0f} to {now['length']:.0f} tokens. "
            "Length may be most of what is learned: read some answers, and raise kl_coef or change what scores."
        )
    if len(steps) >= 2 * SPAN and now["entropy"] < min(_NATS, _COLLAPSED * first["entropy"]):
        found["entropy"] = (
            f"The policy says nearly the same each time: its entropy fell from {first['entropy']:.2f} to "
            f"{now['entropy']:.2f} nats a token. It no longer tries anything. Raise kl_coef or temperature, or lower "
            "learning_rate."
        )
    if now["stops"] < _HARDLY_STOP:
        found["stops"] = (
            f"Only {now['stops']:.0%} of the answers end by themselves. Raise max_new_tokens or missing_stop_penalty, "
            "or start from an SFT run, which learns to stop."
        )
    return found


def _mean(steps: Sequence[Figures]) -> dict[str, float]:
    names = ("score", "kl", "length", "entropy", "stops")
    return {name: sum(step[name] for step in steps) / len(steps) for name in names}
