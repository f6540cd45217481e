"""Checkpoints of the online loop: what learns (and the critic), the optimizer, the schedule, and the step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from studio import events
from studio.train import adapters, checkpoint, optimizers
from studio.train.policy import POLICY

if TYPE_CHECKING:
    from studio.train.loop import Loop

_STATE = "state.json"


def save(loop: Loop, checkpoints: Path) -> None:
    """Make a checkpoint out of where the loop stands."""
    staging = checkpoints / ".staging" / "online"
    shutil.rmtree(staging, ignore_errors=True)
    loop.policy.save(staging)
    if loop.method.critic:
        loop.policy.model.save_pretrained(staging, save_embedding_layers=False, selected_adapters=[adapters.VALUE])
    state = {"optimizer": loop.optimizer.state_dict(), "schedule": loop.schedule.state_dict()}
    torch.save(state, staging / "optimizer.pt")
    (staging / _STATE).write_text(json.dumps({"step": loop.done, "last": loop.last}), encoding="utf-8")
    folder = checkpoint.place(checkpoints, loop.done)
    checkpoint.seal(staging, folder)
    checkpoint.prune(checkpoints, loop.config.keep_checkpoints, loop.best.spare())
    loop.emit(events.event("checkpoint", step=loop.done, path=str(folder)))


def resume(loop: Loop, folder: Path) -> None:
    """Go on from a checkpoint that is whole."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    for name in [POLICY, *([adapters.VALUE] if loop.method.critic else [])]:
        place = folder if name == POLICY else folder / name
        weights = load_file(place / "adapter_model.safetensors")
        set_peft_model_state_dict(loop.policy.model, weights, adapter_name=name)
    loop.policy.load_heads(folder)
    # by way of the CPU: what bitsandbytes pages must not come back as ordinary memory of the card
    state = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    optimizers.restore(loop.optimizer, state["optimizer"], loop.config.optimizer or "adamw")
    loop.schedule.load_state_dict(state["schedule"])
    said = json.loads((folder / _STATE).read_text("utf-8"))
    loop.done, loop.last, loop.measured = int(said["step"]), said["last"], None
