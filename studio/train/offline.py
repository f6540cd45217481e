"""One offline training run: encode, score the reference, train, measure what changed."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

from studio import paths
from studio.errors import DataError, Stopped, TrainingError
from studio.methods.base import Example, Row, first_side
from studio.render import encode
from studio.runs import Run
from studio.train import advice, outcome, prepare, scoring, style, together
from studio.train.prepare import Setup

ROOM_ROWS = 10_000
STYLE_ROWS = 2_000


def learn(made: Setup) -> dict[str, Any]:
    """Train from a file and give the result. Raises StudioErrors; Stopped after a saved stop."""
    from studio.train import checkpoint, generate, moved, probe, reference, trainer

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
    began = {} if together.sharded() else moved.start(policy.model)
    # a model that scores does not answer
    prompts = [] if method.head or together.sharded() else prepare.prompts(made)
    if together.sharded():
        made.note("sharded", "The base is spread over several cards: answers are not asked for while it learns.")
    ladder = probe.ladder(made, policy, *probe.heaviest(method, train, config.batch_size, policy))
    if method.reference:
        ladder.until_it_fits(lambda: reference.score(made, policy, train, held), lambda: None)
    watch = advice.Watch(made.emit, config, [item["code"] for item in run.events() if item["type"] == "note"])
    some = prompts[:: max(1, len(prompts) // 2)][:2]
    loop = trainer.StudioTrainer(
        policy,
        method,
        config,
        train,
        held,
        pad_id=made.renderer.pad_id,
        checkpoints=run.dir / "checkpoints",
        emit=watch,
        should_stop=made.should_stop,
        sample=generate.sampler(policy, made.renderer, some) if some else None,
        ladder=ladder,
    )
    heavy, _ = probe.heaviest(method, train, config.batch_size, policy)
    probe.measure(
        made, policy, ladder, lambda: loop.split(heavy), lambda group: loop.try_out(heavy, group), loop.forget
    )
    ask = functools.partial(generate.answers, policy, made.renderer, prompts, answer_room(train), emit=made.emit)
    before = _before(run, loop, ask)
    watch.first = before["held"]
    resume, passed = checkpoint.newest_whole(run.dir / "checkpoints")
    for why in passed:
        made.note("checkpoint", f"Passed over {why}.", "warning")
    loop.best.resume(int(resume.name.removeprefix("step-")) if resume else 0)
    checkpoint.prune(run.dir / "checkpoints", made.config.keep_checkpoints, loop.best.spare())
    if resume and together.sharded():
        raise TrainingError(
            "A run whose base is spread over several cards cannot go on from a checkpoint.",
            "Start it anew, or resume it without FSDP.",
        )
    if not loop.best.over:
        loop.train(resume_from_checkpoint=str(resume) if resume else None)
        if loop.state.global_step < loop.state.max_steps and not loop.best.over:
            raise Stopped(f"Stopped at step {loop.state.global_step}.", f"Go on with: studio resume {run.name}")
    elif resume:
        loop.take(resume)  # it had ended before its result was written
    measured = loop.evaluate() if held else {}
    best = outcome.best(made, loop.best, loop.state.global_step)
    if best["step"] not in (None, loop.state.global_step) and not together.sharded():
        loop.take(checkpoint.place(run.dir / "checkpoints", best["step"]))
        measured = loop.evaluate()
    after = {name.removeprefix("eval_"): value for name, value in measured.items()}
    answers = ask()
    name = method.figure.name
    figure = outcome.figure(method, before["held"].get(name), after.get(name), len(held))
    said = watch.last(after) if held else []
    more: dict[str, Any] = {}
    if method.head:
        found = scoring.judged(made, policy, train, held)
        more = {"reward": found}
        figure |= {"before": found.get("longer_wins"), "after": found.get("accuracy")}
        said.append(advice.judge(found))
    else:
        said.append(advice.worse(figure))
    outcome.save(made, policy, {"scores": more["reward"]["scores"]} if more else None)

    wanted = style.tell(*_texts(made, train)) if prompts else None
    changed = outcome.behaviour(
        [prompt[-1].content for prompt in prompts], before["answers"], answers, bool(held), wanted
    )
    said += advice.closing(changed, after, pairs=len(rows.sides) > 1 or "kto" in method.kinds)
    left_out = {reason: rest.count for reason, rest in rows.left_out.items()}
    counts = {"trained": len(train), "held_out": len(held), "left_out": left_out}
    return {
        **outcome.result(made, {**loop.last, **measured}, figure, changed, counts, [text for text in said if text]),
        "moved": outcome.moved_by(made, policy, began),
        **({"best": best} if config.patience else {}),
        **more,
    }


def _texts(made: Setup, train: Sequence[Example]) -> tuple[list[str], list[str]]:
    """Give the chosen and the rejected answers of some training rows, as answers are read: up to where they stop."""
    chosen: list[str] = []
    rejected: list[str] = []
    stops = set(made.renderer.stop_ids)

    def text(row: Row) -> str:
        said = [label for label in row["labels"] if label != encode.IGNORE]
        end = next((at for at, token in enumerate(said) if token in stops), len(said))
        return made.renderer.decode(said[:end])

    for at in range(0, len(train), max(1, len(train) // STYLE_ROWS)):
        example = train[at]
        if "chosen" in example:
            chosen.append(text(example["chosen"]))
            rejected.append(text(example["rejected"]))
        elif "label" in example:
            (chosen if example["label"] else rejected).append(text(example["completion"]))
    return chosen, rejected


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
    if together.first():
        paths.write_text(path, json.dumps(measured, ensure_ascii=False))
    return measured
