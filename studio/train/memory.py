"""The memory of a run: measured, told when it runs out, and then lowered rung by rung with the effective batch kept.

What is lowered is how a batch is computed, not what is learned from it, until nothing else is left:

    1  memory that is freed goes back to the system at once    (a CPU with glibc; slower)
    2  fewer tokens in memory at once, down to the longest example alone; a batch takes more passes
    3  activations are recomputed (gradient checkpointing)
    4  the output layer on fewer positions at a time
    5  rows become shorter: before the first checkpoint only, for then other rows are learned from

A step that ran out of memory is dropped whole and done again. Where a driver moves a card's memory to the machine's
instead of failing (Windows), a step that suddenly takes several times as long counts as out of memory.
"""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from studio import events, paths
from studio.errors import OutOfMemory, StudioError
from studio.hardware import GIB, chunk_of, rows_at_once
from studio.methods.base import TrainConfig
from studio.train import heap, together
from studio.train.policy import Policy

T = TypeVar("T")
Lower = Callable[[str], None]
#: What the lowest rungs leave: positions of the output layer at once, tokens of a row, answers written at once.
LEAST_CHUNK, LEAST_LENGTH, LEAST_WRITTEN = 16, 64, 1
ADVICE = (
    "Close other programs, choose a smaller model, quantize_base=nf4 or an 8-bit optimizer, or set a smaller "
    "max_length; batch_size stays as it is."
)
#: Where the run keeps how far it was lowered, so that a resumed run does not find out again.
KEPT = "memory.json"
_SAID = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "cannot allocate memory",
    "alloc_failed",
    "std::bad_alloc",
    "cudaerrormemoryallocation",
)


def is_full(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out: Python's, torch's own, and what allocators say in words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, StudioError):
        return False  # ours says what it has to say
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)


def told(error: BaseException) -> str:
    """Give the first line of an error, without what only torch's authors can read, cut."""
    lines = str(error).strip().splitlines()
    line = lines[0].rpartition("DefaultCPUAllocator: ")[2].partition(" Error code ")[0] if lines else ""
    return (line or type(error).__name__)[:160].rstrip(".")


def ran_out(why: str) -> StudioError:
    """Make the error that a run ends with."""
    return OutOfMemory(f"The device's memory ran out: {why}", ADVICE)


class Shorter(Exception):
    """Asks for the run to be begun again with shorter rows."""

    def __init__(self, max_length: int) -> None:
        super().__init__(f"max_length {max_length}")
        self.max_length = max_length


