"""Little random models of several families with an adapter on them, and what to compare of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peft
import torch
import transformers

from studio.methods.base import Row
from studio.train import layout
from studio.train.policy import Policy

SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
#: Gemma 2 caps scores and logits; of it and Gemma 3 some layers see a window of 8 tokens only, of Mistral all.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "qwen3": {"model_type": "qwen3"},
    "mistral": {"model_type": "mistral", "sliding_window": 8},
    "gemma": {"model_type": "gemma"},
    "gemma2": {
        "model_type": "gemma2",
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "final_logit_softcapping": 4.0,
    },
    "gemma3": {"model_type": "gemma3_text", "sliding_window": 8, "query_pre_attn_scalar": 16},
    "granite": {"model_type": "granite", "logits_scaling": 8.0},
    "cohere": {"model_type": "cohere", "logit_scale": 0.25},
}


def make(family: str, attention: str | None = None, targets: Any = "all-linear", **shape: Any) -> Policy:
    """Make a policy in float32 whose adapter is not zero; `attention` None: as transformers chooses."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**{**SHAPE, **FAMILIES.get(family, {"model_type": family}), **shape})
    base = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
    )
    for name, parameter in base.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:  # random weights are too small to let a token see much of another
            parameter.mul_(3 if "embed" not in name else 1)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return Policy(model, torch.device("cpu"), [])


def rows(*sizes: tuple[int, int], seed: int = 0) -> list[Row]:
    """Make random sequences of (prompt, answer) tokens, the answer learned."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for prompt, answer in sizes:
        ids = torch.randint(2, SHAPE["vocab_size"], (prompt + answer,), generator=generator).tolist()
        made.append({"ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return made


def pairs(*sizes: tuple[int, int, int], seed: int = 0) -> list[Row]:
    """Make pairs of (prompt, chosen, rejected) tokens: all chosen sequences, then all rejected ones."""
    prompts = [row["ids"] for row in rows(*((prompt, 0) for prompt, _, _ in sizes), seed=seed)]
    answers = [rows(*((0, size[side]) for size in sizes), seed=seed + side) for side in (1, 2)]
    return [
        {"ids": prompt + row["ids"], "labels": [-100] * len(prompt) + row["ids"]}
        for side in answers
        for prompt, row in zip(prompts, side, strict=True)
    ]


def scored(policy: Policy, some: Sequence[Row], **how: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Give the log-probabilities (S, L) of sequences, and the adapter's gradients of a weighted sum of them."""
    made = layout.lay(some, 0, **how)
    policy.model.zero_grad()
    logps, mask = policy.token_logps(made)
    weights = torch.linspace(0.5, 1.5, len(some))[:, None]
    (logps * mask * weights).sum().backward()
    found = {name: p.grad.clone() for name, p in policy.trainable().items() if p.grad is not None}
    assert found and all(grad.any() for grad in found.values())
    return logps.detach(), found


def apart(policy: Policy, some: Sequence[Row]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Give the same of sequences computed one at a time, by the plain way of transformers and the whole logits."""
    policy.model.zero_grad()
    most = max(sum(label != -100 for label in row["labels"][1:]) for row in some)
    found = torch.zeros(len(some), most)
    weights = torch.linspace(0.5, 1.5, len(some))
    for number, row in enumerate(some):
        logits = policy.model.get_base_model()(input_ids=torch.tensor([row["ids"]]), use_cache=False).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        picked = logits.log_softmax(-1)[labels != -100].gather(-1, labels[labels != -100, None]).squeeze(-1)
        (picked.sum() * weights[number]).backward()
        found[number, : len(picked)] = picked.detach()
    return found, {name: p.grad.clone() for name, p in policy.trainable().items() if p.grad is not None}


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Give the largest difference of gradients, by the size of the largest one of a tensor."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / other[name].abs().max()) for name in other)
