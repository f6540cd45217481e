"""Run by two processes (test_together.py): a step on a base that is spread over both, beside one that is whole."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import little
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.fsdp import fully_shard

from studio.methods import METHODS
from studio.methods.base import Example
from studio.train import layout
from studio.train.trainer import Step


def learned(name: str, spread: bool, folder: Path) -> tuple[float, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Give a step's loss and gradients, and the adapter as it is saved."""
    policy, method = little.make("llama"), METHODS[name]
    step = Step(policy, method, method.Config())
    if spread:
        for layer in policy.base.get_decoder().layers:
            fully_shard(layer)
        fully_shard(step)
    examples: list[Example] = [{"completion": row} for row in little.rows((5, 7), (9, 4), (3, 3))]
    if name == "dpo":
        rows = little.pairs((5, 7, 3), (9, 4, 6), (3, 3, 2))
        both = zip(rows[:3], rows[3:], strict=True)
        examples = [{"chosen": good, "rejected": bad, "ref": [-9.0, -8.0]} for good, bad in both]
    losses = 0.0
    for group in (examples[:2], examples[2:]):
        loss, _ = step(layout.batch(method, group, 0, True, name == "dpo"), method.count(examples))
        loss.backward()
        losses += float(loss.detach())
    slopes = {key: p.grad for key, p in policy.trainable().items() if p.grad is not None}
    whole = policy.gathered()
    assert (whole is not None) == spread
    policy.save(folder, whole)
    saved = load_file(folder / "adapter_model.safetensors")
    return losses, {key: s.full_tensor() if hasattr(s, "full_tensor") else s for key, s in slopes.items()}, saved


def main(folder: Path) -> None:
    """Compare the two for both methods, and write what differs."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    found = {}
    for name in ("sft", "dpo"):
        own = folder / f"{name}-{os.environ['RANK']}"
        one, other = (learned(name, spread, own / str(spread)) for spread in (False, True))
        assert one[1].keys() == other[1].keys() and one[2].keys() == other[2].keys() and one[1] and one[2]
        apart = [float((a[key] - b[key]).abs().max()) for a, b in zip(one[1:], other[1:], strict=True) for key in a]
        found[name] = [abs(one[0] - other[0]), *apart]
    (folder / f"found-{os.environ['RANK']}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
