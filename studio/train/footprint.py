"""What a training run writes to the disk, foreseen before anything heavy: checkpoints, what is left, tokens, scores.

A checkpoint holds what learns (float32) and two averages of AdamW for each of its weights, 12 bytes in all; 6 with an
8-bit optimizer. `keep_checkpoints` of them stay, and one more lies beside while it is written.
"""

from __future__ import annotations

from studio import disk, paths
from studio.disk import Need
from studio.errors import TrainingError
from studio.methods.base import Method, TrainConfig
from studio.models.shape import Shape
from studio.render import cache
from studio.render.tokens import SIDES
from studio.train.prepare import Setup

#: Beside the weights: their names, the state of the run and of its random numbers.
_SMALL = 1 << 20
#: What can be done about too small a disk.
REMEDY = (
    "Free some, or let --out name a folder on a larger disk (for all runs and their tokens: STUDIO_HOME). "
    "An 8-bit optimizer halves the checkpoints."
)
_FULL = " So does an adapter (tuning=lora), to a small part: here all weights are written."


def needs(made: Setup) -> list[Need]:
    """List what is still to be written: what lies there from an earlier attempt is not written again beside it."""
    run, config = made.run, made.config
    each = checkpoint_bytes(made.method, config, made.info.shape, made.info.parameters)
    kept = disk.held(run.dir / "checkpoints")
    left = 4 * made.info.parameters if config.tuning == "full" else 4 * made.info.shape.lora(config.lora_r)
    if config.init_lora_weights != "default":
        left *= 3  # what it began with is kept, and is a part of what is saved
    count = config.keep_checkpoints + 1 + (config.patience is not None)  # the best one stays as well
    found = [
        Need(f"{count} checkpoints of {disk.size(each)}:", count * each - kept, run.dir),
        Need("the model" if config.tuning == "full" else "the adapter", left, run.dir),
    ]
    if made.method.kind == "offline":
        given = config.max_length, config.train_on, config.cut
        found.append(Need("the file's tokens", cache.missing(made.data, made.renderer, *given), paths.cache()))
    if made.method.reference:
        sides = len(SIDES[made.data.kind]) + (made.method.beside is not None)
        found.append(Need("the reference's scores", 4 * sides * made.data.usable, paths.cache()))
    return found


def check(made: Setup) -> None:
    """Raise TrainingError with all figures where the disk has too little room for the run."""
    disk.check(needs(made), TrainingError, REMEDY + (_FULL if made.config.tuning == "full" else ""))


def checkpoint_bytes(method: Method, config: TrainConfig, shape: Shape, parameters: int) -> int:
    """Give the bytes of one checkpoint; a method with a critic has a second adapter for it."""
    averages = 2 if "8bit" in (config.optimizer or "") else 8
    if config.tuning == "full":
        return parameters * (4 + averages) + _SMALL
    adapters = 2 if getattr(method, "critic", False) else 1
    return adapters * shape.lora(config.lora_r) * (4 + averages) + _SMALL
