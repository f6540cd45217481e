"""The optimizers of the online loop: what one of another kind had kept is refused in words."""

from __future__ import annotations

import pytest
import torch

from studio.errors import RunError
from studio.train import optimizers


def made(name: str) -> torch.optim.Optimizer:
    weight = torch.nn.Parameter(torch.ones(64, 128))
    found = optimizers.make([{"params": [weight], "lr": 1e-2}], name, eps=1e-5, weight_decay=0.0)
    weight.sum().backward()
    found.step()
    return found


@pytest.mark.parametrize(("was", "now"), [("adamw", "adamw_8bit"), ("adamw_8bit", "adamw")])
def test_averages_of_one_kind_are_no_others(was: str, now: str) -> None:
    kept = made(was).state_dict()
    optimizers.restore(made(was), kept, was)
    with pytest.raises(RunError, match=f"would go on with {now}"):
        optimizers.restore(made(now), kept, now)
