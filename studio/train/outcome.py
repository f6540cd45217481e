"""What every training run ends with: the adapter's folder, the figures, what changed, advice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from studio import paths
from studio.methods.base import Method
from studio.train import checkpoint, generate, together, variants
from studio.train.best import Best
from studio.train.policy import Policy
from studio.train.prepare import ABOUT, MODEL, Setup
from studio.train.style import Style


def figure(method: Method, before: float | None, after: float | None, n: int) -> dict[str, Any]:
    """Give the held-out figure of a run: its name, which way is better, before and after, and of how many rows."""
    better = "higher" if method.figure.higher else "lower"
    return {"name": method.figure.name, "before": before, "after": after, "n": n, "better": better}


def best(made: Setup, seen: Best, last: int) -> dict[str, Any]:
    """Tell which step a run with patience ends with, {"step", "figure"}, and say it; None where nothing says."""
    found, name = seen.best, made.method.figure.name
    if not made.config.patience or found is None:
        return {"step": None, "figure": None}
    step, value = found
    if step == last:
        made.note("best", f"The run ends with its last step, {step}, the best that was measured ({name} {value:.4g}).")
    elif checkpoint.verify(checkpoint.place(seen.folder, step)):
        step, value = last, dict(seen.seen).get(last, value)
        made.note(
            "best", f"The checkpoint of the best step, {found[0]}, is not whole; the run ends with its last.", "warning"
        )
    else:
        text = f"The run ends with step {step}, the best that was measured ({name} {value:.4g}); it went on to {last}."
        made.note("best", text)
    return {"step": step, "figure": value}


def behaviour(
    prompts: Sequence[str],
    before: Sequence[dict[str, Any]],
    after: Sequence[dict[str, Any]],
    held_out: bool,
    wanted: Style | None = None,
) -> dict[str, Any]:
    """Compare what parent and child answer; `held_out` tells that no training row holds these prompts.

    `wanted` is the style that the data prefers, where there is one that can be told.
    """
    changed = generate.behaviour(before, after)
    changed["held_out"] = held_out
    if wanted is not None and prompts:
        shares = (wanted.share([answer["text"] for answer in answers]) for answers in (before, after))
        changed["style"] = {
            "name": wanted.name,
            "told": wanted.told,
            **dict(zip(("before", "after"), shares, strict=True)),
        }
    changed["examples"] = [
        {"prompt": prompt, "before": old["text"], "after": new["text"]}
        for prompt, old, new in zip(prompts, before, after, strict=True)
    ]
    return changed


def result(
    made: Setup,
    metrics: Mapping[str, float],
    held: dict[str, Any],
    changed: dict[str, Any],
    rows: Mapping[str, Any],
    said: Sequence[str] = (),
) -> dict[str, Any]:
    """Put the document of a finished run together.

    `rows` counts trained and held_out, and left_out by reason; `said` is what the user should know, in sentences.
    """
    run = made.run
    reasons = {**made.data.left_out, **rows["left_out"]}
    return {
        "run": run.id,
        "dir": str(run.dir),
        "parent": str(made.parent.dir) if made.parent else None,
        "metrics": dict(metrics),
        "heldout": held,
        "behaviour": changed,
        "rows": {**rows, "left_out": sum(reasons.values()), "reasons": reasons},
        "advice": " ".join(filter(None, said)),
    }


def moved_by(made: Setup, policy: Policy, began: Any) -> float | None:
    """Give how far the weights that learn moved, in per cent of their norm (moved.py); `began` is from before."""
    import torch
    from safetensors import safe_open

    from studio.models.tensors import read_tensors
    from studio.train import moved

    if together.sharded():
        return None
    if not policy.full:
        found = moved.moved(policy.model, began)
        return found if found is None else round(found, 4)
    files = {info.name: info.file for info in read_tensors(made.folder)}
    weights = {name: p for name, p in policy.model.named_parameters() if name in files}

    def original(name: str) -> Any:
        with safe_open(files[name], framework="pt") as opened:
            tensor = opened.get_tensor(name)
        new = weights[name].detach()[len(tensor) :].to("cpu", tensor.dtype)  # rows of new tokens, which began elsewhere
        return torch.cat([tensor, new]) if len(new) else tensor

    found = moved.moved_full(weights, original)
    return found if found is None else round(found, 4)


def save(made: Setup, policy: Policy, more: Mapping[str, Any] | None = None) -> None:
    """Write the adapter (or the whole model) with its tokenizer and template beside, then rename it into place.

    `more` is what else the adapter tells about itself: the "scores" of one that judges and does not answer.
    """
    whole = policy.gathered()
    if not together.first():
        return
    run, config, renderer = made.run, made.config, made.renderer
    target = run.dir / MODEL if policy.full else run.adapter
    staging = target.with_name(f".{target.name}")
    shutil.rmtree(staging, ignore_errors=True)
    policy.save(staging, whole)
    renderer.save(staging)
    about = {
        "base": str(made.folder),
        "root": str(made.begins.root if made.begins else made.folder),
        "method": made.method.name,
        "template": config.template or (renderer.family if renderer.added else ""),
        "new_tokens": policy.new_tokens,
        "tuning": config.tuning,
        **({} if policy.full else variants.settle(staging, run.dir)),
        "max_length": config.max_length,
        **(more or {}),
    }
    paths.write_text(staging / ABOUT, json.dumps(about, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(staging, target)
    paths.fsync_dir(run.dir)
