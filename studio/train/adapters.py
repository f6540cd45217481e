"""Further adapters on a policy's one base: copies of the policy's, and those of other runs.

An optimizer is given the parameters of its adapter by name, for what requires a gradient tells only which adapter is
the active one (policy.py says why).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from studio.train.policy import POLICY, Policy

if TYPE_CHECKING:
    from torch import nn

REFERENCE, REWARD, VALUE = "reference", "reward", "value"


def parameters(policy: Policy, adapter: str = POLICY) -> dict[str, nn.Parameter]:
    """Give the tensors of one adapter, trained token rows included; the names are the same for every adapter."""
    found: dict[str, nn.Parameter] = {}
    for name, parameter in policy.model.named_parameters():
        before, _, after = name.partition(f".{adapter}")
        kind = before.rpartition(".")[2]
        if kind.startswith(("lora_", "trainable_tokens_")) and after in ("", ".weight"):
            found[before] = parameter
    return found


def add_copy(policy: Policy, name: str, source: str = POLICY) -> None:
    """Add a bit-equal copy of an adapter under another name; which adapter answers stays as it was."""
    import torch

    model = policy.model
    config = copy.deepcopy(model.peft_config[source])
    config.init_lora_weights = True  # other ways to begin (PiSSA) would move the base
    config.inference_mode = False
    model.add_adapter(name, config)
    of_source = parameters(policy, source)
    with torch.no_grad():
        for key, parameter in parameters(policy, name).items():
            parameter.copy_(of_source[key])
    model.set_adapter(POLICY)


def add_saved(policy: Policy, name: str, folder: Path) -> None:
    """Add the adapter that a run saved, to be asked and not trained."""
    policy.model.load_adapter(folder, adapter_name=name, is_trainable=False, local_files_only=True)
    policy.model.set_adapter(POLICY)


def remove(policy: Policy) -> None:
    """Leave the policy's adapter alone on the base, without heads: what an ordinary run ends with."""
    for name in [name for name in policy.model.peft_config if name != POLICY]:
        policy.model.delete_adapter(name)
    policy.heads.clear()
    policy.model.set_adapter(POLICY)


def moved(policy: Policy) -> bool:
    """Tell whether the policy's adapter changes its base at all; a new one does not."""
    return any(bool(p.any()) for name, p in parameters(policy).items() if name.endswith("lora_B"))
