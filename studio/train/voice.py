"""A loaded model that speaks: answers, how likely words and tokens are; its adapter on, at rest, or without one.

The prompt is the renderer's, and so are the tokens that end an answer. The answers to a prompt are written together
after one reading of it, and never beside those to another: what else is asked changes no bit of them. A token is

    t = the first with P(t_1) + ... + P(t) > u,   u uniform in [0, 1), drawn from a generator of the answer's own

so that an answer depends on its seed alone, and not on how many are written beside it but for rounding.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from studio.data.records import Message
from studio.render.labels import Plan
from studio.render.template import Piece
from studio.train import rollout

if TYPE_CHECKING:
    from torch import Tensor

    from studio.render.encode import Renderer
    from studio.train.policy import Policy

#: Answers that are written at once at most, positions whose probabilities are in memory at once, alternatives told.
TOGETHER, CHUNK, TOP = 32, 64, 3


@dataclasses.dataclass(frozen=True)
class Filter:
    """How a token is chosen: top-k, top-p and min-p of the model's own probabilities, then the temperature.

    Temperature 0 takes the likeliest; top_k 0, top_p 1 and min_p 0 leave all tokens in.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0


@dataclasses.dataclass
class Voice:
    """One who speaks with a policy's weights.

    `adapter` names the policy's adapter ("" for none); `rests`: its layers are left out and its trained rows of control
    tokens are not, so that prompts that hold these can be read. `raw`: prompts are text that is gone on with. `rows` is
    how many tokens it knows: rows that the embedding got for another voice are none of its own.
    """

    policy: Policy
    renderer: Renderer
    adapter: str = ""
    rests: bool = False
    raw: bool = False
    rows: int = 0

    def __post_init__(self) -> None:
        known = self.rows or self.policy.base.get_input_embeddings().weight.shape[0]
        self.stops = {token for token in self.renderer.stop_ids if token < known}

    def prompt(self, turns: Sequence[Message], raw: bool | None = None) -> list[int]:
        """Encode what is read before the answer; `raw` in place of the voice's own way."""
        if not (self.raw if raw is None else raw):
            return self.renderer.prompt(turns)
        pieces = [Piece(self.renderer.document_start, False), Piece("\n".join(turn.content for turn in turns), True)]
        return self.renderer.encode([Plan(pieces, [])])[0].ids

    def words(self, text: str) -> list[int]:
        """Encode a text as it stands behind a prompt."""
        return self.renderer.encode([Plan([Piece("", False), Piece(text, True)], [], (Message("user", ""),))])[0].ids

    def text(self, before: Sequence[int], ids: Sequence[int]) -> str:
        """Give the text of an answer's tokens behind a prompt's, the space that it begins with included."""
        last = list(before[-1:])
        return self.renderer.decode([*last, *ids])[len(self.renderer.decode(last)) :]

    def answers(
        self,
        prompt: Sequence[int],
        seeds: Sequence[int],
        room: int,
        how: Filter,
        halt: Callable[[], None] = lambda: None,
    ) -> list[tuple[list[int], bool]]:
        """Write an answer for each seed: (its tokens, whether it ended by itself), of `room` tokens at most.

        `halt` is asked at every token, and may raise.
        """
        found: list[list[int]] = []
        with self._speaking():
            for start in range(0, len(seeds), TOGETHER):
                some = seeds[start : start + TOGETHER]
                choose = _chooser(some, how)

                def chosen(logits: Tensor, going: Sequence[int], choose: rollout.Choose = choose) -> Tensor:
                    halt()
                    return choose(logits[:, : self.rows or None], going).to(logits.device)

                found += rollout.write(self.policy, [prompt], len(some), room, chosen, self.stops, self.renderer.pad_id)
        ended = [bool(ids) and ids[-1] in self.stops for ids in found]
        return [(ids[:-1] if end else ids, end) for ids, end in zip(found, ended, strict=True)]

    def weigh(self, prompt: Sequence[int], words: Sequence[Sequence[int]]) -> list[float]:
        """Give the probability of each of the words (token ids) behind the prompt: the product over its tokens."""
        seen: dict[tuple[int, ...], Tensor] = {}
        found = []
        for ids in words:
            before = tuple(ids[:-1])
            if before not in seen:
                seen[before] = torch.cat(list(self._logps([*prompt, *before], len(prompt) - 1)))
            found.append(math.exp(sum(float(row[token]) for row, token in zip(seen[before], ids, strict=True))))
        return found

    def scores(self, prompt: Sequence[int], ids: Sequence[int]) -> dict[str, Any]:
        """Tell how likely an answer's tokens are behind a prompt: as chat/answers.py `scores`."""
        told: list[dict[str, Any]] = []
        end = 0.0
        for chunk in self._logps([*prompt, *ids], len(prompt) - 1):
            for row in chunk.exp():
                if len(told) == len(ids):
                    end = float(row[sorted(self.stops)].sum())
                    break
                token = ids[len(told)]
                p, best = float(row[token]), row.topk(min(TOP, len(row)))
                top = [
                    {"id": other, "text": self._spelled(other), "p": share}
                    for other, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                ]
                rank = int((row > row[token]).sum())
                told.append({"id": token, "text": self._spelled(token), "p": p, "rank": rank, "top": top})
        return {"prompt_tokens": len(prompt), "tokens": told, "end_p": end}

    def _spelled(self, token: int) -> str:
        return self.renderer.decode([token], special=True)

    def _logps(self, ids: Sequence[int], start: int) -> Iterator[Tensor]:
        """Give log P(next token) at the positions from `start` on, (some, V) in float64, CHUNK of them at a time."""
        with self._speaking():
            row = torch.tensor([list(ids)], device=self.policy.device)
            states = self.policy.base.get_decoder()(input_ids=row, use_cache=False).last_hidden_state[0, start:]
            for some in states.split(CHUNK):
                logits = rollout.logits(self.policy.base, some)[:, : self.rows or None]
                yield logits.cpu().double().log_softmax(-1)

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Let this voice's adapter answer within the block, and nothing learn."""
        on = contextlib.nullcontext() if self.policy.full else self.policy.using(self.adapter)
        with on, torch.inference_mode(), self.policy.arithmetic():
            layers = _layers(self.policy.model) if self.rests else []
            for layer in layers:
                layer.enable_adapters(False)
            try:
                yield
            finally:
                for layer in layers:
                    layer.enable_adapters(True)


