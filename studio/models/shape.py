"""The few numbers of a decoder that its size and its memory follow from."""

from __future__ import annotations

import dataclasses
from typing import Any

#: model_types whose output layer is the embedding unless config.json says otherwise.
_TIED = ("gemma", "gemma2", "gemma3_text", "smollm3")


@dataclasses.dataclass(frozen=True)
class Shape:
    """A decoder of today's kind (gated feed-forward, grouped heads); sizes in numbers of weights, `vocab` in rows."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @property
    def linear(self) -> int:
        """Weights of the layers' linear maps: L (2 d q + 2 d k + 3 d f), q = heads x head_dim, k = kv_heads x head_dim.

        These are what 4 bits are for, and what an adapter is put on.
        """
        d, q, k = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.layers * (2 * d * q + 2 * d * k + 3 * d * self.ffn)

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of the output layer where it is not the same: (1 or 2) V d."""
        return (1 if self.tied else 2) * self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, but for the biases and the second norms that some families have (less than 0.1 %)."""
        return self.linear + self.embedding + (2 * self.layers + 1) * self.hidden

    def lora(self, r: int) -> int:
        """Weights of an adapter of rank r on all linear maps of the layers: L r sum(in + out)."""
        d, q, k = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.layers * r * (2 * (d + q) + 2 * (d + k) + 3 * (d + self.ffn))

    @classmethod
    def of(cls, config: dict[str, Any], rows: int) -> Shape:
        """Read config.json; what is not there (or is no number) gets the usual value. `rows`: of the embedding."""

        def number(name: str, other: int) -> int:
            value = config.get(name)
            return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else other

        hidden, heads = number("hidden_size", 1), number("num_attention_heads", 1)
        return cls(
            layers=number("num_hidden_layers", 1),
            hidden=hidden,
            ffn=number("intermediate_size", 4 * hidden),
            heads=heads,
            kv_heads=number("num_key_value_heads", heads),
            head_dim=number("head_dim", max(hidden // heads, 1)),
            vocab=rows,
            tied=bool(config.get("tie_word_embeddings", config.get("model_type") in _TIED)),
        )
