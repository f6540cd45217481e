"""The invariant of every run: what is trained changes, nothing else does, and every number is finite.

A loop that broke it would look healthy: an optimizer without parameters, a base that drifts, a gradient dropped without
a word. So the first step of every run is looked at, and the loss and the gradient of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from studio.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

#: Up to so many bytes of weights on a CPU all of them are summed (a second or so); beyond, a sample of each tensor.
ALL_OF = 4 << 30
_SAMPLE = 1 << 16
_NAMED = 3
_REPORT = "Nothing of the run was kept. This should never happen: please report it, with worker.log."


class Guard:
    """Watch one loop: made before its first optimizer step, after a checkpoint was loaded.

    `trained` names the tensors that the optimizer was given, as in `model.named_parameters()`. Call `gradients` between
    the first backward and its optimizer step, and `step` after optimizer steps until it gives True.
    """

    def __init__(self, model: torch.nn.Module, trained: Mapping[str, Tensor]) -> None:
        if not trained:
            raise TrainingError("Nothing is trained: the optimizer was given no tensor.", _REPORT)
        self.trained = dict(trained)
        self.rest = {name: p for name, p in model.named_parameters() if name not in self.trained}
        self._every = _stride([*self.rest.values(), *self.trained.values()])
        self._before = self._sums()

    def gradients(self) -> None:
        """Look at the gradients of the first step: each trained tensor has one that is finite and not all 0.

        May be 0: a LoRA A whose B is 0 (at the start every one), rows of tokens that no row of the batch holds, experts
        that none was sent to, and all but the head where a head is still 0. Raises TrainingError.
        """
        without = [name for name, p in self.trained.items() if p.grad is None]
        if without:
            raise TrainingError(f"{_listed(without)} got no gradient in the first step, so it cannot learn.", _REPORT)
        slopes = [p.grad for p in self.trained.values() if p.grad is not None]
        tops = torch.stack([_top(slope) for slope in slopes]).tolist()
        broken = [name for name, top in zip(self.trained, tops, strict=True) if not math.isfinite(top)]
        if broken:
            raise TrainingError(f"The first gradient of {_listed(broken)} is not finite.", NOT_FINITE)
        still = [name for name, top in zip(self.trained, tops, strict=True) if not top]
        nothing = [name for name in still if not self._may_be_zero(name)]
        if nothing:
            raise TrainingError(f"The first gradient of {_listed(nothing)} is 0, so it does not learn.", _REPORT)

    def step(self, learning_rate: float, must_move: bool = True) -> bool:
        """Compare with before; False where the learning rate was 0 (a warm-up's first step), so that nothing moved yet.

        Raises TrainingError when a weight changed that is not trained, or (with `must_move`) nothing that is.
        """
        before, after = self._before, self._sums()
        changed = [name for name in self.rest if before[name] != after[name]]
        if changed:
            raise TrainingError(f"{_listed(changed)} changed in the first step, but is not trained.", _REPORT)
        if not learning_rate:
            return False
        if must_move and all(before[name] == after[name] for name in self.trained):
            raise TrainingError(
                f"Nothing changed in the first step, at a learning rate of {learning_rate:g}.",
                "Raise learning_rate. If it is not very small, please report it, with worker.log.",
            )
        return True

    def _sums(self) -> dict[str, int]:
        """Sum every tensor's bits, as many as are looked at; one wait for the device."""
        tensors = {**self.rest, **self.trained}
        sums = [fingerprint(p, self._every) for p in tensors.values()]
        return dict(zip(tensors, torch.stack(sums).tolist(), strict=True))

    def _may_be_zero(self, name: str) -> bool:
        heads = [p for key, p in self.trained.items() if key.startswith("heads.") and key != name]
        if "token" in name or "expert" in name or any(not bool(p.any()) for p in heads):
            return True
        if "lora_A" not in name and "lora_embedding_A" not in name:
            return False
        other = self.trained.get(name.replace("lora_A", "lora_B").replace("embedding_A", "embedding_B"))
        return other is not None and not bool(other.any())


def fingerprint(tensor: Tensor, every: int = 1) -> Tensor:
    """Sum the bits of a tensor, read as 64-bit integers of which each `every`-th is taken: exact, in any order.

    Gives a scalar of int64 on the tensor's device.
    """
    flat = _local(tensor.detach()).contiguous().reshape(-1).view(torch.uint8)
    whole = flat.numel() // 8 * 8
    if flat.storage_offset() % 8:
        flat = flat.clone()
    return flat[:whole].view(torch.int64)[::every].sum() + flat[whole:].sum()


def finite(value: float | Tensor, what: str, step: int, examples: Sequence[Mapping[str, Any]], file: str = "") -> None:
    """Raise TrainingError unless a number (`what`: loss, gradient) is finite, naming the lines of the batch's rows."""
    number = float(value)
    if math.isfinite(number):
        return
    lines = sorted({int(example["line"]) for example in examples if example.get("line")})
    rows = f" Its rows are of lines {', '.join(map(str, lines))}." if lines else ""
    raise TrainingError(f"The {what} is {number} at step {step}.{rows}", NOT_FINITE, file=file or None)


NOT_FINITE = "The last good checkpoint is kept. Lower the learning rate, or look for odd rows in this batch."


def _stride(tensors: Sequence[Tensor]) -> int:
    size = sum(t.numel() * t.element_size() for t in tensors if t.device.type == "cpu")
    return 1 if size <= ALL_OF else math.ceil(size / 8 / (_SAMPLE * len(tensors)))


def _top(tensor: Tensor) -> Tensor:
    """Give the largest absolute value of a tensor, wherever its parts are."""
    if hasattr(tensor, "full_tensor"):
        tensor = tensor.full_tensor()
    return tensor.abs().amax().float()


def _local(tensor: Tensor) -> Tensor:
    """Give this process's part of a tensor that is spread over several."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
