"""The lint of a data file: what its rows hold that ruins a run, found while the file is checked.

`Lint` is fed record by record in the check's one pass and tells what it found at the end. What depends on tokens (rows
that are too long, rows with nothing to learn) is `render.lint`'s.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from typing import Any

from studio.data import near, same, signs
from studio.data.across import Across
from studio.data.finding import ERROR, WORDS, finding, leave_out
from studio.data.records import LISTED, Preference, Rated, Reading, Record

#: Pairs are called biased when the chosen answer is longer, or shorter, in more than this share of at least FEW pairs.
BIASED = 0.65
FEW = 20
#: The share of rows from which these habits are told.
TOLD_FROM = {"refusal": 0.01, "short_answers": 0.3}
#: A script counts as one that does not belong when fewer rows than this share are in it.
MINORITY = 0.2
#: More near duplicates than this share are a common instruction rather than copies; leaving them out is not offered.
COPIES = 0.3
#: weight * wanted : weight * unwanted should lie between 1:1 and 4:3 (KTO, arXiv 2402.01306, section 4.3).
BALANCE = (1.0, 4 / 3)
_BRIEF = 60  # a longer answer has three words
_READS_AS_IT_IS = Reading()


@dataclasses.dataclass
class _Seen:
    """The rows seen under one code; a row with several records counts once."""

    rows: int = 0
    lines: list[int] = dataclasses.field(default_factory=list)
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: list[str] = dataclasses.field(default_factory=list)
    last: int = -1

    def add(self, line: int, what: str = "", shown: str = "") -> None:
        if line != self.last:
            self.rows += 1
            self.last = line
            if len(self.lines) < LISTED:
                self.lines.append(line)
        if what and (what in self.kinds or len(self.kinds) < 1000):
            self.kinds[what] += 1
        if shown and len(self.examples) < 3:
            self.examples.append(f"line {line}: {what}, {shown}")


class Lint:
    """Feed every record to `add` once, in order; then ask for the `findings`.

    Memory: 16 to 40 bytes a row, and at most 60 MB of signatures of near.SAMPLE rows. `compare=False` leaves near
    duplicates alone.
    """

    def __init__(self, reading: Reading = _READS_AS_IT_IS, seed: int = 0, compare: bool = True) -> None:
        self._reading = reading
        self._seen: dict[str, _Seen] = {}
        self._scripts: dict[str, _Seen] = {}
        self._across = Across()
        self._near = near.Near(seed) if compare else None
        self._differences = array("q")
        self._labels = [0, 0]
        self._answered = 0

    def add(self, record: Record) -> None:
        """Look at a record."""
        line, script = record.line, "Latin"
        for sign in signs.signs(record):
            if sign.code == "scripts":
                script = sign.what
            else:
                self._see(sign.code, line, sign.what, sign.shown)
        if script not in self._scripts:
            self._scripts[script] = _Seen()
        self._scripts[script].add(line)
        self._across.add(record)
        if self._near is not None:
            self._near.add(record)
        learned = signs.answers(record)
        if isinstance(record, Preference):
            self._differences.append(len(learned[0].strip()) - len(learned[1].strip()))
            learned = learned[:1]
        elif isinstance(record, Rated):
            self._labels[record.label] += 1
        if learned:
            self._answered += 1
            if len(learned[-1]) < _BRIEF and len(same.words(learned[-1])) < 3:
                self._see("short_answers", line)

    def findings(self) -> list[dict[str, Any]]:
        """Tell what was found, errors first."""
        copies = self._across.copies()
        found = self._across.findings(copies)
        found += [made for code, seen in self._seen.items() if (made := self._tell(code, seen))]
        found += [made for made in (self._alike(copies), self._script(), self._length(), self._label()) if made]
        places = {code: place for place, code in enumerate(WORDS)}
        return sorted(found, key=lambda made: (made["level"] != ERROR, places[made["code"]]))

    def _see(self, code: str, line: int, what: str = "", shown: str = "") -> None:
        if code not in self._seen:
            self._seen[code] = _Seen()
        self._seen[code].add(line, what, shown)

    def _tell(self, code: str, seen: _Seen) -> dict[str, Any] | None:
        share = seen.rows / max(1, self._answered)
        if share < TOLD_FROM.get(code, 0) or (code == "short_answers" and seen.rows < FEW):
            return None
        if code == "placeholder":
            return self._placeholders(seen)
        detail = ""
        if code in TOLD_FROM:
            detail = f"That is {share:.0%} of the answers."
        elif seen.kinds:
            kinds = seen.kinds.most_common(5)
            more = f" and {len(seen.kinds) - 5} more kinds" if len(seen.kinds) > 5 else ""
            detail = "Seen: " + ", ".join(f"{what} ({count:,})" for what, count in kinds) + more + "."
        return finding(code, seen.rows, seen.lines, detail=detail, examples=seen.examples)

    def _placeholders(self, seen: _Seen) -> dict[str, Any]:
        names = sorted(set(seen.kinds) - set(self._reading.fill))
        fixes = [{"title": "Fill them in", "fill": names}, leave_out("placeholder")]
        some = ", ".join("{{" + name + "}}" for name in names[:5]) + (" ..." if len(names) > 5 else "")
        return finding("placeholder", seen.rows, seen.lines, detail=f"Seen: {some}.", fixes=fixes)

    def _alike(self, copies: list[int]) -> dict[str, Any] | None:
        if self._near is None or not (lines := list(dict.fromkeys(self._near.found(copies)))):
            return None
        sampled, looked = self._near.sampled, self._near.sampled or len(self._across.lines)
        fixes: list[dict[str, Any]] | None = None
        detail = ""
        if len(lines) > COPIES * looked:
            fixes, detail = [], "So many may have one long instruction in common: look before you leave any out."
        if sampled is not None:
            fixes, detail = [], f"A sample of {sampled:,} rows was compared. {detail}"
        return finding("near_duplicate", len(lines), lines[:LISTED], detail=detail, fixes=fixes, sampled=sampled)

    def _script(self) -> dict[str, Any] | None:
        total = sum(seen.rows for seen in self._scripts.values())
        few = {name: seen for name, seen in self._scripts.items() if seen.rows < MINORITY * total}
        if not few:
            return None
        most = max(self._scripts, key=lambda name: self._scripts[name].rows)
        lines = sorted(line for seen in few.values() for line in seen.lines)[:LISTED]
        kinds = ", ".join(f"{name} ({seen.rows:,})" for name, seen in sorted(few.items()))
        rows = sum(seen.rows for seen in few.values())
        return finding("scripts", rows, lines, detail=f"Most are {most}; these are {kinds}.")

    def _length(self) -> dict[str, Any] | None:
        pairs = len(self._differences)
        longer = sum(difference > 0 for difference in self._differences)
        shorter = sum(difference < 0 for difference in self._differences)
        if pairs < FEW or max(longer, shorter) <= BIASED * pairs:
            return None
        side, rows = ("longer", longer) if longer > shorter else ("shorter", shorter)
        middle = abs(sorted(self._differences)[pairs // 2])
        detail = f"Chosen is {side} in {rows / pairs:.0%} of the pairs, by {middle:,} characters in the median."
        return finding("length_bias", rows, [], detail=detail, side=side)

    def _label(self) -> dict[str, Any] | None:
        unwanted, wanted = self._labels
        rows = wanted + unwanted
        if not rows:
            return None
        if not wanted or not unwanted:
            return finding("one_label", rows, [], detail=f"All are {'wanted' if wanted else 'unwanted'}.")
        weights = kto_weights(wanted, unwanted)
        settings = {name: value for name, value in weights.items() if value != 1}
        if not settings:
            return None
        ((name, value),) = settings.items()
        fix = {"title": f"Set {name} to {value:g}", "settings": settings}
        detail = f"Here {wanted:,} are wanted and {unwanted:,} are not."
        return finding("kto_imbalance", rows, [], detail=detail, fixes=[fix])


def kto_weights(wanted: int, unwanted: int) -> dict[str, float]:
    """Give the weights that bring desirable_weight * wanted : undesirable_weight * unwanted within BALANCE.

    Both are 1 where the counts are balanced already; otherwise the rarer label is weighted up, to the middle of the
    range.
    """
    weights = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
    if wanted and unwanted and not BALANCE[0] <= wanted / unwanted <= BALANCE[1]:
        middle = sum(BALANCE) / 2
        if wanted < unwanted:
            weights["desirable_weight"] = _three_digits(middle * unwanted / wanted)
        else:
            weights["undesirable_weight"] = _three_digits(wanted / (middle * unwanted))
    return weights


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")
