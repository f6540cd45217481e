"""What a run says about itself in plain words: while it learns, and at its end.

Pure functions of figures; `Watch` stands between a run and its events and says each thing once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from studio import events

#: A share of changed answers up to which a run is said to have changed hardly anything.
HARDLY = 0.1
#: A pair's both answers fell when each lost more than so many nats and such a share.
_FELL, _FELL_SHARE = 1.0, 0.05
#: Pairs are told apart early when by this share of the run all of them are, at such a share of the first loss.
_EARLY, _ALL, _NO_LOSS = 0.5, 0.99, 0.1
_LONGER = 1.5
_RARE = 5.0
#: A figure that moved by no more than such a share of itself did not move.
_NOTHING = 0.01

Figures = Mapping[str, float]


class Watch:
    """An `emit` that follows the held-out figures and notes what deserves a word, each once."""

    def __init__(self, emit: events.Emit, config: Any, said: Iterable[str] = ()) -> None:
        self.emit, self.config, self.said = emit, config, set(said)
        self.first: Figures = {}
        self.share = 0.0
        self.early = ""

    def __call__(self, item: dict[str, Any]) -> None:
        """Pass an event on; behind a measurement, what is to be said of it."""
        self.emit(item)
        if item["type"] == "step":
            self.share = item["step"] / max(1, item["total"])
        if item["type"] == "evaluated":
            self.first = self.first or item
            for code, text in remarks(self.config, self.first, item, self.share).items():
                if code not in self.said:
                    self.said.add(code)
                    self.emit(events.event("note", level="warning", code=code, text=text))
                self.early = self.early or (text if code == "saturated" else "")

    def last(self, now: Figures) -> list[str]:
        """Give what is to be said at the end of the run, of which only the early end of learning was seen before."""
        return [text for text in (self.early, *remarks(self.config, self.first, now, 1.0).values()) if text]


def remarks(config: Any, first: Figures, now: Figures, share: float) -> dict[str, str]:
    """Give what held-out figures tell, by code, after `share` (0 to 1) of a run that began with the `first` ones."""
    return {
        code: text
        for code, text in (
            ("both_fall", _both_fall(config, first, now)),
            ("saturated", _saturated(config, first, now, share)),
            ("below_half", _below_half(now, share)),
            ("rare_class", _rare(config)),
        )
        if text
    }


def _both_fall(config: Any, first: Figures, now: Figures) -> str:
    """DPO and its kin widen the gap most cheaply by making both answers unlikely."""
    fell = {}
    for side in ("chosen", "rejected"):
        name = f"logps/{side}"
        if name not in first or name not in now:
            return ""
        fell[side] = first[name] - now[name]
        if fell[side] < max(_FELL, _FELL_SHARE * abs(first[name])):
            return ""
    held = getattr(config, "nll_coef", None)
    remedy = "use method dpo with nll_coef 1" if held is None else "set nll_coef to 1" if held < 1 else "raise nll_coef"
    return (
        f"Both answers became less likely, the chosen ones too (by {fell['chosen']:.1f} nats; the rejected ones by "
        f"{fell['rejected']:.1f}). A little is usual. If the answers get worse, lower learning_rate or {remedy}."
    )


def _saturated(config: Any, first: Figures, now: Figures, share: float) -> str:
    if hasattr(config, "tau"):  # a loss near 0 is a lead of the size that was wanted
        return ""
    if share > _EARLY or now.get("rewards/accuracies", 0.0) < _ALL:
        return ""
    if now.get("loss", 1.0) > _NO_LOSS * first.get("loss", 1.0):
        return ""
    return (
        f"All held-out pairs are told apart after {share:.0%} of the run, with hardly any loss left: what follows only "
        "widens the gap. Fewer epochs, a lower learning_rate or harder pairs would do."
    )


def _below_half(now: Figures, share: float) -> str:
    right = now.get("rewards/accuracies", 1.0)
    if share < 1 or right >= 0.5:
        return ""
    return (
        f"Only {right:.0%} of the held-out answers are on the right side. Chosen and rejected may be the wrong way "
        "round in many rows, or there are too few rows."
    )


def _rare(config: Any) -> str:
    good, bad = (getattr(config, f"{name}_weight", None) for name in ("desirable", "undesirable"))
    if not good or not bad or max(good / bad, bad / good) < _RARE:
        return ""
    which = "wanted" if good > bad else "unwanted"
    return (
        f"{which.capitalize()} answers are rare, each counts {max(good / bad, bad / good):.0f} times as much as one of "
        f"the others: a few wrong labels among them weigh heavily. More {which} answers would help."
    )


def closing(changed: Mapping[str, Any], figures: Figures, pairs: bool) -> list[str]:
    """Give what the answers of parent and child tell at the end of a run; `figures` are the last held-out ones."""
    if not changed["n"]:
        return []
    if changed["changed"] <= HARDLY:
        count = round(changed["changed"] * changed["n"])
        few = f"Only {count} of {changed['n']}" if count else f"None of {changed['n']}"
        few += " answers changed, whatever the loss says."
        more = ", or pairs whose answers differ more" if pairs else ""
        return [f"{few} Try a higher learning_rate (three times) or more epochs{more}."]
    said = []
    if changed["stops_after"] < 0.8:
        said.append("Many answers do not stop by themselves. Check that the rows end where an answer should end.")
    if pairs:
        said.append(_length(changed["length_before"], changed["length_after"], figures))
    return [text for text in said if text]


def _length(before: float, after: float, figures: Figures) -> str:
    if min(before, after) <= 0 or max(after / before, before / after) < _LONGER:
        return ""
    word = "longer" if after > before else "shorter"
    chosen, rejected = figures.get("length/chosen", 0.0), figures.get("length/rejected", 0.0)
    as_taught = (chosen > rejected) == (after > before) and chosen != rejected
    why = (
        f"The chosen answers of the data are {word} too ({chosen:.0f} tokens, the rejected ones {rejected:.0f}): "
        "length may be most of what was learned."
        if as_taught
        else "The data does not ask for that: look at the answers."
    )
    return f"Answers became much {word}: {before:.0f} to {after:.0f} tokens. {why}"


def worse(figure: Mapping[str, Any]) -> str:
    """Say so when the figure of a run (outcome.figure) got worse, by more than its standard error and 1 % of it."""
    before, after = figure["before"], figure["after"]
    if before is None or after is None:
        return ""
    lost = before - after if figure["better"] == "higher" else after - before
    if not lost > max(figure.get("standard_error", 0.0), _NOTHING * abs(before)):
        return ""
    return (
        f"The held-out {figure['name']} got worse: {before:.3f} to {after:.3f}. Lower learning_rate (a third), take "
        "fewer epochs, or let patience end the run in time."
    )


def judge(found: Mapping[str, Any]) -> str:
    """Say whether a reward model judges better than length does; `found` is scoring.judged's."""
    if "accuracy" not in found:
        return "No pairs were held out, so nothing tells how well it judges. Set held_out above 0."
    longer = found["longer_wins"]
    rule, right = ("longer", longer) if longer >= 0.5 else ("shorter", 1 - longer)
    if found["low"] > right:
        return ""
    return (
        f"The judge is right on {found['accuracy']:.0%} of {found['n']} held-out pairs (between {found['low']:.0%} and "
        f"{found['high']:.0%}); always taking the {rule} answer is right on {right:.0%}. It is not shown to be better "
        "than length: more pairs, or pairs of like length, would tell."
    )
