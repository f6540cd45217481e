"""The few numbers of a decoder that its size and its memory follow from."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.models import experts

#: model_types whose output layer is the embedding unless config.json says otherwise.
_TIED = ("gemma", "gemma2", "gemma3_text", "smollm3")
#: model_type -> the width of a head where config.json does not say; of others hidden / heads.
_HEAD_DIM = {"gemma": 256, "gemma2": 256, "gemma3_text": 256, "qwen3": 128}


@dataclasses.dataclass(frozen=True)
class Shape:
    """A decoder of today's kind (gated feed-forward, grouped heads); sizes in numbers of weights, `vocab` in rows.

    L layers, d hidden, f feed-forward, q and k the width of all heads and of all key/value heads, V vocabulary.

    Of a mixture `ffn` is the inner width of one of its `experts` per layer, of which a token asks `used`.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    experts: int = 0
    used: int = 0

    @property
    def linear(self) -> int:
        """Weights of the layers' linear maps: L (2 d q + 2 d k + 3 d f), q = heads x head_dim, k = kv_heads x head_dim.

        These are what 4 bits are for, and what an adapter is put on; of a mixture, without the last: attention alone.
        """
        d, q, k = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.layers * (2 * d * q + 2 * d * k + (0 if self.experts else 3 * d * self.ffn))

    @property
    def mixed(self) -> int:
        """Weights of all experts and their routers: L E (3 d f + d); a token asks few of them, all are in memory."""
        return self.layers * self.experts * (3 * self.ffn + 1) * self.hidden

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of the output layer where it is not the same: (1 or 2) V d."""
        return (1 if self.tied else 2) * self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, but for the biases and the second norms that some families have (less than 0.1 %)."""
        return self.linear + self.mixed + self.embedding + (2 * self.layers + 1) * self.hidden

    def lora(self, r: int) -> int:
        """Weights of an adapter of rank r on all linear maps of the layers: L r sum(in + out)."""
        d, q, k = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        return self.layers * r * (2 * (d + q) + 2 * (d + k) + (0 if self.experts else 3 * (d + self.ffn)))

    def kept(self, b: int, full: bool, r: int, dropout: float, dora: bool) -> float:
        """Count the bytes that a layer keeps of a token for its backward; b: 2 (bf16) or 4 (float32) for a number.

        float32   4 (4 d + 3 q + 2 k + 4 f)     both norms' inputs and outputs; queries, keys, values, attention's
                                                result and what comes of it; gate, its activation, up, their product
        bf16      28 d + 8 q + 4 k + 10 f       norms and the adapter's inputs in float32: peft casts them for each map
        adapter   28 r                          what A gives, of seven maps, in float32
        full      2 norms' products more; in bf16 norms in float32, the rest as autocast casts it
        """
        if self.experts:
            return self._kept_mixed(b, r, dropout, dora)
        d, f, q, k = self.hidden, self.ffn, self.heads * self.head_dim, self.kv_heads * self.head_dim
        if full:
            return 26 * d + 8 * q + 6 * k + 8 * f if b == 2 else 4 * (6 * d + 3 * q + 2 * k + 4 * f)
        kept: float = 28 * d + 8 * q + 4 * k + 10 * f if b == 2 else 4 * (4 * d + 3 * q + 2 * k + 4 * f)
        if dropout:
            kept += (1 if b == 2 else 5) * (5 * d + q + f)  # the mask; in float32 also what it left
        if dora:
            kept += 2 * b * (2 * d + q + 2 * k + 2 * f)  # what the base and the adapter gave, of each map
        return kept + 28 * r

    def _kept_mixed(self, b: int, r: int, dropout: float, dora: bool) -> float:
        """Count the same of a layer of E experts, u of them asked, with an adapter on attention's four maps.

        float32   4 (3 d + 3 q + 2 k) + e           as above, but for what the feed-forward maps' adapters read
        bf16      20 d + 8 q + 4 k + e
        experts   e = u (b (3 f + d) + 28) + 4 E    gate and up in one, the activation, the answer of each that is
                                                    asked; their numbers and shares, and the router's probabilities
        adapter   16 r
        """
        d, q, k = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        kept: float = 20 * d + 8 * q + 4 * k if b == 2 else 4 * (3 * d + 3 * q + 2 * k)
        kept += self.used * (b * (3 * self.ffn + d) + 28) + 4 * self.experts
        if dropout:
            kept += (1 if b == 2 else 5) * (3 * d + q)
        if dora:
            kept += 2 * b * (d + q + 2 * k)
        return kept + 16 * r

    def made(self, b: int) -> int:
        """Count the bytes that the backward of a layer's feed-forward part makes of a token: 4 b f.

        Of a mixture u (4 b f + 2 b d): each of the u experts that are asked has a copy of the token.
        """
        return self.used * (4 * b * self.ffn + 2 * b * self.hidden) if self.experts else 4 * b * self.ffn

    @classmethod
    def of(cls, config: dict[str, Any], rows: int) -> Shape:
        """Read config.json; what is not there (or is no number) gets the usual value. `rows`: of the embedding."""

        def number(name: str, other: int) -> int:
            value = config.get(name)
            return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else other

        hidden, heads = number("hidden_size", 1), number("num_attention_heads", 1)
        mixture = experts.of(config)
        return cls(
            layers=number("num_hidden_layers", 1),
            hidden=hidden,
            ffn=number(mixture.width if mixture else "intermediate_size", 4 * hidden),
            heads=heads,
            kv_heads=number("num_key_value_heads", heads),
            head_dim=number("head_dim", _HEAD_DIM.get(str(config.get("model_type")), max(hidden // heads, 1))),
            vocab=rows,
            tied=bool(config.get("tie_word_embeddings", config.get("model_type") in _TIED)),
            experts=number("num_local_experts", number("num_experts", 1)) if mixture else 0,
            used=number("num_experts_per_tok", 1) if mixture else 0,
        )
