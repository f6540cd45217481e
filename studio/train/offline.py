"""One offline training run: encode, score the reference, train, measure what changed."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

from studio import paths
from studio.errors import DataError, Stopped
from studio.methods.base import Example, first_side
from studio.render import encode
from studio.runs import Run
from studio.train import outcome, prepare
from studio.train.prepare import Setup

ROOM_ROWS = 10_000


def learn(made: Setup) -> dict[str, Any]:
    """Train from a file and give the result. Raises StudioErrors; Stopped after a saved stop."""
    from studio.train import checkpoint, generate, reference, trainer

    run, method = made.run, made.method
    rows = prepare.encoded(made)
    train: Any
    held: Any
    train, held = rows.view(made.aside)
    if method.arrange:
        train, held = method.arrange(train), method.arrange(held)
    if not train:
        raise DataError(
            f"No row fits in max_length = {made.config.max_length} tokens with something left to learn.",
            "Raise max_length, or shorten the rows.",
            file=run.config.data,
        )
    config = made.config = _fitted(made, train)
    policy = prepare.load(made)
    prompts = [] if method.head else prepare.prompts(made.data, made.aside)  # a model that scores does not answer
    if method.reference:
        reference.score(made, policy, train, held)
    some = prompts[:: max(1, len(prompts) // 2)][:2]
    loop = trainer.StudioTrainer(
        policy,
        method,
        config,
        train,
        held,
        pad_id=made.renderer.pad_id,
        checkpoints=run.dir / "checkpoints",
        emit=made.emit,
        should_stop=made.should_stop,
        sample=generate.sampler(policy, made.renderer, some) if some else None,
    )
    ask = functools.partial(generate.answers, policy, made.renderer, prompts, answer_room(train), emit=made.emit)
    before = _before(run, loop, ask)
    resume, passed = checkpoint.newest_whole(run.dir / "checkpoints")
    for why in passed:
        made.note("checkpoint", f"Passed over {why}.", "warning")
    checkpoint.prune(run.dir / "checkpoints")
    loop.train(resume_from_checkpoint=str(resume) if resume else None)
    if loop.state.global_step < loop.state.max_steps:
        raise Stopped(f"Stopped at step {loop.state.global_step}.", f"Go on with: studio resume {run.id}")
    after = loop.evaluate() if held else {}
    answers = ask()

    outcome.save(made, policy)
    name = method.figure.name
    figure = outcome.figure(method, before["held"].get(name), after.get(f"eval_{name}"), len(held))
    changed = outcome.behaviour([prompt[-1].content for prompt in prompts], before["answers"], answers, bool(held))
    left_out = {reason: rest.count for reason, rest in rows.left_out.items()}
    counts = {"trained": len(train), "held_out": len(held), "left_out": left_out}
    return outcome.result(made, loop.last, figure, changed, counts)


def _fitted(made: Setup, train: Sequence[Example]) -> Any:
    """Let the data decide what the method leaves to it, and say what was decided."""
    if made.method.fit is None:
        return made.config
    config = made.method.fit(made.config, train)
    before, after = dataclasses.asdict(made.config), dataclasses.asdict(config)
    chosen = ", ".join(f"{name} {value:.4g}" for name, value in after.items() if value != before[name])
    if chosen:
        made.note("from_data", f"Chosen from the data: {chosen}.")
    return config


def answer_room(examples: Sequence[Example]) -> int:
    """Give the tokens that an answer may take when asked for: half again what 95 % of the rows learn, 32 to 256.

    Of many rows, some 10,000 spread over all of them are read.
    """
    some = [examples[at] for at in range(0, len(examples), max(1, len(examples) // ROOM_ROWS))]
    learned = sorted(sum(label != encode.IGNORE for label in row["labels"]) for row in first_side(some))
    return min(256, max(32, learned[int(0.95 * (len(learned) - 1))] * 3 // 2))


def _before(run: Run, loop: Any, ask: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    """Measure the parent once and keep it.

    A resumed run must compare with the parent, not with a half-trained child.
    """
    path = run.dir / "before.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return kept
    held = loop.evaluate() if loop.held_out else {}
    measured = {"held": {name.removeprefix("eval_"): value for name, value in held.items()}, "answers": ask()}
    paths.write_text(path, json.dumps(measured, ensure_ascii=False))
    return measured
