"""The rows of the run that is exported, as token ids: what an importance matrix and the quality table are made of."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from studio import events
from studio.data.records import Message, Record
from studio.errors import ConfigError, DataError, StudioError
from studio.render import encode
from studio.render.labels import IGNORE, Encoded
from studio.runs import Run
from studio.train import prepare

#: Rows are taken from this many of the file, spread over it, until there are so many tokens.
SAMPLED = 4000
TOKENS = 32_768
#: Learned tokens of held-out rows that the table is measured on, at most.
MEASURED = 4096


@dataclasses.dataclass(frozen=True)
class Rows:
    """Training rows, and rows that were `held_out` (else, of a file too small to give any away, training rows, too).

    `dataset` names the file.
    """

    training: list[list[int]]
    measured: list[Encoded]
    held_out: bool
    dataset: str


def read(
    run: Run | None,
    renderer: encode.Renderer,
    why: str,
    emit: events.Emit,
    should_stop: Callable[[], bool] = lambda: False,
) -> Rows:
    """Read and render the rows of a run as in training.

    ConfigError for a model without a run, DataError when the file is gone; `why` begins the sentence: what needs them.
    """
    if run is None or not run.config.data:
        raise ConfigError(
            f"{why} needs the rows of a training run, and a model alone has none.",
            "Export a run; where a type needs an importance matrix, a file of one does too (--imatrix FILE).",
            field="imatrix",
        )
    try:
        data, aside, config = prepare.rows_of(run, lambda _: None, should_stop)
    except StudioError as error:
        if isinstance(error, DataError) or not Path(run.config.data).is_file():
            raise DataError(
                f"{why} needs the rows that {run.id} learned from, and they cannot be read: {error.message}",
                "Put the file back, bring a matrix as a file (--imatrix FILE), or choose types that need none.",
                file=run.config.data,
            ) from None
        raise

    def rendered(records: Iterable[Record]) -> Iterator[Encoded]:
        found = encode.examples(
            renderer, records, max_length=config.max_length, train_on=config.train_on, cut=config.cut
        )
        for one in found:
            if isinstance(one, encode.Example):
                yield next(iter(one.sides.values()))

    training, measured = _sides(data.records(), aside, data.usable)
    answers = [] if _learned(rendered(measured[:1])) else _answers(run, renderer)
    held = answers or list(_until(rendered(measured), MEASURED, lambda row: row.trained))
    chosen = _until((*answers, *rendered(training)), TOKENS, lambda row: len(row.ids))
    found = Rows([row.ids for row in chosen], held, bool(aside) or bool(answers), Path(run.config.data).name)
    seen = sum(map(len, found.training))
    if seen < TOKENS // 8:
        text = f"Only {seen:,} tokens of training rows to measure on: more rows would make small types better."
        emit(events.event("note", level="info", code="few_rows", text=text))
    return found


def _sides(records: Iterable[Record], aside: Sequence[int] | object, usable: int) -> tuple[list[Record], list[Record]]:
    """Take up to SAMPLED training rows, mixed, and the held-out rows (the training rows where there are none)."""
    taken = set(random.Random(0).sample(range(usable), min(usable, SAMPLED)))
    training: list[Record] = []
    measured: list[Record] = []
    for number, record in enumerate(records):
        if number in aside:  # type: ignore[operator]
            measured.append(record)
        elif number in taken:
            training.append(record)
    random.Random(0).shuffle(training)
    return training, measured or list(training)


def _learned(rows: Iterable[Encoded]) -> bool:
    return any(row.trained for row in rows)


def _answers(run: Run, renderer: encode.Renderer) -> list[Encoded]:
    """Give the held-out questions with the run's own answers: rows of prompts hold none."""
    result = run.result() or {}
    talks = [
        [Message("user", one["prompt"]), Message("assistant", one["after"].strip() or "Yes.")]
        for one in (result.get("behaviour") or {}).get("examples") or []
    ]
    return [renderer.conversation(talk) for talk in talks]


def _until(rows: Iterable[Encoded], most: int, size: Callable[[Encoded], int]) -> Iterator[Encoded]:
    """Give rows until there are enough."""
    count = 0
    for row in rows:
        yield row
        count += size(row)
        if count >= most:
            return


def predicting(row: Encoded) -> list[bool]:
    """Say of each token whether the next one is learned: there the model's prediction counts."""
    return [label != IGNORE for label in row.labels[1:]] + [False]
