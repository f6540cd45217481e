"""The lint of a data file for one model: what its tokens say, and the statistics that a run is planned by.

Everything is measured on the rows as training makes them (render/encode), on a seeded sample where the file is large.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from studio import events
from studio.data import near, signs, split
from studio.data.dataset import Dataset
from studio.data.finding import ERROR, finding, leave_out
from studio.data.lint import kto_weights
from studio.data.records import LISTED, Conversation, Prompt, Record, Text, prompt_of, turns
from studio.errors import Stopped, StudioError
from studio.render import encode, lengths
from studio.render.encode import Example, LeftOut, Renderer

MOST = 20_000
BATCH = 256
#: What `split.held_out` holds back at most.
HELD_OUT_MOST = 500
#: A raised max_length should cover this share of the rows.
COVERED = 0.99
_ANY_LENGTH = 1 << 30
#: What to do about long rows where max_length cannot be raised.
_AT_MOST = {
    "too_long": "Leave the rows out, or choose a model that reads more.",
    "shortened": "Split the rows, or choose a model that reads more, if what is lost matters.",
}


def measure(
    dataset: Dataset,
    renderer: Renderer,
    *,
    max_length: int,
    batch_size: int = 16,
    train_on: str = "all",
    cut: str = "prompt",
    held_out: float = 0.05,
    seed: int = 0,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
    most: int = MOST,
    context: int = 0,
) -> dict[str, Any]:
    """Measure a data set as a model will see it: {"findings": [...], "statistics": {...}}.

    At most `most` rows are looked at, chosen by `seed`: then counts in the statistics are estimates for all rows, and
    "sampled" in a finding tells how many were looked at. `context` is what the model can read, where it is known.
    Raises Stopped when `should_stop` says so.
    """
    count = min(dataset.usable, most)
    sampled = count if count < dataset.usable else None
    progress = events.Progress(emit or (lambda _: None), "Counting tokens", count, "rows")
    tally = _Tally(renderer, max_length, train_on, cut)
    prompts: list[Prompt] = []
    stream = _sample(dataset, count, seed)
    while batch := list(itertools.islice(stream, BATCH)):
        if should_stop is not None and should_stop():
            raise Stopped("Stopped while counting tokens.", "Start it again when you like.")
        tally.add(batch)
        prompts += [Prompt(prompt_of(record), record.line) for record in batch if not isinstance(record, Text)]
        progress.step(len(batch))
    found = tally.findings(sampled, context or _context(renderer))
    aside = split.held_out(prompts, held_out, seed)
    if leak := near.measure_leak(
        (prompt for number, prompt in enumerate(prompts) if number not in aside),
        (prompt for number, prompt in enumerate(prompts) if number in aside),
    ):
        found.append(leak | {"sampled": leak["sampled"] or sampled})
    made = tally.statistics(dataset.usable)
    held = min(len(aside) / count, HELD_OUT_MOST / dataset.usable) if aside else 0.0
    made["steps_per_epoch"] = math.ceil(made["examples"] * (1 - held) / batch_size)
    return {"findings": sorted(found, key=lambda entry: entry["level"] != ERROR), "statistics": made}


def _sample(dataset: Dataset, count: int, seed: int) -> Iterator[Record]:
    """Give `count` records, all of them or chosen by the seed, in the order of the file."""
    if count >= dataset.usable:
        yield from dataset.records()
        return
    wanted = iter(sorted(random.Random(seed).sample(range(dataset.usable), count)))
    following = next(wanted, None)
    for number, record in enumerate(dataset.records()):
        if number == following:
            yield record
            following = next(wanted, None)
            if following is None:
                return


def _context(renderer: Renderer) -> int:
    """Give what the tokenizer says the model can read, 0 where it does not say."""
    known = int(renderer.tokenizer.model_max_length)
    return known if known < _ANY_LENGTH else 0


class _Tally:
    """What is counted over batches of records."""

    def __init__(self, renderer: Renderer, max_length: int, train_on: str, cut: str) -> None:
        self._renderer, self._max, self._train_on, self._cut = renderer, max_length, train_on, cut
        self._saved = 0  # rows that would fit without the beginning of their prompt
        self._control = _typed(renderer)
        self._lines: dict[str, list[int]] = {}
        self._kinds: dict[str, Counter[str]] = {}
        self._remedy = ""
        self._records = 0
        self._sides, self._packs = 1, False
        self._full, self._rows = array("q"), array("q")  # tokens an example has, before and after it is made to fit
        self._tokens = self._trained = 0
        self._differences, self._prefixes = array("q"), array("q")
        self._labels = [0, 0]

    def add(self, records: Sequence[Record]) -> None:
        """Count a batch."""
        self._records += len(records)
        whole: list[Example] = []
        for made in self._encode(records, _ANY_LENGTH):
            if isinstance(made, LeftOut):
                self._left_out("template" if made.error is not None else "nothing_learned", made)
            elif not any(side.trained for side in made.sides.values()) and "prompt" not in made.sides:
                self._see("nothing_learned", made.line)
            else:
                whole.append(made)
                self._full.append(_longest(made))
        long = {made.line for made in whole if _longest(made) > self._max}
        short = [made for made in whole if made.line not in long]
        again = list(self._encode([record for record in records if record.line in long], self._max, self._cut))
        fitting = [made for made in again if isinstance(made, Example)]
        kept = {made.line for made in fitting}
        texts = {record.line for record in records if isinstance(record, Text)}  # cut into rows, so nothing is lost
        for line in sorted(long - (kept & texts)):
            self._see("shortened" if line in kept else "too_long", line)
        if self._cut != "prompt" and (lost := [record for record in records if record.line in long - kept]):
            self._saved += sum(isinstance(made, Example) for made in self._encode(lost, self._max, "prompt"))
        for made in [*short, *fitting]:
            self._count(made)
        made_of = Counter(made.line for made in whole)
        for record in records:
            self._look(record, made_of[record.line])
            for token in set(self._control.findall("\n".join(signs.texts(record)))) if self._control else ():
                self._see("control_tokens", record.line, token)

    def _look(self, record: Record, examples: int) -> None:
        """See what the template does to a record."""
        said = turns(record)
        if isinstance(record, Conversation) and examples > 1 and self._renderer.rewrites:
            self._see("split_turns", record.line)
        if any(turn.reasoning for turn in said) and not self._renderer.thinks and not self._thinks(record):
            self._see("thoughts_dropped", record.line)
        if self._renderer.template.moves_system(said):
            self._see("system_moved", record.line)

    def _thinks(self, record: Record) -> bool:
        """Tell whether a thought of this record is written all the same: some templates write those about tools."""
        thoughts = [turn.reasoning.strip() for turn in turns(record) if turn.reasoning.strip()]
        try:
            rows = encode.plans(self._renderer, record, self._train_on)
        except StudioError:
            return True  # told as what the template refuses
        return any(thought in plan.text for sides in rows for plan in sides.values() for thought in thoughts)

    def _encode(self, records: Iterable[Record], max_length: int, cut: str = "none") -> Iterator[Example | LeftOut]:
        return encode.examples(self._renderer, records, max_length=max_length, train_on=self._train_on, cut=cut)

    def _left_out(self, code: str, made: LeftOut) -> None:
        self._see(code, made.line, made.error.message if made.error else "")
        if made.error is not None:
            self._remedy = self._remedy or made.error.remedy

    def _see(self, code: str, line: int, what: str = "") -> None:
        lines = self._lines.setdefault(code, [])
        if line not in lines[-1:]:
            lines.append(line)
        if what:
            self._kinds.setdefault(code, Counter())[what] += 1

    def _count(self, made: Example) -> None:
        self._sides = len(made.sides)
        self._packs = "text" in made.sides
        for side in made.sides.values():
            self._rows.append(len(side.ids))
            self._tokens += len(side.ids)
            self._trained += side.trained
        if "chosen" in made.sides:
            chosen, rejected = made.sides["chosen"], made.sides["rejected"]
            self._differences.append(len(chosen.ids) - len(rejected.ids))
            self._prefixes.append(encode.common_prefix(chosen.ids, rejected.ids))
            if chosen.ids == rejected.ids:
                self._see("equal_tokens", made.line)
        if made.label is not None:
            self._labels[made.label] += 1

    def findings(self, sampled: int | None, context: int) -> list[dict[str, Any]]:
        """Tell what was found."""
        found = []
        for code, lines in self._lines.items():
            kinds = self._kinds.get(code)
            detail = "Seen: " + ", ".join(f"{what} ({n:,})" for what, n in kinds.most_common(3)) + "." if kinds else ""
            if code == "template" and kinds:
                detail = " ".join(f"{message} ({n:,} rows)" for message, n in kinds.most_common(2))
            if code == "split_turns":
                detail = f"Here: {self._renderer.rewrites}."
            made = finding(
                code, len(lines), lines[:LISTED], detail=detail, fixes=self._fixes(code, context), sampled=sampled
            )
            if code == "template" and self._remedy:
                made["remedy"] = self._remedy
            if code in _AT_MOST and 0 < context <= self._max:
                made["remedy"] = f"The model reads {context:,} tokens at most. {_AT_MOST[code]}"
            found.append(made)
        return found

    def _fixes(self, code: str, context: int) -> list[dict[str, Any]]:
        if code == "equal_tokens":
            return [leave_out("white_equal")]
        fixes = []
        if code in ("too_long", "shortened") and (longer := longer_limit(self._full, self._max, context)):
            fixes.append({"title": f"Raise the longest row to {longer:,}", "settings": {"max_length": longer}})
        if code == "too_long" and self._saved:
            fixes.append({"title": "Cut the beginning of the prompt", "settings": {"cut": "prompt"}})
        if code in ("too_long", "nothing_learned", "template"):
            fixes.append(leave_out("bad"))
        return fixes

    def statistics(self, rows: int) -> dict[str, Any]:
        """Give the numbers, for all `rows` of the file."""
        scale = rows / max(1, self._records)
        ordered = sorted(self._full)
        made: dict[str, Any] = {
            "rows_measured": self._records,
            "rows": rows,
            "examples": round(scale * len(self._rows) / self._sides),
            "tokens": round(scale * self._tokens),
            "trained_tokens": round(scale * self._trained),
            "trained_share": self._trained / max(1, self._tokens),
            "lengths": lengths.histogram(ordered),
            "percentiles": {
                **{str(part): lengths.percentile(ordered, part / 100) for part in (50, 90, 95, 99)},
                "max": ordered[-1] if ordered else 0,
            },
            "too_long": round(scale * sum(length > self._max for length in ordered)),
            "packed_sequences": round(scale * lengths.packed(self._rows, self._max)) if self._packs else None,
            "template": self._renderer.family,
            "rewrites": self._renderer.rewrites,
            "stop_tokens": list(self._renderer.stop_tokens),
        }
        if self._differences:
            longer = sum(difference > 0 for difference in self._differences)
            made["chosen_longer_share"] = longer / len(self._differences)
            made["length_difference"] = _median(self._differences)
            made["common_prefix"] = _median(self._prefixes)
        if any(self._labels):
            unwanted, wanted = (round(scale * count) for count in self._labels)
            made |= {"wanted": wanted, "unwanted": unwanted, **kto_weights(wanted, unwanted)}
        return made


def _typed(renderer: Renderer) -> re.Pattern[str] | None:
    """Make the pattern of the model's control tokens, as someone might type them."""
    tokens = {str(token) for token in renderer.tokenizer.added_tokens_decoder.values() if token.special}
    tokens |= set(renderer.stop_tokens)
    longest_first = sorted((token for token in tokens if token.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _longest(made: Example) -> int:
    return max(len(side.ids) for side in made.sides.values())


def _median(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


def longer_limit(full: Sequence[int], limit: int, context: int) -> int:
    """Give the max_length to offer instead of `limit`: what covers COVERED of the rows, or all where that many fit.

    It is a multiple of 64 and at most `context` (0: not known); 0 when the model can read no more than now.
    """
    ordered = sorted(full)
    wanted = lengths.percentile(ordered, COVERED)
    if wanted <= limit:
        wanted = ordered[-1]
    wanted = 64 * math.ceil(wanted / 64)
    if context:
        wanted = min(wanted, context)
    return wanted if wanted > limit else 0
