"""One offline training run from its config to its adapter.

Read, encode, score the reference, train, measure what changed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from studio import config as settings
from studio import events, paths
from studio.data import dataset, split
from studio.data.records import Conversation, Message, Reading, Text
from studio.errors import ConfigError, DataError, ModelError, OutOfMemory, RunError, Stopped
from studio.methods import METHODS
from studio.methods.base import Example, Method, TrainConfig
from studio.models import adapter, catalogue, check, hub
from studio.render import cache, encode
from studio.runs import Run, RunConfig

#: What an adapter folder says about itself beside peft's files: the base, the template family that was added, new
#: tokens.
ABOUT = "studio.json"
ASKED = 20
HARDLY = 0.1
ROOM_ROWS = 10_000


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train and give the run's result. Raises StudioErrors; Stopped after a saved stop."""
    import torch
    from transformers import set_seed

    from studio.train import model

    began = time.monotonic()
    asked = run.config
    method = _method(asked.method)
    parent = run.parent()
    info = check.inspect(asked.model, emit, should_stop)
    config = model.fill_in(_config(method, asked, parent, info.context), info.parameters)
    if not info.exportable:
        known = ", ".join(sorted(check.EXPORTABLE))
        raise ModelError(
            f"{info.architecture} cannot be exported yet, so Studio does not train it.", f"Choose one of: {known}."
        )
    folder = hub.resolve(asked.model)
    if parent is not None:
        _same_base(parent, folder)
        adapter.check(parent.adapter, info)
    set_seed(config.seed)
    renderer = encode.load(folder, config.template, now=_day(run))
    reading = Reading.from_dict(asked.options.get("reading") or {})
    data = dataset.load(asked.data, reading, emit=emit, should_stop=should_stop)
    data.want(*method.kinds)
    aside = split.held_out(data.records(), config.held_out, config.seed)
    rows = _encode(data, renderer, config, emit, should_stop)
    train, held = rows.view(aside)
    if not train:
        raise DataError(
            f"No row fits in max_length = {config.max_length} tokens with something left to learn.",
            "Raise max_length, or shorten the rows.",
            file=asked.data,
        )

    from studio.train import checkpoint, generate, trainer

    bits = (
        "4 bits" if config.quantize_base == "nf4" else str(model.compute_dtype(model.device())).removeprefix("torch.")
    )
    place = {"cpu": "the CPU", "cuda": "the GPU", "mps": "the Apple GPU"}[model.device().type]
    text = f"Trains on {place}, the base in {bits}."
    emit(events.event("note", level="info", code="device", text=text))
    try:
        policy = model.load(folder, renderer, config, parent.adapter if parent else None)
        if policy.new_tokens:
            names = " ".join(renderer.tokenizer.convert_ids_to_tokens(policy.new_tokens))
            emit(
                events.event(
                    "note",
                    level="info",
                    code="new_tokens",
                    text=f"The base never learned {names}; their embeddings are trained too, or it would never stop.",
                )
            )
        prompts = _prompts(data, aside)
        if method.reference:
            _reference(train, held, method, policy, config, renderer, emit, should_stop)
        loop = trainer.StudioTrainer(
            policy,
            method,
            config,
            train,
            held,
            pad_id=renderer.pad_id,
            checkpoints=run.dir / "checkpoints",
            emit=emit,
            should_stop=should_stop,
            sample=generate.sampler(policy, renderer, prompts[:: max(1, len(prompts) // 2)][:2]) if prompts else None,
        )
        ask = functools.partial(generate.answers, policy, renderer, prompts, answer_room(train), emit=emit)
        before = _before(run, loop, ask)
        resume, passed = checkpoint.newest_whole(run.dir / "checkpoints")
        for why in passed:
            emit(events.event("note", level="warning", code="checkpoint", text=f"Passed over {why}."))
        checkpoint.prune(run.dir / "checkpoints")
        loop.train(resume_from_checkpoint=str(resume) if resume else None)
        if loop.state.global_step < loop.state.max_steps:
            raise Stopped(f"Stopped at step {loop.state.global_step}.", f"Go on with: studio resume {run.id}")
        held_after = loop.evaluate() if held else {}
        answers = ask()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"The device's memory ran out: {str(error).splitlines()[0][:200]}",
            "Set a smaller micro_batch_size or max_length; batch_size stays as it is.",
        ) from None

    _save(run, policy, renderer, folder, method, config)
    reasons = {**data.left_out, **{reason: rest.count for reason, rest in rows.left_out.items()}}
    changed = generate.behaviour(before["answers"], answers)
    changed["held_out"] = bool(held)
    changed["examples"] = [
        {"prompt": prompt[-1].content, "before": old["text"], "after": new["text"]}
        for prompt, old, new in zip(prompts, before["answers"], answers, strict=True)
    ]
    return {
        "run": run.id,
        "dir": str(run.dir),
        "parent": str(parent.dir) if parent else None,
        "metrics": dict(loop.last),
        "heldout": {
            "name": "loss",
            "before": before["loss"],
            "after": held_after.get("eval_loss"),
            "n": len(held),
        },
        "behaviour": changed,
        "rows": {
            "trained": len(train),
            "held_out": len(held),
            "left_out": sum(reasons.values()),
            "reasons": reasons,
        },
        "advice": _advice(changed, method),
        "seconds": round(time.monotonic() - began, 1),
    }


def _day(run: Run) -> datetime:
    """Give the day on which the run first began: templates that write the date write the same one after a resume."""
    began = next((item["time"] for item in run.events() if item["type"] == "started"), time.time())
    return datetime.fromtimestamp(began).replace(hour=0, minute=0, second=0, microsecond=0)


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ConfigError(f"There is no method {name!r}.", f"Choose one of: {', '.join(METHODS)}.", field="method")
    return METHODS[name]


def _config(method: Method, asked: RunConfig, parent: Run | None, context: int) -> TrainConfig:
    """Build the config: the method's defaults, then what the base asks for, then the parent's, then what was given.

    From a parent come the adapter's shape and the template. A row is never longer than what the base can read.
    """
    inherited: dict[str, Any] = {}
    if parent is not None:
        about = adapter_about(parent.adapter)
        inherited = {name: about[name] for name in ("lora_r", "lora_alpha", "template") if name in about}
    wanted = catalogue.settings(asked.model, method.name)
    config = settings.build(method.Config, {**wanted, **inherited, **asked.settings})
    return dataclasses.replace(config, max_length=min(config.max_length, context or config.max_length))


def adapter_about(adapter: Path) -> dict[str, Any]:
    """Read what an adapter of ours says about itself. Raises RunError when the run has not finished."""
    path = adapter / ABOUT
    if not path.is_file():
        raise RunError(
            f"Run {adapter.parent.name} has no finished adapter.",
            "Let it finish first: studio resume " + adapter.parent.name,
        )
    about: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return about


def _same_base(parent: Run, folder: Path) -> None:
    about = adapter_about(parent.adapter)
    if Path(about["base"]) != folder:
        raise ConfigError(
            f"The parent was trained on {about['base']}, this run names {folder}.",
            "Use the parent's model: leave --model out, or choose another parent.",
            field="model",
        )


def _encode(
    data: dataset.Dataset,
    renderer: encode.Renderer,
    config: TrainConfig,
    emit: events.Emit,
    should_stop: Callable[[], bool],
) -> cache.Cache:
    """Take the rows' tokens from the cache, made now or before, and say what was left out."""
    rows = cache.build(
        data,
        renderer,
        max_length=config.max_length,
        train_on=config.train_on,
        cut=config.cut,
        emit=emit,
        should_stop=should_stop,
    )
    why = {
        "too_long": f"are longer than {config.max_length} tokens and were left out",
        "nothing_learned": "have nothing to learn and were left out",
        "template": "do not fit the chat template and were left out",
    }
    for code, count in data.left_out.items():
        text = f"{count} rows were left out as asked: {code}."
        emit(events.event("note", level="warning", code=code, text=text))
    for reason, rest in rows.left_out.items():
        lines = ", ".join(map(str, rest.lines[:10])) + (", ..." if rest.count > 10 else "")
        text = f"{rest.count} rows {why.get(reason, reason)} (lines {lines})."
        emit(events.event("note", level="warning", code=reason, text=text))
    return rows


def _halt(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise Stopped("Stopped before the first step.", "Start it again when you like.")


def _prompts(data: dataset.Dataset, aside: Collection[int]) -> list[list[Message]]:
    """Take the questions of up to ASKED held-out rows (else of any), each up to the last turn that is answered."""
    count = len(aside) or data.usable
    wanted = range(0, count, max(1, count // ASKED))[:ASKED]
    rows = (record for number, record in enumerate(data.records()) if not aside or number in aside)
    chosen = [record for number, record in enumerate(rows) if number in wanted]
    prompts = []
    for record in chosen:
        if isinstance(record, Conversation):
            last = max(index for index, turn in enumerate(record.messages) if turn.role == "assistant")
            prompts.append(list(record.messages[:last]))
        elif not isinstance(record, Text):
            prompts.append(list(record.prompt))
    return [prompt for prompt in prompts if prompt]


def answer_room(examples: Sequence[Example]) -> int:
    """Give the tokens that an answer may take when asked for: half again what 95 % of the rows learn, 32 to 256.

    Of many rows, some 10,000 spread over all of them are read.
    """
    some = (examples[at] for at in range(0, len(examples), max(1, len(examples) // ROOM_ROWS)))
    sides = (example.get("chosen") or example.get("completion") or example["text"] for example in some)
    learned = sorted(sum(label != encode.IGNORE for label in side["labels"]) for side in sides)
    return min(256, max(32, learned[int(0.95 * (len(learned) - 1))] * 3 // 2))


def _reference(
    train: cache.View,
    held: cache.View,
    method: Method,
    policy: Any,
    config: TrainConfig,
    renderer: encode.Renderer,
    emit: events.Emit,
    should_stop: Callable[[], bool],
) -> None:
    """Score every example with the frozen parent, which is the policy before its first step; kept beside the views.

    No second copy of the model is needed.
    """
    import numpy as np
    import torch

    from studio.objectives.logps import sequence_logps
    from studio.train.trainer import micro_batch

    size, sides = micro_batch(config, policy), len(train.cache.sides)
    rows = cache.View(train.cache, np.concatenate([train.numbers, held.numbers]))
    scores = np.empty((len(rows), sides), np.float32)
    progress = events.Progress(emit, "Scoring the reference", len(rows), "pairs")
    policy.model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), size):
            _halt(should_stop)
            group = rows[start : start + size]
            batch = {name: t.to(policy.device) for name, t in method.collate(group, renderer.pad_id).items()}
            scored = sequence_logps(*policy.token_logps(batch)).reshape(sides, -1)
            scores[start : start + size] = scored.T.float().cpu().numpy()
            progress.step(len(group))
    train.beside["ref"], held.beside["ref"] = scores[: len(train)], scores[len(train) :]
    policy.model.train()


def _before(run: Run, loop: Any, ask: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    """Measure the parent once and keep it.

    A resumed run must compare with the parent, not with a half-trained child.
    """
    path = run.dir / "before.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return kept
    measured = {
        "loss": loop.evaluate()["eval_loss"] if loop.held_out else None,
        "answers": ask(),
    }
    paths.write_text(path, json.dumps(measured, ensure_ascii=False))
    return measured


def _save(run: Run, policy: Any, renderer: encode.Renderer, folder: Path, method: Method, config: TrainConfig) -> None:
    """Write the adapter with its tokenizer and template beside, then rename it into place."""
    staging = run.dir / ".adapter"
    shutil.rmtree(staging, ignore_errors=True)
    policy.save(staging)
    renderer.save(staging)
    about = {
        "base": str(folder),
        "method": method.name,
        "template": config.template or (renderer.family if renderer.added else ""),
        "new_tokens": policy.new_tokens,
        "lora_r": config.lora_r,
        "lora_alpha": config.lora_alpha,
        "max_length": config.max_length,
    }
    paths.write_text(staging / ABOUT, json.dumps(about, indent=1) + "\n")
    shutil.rmtree(run.adapter, ignore_errors=True)
    os.replace(staging, run.adapter)
    paths.fsync_dir(run.dir)


def _advice(changed: dict[str, Any], method: Method) -> str:
    """Say in plain words when a run changed (almost) nothing, and what to try."""
    if not changed["n"]:
        return ""
    if changed["changed"] <= HARDLY:
        count = round(changed["changed"] * changed["n"])
        few = f"Only {count} of {changed['n']} answers changed, whatever the loss says."
        pairs = ", or pairs whose answers differ more" if "preference" in method.kinds else ""
        return f"{few} Try a higher learning_rate (three times) or more epochs{pairs}."
    if changed["stops_after"] < 0.8:
        return "Many answers do not stop by themselves. Check that the rows end where an answer should end."
    return ""
