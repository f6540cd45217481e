"""The loop of the online methods, on accelerate: write answers, have them scored, weigh them, learn from them.

Policy, reference, reward and value are adapters and heads on one base: one adapter goes forward and backward before the
next. What is random in a step is drawn from the run's seed and the step's number, so that a resumed run goes on exactly
as it would have.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from studio import events
from studio.errors import ConfigError, Stopped, TrainingError
from studio.methods.base import Batch, Example
from studio.methods.online import Online, OnlineConfig
from studio.objectives.logps import kl_k1, kl_k3
from studio.render.labels import IGNORE
from studio.train import adapters, guard, heap, layout, loop_state, memory, optimizers, rollout, schedule
from studio.train.best import Best
from studio.train.judges import Asked, Judge
from studio.train.policy import POLICY, Policy
from studio.train.prepare import Setup
from studio.train.rollout import Answer
from studio.train.sums import Sums, add, means

#: Adam's epsilon of Huang et al. 2024 (arXiv:2403.17031).
EPSILON = 1e-5
_DRAWN = {"sample": 0, "order": 1, "update": 2, "measure": 3}

Figures = dict[str, float]
T = TypeVar("T")


@dataclasses.dataclass
class Loop:
    """What a run works with while it learns; `reference` is an adapter's name, "" for the bare base."""

    made: Setup
    policy: Policy
    judge: Judge
    asked: Sequence[Asked]
    held: Sequence[Asked]
    reference: str
    emit: events.Emit
    ladder: memory.Ladder
    sample: Callable[[], list[tuple[str, str]]] | None = None

    def __post_init__(self) -> None:
        from accelerate import Accelerator
        from transformers import get_scheduler

        method, config = self.made.method, self.made.config
        assert isinstance(method, Online) and isinstance(config, OnlineConfig)
        self.method, self.config = method, config
        self.accelerator = Accelerator(cpu=self.policy.device.type == "cpu")
        if self.accelerator.num_processes > 1:
            raise ConfigError(
                f"{method.name} keeps several adapters on one base, and runs in one process.",
                "Start it without accelerate launch.",
                field="method",
            )
        self.k = method.samples(config)
        self.together = max(1, config.batch_size // self.k)
        if self.together * self.k != config.batch_size:
            text = f"A step learns from {self.together * self.k} answers ({self.k} to each prompt)"
            self.made.note("batch_size", f"{text}, batch_size {config.batch_size} being no multiple of {self.k}.")
        self.total = schedule.steps(config, len(self.asked), self.together)
        self.groups = [list(adapters.parameters(self.policy, POLICY).values())]
        rates = [config.learning_rate]
        if method.critic:
            head = self.policy.heads[adapters.VALUE].parameters()
            self.groups.append([*adapters.parameters(self.policy, adapters.VALUE).values(), *head])
            rates.append(float(getattr(config, "value_learning_rate", config.learning_rate)))
        given = [{"params": group, "lr": rate} for group, rate in zip(self.groups, rates, strict=True)]
        made = optimizers.make(given, config.optimizer or "adamw", eps=EPSILON, weight_decay=config.weight_decay)
        self.optimizer = self.accelerator.prepare(made)
        warmup = round(config.warmup_ratio * self.total)
        self.schedule = get_scheduler(config.lr_scheduler, self.optimizer.optimizer, warmup, self.total)
        self.best = Best(self.made.run.dir / "checkpoints", method.figure, config.patience)
        self.guard: guard.Guard | None = None
        self.guarded = False
        self.done = 0
        self.last: Figures = {}
        self.measured: tuple[int, Figures] | None = None

    def train(self, checkpoints: Path) -> None:
        """Learn up to the last step, or until patience is over, measuring and saving on the way.

        Raises Stopped after a saved stop.
        """
        config = self.config
        eval_every = schedule.measure_every(config, self.total)
        save_every = schedule.save_every(config, self.total)
        began, first = time.monotonic(), self.done
        while self.done < self.total:
            at = time.monotonic()
            rate = self.schedule.get_last_lr()[0]
            if self.guard is None:
                self.guard = guard.Guard(self.policy.model, self._trained())
            figures, tokens = self._step()
            # where all answers of a step score alike there is nothing to learn from them
            self.guarded = self.guarded or self.guard.step(rate, must_move=False)
            self.done += 1
            self.last = figures
            elapsed = time.monotonic() - began
            self.emit(
                events.event(
                    "step",
                    step=self.done,
                    total=self.total,
                    learning_rate=rate,
                    epoch=min(config.epochs, self.done * self.together / len(self.asked)),
                    tokens_per_s=tokens / max(1e-9, time.monotonic() - at),
                    seconds_left=elapsed / (self.done - first) * (self.total - self.done),
                    **figures,
                )
            )
            if self.made.should_stop() and self.done < self.total:
                loop_state.save(self, checkpoints)
                raise Stopped(f"Stopped at step {self.done}.", f"Go on with: studio resume {self.made.run.name}")
            better = False
            if self.done % eval_every == 0 or self.done == self.total:
                better = self.best.add(self.done, self.evaluate()[self.method.figure.name])
            if (better and config.patience) or self.done % save_every == 0 or self.done == self.total:
                loop_state.save(self, checkpoints)
            if self.best.over:
                return

    def evaluate(self) -> Figures:
        """Let the policy answer the held-out prompts, sampled as while learning and always alike, and score them."""
        if self.measured and self.measured[0] == self.done:
            return self.measured[1]
        written = self._write(self.held, 1, self._drawing("measure", 0))
        scores = torch.tensor(self.judge(self.held, written))
        rows = [self._example(self.held, [answer]) for answer in written]
        logps, ref_logps, _, mask = self._fit(lambda: self._look(rows, 1))
        figures = {
            **rollout.figures(written),
            "score": float(scores.mean()),
            "score/error": float(scores.std() / math.sqrt(len(scores))) if len(scores) > 1 else 0.0,
            "kl": float((kl_k1(logps, ref_logps) * mask).sum(-1).mean()),
        }
        self.emit(events.event("evaluated", step=self.done, **figures))
        for prompt, text in self.sample() if self.sample else ():
            self.emit(events.event("sample", step=self.done, prompt=prompt, text=text))
        self.measured = (self.done, figures)
        return figures

    def _step(self) -> tuple[Figures, int]:
        """Write, score, weigh and learn once: what is worth plotting, and the tokens that were written."""
        numbers = self._numbers()
        asked = [self.asked[number] for number in numbers]
        written = self._write(asked, self.k, self._drawing("sample", self.done))
        raw = torch.tensor(self.judge(asked, written), device=self.policy.device)
        stopped = torch.tensor([answer.stopped for answer in written], device=self.policy.device)
        scores = raw - self.config.missing_stop_penalty * ~stopped
        k = self.k
        examples = [self._example(asked, written[at * k : (at + 1) * k]) for at in range(len(asked))]
        logps, ref_logps, values, mask = self._fit(lambda: self._look(examples, k))
        seen = {"scores": scores, "logps": logps, "ref_logps": ref_logps, "mask": mask}
        if self.method.critic:
            seen["values"] = values
        weighed = self.method.weigh(seen, self.config)
        learned = self._learn(examples, {**seen, **weighed}, asked)
        self.schedule.step()
        tokens = int(mask.sum())
        figures = {
            **rollout.figures(written),
            "score": float(raw.mean()),
            "rewards": float(weighed["rewards"].mean()),
            "kl": float((kl_k1(logps, ref_logps) * mask).sum(-1).mean()),
            "kl_k3": float((kl_k3(logps, ref_logps) * mask).sum(-1).mean()),
            # the mean surprise of what is sampled from a policy estimates its entropy, without bias
            "entropy": -float((logps * mask).sum()) / max(1, tokens),
            **learned,
        }
        return figures, tokens

    def _learn(self, examples: Sequence[Example], known: dict[str, Any], asked: Sequence[Asked]) -> Figures:
        """Update on the answers of a step: `update_epochs` times, in `minibatches` parts with a step each."""
        config = self.config
        sums: Sums = {}
        drawing = self._drawing("update", self.done, "cpu")
        parts = min(config.minibatches, len(examples))
        for _ in range(config.update_epochs):
            for part in torch.randperm(len(examples), generator=drawing).chunk(parts):
                whole = [int(at) for at in part]
                rows = [at * self.k + side for at in whole for side in range(self.k)]
                counts = {"answers": len(rows), "tokens": float(known["mask"][rows].sum())}
                update = functools.partial(self._part, examples, whole, known, counts, asked)
                found = self._fit(update)
                add(sums, found)
                for tensors in self.groups:
                    norm = torch.nn.utils.clip_grad_norm_(tensors, config.max_grad_norm or math.inf)
                    guard.finite(norm, "gradient", self.done + 1, [vars(about) for about in asked])
                self.optimizer.step()
                self.optimizer.zero_grad()
        return means(sums)

    def _part(
        self,
        examples: Sequence[Example],
        whole: Sequence[int],
        known: dict[str, Any],
        counts: dict[str, Any],
        asked: Sequence[Asked],
    ) -> list[tuple[str, tuple[float, float]]]:
        """Add up the gradients of one minibatch, the examples of these numbers, pass by pass; gives what is plotted."""
        group = [examples[at] for at in whole]
        seen: list[tuple[str, tuple[float, float]]] = []
        for numbers in self._passes(group):
            batch = self._batch(group, numbers)
            places = torch.tensor(
                [whole[at] * self.k + side for side in range(self.k) for at in numbers],
                device=self.policy.device,
            )
            width = batch["shape"][1]
            given = {name: layout.rows(value, places, width) for name, value in known.items()}
            out = self.method.update(self.policy, {**batch, **given, **counts}, self.config, self._backward)
            if not math.isfinite(float(out.loss)):
                raise TrainingError(
                    f"The loss is {float(out.loss)} at step {self.done + 1} (prompts of lines "
                    f"{', '.join(str(asked[whole[at]].line) for at in numbers[:5])}).",
                    "The last checkpoint is kept. Lower the learning rate.",
                )
            seen += out.metrics.items()
        return seen

    def forget(self) -> None:
        """Drop the gradients of an update that is not taken."""
        self.optimizer.zero_grad()

    def split(self, examples: Sequence[Example]) -> list[list[Example]]:
        """Give the passes of some examples."""
        return [[examples[at] for at in numbers] for numbers in self._passes(examples)]

    def try_out(self, group: Sequence[Example]) -> None:
        """Go forward and backward through one pass, as an update does."""
        self.policy.model.train()
        logps, _ = self.policy.token_logps(self._batch(group, range(len(group))), self.config.temperature)
        logps.sum().backward()

    def longest(self) -> list[Example]:
        """Make up the heaviest examples of a step: the longest prompts, with answers of all the tokens allowed."""
        order = sorted(range(len(self.asked)), key=lambda at: -len(self.asked[at].ids))[: self.together]
        filler = [self.made.renderer.pad_id] * self.config.max_new_tokens
        return [self._example(self.asked, [Answer(at, filler, False) for _ in range(self.k)]) for at in order]

    def _look(self, examples: Sequence[Example], k: int) -> tuple[torch.Tensor, ...]:
        """Score what was written without gradient: logps of policy and reference, values, mask, all (B, T)."""
        config, policy = self.config, self.policy
        rows, found = len(examples) * k, []
        policy.model.train()  # as in the update: what it compares must be computed alike
        with torch.no_grad():
            for numbers in self._passes(examples):
                batch = self._batch(examples, numbers)
                places = [at * k + side for side in range(k) for at in numbers]
                logps, mask = policy.token_logps(batch, config.temperature)
                with policy.using(self.reference):
                    ref_logps, _ = policy.token_logps(batch, config.temperature)
                values = torch.zeros_like(logps)
                if self.method.critic:
                    with policy.using(adapters.VALUE):
                        values, _ = policy.values(batch, adapters.VALUE)
                found.append((places, (logps, ref_logps, values, mask)))
        width = max(parts[0].shape[1] for _, parts in found)
        out = tuple(torch.zeros(rows, width, device=policy.device) for _ in range(4))
        for places, parts in found:
            for whole, part in zip(out, parts, strict=True):
                whole[places, : part.shape[1]] = part
        return out

    def _trained(self) -> dict[str, Any]:
        """Name what the optimizer was given."""
        given = {id(tensor) for group in self.groups for tensor in group}
        return {name: p for name, p in self.policy.model.named_parameters() if id(p) in given}

    def _passes(self, examples: Sequence[Example]) -> list[list[int]]:
        return layout.passes(self.method, examples, self.ladder.room, self.policy.packed, self.policy.shared)

    def _batch(self, examples: Sequence[Example], numbers: Sequence[int]) -> Batch:
        chosen = [examples[at] for at in numbers]
        how = self.policy.packed, self.policy.shared
        return layout.to(layout.batch(self.method, chosen, self.made.renderer.pad_id, *how), self.policy.device)

    def _backward(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss)
        self._give_back()  # before the next adapter goes forward

    def _give_back(self) -> None:
        if self.policy.device.type == "cpu":
            heap.give_back()

    def _fit(self, work: Callable[[], T], lower: memory.Lower | None = None) -> T:
        return self.ladder.until_it_fits(work, self.forget, lower)

    def _write(self, asked: Sequence[Asked], count: int, generator: torch.Generator) -> list[Answer]:
        began = generator.get_state()

        def write() -> list[Answer]:
            generator.set_state(began)
            return rollout.sample(
                self.policy,
                [about.ids for about in asked],
                count=count,
                max_new_tokens=self.config.max_new_tokens,
                temperature=self.config.temperature,
                stop_ids=self.made.renderer.stop_ids,
                pad_id=self.made.renderer.pad_id,
                generator=generator,
                together=self.ladder.written,
                halt=lambda: None,
            )

        written = self._fit(write, self.ladder.write_fewer)
        self._give_back()
        return written

    def _example(self, asked: Sequence[Asked], answers: Sequence[Answer]) -> Example:
        """Make an example of a prompt with its answers: each is learned whole, the prompt is not."""
        prompt = asked[answers[0].prompt].ids
        blind = [IGNORE] * len(prompt)
        sides = ({"ids": [*prompt, *answer.ids], "labels": [*blind, *answer.ids]} for answer in answers)
        return {str(number): side for number, side in enumerate(sides)}

    def _numbers(self) -> list[int]:
        """Give the prompts of this step: every epoch all of them once, in an order of its own."""
        first, found = self.done * self.together, []
        for place in range(first, first + self.together):
            epoch, at = divmod(place, len(self.asked))
            drawing = self._drawing("order", epoch, "cpu")
            found.append(int(torch.randperm(len(self.asked), generator=drawing)[at]))
        return found

    def _drawing(self, what: str, number: int, device: str = "") -> torch.Generator:
        """Give the random numbers of a step: a function of the seed, what they are for, and the step's number."""
        made = torch.Generator(device=device or self.policy.device)
        return made.manual_seed((self.config.seed * 1_000_003 + number) * len(_DRAWN) + _DRAWN[what])
