"""The card of a run: of every measure its figure before and after, what differs beyond chance, and what got worse.

The marks of an item are paired, so that before and after are compared item by item:

    share    before and after with Wilson's intervals; the difference with Newcombe's for pairs, McNemar's test (mid-p);
             of halves the sign-flip test, and intervals as if a coin had decided them: a little wide
    mean     Student's intervals (of bounded numbers that are all alike, stats.alike_interval); the difference with
             Student's of the paired differences, the sign-flip test

Where the sides were marked on other items (those that each got right first, say), the samples are compared without
pairs: Newcombe's and Fisher's exact test, Welch's interval and test. The p of all figures of a card are one family and
are corrected for their number (Holm); intervals are 95 % each. All of it is pure: marks in, words and numbers out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from studio.evals import stats
from studio.evals.suite import Marks, Measure, Outcome, Suite

#: A p below this, after the correction, is a difference.
LEVEL = 0.05
#: Of fewer common items, and of less than half of a side's, the samples are compared without pairs.
_PAIRS = 10
_SIDES = ("before", "after")
#: Units whose numbers have a lowest and a highest: where all are alike, that says how wide an interval must be.
_BOUNDS = {"share": (0.0, 1.0), "points": (-1.0, 1.0)}
BETTER, WORSE, DIFFERENT, SAME = "better", "worse", "different", "no significant difference"
Figure = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Difference:
    """After less before: its 95 % interval, what was tested, and p before any correction; `n` pairs, or items of both.

    `paired` is False where the sides were marked on other items.
    """

    value: float
    low: float
    high: float
    n: int
    paired: bool
    test: str
    p: float


def card(found: Sequence[tuple[Suite, Outcome]], seed: int = 0) -> dict[str, Any]:
    """Make the card's figures of all suites, and what they come to.

    {"suites": {name: {"title", "says", "cannot", "figures", "notes", "plots"}}, "worse": [...], "better", "changed",
    "undecided": [{"suite", "measure", "label", "words"}], "tested": how many figures the correction is for}
    """
    figures = [
        (suite, figure(suite.name, m, outcome.marks.get(m.name, {}), seed))
        for suite, outcome in found
        for m in (*suite.measures, *outcome.measures)
    ]
    tested = [made for _, made in figures if made["difference"] is not None]
    adjusted = stats.holm([made["difference"]["p"] for made in tested])
    for made, p in zip(tested, adjusted, strict=True):
        made["difference"]["p_holm"] = p
        made["verdict"] = _verdict(made, p)
    for _, made in figures:
        made["words"] = words(made)
    suites = {
        suite.name: {
            "title": suite.title,
            "says": suite.says,
            "cannot": suite.cannot,
            "figures": [made for of, made in figures if of is suite],
            "notes": outcome.notes,
            "plots": outcome.plots,
        }
        for suite, outcome in found
    }
    listed = {"worse": WORSE, "better": BETTER, "changed": DIFFERENT, "undecided": SAME}
    return {
        "suites": suites,
        **{name: [_short(made) for _, made in figures if made["verdict"] == which] for name, which in listed.items()},
        "tested": len(tested),
    }


def figure(suite: str, measure: Measure, marks: Marks, seed: int = 0) -> Figure:
    """Make one figure: {"suite", ..., "sides": {side: {"n", "value", "low", "high"}}, "difference", "verdict"}.

    `difference` is None, and the verdict "", where there is nothing to compare.
    """
    order = [side for side in _SIDES if side in marks] + [side for side in marks if side not in _SIDES]
    sides = {side: _side(measure, list(marks[side].values())) for side in order if marks[side]}
    found = _difference(measure, marks.get("before") or {}, marks.get("after") or {}, seed)
    return {
        "suite": suite,
        "measure": measure.name,
        **{part: getattr(measure, part) for part in ("label", "says", "better", "kind", "unit")},
        "sides": sides,
        "difference": _plain(dataclasses.asdict(found)) if found is not None else None,
        "verdict": "",
    }


def _side(measure: Measure, found: Sequence[float]) -> dict[str, Any]:
    n = len(found)
    low, high = stats.wilson(math.fsum(found), n) if measure.kind == "share" else _mean(measure, found)
    return _plain({"n": n, "value": math.fsum(found) / n, "low": low, "high": high})


def _mean(measure: Measure, found: Sequence[float], difference: bool = False) -> stats.Interval:
    """Give the interval of a mean, or of one of differences; where its numbers have bounds, it stays within them."""
    if measure.unit not in _BOUNDS:
        return stats.mean_interval(found)
    low, high = _BOUNDS[measure.unit]
    if difference:
        low, high = low - high, high - low
    if len(set(found)) == 1:
        return stats.alike_interval(found[0], len(found), low, high)
    one, other = stats.mean_interval(found)
    return max(low, one), min(high, other)


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an interval without an end has None there."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in found.items()}


def _difference(
    measure: Measure, before: Mapping[str, float], after: Mapping[str, float], seed: int
) -> Difference | None:
    if not before or not after:
        return None
    common = [item for item in after if item in before]
    if len(common) < max(len(before), len(after)) and len(common) < max(_PAIRS, min(len(before), len(after)) / 2):
        return _apart(measure, list(before.values()), list(after.values()))
    return _paired(measure, [before[item] for item in common], [after[item] for item in common], seed)


def _paired(measure: Measure, before: Sequence[float], after: Sequence[float], seed: int) -> Difference:
    changes = [b - a for a, b in zip(before, after, strict=True)]
    value, n = math.fsum(changes) / len(changes), len(changes)
    if "share" in (measure.kind, measure.unit) and {*before, *after} <= {0.0, 1.0}:
        gained, lost = changes.count(1.0), changes.count(-1.0)
        both = sum(a == b == 1.0 for a, b in zip(before, after, strict=True))
        low, high = stats.newcombe_paired(both, gained, lost, n - both - gained - lost)
        return Difference(value, low, high, n, True, "McNemar, mid-p", stats.mcnemar(gained, lost, mid=True))
    if measure.kind == "share":
        right = math.fsum(a * b for a, b in zip(before, after, strict=True))
        gain, loss = math.fsum(after) - right, math.fsum(before) - right
        low, high = stats.newcombe_paired(right, gain, loss, n - right - gain - loss)
    else:
        low, high = _mean(measure, changes, difference=True)
    return Difference(value, low, high, n, True, "sign flips", stats.flip_test(changes, seed))


def _apart(measure: Measure, before: Sequence[float], after: Sequence[float]) -> Difference:
    hits, others = math.fsum(after), math.fsum(before)
    n, other_n = len(after), len(before)
    value = hits / n - others / other_n
    if measure.kind == "share" and {*before, *after} <= {0.0, 1.0}:
        low, high = stats.newcombe(int(hits), n, int(others), other_n)
        p = stats.fisher(int(hits), n, int(others), other_n)
        return Difference(value, low, high, n + other_n, False, "Fisher, exact", p)
    p, (low, high) = stats.welch(after, before)
    return Difference(value, low, high, n + other_n, False, "Welch", p)


def _verdict(made: Figure, p: float) -> str:
    value = made["difference"]["value"]
    if p >= LEVEL or not value:
        return SAME
    if not made["better"]:
        return DIFFERENT
    return BETTER if (value > 0) == (made["better"] == "more") else WORSE


def _short(made: Figure) -> dict[str, Any]:
    return {name: made[name] for name in ("suite", "measure", "label", "words")}


# --- in words --------------------------------------------------------------------------------------------------------


def words(made: Figure) -> str:
    """Say a figure in a sentence: "34.0 % before, 81.0 % after: 47.0 points more (95 %: 33.1 to 58.0; n 100)"."""
    sides, found = made["sides"], made["difference"]
    if not sides:
        return "Not measured."
    told = ", ".join(f"{value(made, side['value'])} {name}" for name, side in sides.items())
    if found is None:
        one = next(iter(sides.values()))
        return f"{told} ({_range(made, one['low'], one['high'])}; n {one['n']})" if len(sides) == 1 else told
    change = found["value"]
    size = value(made, abs(change), difference=True)
    what = f"{size} {'more' if change > 0 else 'less'}" if change else "the same"
    apart = "" if found["paired"] else ", other items on each side"
    if found["paired"] and found["n"] < max(side["n"] for side in sides.values()):
        apart = " on both sides"
    return f"{told}: {what} ({_range(made, found['low'], found['high'], True)}; n {found['n']}{apart})"


def side_words(made: Figure, side: dict[str, Any]) -> str:
    """Write a side's figure with its interval: 34.0 % (25.5 to 43.7)."""
    found = _range(made, side["low"], side["high"]).removeprefix("95 %: ")
    return f"{value(made, side['value'])} ({found})"


def value(made: Figure, number: float | None, difference: bool = False) -> str:
    """Write a number of a figure in its unit."""
    if number is None:
        return "?"
    if _percent(made):
        return f"{100 * number:.1f} {'points' if difference or made['unit'] == 'points' else '%'}"
    return f"{_digits(number)} {made['unit']}".strip()


def _range(made: Figure, low: float | None, high: float | None, difference: bool = False) -> str:
    if low is None or high is None:
        return "too few for an interval"
    if _percent(made):
        return f"95 %: {100 * low:{'+' if difference else ''}.1f} to {100 * high:{'+' if difference else ''}.1f}"
    sign = "+" if difference else ""
    return f"95 %: {_digits(low, sign)} to {_digits(high, sign)}"


def scale(made: Figure) -> tuple[float, float] | None:
    """Give the lowest and the highest that a figure can be, None where there is none."""
    return (0.0, 1.0) if made["kind"] == "share" else _BOUNDS.get(made["unit"])


def _percent(made: Figure) -> bool:
    return made["kind"] == "share" or made["unit"] in _BOUNDS


def _digits(number: float, sign: str = "") -> str:
    size = abs(number)
    return f"{number:{sign}.{0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
