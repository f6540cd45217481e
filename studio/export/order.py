"""What an export was asked to make: types, importance matrix, quality table; checked before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import events
from studio.disk import Need
from studio.errors import Stopped
from studio.export import gguf, imatrix, quality, quantize
from studio.export import rows as rowsource
from studio.models import mixture, quants
from studio.runs import Run

if TYPE_CHECKING:
    from studio.render.encode import Renderer


def source(types: Sequence[str], model: mixture.Model, *, weighted: Sequence[str] = (), table: bool = False) -> str:
    """Name the type that the others are made from, or compared with; "" where each is written from the base itself."""
    return "F16" if table or weighted or not all(gguf.writes(name, model) for name in types) else ""


@dataclasses.dataclass
class Order:
    """Types to make; `weighted` ones with the importance matrix `matrix` (auto, or a file's place); `rows` for both.

    `made` holds what is known of each quantized file, `table` the quality table, once they are there.
    """

    types: list[str]
    model: mixture.Model
    matrix: str
    weighted: list[str]
    rows: rowsource.Rows | None
    wants_table: bool
    made: dict[str, quantize.Made] = dataclasses.field(default_factory=dict)
    table: dict[str, Any] | None = None

    @classmethod
    def of(cls, run: Run, base: Path, renderer: Renderer, emit: events.Emit, should_stop: Callable[[], bool]) -> Order:
        """Read an export's options `quants`, `imatrix` ("", auto or a file) and `quality`.

        Raises StudioErrors for what cannot be made: an unknown type, a damaged matrix, rows that are gone.
        """
        options, model = run.config.options, mixture.of_folder(base)
        types = quants.check(options.get("quants") or [], model.experts)
        matrix, weighted = imatrix.choose(str(options.get("imatrix") or ""), types)
        table, rows = bool(options.get("quality")), None
        if matrix == "auto" or table:
            why = f"The importance matrix of {', '.join(weighted)}" if matrix == "auto" else "The quality table"
            rows = rowsource.read(run.parent(), renderer, why, emit, should_stop)
        return cls(types, model, matrix, weighted, rows, table)

    @property
    def source(self) -> str:
        """The type that the others are made from, "" where each is written from the base's own weights."""
        return source(self.types, self.model, weighted=self.weighted, table=self.wants_table)

    def needs(self, out: Path) -> list[Need]:
        """Give the disk that all files together need."""
        names = dict.fromkeys([*([self.source] if self.source else []), *self.types])
        return [Need(name, mixture.predict(name, self.model, name in self.weighted).bytes, out) for name in names]

    def make(
        self,
        out: Path,
        name: str,
        write: Callable[[Path, str], Any],
        emit: events.Emit,
        should_stop: Callable[[], bool],
    ) -> list[tuple[str, Path]]:
        """Make the files (type, place); `write(path, type)` writes one that `gguf.writes`."""
        place = {type_: out / f"{name}-{type_}.gguf" for type_ in (*self.types, self.source)}
        whole = place[self.source]
        if self.source:
            write(whole, self.source)
        try:
            if self.matrix == "auto" and self.rows is not None:
                kept = out / f"{name}-imatrix.gguf"
                imatrix.make(
                    whole,
                    self.rows.training,
                    kept,
                    dataset=self.rows.dataset,
                    emit=emit,
                    should_stop=should_stop,
                )
                self.matrix = str(kept)
            for type_ in self.types:
                if should_stop():
                    raise Stopped("Stopped; files that were finished are kept.", "Export again to make the others.")
                if type_ == self.source:
                    continue
                if type_ not in self.weighted and gguf.writes(type_, self.model):
                    write(place[type_], type_)
                    self.made[type_] = quantize.Made.read(place[type_], mixture.predict(type_, self.model).fallen)
                else:
                    weights = Path(self.matrix) if type_ in self.weighted else None
                    self.made[type_] = quantize.quantize(
                        whole, place[type_], type_, imatrix=weights, emit=emit, should_stop=should_stop
                    )
            made = [(type_, place[type_]) for type_ in self.types]
            if self.wants_table and self.rows is not None:
                self.table = quality.measure((self.source, whole), made, self.rows, out, emit, should_stop)
        finally:
            if self.source and self.source not in self.types:
                whole.unlink(missing_ok=True)
        return made

    def about(self, type_: str) -> dict[str, Any]:
        """Give what a file's entry in the result says of its tensors."""
        return self.made[type_].to_dict() if type_ in self.made else {}

    def result(self) -> dict[str, Any]:
        """Give what stands in the export's result beside its files."""
        made: dict[str, Any] = {"imatrix": self.matrix} if self.weighted else {}
        return made if self.table is None else {**made, "quality": self.table}
