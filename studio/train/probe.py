"""A trial pass before the first step: the heaviest that the run will make, measured, and forgotten.

Where memory runs out it runs out here, and the run goes lower (memory.py) before anything was learned.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence

import psutil
import torch

from studio.hardware import AVERAGES, GIB, Estimate
from studio.methods import needs
from studio.methods.base import Example, Method
from studio.train import heap, layout, memory, together
from studio.train.memory import Ladder, sized
from studio.train.peak import Peak, in_all
from studio.train.policy import Policy
from studio.train.prepare import Setup

#: Of more examples than so many, those are looked at that lie evenly among them.
LOOKED_AT = 10_000
#: On a CPU no trial is made where so many times the estimate is free.
PLENTY = 4


def heaviest(
    method: Method, examples: Sequence[Example], count: int, policy: Policy
) -> tuple[list[Example], list[int]]:
    """Find the `count` examples that take most tokens, heaviest first, and what each takes in a row."""
    sizes = getattr(examples, "sizes", None)
    if sizes is not None:
        totals = sizes().sum(axis=1)
        order = totals.argsort(kind="stable")[::-1][:count].tolist()
        some = [examples[int(at)] for at in order]
    else:
        looked = range(0, len(examples), max(1, len(examples) // LOOKED_AT))
        found = [examples[at] for at in looked]
        some = sorted(found, key=lambda example: -_tokens(method, example))[:count]
    shared = policy.packed and policy.shared
    return some, [layout.cost(method.sequences([example]), shared) for example in some]


def _tokens(method: Method, example: Example) -> int:
    return sum(len(row["ids"]) for row in method.sequences([example]))


def ladder(made: Setup, policy: Policy, heavy: Sequence[Example], lengths: Sequence[int]) -> Ladder:
    """Make the ladder of a run, given its heaviest examples and what each takes."""
    rows = [row for example in heavy for row in made.method.sequences([example])]
    checkpoints = made.run.dir / "checkpoints"
    return Ladder(
        policy,
        made.config,
        made.emit,
        made.run.dir,
        given=made.run.config.settings,
        lengths=lengths,
        longest=max((len(row["ids"]) for row in rows), default=0),
        may_shorten=lambda: made.method.kind == "offline" and not any(checkpoints.glob("step-*")),
    )


def measure(
    made: Setup,
    policy: Policy,
    lower: Ladder,
    split: Callable[[], list[list[Example]]],
    learn: Callable[[list[Example]], None],
    forget: Callable[[], None],
) -> None:
    """Make the trial: `split` gives the passes of the heaviest batch, `learn` goes forward and backward through one.

    Says what it took beside the estimate, or why no trial was made. Random numbers are put back, gradients forgotten.
    """
    if together.world() > 1:
        made.note("memory", "Several processes learn together, so no trial pass was made.")
        return
    device = policy.device

    def once() -> tuple[Peak, int]:
        passes = split()
        taken = [_taken(made.method, group, policy) for group in passes]
        group = passes[taken.index(max(taken))]
        with Peak(device) as peak:
            # what the optimizer will keep of each weight has to fit beside the pass
            averages = torch.empty(_averages(made, policy), dtype=torch.uint8, device=device)
            learn(group)
            del averages
        forget()
        return peak, max(taken)

    if device.type == "cpu":
        tokens = max(_taken(made.method, group, policy) for group in split())
        need, have = _estimate(made, policy, tokens).learning * GIB, available()
        if PLENTY * need < have:
            text = f"Learning is estimated to take {sized(need)} and {sized(have)} are free, so no trial pass was made."
            made.note("memory", text)
            return
        if not lower.lean and heap.lean():
            lower.lean = True
            text = f"{sized(need)} are needed and {sized(have)} free: freed memory goes back at once, which is slower."
            made.note("memory", text, "warning")
    with memory.random_state(device) as put_back:
        peak, tokens = lower.until_it_fits(once, forget)
        put_back()
    held = peak.most + (_averages(made, policy) if device.type != "cuda" else 0)
    foreseen = _estimate(made, policy, tokens)
    text = (
        f"A trial pass of {tokens:,} tokens, the heaviest that there will be: needs {sized(held)} of "
        f"{sized(in_all(device))}; estimated {sized(foreseen.total * GIB)}."
    )
    made.note("memory", text)


def _taken(method: Method, group: list[Example], policy: Policy) -> int:
    shared = policy.packed and policy.shared
    if policy.packed:
        return sum(layout.cost(method.sequences([example]), shared) for example in group)
    rows = method.sequences(group)
    return len(rows) * max(len(row["ids"]) for row in rows)


def _averages(made: Setup, policy: Policy) -> int:
    """Give the bytes that the optimizer will keep on the device."""
    weights = sum(tensor.numel() for tensor in policy.trainable().values())
    name = made.config.optimizer or "adamw"
    return 0 if name.startswith("paged") else weights * AVERAGES[name]


def _estimate(made: Setup, policy: Policy, tokens: int) -> Estimate:
    config = dataclasses.replace(made.config, gradient_checkpointing=policy.recomputes)
    return needs.estimate(made.info.shape, made.method, config, policy.device.type, tokens)


def available() -> float:
    """Give the bytes of the machine's memory that this process may still take."""
    free = float(psutil.virtual_memory().available)
    if sys.platform == "win32":
        return free
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    left = math.inf if limit == resource.RLIM_INFINITY else limit - psutil.Process().memory_info().vms
    return max(0.0, min(free, left))
