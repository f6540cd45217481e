"""How the next token is chosen, by llama.cpp's own samplers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.chat.llama import Context


class Sampler:
    """How the next token is chosen: penalties, top-k, top-p, min-p, temperature, in this order; 0 takes the likeliest.

    `options`: temperature, top_k, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty, seed.
    """

    LAST = 64  # tokens that the penalties look back

    def __init__(self, context: Context, options: dict[str, Any], before: Sequence[int] = ()) -> None:
        self._lib, self._ctx = lib, _ = context.lib, context.ctx
        self.chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())

        def number(name: str, default: float) -> float:
            value = options.get(name)
            return default if value is None else float(value)

        def put(name: str, *values: Any) -> None:
            lib.llama_sampler_chain_add(self.chain, getattr(lib, f"llama_sampler_init_{name}")(*values))

        repeat = number("repeat_penalty", 1.0)
        frequency, presence = number("frequency_penalty", 0.0), number("presence_penalty", 0.0)
        temperature = number("temperature", 0.0)
        if repeat != 1 or frequency or presence:
            put("penalties", context.weights.n_vocab, self.LAST, repeat, frequency, presence)
        if temperature <= 0:
            put("greedy")
        else:
            put("top_k", int(number("top_k", 40)))
            put("top_p", number("top_p", 0.95), 1)
            put("min_p", number("min_p", 0.05), 1)
            put("temp", temperature)
            put("dist", int(number("seed", 0)) & 0xFFFFFFFF)
        for token in before[-self.LAST :]:
            lib.llama_sampler_accept(self.chain, token)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(self, *error: object) -> None:
        self._lib.llama_sampler_free(self.chain)

    def __call__(self) -> int:
        """Choose a token after what was evaluated last."""
        return int(self._lib.llama_sampler_sample(self.chain, self._ctx, -1))
