"""How a model lets its sequences lie, seen on the loaded model itself before anything is learned with it.

Of the ways to lay sequences out, the first is taken under which short sequences give what each gives alone, and a
change in one changes nothing in its neighbour. A model that mixes tokens otherwise (a state space, a convolution, an
attention of its own) keeps its rows padded; one whose output layer is not as known is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from studio.errors import ModelError
from studio.methods.base import Row, TrainConfig
from studio.train import attention, head, layout
from studio.train.policy import Policy

if TYPE_CHECKING:
    from torch import Tensor

#: Layers whose attention ours computes.
_LAYERS = {"full_attention", "sliding_attention"}


@torch.no_grad()
def settle(policy: Policy, config: TrainConfig, note: Callable[[str, str], None]) -> None:
    """Set the policy's attention and how its sequences may lie; `note(code, text)` says what the user should know.

    Raises ModelError where log-probabilities are not those of the model's own logits.
    """
    base = policy.base
    was_training = policy.model.training
    policy.model.eval()
    policy.packed = policy.shared = policy.segmented = False
    head.lean(base)
    try:
        pairs, singles = rows(policy, shared=True), rows(policy, shared=False)
        _check_head(policy, pairs[0])
        if config.packing is False:
            return
        given = base.config._attn_implementation
        alone, alone_pairs = (torch.cat([states(policy, [row]) for row in some]) for some in (singles, pairs))
        for way in ways(policy):
            base.set_attn_implementation(way or given)
            policy.segmented = bool(way)
            policy.packed = holds(policy, singles, alone)
            policy.shared = (
                policy.packed and (bool(way) or _wide(base.config, config)) and holds(policy, pairs, alone_pairs, 2)
            )
            if policy.packed:
                return
        policy.segmented = False
        note(
            "packing", "This model mixes rows that lie behind each other, so they are filled up to one length instead."
        )
    finally:
        policy.model.train(was_training)


def ways(policy: Policy) -> list[str]:
    """List the attentions to try, the fastest first; "": as the model was loaded, with a dense mask."""
    config = policy.base.config.get_text_config()
    if not set(getattr(config, "layer_types", None) or _LAYERS) <= _LAYERS:
        return [""]
    half = policy.model.get_input_embeddings().weight.dtype in (torch.bfloat16, torch.float16)
    flash = [attention.FLASH] if policy.device.type == "cuda" and half else []
    return [*flash, attention.NAME, ""]


def holds(policy: Policy, some: list[Row], alone: Tensor, sides: int = 1) -> bool:
    """Tell whether sequences that lie together give the states (N, d) that each gives alone, whatever lies beside."""
    others = [dict(row, ids=[*row["ids"][:-1], row["ids"][-1] ^ 1]) for row in some[:-1]]
    try:
        together, beside = states(policy, some, sides), states(policy, [*others, some[-1]], sides)
    except (ValueError, TypeError, RuntimeError, NotImplementedError, ImportError):
        return False
    # Other kernels round otherwise. What a neighbour may do is less: the same kernels on the same numbers.
    size, eps = alone.abs().max(), torch.finfo(alone.dtype).eps
    mine = len(some[-1]["ids"]) - 1 if sides == 1 else sum(label >= 0 for label in some[-1]["labels"])
    near = (together - alone).abs().max() <= 64 * eps * size
    return bool(near) and bool((together[-mine:] - beside[-mine:]).abs().max() <= eps / 64 * size)


def rows(policy: Policy, shared: bool) -> list[Row]:
    """Make four short sequences; where they share, two pairs, each behind a prompt of its own."""
    generator = torch.Generator().manual_seed(0)
    most = policy.model.get_input_embeddings().weight.shape[0] // 2 * 2

    def some(count: int) -> list[int]:
        return torch.randint(0, most, (count,), generator=generator).tolist()

    prompts = [some(7), some(11)] if shared else [[], []]
    answers = [some(count) for count in (9, 5, 6, 8)]
    return [
        {"ids": prompts[at % 2] + answer, "labels": [-100] * len(prompts[at % 2]) + answer}
        for at, answer in enumerate(answers)
    ]


def states(policy: Policy, some: list[Row], sides: int = 1) -> Tensor:
    """Give the hidden states that predict the learned tokens, (N, d); of a single sequence by the plain way."""
    made = layout.to(layout.lay(some, 0, packed=len(some) > 1, sides=sides), policy.device)
    return policy.hidden(made)[made["predict"]]


def _wide(model: Any, config: TrainConfig) -> bool:
    """Tell whether no row is longer than a sliding window: the dense mask of a shared prompt knows none."""
    window = getattr(model.get_text_config(), "sliding_window", None)
    return not window or config.max_length <= window


def _check_head(policy: Policy, row: Row) -> None:
    """Compare our log-probabilities with those of the logits that the model itself gives."""
    base = policy.base
    ids = torch.tensor([row["ids"]], device=policy.device)
    given = base(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    wanted = given.gather(-1, ids[0, 1:, None]).squeeze(-1)
    made = layout.to(layout.lay([dict(row, labels=row["ids"])], 0, packed=False), policy.device)
    found = head.logps(base, policy.hidden(made)[made["predict"]], made["targets"])
    eps = torch.finfo(base.get_output_embeddings().weight.dtype).eps
    if not (found - wanted).abs().max() <= 256 * eps * wanted.abs().max():
        name = type(base).__name__
        raise ModelError(
            f"The output layer of {name} is not one that Studio knows: its log-probabilities come out otherwise.",
            "Choose a model of another family.",
        )
