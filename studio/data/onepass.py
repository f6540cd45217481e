"""The one pass over a data file that finds the format, counts, and collects what is wrong."""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from studio import events
from studio.data import detect, fill
from studio.data.drop import Dropper
from studio.data.files import Place, Row, Rows
from studio.data.formats import Format
from studio.data.recording import Recorder
from studio.data.records import LISTED, Conversation, Problem, Problems, Rated, Reading, Record, Text, Warnings
from studio.data.source import Source
from studio.errors import DataError, Stopped

SAMPLE = 1000
SAMPLE_BYTES = 32 << 20
EVERY = 128
_LOOK = 16  # rows between two looks at how far the reading is
_MB = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A row: its line, where it begins, how many good records and records left out come before it."""

    line: int
    place: Place
    good: int
    left: int


class Pass:
    """One pass: `run` it, and see what it found. `marks` stand at every 128th row, `left` numbers what is left out."""

    def __init__(
        self,
        sources: tuple[Source, ...],
        reading: Reading,
        emit: events.Emit | None,
        should_stop: Callable[[], bool] | None,
        watch: Callable[[Record], None] | None,
    ) -> None:
        self.sources, self.reading, self._watch = sources, reading, watch
        self.problems, self.warnings = Problems(), Warnings()
        self.rows = Rows(sources, self.problems, self.warnings)
        self.marks: list[Mark] = []
        self.dropper = Dropper(reading.drop) if set(reading.drop) - {"bad"} else None
        self.left, self.left_out = array("Q"), Counter[str]()
        self.count = self.good = self.unreadable = 0
        self.labels: dict[bool, int] = {}
        self.unfilled: dict[str, None] = {}
        self.found = detect.Found(None, {}, "")
        self.refused: Problem | None = None
        self._telling = _Telling(self.rows, emit, should_stop)

    def run(self) -> None:
        """Read all rows, and say what they are."""
        stream = self._marked()
        head: list[tuple[int, Row]] = []
        for item in stream:
            head.append(item)
            if len(head) >= SAMPLE or self.rows.done > SAMPLE_BYTES:
                break
        if not head and not self.problems.count:
            said, remedy = "The file has no rows.", "Choose a file with at least one row."
            raise DataError(said, remedy, file=str(self.sources[0].path), line=1)
        self.found = detect.detect([row for _, row in head], self.reading)
        self._read(self.found.format, itertools.chain(head, stream))
        self._telling.end()
        if self.unfilled:
            self._name_placeholders()
        if "bad" in self.reading.drop and self.problems.count:
            self.left_out["bad"] = self.problems.count
        self.refused = self._refused() if self.found.format else None
        if self.refused is not None:
            self.problems.count += 1
            self.problems.first = [self.refused, *self.problems.first[: LISTED - 1]]
        self.problems.first.sort(key=lambda problem: problem.line)

    def _marked(self) -> Iterator[tuple[int, Row]]:
        """Give all rows; count and mark them."""
        for line, row in self.rows:
            if self.count % EVERY == 0:
                self.marks.append(Mark(line, self.rows.place, 0, 0))
            if self.count % _LOOK == 0:
                self._telling()
            self.count += 1
            yield line, row

    def _read(self, form: Format | None, rows: Iterator[tuple[int, Row]]) -> None:
        if form is None:
            for _ in rows:
                pass
            self.unreadable = self.problems.count
            return
        recorder = Recorder(form, self.reading, self.problems, self.warnings)
        if recorder.gathers:
            together = list(rows)
            self.unreadable = self.problems.count
            for record in recorder.gather(together):
                self._take(record)
            self._name_unused(recorder.placeholders)
            return
        bad = 0
        for number, (line, row) in enumerate(rows):
            if number % EVERY == 0:
                at = number // EVERY
                self.marks[at] = dataclasses.replace(self.marks[at], good=self.good, left=len(self.left))
            before = self.problems.count
            records = recorder.read(row, line)
            bad += self.problems.count - before
            for record in records:
                self._take(record)
        self.unreadable = self.problems.count - bad
        self._name_unused(recorder.placeholders)

    def _take(self, record: Record) -> None:
        """Count a record, or leave it out."""
        why = self.dropper.why(record) if self.dropper else ""
        if why:
            self.left.append(self.good + len(self.left))
            self.left_out[why] += 1
            return
        self.good += 1
        if isinstance(record, Conversation):
            spoken = next((turn for turn in record.messages if turn.role != "system"), None)
            if spoken is not None and spoken.role == "assistant":
                remedy = "The assistant speaks before the user; some templates refuse this."
                self.warnings.add("assistant_first", record.line, remedy)
        elif isinstance(record, Rated):
            self.labels.setdefault(record.label, record.line)
        # In text to continue such signs may well be meant.
        texts = () if isinstance(record, Text) else fill.texts(record)
        if unfilled := [name for text in texts if "{{" in text for name in fill.names(text)]:
            self.warnings.add("placeholder", record.line, "")
            self.unfilled |= dict.fromkeys(unfilled)
        if self._watch is not None:
            self._watch(record)

    def _name_placeholders(self) -> None:
        names = list(self.unfilled)
        listed = ", ".join(f"{{{{{name}}}}}" for name in names[:LISTED])
        entry = self.warnings.found["placeholder"]
        entry["names"] = names[:LISTED]
        entry["remedy"] = f"Fill in {listed} (--fill {names[0]}=...), or the model learns to write them."

    def _name_unused(self, there: Collection[str]) -> None:
        """Warn of texts for placeholders that no row holds."""
        unused = [name for name in self.reading.fill if name not in there]
        if not unused:
            return
        listed = ", ".join(f"{{{{{name}}}}}" for name in list(there)[:LISTED])
        self.warnings.found["unused_fill"] = {
            "code": "unused_fill",
            "rows": 0,
            "lines": [],
            "title": f"No row holds {', '.join(f'{{{{{name}}}}}' for name in unused)}",
            "problem": f"The placeholders in the rows are {listed}." if listed else "The rows hold no placeholder.",
            "remedy": "Write the name as it stands in the rows, or leave it out.",
        }

    def _refused(self) -> Problem | None:
        """Find what is wrong with the file as a whole."""
        if not self.good and (self.left_out or not self.problems.count):
            return Problem(1, "", "no row can be used", "Choose a file with at least one good row.")
        if len(self.labels) == 1:
            ((label, line),) = self.labels.items()
            said = f"all {self.good} rows are labelled {str(label).lower()}: there is nothing to tell apart"
            return Problem(line, "label", said, "Add rows with the other label, or use the good ones for SFT.")
        return None


class _Telling:
    """Tells how far the reading is, and asks whether to go on; costs nothing between two MB."""

    def __init__(self, rows: Rows, emit: events.Emit | None, should_stop: Callable[[], bool] | None) -> None:
        self._rows, self._should_stop, self._next, self._told = rows, should_stop, 0, 0
        total = max(1, rows.size // _MB)
        self._total, self._progress = total, events.Progress(emit, "Reading", total, "MB") if emit else None

    def __call__(self) -> None:
        done = self._rows.done
        if done < self._next:
            return
        self._next = done + _MB
        if self._should_stop is not None and self._should_stop():
            raise Stopped("Stopped.")
        self._tell(min(done // _MB, self._total - 1))

    def end(self) -> None:
        """Tell that all is read."""
        self._tell(self._total)

    def _tell(self, done: int) -> None:
        if self._progress is not None and done > self._told:
            self._progress.step(done - self._told)
            self._told = done
