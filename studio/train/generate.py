"""Greedy answers from the model in training: the same prompt as it learns, and what a run changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from studio import events

if TYPE_CHECKING:
    from studio.data.records import Message
    from studio.render.encode import Renderer
    from studio.train.policy import Policy


def answers(
    policy: Policy,
    renderer: Renderer,
    prompts: Sequence[Sequence[Message]],
    max_tokens: int = 64,
    batch_size: int = 16,
    emit: events.Emit | None = None,
) -> list[dict[str, Any]]:
    """Answer each prompt greedily: [{"text", "tokens", "stopped"}]; `stopped` means by itself, at a stop token."""
    import torch

    rows = [renderer.prompt(prompt) for prompt in prompts]
    progress = events.Progress(emit, "Asking held-out prompts", len(rows), "prompts") if emit and rows else None
    out: list[dict[str, Any]] = []
    model, stop_ids = policy.model, set(renderer.stop_ids)
    was_training = model.training
    model.eval()
    model.config.use_cache = True
    try:
        for start in range(0, len(rows), batch_size):
            group = rows[start : start + batch_size]
            width = max(map(len, group))
            ids = torch.tensor([[renderer.pad_id] * (width - len(row)) + row for row in group], device=policy.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in group], device=policy.device)
            with torch.no_grad():
                made = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=max_tokens,
                    do_sample=False,
                    num_beams=1,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    eos_token_id=list(stop_ids),
                    pad_token_id=renderer.pad_id,
                )
            for new in made[:, width:].tolist():
                end = next((index for index, token in enumerate(new) if token in stop_ids), None)
                kept = new if end is None else new[:end]
                out.append({"text": renderer.decode(kept).strip(), "tokens": len(kept), "stopped": end is not None})
            if progress:
                progress.step(len(group))
    finally:
        model.config.use_cache = False
        model.train(was_training)
    return out


def behaviour(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compare answers of parent and child to the same prompts: share changed, share stopped, mean length in tokens."""
    n = len(after)
    if not n:
        return {
            "n": 0,
            "changed": 0.0,
            "stops_before": 0.0,
            "stops_after": 0.0,
            "length_before": 0.0,
            "length_after": 0.0,
        }

    def mean(values: Sequence[float]) -> float:
        return sum(values) / n

    return {
        "n": n,
        "changed": mean([a["text"] != b["text"] for a, b in zip(before, after, strict=True)]),
        "stops_before": mean([a["stopped"] for a in before]),
        "stops_after": mean([a["stopped"] for a in after]),
        "length_before": mean([a["tokens"] for a in before]),
        "length_after": mean([a["tokens"] for a in after]),
    }


def sampler(
    policy: Policy, renderer: Renderer, prompts: Sequence[Sequence[Message]], max_tokens: int = 40
) -> Callable[[], list[tuple[str, str]]]:
    """Make the function that answers a few fixed prompts during training."""

    def sample() -> list[tuple[str, str]]:
        made = answers(policy, renderer, prompts, max_tokens)
        return [(prompt[-1].content, answer["text"]) for prompt, answer in zip(prompts, made, strict=True)]

    return sample
