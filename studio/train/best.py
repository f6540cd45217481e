"""The best of a run's measurements: its checkpoint is kept, and with `patience` the run ends with it.

What was measured lies beside the checkpoints, so that a resumed run goes on counting where the last one stood.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from studio import paths
from studio.methods.base import Figure

FILE = "measured.json"


class Best:
    """The held-out figure at each step that it was measured at, of a run whose checkpoints lie in `folder`."""

    def __init__(self, folder: Path, figure: Figure, patience: int | None = None) -> None:
        self.folder, self.figure, self.patience = folder, figure, patience
        self.seen: list[tuple[int, float]] = []

    def resume(self, step: int) -> None:
        """Read what was measured up to the step that the run goes on from: what came later comes again."""
        try:
            found = json.loads((self.folder / FILE).read_text("utf-8"))
        except (OSError, ValueError):
            return
        self.seen = [(int(at), float(value)) for at, value in found if at <= step]

    def add(self, step: int, value: float | None, write: bool = True) -> bool:
        """Take a measurement; True where it is the best so far. One that is not finite, or none, is no improvement."""
        before = self.of(self.seen)
        self.seen = [*(entry for entry in self.seen if entry[0] != step), (step, math.nan if value is None else value)]
        if write:
            paths.write_text(self.folder / FILE, json.dumps(self.seen))
        return self.of(self.seen) != before

    @staticmethod
    def _finite(seen: list[tuple[int, float]]) -> list[tuple[int, float]]:
        return [entry for entry in seen if math.isfinite(entry[1])]

    def of(self, seen: list[tuple[int, float]]) -> tuple[int, float] | None:
        """Give the best of some measurements as (step, figure), the first of equal ones."""
        found = self._finite(seen)
        if not found:
            return None
        return max(found, key=lambda entry: (entry[1] if self.figure.higher else -entry[1], -entry[0]))

    @property
    def best(self) -> tuple[int, float] | None:
        """Give the best measurement: (step, figure)."""
        return self.of(self.seen)

    @property
    def over(self) -> bool:
        """Tell whether `patience` measurements in a row brought nothing better."""
        best = self.best
        if self.patience is None or best is None:
            return False
        return sum(step > best[0] for step, _ in self.seen) >= self.patience

    def spare(self) -> Path | None:
        """Give the checkpoint that is never deleted: of those that are there, the one measured best."""
        steps = {int(path.name.removeprefix("step-")): path for path in self.folder.glob("step-*")}
        best = self.of([entry for entry in self.seen if entry[0] in steps])
        return steps[best[0]] if best else None
