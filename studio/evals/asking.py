"""How a suite asks: by side, with every answer kept on the disk as it comes, so that a killed run asks the rest only.

RUN/answers.jsonl: a line an answer or a judgement, {"key", "suite", "side", "item", "said" or "kept"}; `key` is made of
all that the answer depends on (who, what, how it is drawn).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import events
from studio.data import ledger, writers
from studio.errors import ConfigError, DataError, Stopped
from studio.evals.suite import T
from studio.export.speaking import Stage
from studio.feedback.speakers import Ask, Draw, Local, Said, Speaker, Speakers, seed_of
from studio.runs import Run

FILE = "answers.jsonl"
_SHOWN = 60  # characters of an item that an error names it by
Emit = events.Emit
Halt = Callable[[], bool]


class Kept:
    """What was answered so far, on the disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        rows = (_row(raw) for _, raw in ledger.lines(self._path, lambda raw: _row(raw) is not None))
        self._found = {row["key"]: row for row in rows if row is not None}

    def get(self, key: str) -> dict[str, Any] | None:
        """Give what was kept under a key."""
        return self._found.get(key)

    def add(self, key: str, **parts: Any) -> None:
        """Keep a row; it is on the disk when this returns."""
        row = {"key": key, **parts}
        ledger.append(self._path, writers.line(row).rstrip(b"\n"), lambda raw: _row(raw) is not None)
        self._found[key] = row


def _row(raw: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("key"), str) else None


@dataclasses.dataclass
class Asked:
    """What one suite gets (suite.py `Asking`)."""

    suite: str
    cfg: Any
    sides: tuple[str, ...]
    seed: int
    run: Run | None
    judge: Speaker | None
    file: Path | None
    speakers: dict[str, Speaker]
    opened: Speakers
    kept: Kept
    emit: Emit
    should_stop: Halt
    notes: list[str] = dataclasses.field(default_factory=list)

    def ask(self, side: str, asks: Sequence[Ask], draw: Draw | None = None, raw: bool = False) -> list[list[Said]]:
        """Answer prompts by a side; those that were answered before are read from the disk."""
        draw = draw if draw and draw.seed else dataclasses.replace(draw or Draw(), seed=self.seed)
        speaker = self.speaker(side)
        keys = [_digest(_who(speaker), list(one.turns), one.key, dataclasses.asdict(draw), raw) for one in asks]
        found = {key: _said(row["said"]) for key in keys if (row := self.kept.get(key)) is not None}
        left = [(key, one) for key, one in zip(keys, asks, strict=True) if key not in found]
        if left:
            step = self.progress(f"{self.suite}: {side}", len(asks))
            for _ in range(len(asks) - len(left)):
                step()
            ask, done = self._raw(speaker) if raw else speaker.ask, 0
            try:
                for number, said in ask([one for _, one in left], draw, self.should_stop):
                    (key, one), done = left[number], number + 1
                    rows = [dataclasses.asdict(answer) for answer in said]
                    self.kept.add(key, suite=self.suite, side=side, item=one.key, said=rows)
                    found[key] = said
                    step()
            except DataError as error:  # speakers answer in order, so it is about the next one
                if error.file:  # or about where answers are kept
                    raise
                text = " ".join(str(left[done][1].turns[-1].get("content")).split())
                error.message = f"“{text[:_SHOWN]}{'…' * (len(text) > _SHOWN)}”: {error.message}"
                raise
        return [found[key] for key in keys]

    def _raw(self, speaker: Speaker) -> Callable[..., Any]:
        if not isinstance(speaker, Local):
            raise ConfigError(f"{speaker.name} cannot go on with a plain text.", "Name a local run or file.")

        def ask(asks: Sequence[Ask], draw: Draw, should_stop: Halt) -> Any:
            options = dataclasses.asdict(draw)
            count = options.pop("n")
            for number, one in enumerate(asks):
                if should_stop():
                    raise self._stopped()
                said = []
                for at in range(count):
                    options["seed"] = seed_of(draw.seed, one, at)
                    made = speaker.answer(list(one.turns), raw=True, **options)
                    said.append(Said(made["text"], made["tokens"], made["stopped"], options["seed"]))
                yield number, said

        return ask

    def speaker(self, side: str) -> Speaker:
        """Give who answers for a side; the base is opened when it is first asked for. Raises ConfigError, RunError."""
        if side == "base" and side not in self.speakers:
            self.speakers[side] = self.opened.base()
        if side not in self.speakers:
            raise ConfigError(f"Nobody answers for {side!r} here.", f"The sides are: {', '.join(self.speakers)}.")
        return self.speakers[side]

    def add(self, stage: Stage) -> Speaker:
        """Open one more side, by the stage's name."""
        if stage.name not in self.speakers:
            self.speakers[stage.name] = self.opened.add(stage)
        return self.speakers[stage.name]

    def keep(self, about: str, make: Callable[[], T]) -> T:
        """Make a piece of plain JSON, or read what was made before."""
        who = {side: _who(one) for side, one in self.speakers.items() if side in ("before", "after")}
        key = _digest(self.suite, about, who, _who(self.judge) if self.judge else "", self.seed)
        if (row := self.kept.get(key)) is not None:
            made: T = row["kept"]
            return made
        if self.should_stop():
            raise self._stopped()
        made = make()
        self.kept.add(key, suite=self.suite, about=about, kept=made)
        return made

    def progress(self, phase: str, total: int) -> Callable[[], None]:
        """Tell of a piece of work."""
        return events.Progress(self.emit, phase, total, "answers").step

    def note(self, text: str) -> None:
        """Keep a sentence for the owner, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _stopped(self) -> Stopped:
        return Stopped("Stopped; the answers so far are kept.", "Resume to go on where it stopped.")


def _who(speaker: Speaker) -> dict[str, Any]:
    """Tell a speaker apart from all others, wherever its files lie and however it is named."""
    names = ("sha256", "adapter_sha256", "strength", "raw", "rows", "template", "dtype")
    told = {name: speaker.identity[name] for name in names if name in speaker.identity}
    return told if told.get("sha256") else dict(speaker.identity)


def _digest(*about: Any) -> str:
    text = json.dumps(about, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _said(rows: Sequence[Mapping[str, Any]]) -> list[Said]:
    names = {field.name for field in dataclasses.fields(Said)}
    return [Said(**{name: row[name] for name in row if name in names}) for row in rows]