class Ladder:
    """What a run holds in memory at once, and how it is lowered; kept in the run's directory.

    `given` names the settings that the user set; `lengths` are the tokens of each example (its sequences laid together)
    and `longest` those of the longest sequence. Rows may become shorter while `may_shorten` says so.
    """

    def __init__(
        self,
        policy: Policy,
        config: TrainConfig,
        emit: events.Emit,
        folder: Path,
        *,
        given: Collection[str] = (),
        lengths: Sequence[int] = (),
        longest: int = 0,
        may_shorten: Callable[[], bool] = lambda: False,
    ) -> None:
        self.policy, self.config, self.emit, self.folder = policy, config, emit, folder
        self.given, self.lengths, self.longest, self.may_shorten = given, lengths, longest, may_shorten
        self.written = 64
        self.lean = False
        self._pace = Pace()
        kept = recall(folder)
        policy.room = kept.get("room") or policy.room
        policy.chunk = kept.get("chunk") or policy.chunk
        self.written = kept.get("written") or self.written
        if kept.get("lean"):
            self.lean = heap.lean()
        if kept.get("gradient_checkpointing"):
            self._recompute()

    @property
    def room(self) -> int:
        """Give the tokens in memory at once."""
        return room(self.config, self.policy)

    def until_it_fits(self, work: Callable[[], T], undo: Callable[[], None], lower: Lower | None = None) -> T:
        """Do some work; where memory runs out, undo what it left, go a rung lower, and do all of it again.

        Random numbers begin again where they were. Raises OutOfMemory when no rung is left, and Shorter.
        """
        while True:
            with random_state(self.policy.device) as put_back:
                try:
                    return work()
                except Exception as error:
                    if not is_full(error):
                        raise
                    why = told(error)
                put_back()
            undo()
            free(self.policy.device)
            (lower or self.lower)(why)

    def lower(self, why: str) -> None:
        """Go one rung lower and say so. Raises OutOfMemory when none is left, Shorter for the last one."""
        if together.world() > 1:
            raise ran_out(f"{why} (several processes cannot lower it together)")
        config, vocabulary = self.config, self.policy.base.get_input_embeddings().num_embeddings
        least = max(self.lengths, default=config.max_length)
        chunk = self.policy.chunk or chunk_of(vocabulary)
        if not self.lean and self.policy.device.type == "cpu" and heap.lean():
            self.lean = True
            self._say(why, "Memory that is freed now goes back to the system at once, which is slower.")
        elif self.room > least:
            self.policy.room = max(least, self.room // 2)
            self._say(why, f"{self.policy.room:,} tokens are in memory at once from now on.", "micro_batch_size")
        elif not self.policy.recomputes:
            self._recompute()
            self._say(why, "Activations are recomputed, about a third slower.", "gradient_checkpointing")
        elif chunk > LEAST_CHUNK:
            self.policy.chunk = max(LEAST_CHUNK, chunk // 2)
            self._say(why, f"The output layer is applied to {self.policy.chunk} positions at a time.")
        elif self.may_shorten() and self.longest > LEAST_LENGTH:
            shorter = max(LEAST_LENGTH, self.longest * 3 // 4)
            self._keep(max_length=shorter)
            self._say(why, f"Rows are at most {shorter} tokens long from now on; the run begins again.", "max_length")
            raise Shorter(shorter)
        else:
            raise ran_out(why)

    def write_fewer(self, why: str) -> None:
        """Let fewer answers be written at once. Raises OutOfMemory when it is one already."""
        if self.written <= LEAST_WRITTEN:
            raise ran_out(why)
        self.written //= 2
        self._say(why, f"{self.written} answers are written at once from now on.")

    def watch(self, seconds: float, tokens: int) -> None:
        """Look at the time of a step: where a driver lends a card the machine's memory, go a rung lower."""
        device = self.policy.device
        if device.type != "cuda" or not self._pace.jumped(seconds, tokens):
            return
        free_bytes, total = torch.cuda.mem_get_info(device)
        if spilled(torch.cuda.memory_reserved(device), free_bytes, total):
            self._pace = Pace()
            free(device)
            self.lower(
                "steps became several times slower, and the card's memory is full: the driver uses the machine's"
            )

    def _recompute(self) -> None:
        self.policy.base.activation_checkpointing_enable({"use_reentrant": False})
        self.policy.recomputes = True

    def _say(self, why: str, what: str, setting: str = "") -> None:
        asked = f" You had set {setting}={getattr(self.config, setting)}." if setting in self.given else ""
        kept = "" if setting == "max_length" else f" A step still learns from {self.config.batch_size} rows."
        text = f"Memory ran out ({why}). {what}{kept}{asked}"
        self.emit(events.event("note", level="warning", code="memory", text=text))
        self._keep()

    def _keep(self, **more: Any) -> None:
        known = {"room": self.policy.room, "chunk": self.policy.chunk, "written": self.written, "lean": self.lean}
        known["gradient_checkpointing"] = self.policy.recomputes
        paths.write_text(self.folder / KEPT, json.dumps({**recall(self.folder), **known, **more}))


def recall(folder: Path) -> dict[str, Any]:
    """Read how far a run was lowered before."""
    try:
        kept: dict[str, Any] = json.loads((folder / KEPT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return kept


def room(config: TrainConfig, policy: Policy) -> int:
    """Give the tokens in memory at once: so many rows of full length as asked, or what they were lowered to."""
    return policy.room or (config.micro_batch_size or rows_at_once(policy.device.type)) * config.max_length


def free(device: torch.device) -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    else:
        heap.give_back()


@contextlib.contextmanager
def random_state(device: torch.device) -> Iterator[Callable[[], None]]:
    """Give the function that puts the random numbers back to where they are at the block's beginning."""
    cpu = torch.get_rng_state()
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def put_back() -> None:
        torch.set_rng_state(cpu)
        if own is not None:
            torch.cuda.set_rng_state(own, device)

    yield put_back


class Pace:
    """The seconds that steps take for a token."""

    def __init__(self, factor: float = 3.0, least: int = 5) -> None:
        self.factor, self.least = factor, least
        self.seen: list[float] = []

    def jumped(self, seconds: float, tokens: int) -> bool:
        """Tell whether a step took more than `factor` times as long for a token as the median of those before."""
        pace, before = seconds / max(1, tokens), self.seen[-50:]
        if len(before) >= self.least and pace > self.factor * statistics.median(before):
            return True
        self.seen = [*before, pace]
        return False


def spilled(reserved: int, free_bytes: int, total: int) -> bool:
    """Tell whether a card's memory is used up: more reserved than it has, or less than 2 % of it free. In bytes."""
    return reserved > total or free_bytes < total // 50


def sized(count: float) -> str:
    """Write bytes for people."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / (1 << 20):.0f} MiB"
