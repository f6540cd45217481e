"""Answers sampled from the policy, many at once: what PPO and RLOO learn from.

The prompt is read once for all its samples. Prompts of like length go together, padded on the left; what has ended
leaves the batch as soon as half of it has, and an answer is cut behind its first stop token. The sampler's own
log-probabilities are thrown away: those that an update compares come from the training forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch

from studio.train import head

if TYPE_CHECKING:
    from torch import Tensor

    from studio.train.policy import Policy

#: Chooses the next token of each row: (logits (N, V), the answers that the rows belong to) -> (N,).
Choose = Callable[["Tensor", Sequence[int]], "Tensor"]


@dataclasses.dataclass(frozen=True)
class Answer:
    """A sampled answer to the prompt of that number: its tokens, the stop token with which it ended among them."""

    prompt: int
    ids: list[int]
    stopped: bool


def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    *,
    count: int,
    max_new_tokens: int,
    temperature: float,
    stop_ids: Sequence[int],
    pad_id: int,
    generator: torch.Generator,
    together: int = 64,
    halt: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """Sample `count` answers to each prompt, in the order of the prompts; the generator alone decides what comes.

    `temperature` 0 takes the likeliest token. `together` is how many answers are written at once at most; `halt` is
    asked before each group and may raise.
    """

    def choose(logits: Tensor, going: Sequence[int]) -> Tensor:
        return _draw(logits, temperature, generator)

    group = max(1, together // count)
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    found: list[list[Answer]] = [[] for _ in prompts]
    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.inference_mode(), policy.arithmetic():
            for start in range(0, len(order), group):
                halt()
                numbers = order[start : start + group]
                rows = [prompts[number] for number in numbers]
                written = write(policy, rows, count, max_new_tokens, choose, stop_ids, pad_id)
                for at, ids in enumerate(written):
                    number = numbers[at // count]
                    found[number].append(Answer(number, ids, bool(ids) and ids[-1] in stop_ids))
    finally:
        policy.model.train(was_training)
    return [answer for answers in found for answer in answers]


def write(
    policy: Policy,
    rows: Sequence[Sequence[int]],
    count: int,
    room: int,
    choose: Choose,
    stops: Collection[int],
    pad_id: int,
) -> list[list[int]]:
    """Write `count` answers to each of some prompts, one token a step for all that have not ended.

    `room` is the most tokens of an answer; one that stops ends with its stop token.
    """
    from transformers import DynamicCache

    device, base = policy.device, policy.base
    width = max(map(len, rows))
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    mask = (torch.arange(width, device=device) >= width - lengths[:, None]).long()
    cache = DynamicCache(config=base.config)
    states = _forward(base, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
    cache.batch_repeat_interleave(count)
    states, mask, lengths = (part.repeat_interleave(count, 0) for part in (states, mask, lengths))
    written: list[list[int]] = [[] for _ in range(len(rows) * count)]
    going = list(range(len(written)))  # the answers that the rows of the batch belong to
    for step in range(room):
        tokens = choose(logits(base, states), going)
        ended = []
        for row, token in enumerate(tokens.tolist()):
            answer = written[going[row]]
            if not (answer and answer[-1] in stops):
                answer.append(token)
            if answer[-1] in stops:
                ended.append(row)
        if len(ended) == len(going) or step + 1 == room:
            break
        if 2 * len(ended) >= len(going):
            kept = sorted(set(range(len(going))) - set(ended))
            going = [going[row] for row in kept]
            rest = torch.tensor(kept, device=device)
            cache.batch_select_indices(rest)
            tokens, mask, lengths = tokens[rest], mask[rest], lengths[rest]
        mask = torch.cat([mask, mask.new_ones(len(going), 1)], -1)
        states = _forward(base, tokens[:, None], mask, (lengths + step)[:, None], cache)
    return written


def _forward(base: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Read tokens behind what the cache holds and give the last hidden state of each row."""
    states: Tensor = base.get_decoder()(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return states[:, -1]


def logits(base: Any, states: Tensor) -> Tensor:
    """Give the logits of the next token, (N, d) -> (N, V); trained rows are put in without a copy of the layer."""
    layer, trained = head.trained_rows(base.get_output_embeddings())
    found: Tensor = layer(states)
    if trained is not None:
        numbers, weights = trained
        found[:, numbers] = (states @ weights.to(states.dtype).T).to(found.dtype)
    scale, cap = head.scaling(base.config)
    found = found.float() * scale
    return torch.tanh(found / cap) * cap if cap else found


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Draw a token a row: softmax(logits / temperature)."""
    if not temperature:
        return logits.argmax(-1)
    chances = (logits / temperature).softmax(-1)
    return torch.multinomial(chances, 1, generator=generator).squeeze(-1)


def figures(written: Sequence[Answer]) -> dict[str, float]:
    """Give the mean length of answers, in tokens, and the share that stopped by themselves."""
    return {
        "length": sum(len(answer.ids) for answer in written) / len(written),
        "stops": sum(answer.stopped for answer in written) / len(written),
    }
