"""The one subclass of transformers.Trainer: it runs any offline method.

Trainer keeps the schedule, accumulation, clipping, the optimizer, exact resume and distribution. Ours are: the method's
loss, checkpoints that are whole or not there, held-out measurements without touching the random state, and events for
all of it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, RandomSampler
from transformers import PrinterCallback, Trainer, TrainingArguments

from studio import events
from studio.methods.base import Batch, Example, Method, TrainConfig, learned
from studio.train import checkpoint, guard, layout, memory, optimizers, schedule, together
from studio.train.best import Best
from studio.train.narrator import Narrator
from studio.train.policy import Policy
from studio.train.sums import Sums, add, means


class Step(torch.nn.Module):
    """A method's step as a module's forward: what distribution (DDP, FSDP) takes hold of."""

    def __init__(self, policy: Policy, method: Method, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.policy, self.method, self.settings = policy.model, policy, method, config
        self._no_split_modules = getattr(policy.base, "_no_split_modules", None)  # FSDP gathers these, one at a time
        self._keys_to_ignore_on_save = getattr(policy.base, "_keys_to_ignore_on_save", None)  # Trainer asks on loading

    def forward(self, batch: Batch, count: int | None) -> tuple[torch.Tensor, dict[str, tuple[float, float]]]:
        """Give the method's loss of one pass, and what is worth plotting."""
        assert self.method.step is not None
        out = self.method.step(self.policy, batch, self.settings, count)
        return out.loss, out.metrics