def _layers(model: Any) -> list[Any]:
    """Give the layers that an adapter stands on; rows of tokens that it trained are none of them."""
    from peft.tuners.lora import LoraLayer

    return [module for module in model.modules() if isinstance(module, LoraLayer)]


def _chooser(seeds: Sequence[int], how: Filter) -> rollout.Choose:
    """Make what chooses the next token of each answer."""
    if how.temperature <= 0:
        return lambda logits, going: logits.argmax(-1)
    sources = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(logits: Tensor, going: Sequence[int]) -> Tensor:
        # float64 for the sums, which an Apple GPU does not have
        logits = (logits if logits.device.type in ("cpu", "cuda") else logits.cpu()).double()
        order = None
        if how.top_k or how.top_p < 1 or how.min_p:
            logits, order = _filtered(logits, how)
        sums = (logits / how.temperature).softmax(-1).cumsum(-1)
        thrown = torch.cat([torch.rand(1, generator=sources[answer], dtype=torch.float64) for answer in going])
        at = torch.searchsorted(sums, thrown.to(sums.device)[:, None] * sums[:, -1:], right=True)
        at = at.clamp(max=logits.shape[-1] - 1)
        return (at if order is None else order.gather(-1, at)).squeeze(-1)

    return choose


def _filtered(logits: Tensor, how: Filter) -> tuple[Tensor, Tensor]:
    """Sort logits (N, V) and put those at minus infinity that are left out; gives them and their tokens."""
    logits, order = logits.sort(dim=-1, descending=True, stable=True)
    if how.top_k:
        logits[:, how.top_k :] = -math.inf
    p = logits.softmax(-1)
    out = (p.cumsum(-1) - p >= how.top_p) | (p < how.min_p * p[:, :1])
    out[:, 0] = False
    return logits.masked_fill(out, -math.inf), order
