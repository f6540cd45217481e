"""Encode the records of a file in batches, in their order: here, or in child processes that share the batches.

Every child reads the file itself and encodes every n-th batch: reading costs a thirtieth of encoding, less than handing
records over. A child needs only the fast tokenizer, so that it starts in a second and never loads a framework. What it
made it leaves beside the cache's files; only the news goes through the pipe.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.child import Child
from studio.data import detect
from studio.data.dataset import Dataset
from studio.data.files import Rows
from studio.data.onepass import SAMPLE, SAMPLE_BYTES
from studio.data.records import Problems, Record, Warnings
from studio.errors import InputError, StudioError
from studio.render import encode, words
from studio.render.encode import IGNORE, Renderer
from studio.render.tokens import SIDES

BATCH = 256
WORTH_BYTES = 8_000_000  # below this, children would not have begun when all is done
SILENCE = 600.0
_JOB = "job.pickle"


@dataclasses.dataclass(frozen=True)
class Packed:
    """A batch of examples as arrays, and what was left out of it: (reason, line, error)."""

    ids: np.ndarray[Any, Any]
    learned: np.ndarray[Any, Any]
    sizes: np.ndarray[Any, Any]
    lines: np.ndarray[Any, Any]
    records: np.ndarray[Any, Any]
    rated: np.ndarray[Any, Any]
    left_out: list[tuple[str, int, InputError | None]]
    taken: int


def token_type(renderer: Renderer) -> str:
    """Give the smallest type that holds every id."""
    return "uint16" if len(renderer.tokenizer) <= 1 << 16 else "uint32"


def encoded(
    dataset: Dataset, renderer: Renderer, settings: dict[str, Any], beside: Path, processes: int | None = None
) -> Generator[Packed, None, None]:
    """Encode all records; `settings` are those of `encode.examples`, `beside` is a folder to work in.

    `processes` (default: one a core for a file that is worth it) share the work; 1 is this one alone.
    """
    alone = dataset.size < WORTH_BYTES or dataset.found.format is None or bool(dataset.found.format.group)
    count = processes or (1 if alone else _cores())
    maker = _Maker(dataset, _light(renderer), settings, token_type(renderer))
    return maker.share(0, 1) if count == 1 else _shared(maker, beside, count)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass
class _Fast:
    """What a renderer needs of a tokenizer to encode."""

    backend_tokenizer: Any


def _light(renderer: Renderer) -> Renderer:
    """Copy a renderer with a fast tokenizer of its own, which remembers words, and nothing else of transformers."""
    twin = copy.copy(renderer)
    fast = copy.deepcopy(renderer.tokenizer.backend_tokenizer)
    twin.tokenizer = _Fast(fast)
    return twin


@dataclasses.dataclass
class _Maker:
    dataset: Dataset
    renderer: Renderer
    settings: dict[str, Any]
    dtype: str

    def share(self, me: int, of: int) -> Generator[Packed, None, None]:
        """Encode every `of`-th batch, from the one numbered `me`."""
        self.renderer.words = words.remembering(self.renderer.tokenizer.backend_tokenizer)
        stream = self.dataset.records()
        sides = SIDES[self.dataset.kind]
        for number in itertools.count():
            batch = list(itertools.islice(stream, BATCH))
            if not batch:
                return
            if number % of == me:
                first = number * BATCH
                made = encode.examples(self.renderer, _numbered(batch, first), **self.settings)
                yield pack(made, [record.line for record in batch], first, sides, self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        # A format is made of functions, which do not travel: it is found again, in the same rows.
        found = dataclasses.replace(self.dataset.found, format=None)
        return {**self.__dict__, "dataset": dataclasses.replace(self.dataset, found=found)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        rows = Rows(self.dataset.sources, Problems(), Warnings())
        head = []
        for _, row in rows:
            head.append(row)
            if len(head) >= SAMPLE or rows.done > SAMPLE_BYTES:
                break
        self.dataset.found = detect.detect(head, self.dataset.reading)


def _shared(maker: _Maker, beside: Path, count: int) -> Generator[Packed, None, None]:
    """Let children encode, and give their batches in order."""
    job = Path(tempfile.mkdtemp(prefix="work-", dir=beside)) / _JOB
    job.write_bytes(pickle.dumps(maker))
    children = [Child(f"{__name__}:handle", env={"TOKENIZERS_PARALLELISM": "false"}) for _ in range(count)]
    try:
        with contextlib.ExitStack() as stack:
            streams = [
                stack.enter_context(contextlib.closing(_news(child, {"job": str(job), "me": me, "of": count})))
                for me, child in enumerate(children)
            ]
            for child_news in streams:
                next(child_news)  # all have begun
            for news in itertools.cycle(streams):
                path = next(news, None)
                if path is None:
                    return
                item = pickle.loads(path.read_bytes())
                path.unlink()
                if isinstance(item, StudioError):
                    raise item
                yield item
    finally:
        for child in children:
            child.close()
        shutil.rmtree(job.parent, ignore_errors=True)


def _news(child: Child, request: dict[str, Any]) -> Generator[Path, None, None]:
    """Give the files that a child says it wrote; the first word is that it has begun."""
    for answer in child.stream(request, SILENCE):
        if "errno" in answer:
            raise OSError(answer["errno"], "a batch could not be written")
        yield Path(answer["file"])


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Encode a share in the child: answers {"file"}, first its job's, then one for each batch in a file of its own."""
    job, me = Path(request["job"]), int(request["me"])
    maker: _Maker = pickle.loads(job.read_bytes())
    yield {"file": str(job)}
    made = maker.share(me, int(request["of"]))
    for number in itertools.count(me, int(request["of"])):
        item: Packed | StudioError | None
        try:
            item = next(made, None)
        except StudioError as error:
            item = error
        if item is None or cancelled():
            return
        path = job.with_name(f"batch-{number}.pickle")
        try:
            path.write_bytes(pickle.dumps(item, protocol=5))
        except OSError as error:
            yield {"errno": error.errno}
            return
        yield {"file": str(path)}


def _numbered(batch: Sequence[Record], first: int) -> Iterator[Record]:
    """Send records in under their number in place of their line, since one line can hold several of them."""
    return (dataclasses.replace(record, line=number) for number, record in enumerate(batch, first))


def pack(
    made: Iterable[encode.Example | encode.LeftOut],
    lines: Sequence[int],
    first: int,
    sides: Sequence[str],
    dtype: str,
) -> Packed:
    """Put a batch into arrays; `lines` are its records' own, `first` is the number of the first."""
    whole: list[encode.Example] = []
    left_out = []
    for item in made:
        if isinstance(item, encode.LeftOut):
            left_out.append((item.reason, lines[item.line - first], item.error))
        else:
            whole.append(item)
    rows = [example.sides[side] for example in whole for side in sides]
    labels = np.fromiter(itertools.chain.from_iterable(row.labels for row in rows), np.int32)
    return Packed(
        ids=np.fromiter(itertools.chain.from_iterable(row.ids for row in rows), dtype),
        learned=(labels != IGNORE).astype(np.uint8),
        sizes=np.array([len(row.ids) for row in rows], np.uint64),
        lines=np.array([lines[example.line - first] for example in whole], np.int64),
        records=np.array([example.line for example in whole], np.int64),
        rated=np.array([bool(example.label) for example in whole], np.int8),
        left_out=left_out,
        taken=len(lines),
    )