class StudioTrainer(Trainer):
    """Trainer with a method's step in place of the model's own loss.

    Its loader gives a whole batch of examples at a time; a step learns from it in as many passes as the memory asks for
    (layout.passes), so that the effective batch never depends on the memory. Of several processes each is given the
    batch of all and learns its share.
    """

    def __init__(
        self,
        policy: Policy,
        method: Method,
        config: TrainConfig,
        train: Sequence[Example],
        held_out: Sequence[Example],
        *,
        pad_id: int,
        checkpoints: Path,
        emit: events.Emit,
        should_stop: Callable[[], bool],
        sample: Callable[[], list[tuple[str, str]]] | None = None,
        ladder: memory.Ladder | None = None,
    ) -> None:
        self.policy, self.method, self.config = policy, method, config
        self.emit, self.checkpoints, self.sample = emit, checkpoints, sample
        self.held_out, self.pad_id = held_out, pad_id
        self.ladder = ladder or memory.Ladder(policy, config, emit, checkpoints.parent)
        self.best = Best(checkpoints, method.figure, config.patience)
        self.sums: Sums = {}
        self.last: dict[str, float] = {}
        self.learned = 0
        self.measured: tuple[int, dict[str, float]] | None = None
        self.guard: guard.Guard | None = None
        self.guarded = False
        self.batch: Sequence[Example] = ()
        self.rate = 0.0
        checkpoints.mkdir(parents=True, exist_ok=True)
        steps = schedule.steps(config, len(train), config.batch_size * together.world())
        args = TrainingArguments(
            output_dir=str(checkpoints),
            per_device_train_batch_size=config.batch_size * together.world(),
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler,
            warmup_steps=round(config.warmup_ratio * steps),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            num_train_epochs=config.epochs,
            max_steps=steps,
            eval_strategy="steps" if held_out else "no",
            eval_steps=schedule.measure_every(config, steps),
            save_strategy="steps",
            save_steps=schedule.save_every(config, steps),
            logging_strategy="no",
            optim=optimizers.TRAINERS[config.optimizer or "adamw"],
            seed=config.seed,
            data_seed=config.seed,
            use_cpu=policy.device.type == "cpu",
            dataloader_pin_memory=False,
            ddp_find_unused_parameters=False,
            ddp_broadcast_buffers=False,
            ddp_timeout=int(together.PATIENCE.total_seconds()),
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
        )
        if args.n_gpu > 1:
            args._n_gpu = 1  # no DataParallel: several cards go through accelerate or torchrun
        super().__init__(
            model=Step(policy, method, config),
            args=args,
            train_dataset=train,
            eval_dataset=held_out if held_out else None,
            data_collator=list,
            callbacks=[Narrator(self, should_stop)],
        )
        self.remove_callback(PrinterCallback)

    def training_step(self, model: Any, inputs: Sequence[Example], num_items_in_batch: Any = None) -> torch.Tensor:
        """Learn from one batch: a forward and its own backward for each pass. Gives the batch's loss.

        A loss that is not finite ends the run before it can spoil the adapter. Where memory runs out, the step is done
        again from its beginning with less at once.
        """
        model.train()
        if self.guard is None:
            self.guard = guard.Guard(self.policy.model, self.policy.trainable())
        self.batch, self.rate = inputs, float(self.optimizer.param_groups[0]["lr"])
        began = time.monotonic()
        total, sums = self.ladder.until_it_fits(lambda: self._learn(model, inputs), self.forget)
        total = self._together(total, sums)
        guard.finite(total, "loss", self.state.global_step + 1, inputs)
        rows = self.method.sequences(inputs)
        self.learned += learned(rows)
        self.ladder.watch(time.monotonic() - began, sum(len(row["ids"]) for row in rows))
        if not self.guarded and self.state.global_step == 0:
            self.guard.gradients()
        return torch.tensor(total, device=self.args.device)

    def _learn(self, model: Any, inputs: Sequence[Example]) -> tuple[float, Sums]:
        """Add a batch's gradients up, pass by pass; gives its loss (of this process), and what is worth plotting."""
        count, world = self.method.count(inputs), together.world()
        total, sums = 0.0, Sums()
        laid = list(self.passes(inputs))
        for number, (batch, weight) in enumerate(self.lay(inputs, laid)):
            last = number == len(laid) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                loss, metrics = model(batch, count)
                # gradients are averaged over the processes; what is wanted is their sum
                self.accelerator.backward(loss * (weight * world))
            total += float(loss.detach()) * weight
            if weight:
                add(sums, metrics.items())
        return total, sums

    def split(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Give the passes of a batch."""
        return [group for group, _ in self.passes(examples)]

    def try_out(self, examples: Sequence[Example], group: list[Example]) -> None:
        """Go forward and backward through one pass of a batch, as a step does."""
        self.model.train()
        batch, _ = next(iter(self.lay(examples, [(group, 1.0)])))
        loss, _ = self.model(batch, self.method.count(examples))
        loss.backward()

    def forget(self) -> None:
        """Drop the gradients of a step that is not taken."""
        self.policy.model.zero_grad(set_to_none=True)

    def _together(self, total: float, sums: Sums) -> float:
        """Add up what the processes measured, into `self.sums`; gives the sum of their losses."""
        found = together.gather((total, sums))
        for _, theirs in found:
            add(self.sums, theirs.items())
        return sum(loss for loss, _ in found)

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        guard.finite(norm, "gradient", self.state.global_step + 1, self.batch)
        return norm

    def passes(self, examples: Sequence[Example]) -> list[tuple[list[Example], float]]:
        """Split a batch in passes, each with what it counts.

        Of several processes each has as many as the others, for each takes part in every exchange: where its share asks
        for fewer, the rest count nothing.
        """
        shares = [together.share(examples, number) for number in range(together.world())]
        split = [[[share[at] for at in group] for group in self._split(self.method, share)] for share in shares]
        mine, most = split[together.rank()], max(map(len, split))
        return [(group, 1.0) for group in mine] + [([examples[0]], 0.0)] * (most - len(mine))

    def lay(
        self, examples: Sequence[Example], passes: Sequence[tuple[list[Example], float]]
    ) -> Iterator[tuple[Batch, float]]:
        """Lay out the passes of a batch, each with what the method wants to see of the whole of it before the first."""
        seen: dict[str, Any] = {}
        if self.method.before is not None:
            looking = self.method.looking()
            groups = ([examples[at] for at in group] for group in self._split(looking, examples))
            with torch.no_grad():
                seen = self.method.before(self.policy, [self._laid(looking, group) for group in groups], self.config)
        for group, weight in passes:
            yield {**self._laid(self.method, group), **seen}, weight

    def _split(self, method: Method, examples: Sequence[Example]) -> list[list[int]]:
        return layout.passes(method, examples, self.ladder.room, self.policy.packed, self.policy.shared)

    def _laid(self, method: Method, examples: Sequence[Example]) -> Batch:
        made = layout.batch(method, examples, self.pad_id, self.policy.packed, self.policy.shared)
        return layout.to(made, self.policy.device)

    def get_train_dataloader(self) -> Any:
        """Give whole batches, the same ones in the same order to every process."""
        loader = DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            sampler=RandomSampler(self.train_dataset),
            collate_fn=list,
        )
        return prepare_data_loader(
            loader,
            num_processes=1,
            process_index=0,
            put_on_device=False,
            use_seedable_sampler=True,
            data_seed=self.config.seed,
        )

    def _move_model_to_device(self, model: Any, device: torch.device) -> None:
        """Leave the model where it was loaded."""

    def _get_num_items_in_batch(self, batch_samples: Any, device: torch.device) -> None:
        """Leave the counting to training_step."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: Trainer's count reads tensors that we do not have."""
        return 0

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the method's loss on the held-out rows, without dropout, gradient or random numbers.

        Once per step: asked again at the same step, it gives what it measured.
        """
        if self.measured and self.measured[0] == self.state.global_step:
            return self.measured[1]
        sums = self.ladder.until_it_fits(self._measure, self.forget)
        whole: Sums = {}
        for theirs in together.gather(sums):
            add(whole, theirs.items())
        measured = means(whole)
        self.emit(events.event("evaluated", step=self.state.global_step, **measured))
        for prompt, text in self.sample() if self.sample else ():
            self.emit(events.event("sample", step=self.state.global_step, prompt=prompt, text=text))
        self.measured = (self.state.global_step, {f"eval_{name}": value for name, value in measured.items()})
        self._judge(measured.get(self.method.figure.name))
        return self.measured[1]

    def _judge(self, value: float | None) -> None:
        """Take what was measured: with patience the best is saved, and when nothing better comes the run is over."""
        if not self.state.global_step:
            return  # the parent, not this run
        better = self.best.add(self.state.global_step, value, write=together.first())
        if self.config.patience:
            self.control.should_save = self.control.should_save or better
            self.control.should_training_stop = self.control.should_training_stop or self.best.over

    def take(self, folder: Path) -> None:
        """Put the model back to a checkpoint, and the count of its steps."""
        self._load_from_checkpoint(str(folder))
        self.state.global_step = int(folder.name.removeprefix("step-"))
        self.measured = None

    def _measure(self) -> Sums:
        sums: Sums = {}
        self.model.eval()
        with torch.no_grad():
            for start in range(0, len(self.held_out), self._train_batch_size):
                examples = self.held_out[start : start + self._train_batch_size]
                for batch, weight in self.lay(examples, self.passes(examples)):
                    _, metrics = self.model(batch, None)
                    if weight:
                        add(sums, metrics.items())
        self.model.train()
        return sums

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        step = self.state.global_step
        folder = checkpoint.place(self.checkpoints, step)
        together.wait()
        if together.first():
            checkpoint.seal(self._staging() / f"checkpoint-{step}", folder)
            checkpoint.prune(self.checkpoints, self.config.keep_checkpoints, self.best.spare())
        together.wait()
        self.emit(events.event("checkpoint", step=step, path=str(folder)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, self.policy.model)
        self.policy.load_heads(Path(resume_from_checkpoint))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging())

    def _staging(self) -> Path:
        return self.checkpoints / ".staging"

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        assert output_dir is not None
        learns = self.policy.trainable()
        whole = {name.removeprefix("model."): value for name, value in (state_dict or {}).items()}
        kept = {name: whole[name] for name in learns if name in whole}
        self.policy.save(Path(output_dir), kept if together.sharded() else None)
