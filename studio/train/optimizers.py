"""The optimizers that a run can ask for: Trainer's names of them, and the same made for the online loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studio.errors import RunError

if TYPE_CHECKING:
    from torch.optim import Optimizer

#: Trainer's names of the optimizers.
TRAINERS = {"adamw": "adamw_torch", "adamw_8bit": "adamw_bnb_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}


def make(groups: list[dict[str, Any]], name: str, *, eps: float, weight_decay: float) -> Optimizer:
    """Make AdamW for groups of parameters, with the averages that `name` asks for; betas (0.9, 0.999)."""
    import torch

    if name == "adamw":
        return torch.optim.AdamW(groups, eps=eps, weight_decay=weight_decay)
    from bitsandbytes import optim

    kind = {"adamw_8bit": optim.AdamW8bit, "paged_adamw_8bit": optim.PagedAdamW8bit}[name]
    made: Optimizer = kind(groups, eps=eps, weight_decay=weight_decay)
    return made


def restore(optimizer: Optimizer, state: dict[str, Any], name: str) -> None:
    """Put back what an optimizer had kept. Raises RunError where it was kept by one of another kind."""
    kept = {key for one in state["state"].values() for key in one}
    if kept and ("exp_avg" in kept) != (name == "adamw"):
        other = "adamw" if "exp_avg" in kept else "an 8-bit adamw"
        raise RunError(
            f"The run learned with {other}, and would go on with {name}.",
            "Start it anew; an older Studio took adamw whatever was asked for.",
        )
    optimizer.load_state_dict(state)
