"""How many steps a run takes, and after how many it measures and saves."""

from __future__ import annotations

import math

from studio.methods.base import TrainConfig

#: Where nothing else is asked for, a run measures and saves so often.
MEASURED, SAVED = 10, 5


def steps(config: TrainConfig, rows: int, together: int) -> int:
    """Count the optimizer steps of a run on so many rows, of which a step takes `together`."""
    wanted = max(1, math.ceil(rows * config.epochs / together))
    return min(wanted, config.max_steps or wanted)


def measure_every(config: TrainConfig, total: int) -> int:
    """Give the steps between two measurements of a run of `total` steps."""
    return config.eval_every or max(1, math.ceil(total / MEASURED))


def save_every(config: TrainConfig, total: int) -> int:
    """Give the steps between two checkpoints of a run of `total` steps."""
    return config.save_every or max(1, math.ceil(total / SAVED))
