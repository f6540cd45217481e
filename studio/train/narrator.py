"""Trainer's callbacks as events, and a stop file as a saved stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from studio import events
from studio.train import sums, together

if TYPE_CHECKING:
    from studio.train.trainer import StudioTrainer


class Narrator(TrainerCallback):
    """Tell every step of a run."""

    def __init__(self, trainer: StudioTrainer, should_stop: Callable[[], bool]) -> None:
        self.trainer, self.should_stop = trainer, should_stop
        self.start = self.at_start = 0.0
        self.stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remember when and where we began, for rates and time left."""
        self.start, self.at_start = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the step; when asked to stop, save and end here."""
        trainer = self.trainer
        if not trainer.guarded and trainer.guard is not None:
            trainer.guarded = trainer.guard.step(trainer.rate)
        elapsed = max(1e-9, time.monotonic() - self.start)
        done = state.global_step - self.at_start
        trainer.last = sums.means(trainer.sums)
        trainer.sums.clear()
        trainer.emit(
            events.event(
                "step",
                step=state.global_step,
                total=state.max_steps,
                learning_rate=trainer.lr_scheduler.get_last_lr()[0],
                epoch=state.epoch,
                tokens_per_s=trainer.learned / elapsed,
                seconds_left=elapsed / done * (state.max_steps - state.global_step),
                **trainer.last,
            )
        )
        if together.agreed(self.should_stop()):
            self.stopped = state.global_step < state.max_steps
            control.should_save = control.should_training_stop = True
