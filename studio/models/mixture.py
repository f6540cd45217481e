"""What llama.cpp makes of each tensor for a type of file, and so the size of a file before it is made.

A type names a mixture: each tensor gets a type of its own by what it does, by its layer, and by whether an importance
matrix is there; one whose rows are no multiple of the type's block falls back to another. `predict` follows the rules
of llama.cpp 0.5.0 (src/llama-quant.cpp) tensor by tensor; the tests hold every type against llama.cpp's own dry run.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from studio.models import tensors
from studio.models.folder import read_object
from studio.models.quants import TYPES, Type, block
from studio.models.shape import Shape

#: Bytes of a GGUF file beside its weights: a token of the vocabulary with its merge, a tensor's entry with its
#: padding, the rest.
_TOKEN, _ENTRY, _HEAD = 38, 84, 6000


@dataclasses.dataclass(frozen=True)
class Weight:
    """A tensor as the rules see it: what it does, its layer, its row's length, how many rows."""

    kind: str
    layer: int
    columns: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A file before it is made: bytes in all, how many tensors get which type, and how many fall back to which."""

    bytes: int
    types: dict[str, int]
    fallen: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Model:
    """What the rules ask of a model: its tensors, layers, heads that share a key (`gqa`), experts, vocabulary."""

    weights: tuple[Weight, ...]
    layers: int
    gqa: int
    experts: int = 0
    seventy: bool = False
    vocabulary: int = 0

    @property
    def tied(self) -> bool:
        """Tell whether the embedding is the output layer too."""
        return all(weight.kind != "output" for weight in self.weights)


#: What a tensor does, by its name in a transformers checkpoint. `plain` ones are never quantized.
_KINDS = (
    (r"(^|\.)lm_head\.weight$", "output"),
    (r"(^|\.)embed_tokens\.weight$", "embedding"),
    (r"\.q_proj\.weight$", "q"),
    (r"\.k_proj\.weight$", "k"),
    (r"\.v_proj\.weight$", "v"),
    (r"\.qkv_proj\.weight$", "qkv"),
    (r"\.(o_proj|dense)\.weight$", "attention_output"),
    (r"\.(gate_up_proj|up_proj|w3)(\.weight)?$", "up"),
    (r"\.(gate_proj|w1)(\.weight)?$", "gate"),
    (r"\.(down_proj|w2)(\.weight)?$", "down"),
    (r"\.(block_sparse_moe|mlp)\.gate\.weight$", "plain"),
)


def model(config: Mapping[str, Any], shapes: Iterable[tuple[str, tuple[int, ...]]]) -> Model:
    """Read a model from config.json and the (name, shape) of its checkpoint's tensors."""
    text = config.get("text_config") or config
    tied = Shape.of(dict(text), 1).tied
    found: dict[tuple[str, int], Weight] = {}
    loose: list[Weight] = []
    for name, shape in shapes:
        made = weight(name, shape)
        if (made.kind == "output" and tied) or name.endswith(".rotary_emb.inv_freq"):
            continue
        if ".experts." in name:  # a GGUF file has all experts of a layer in one tensor
            before = found.get((made.kind, made.layer))
            found[made.kind, made.layer] = dataclasses.replace(made, rows=made.rows + (before.rows if before else 0))
        else:
            loose.append(made)
    heads = int(text.get("num_attention_heads") or 1)
    shared = int(text.get("num_key_value_heads") or heads)
    layers = int(text.get("num_hidden_layers") or 1)
    return Model(
        tuple(sorted((*loose, *found.values()), key=lambda weight: weight.layer)),
        layers=layers,
        gqa=heads // max(1, shared),
        experts=int(text.get("num_local_experts") or text.get("num_experts") or 0),
        seventy=text.get("model_type") in ("llama", "mistral") and layers == 80 and heads != shared,
        vocabulary=int(text.get("vocab_size") or 0),
    )


def weight(name: str, shape: tuple[int, ...]) -> Weight:
    """Read a tensor of a checkpoint from its name and shape."""
    kind = next((kind for rule, kind in _KINDS if re.search(rule, name)), "other")
    at = re.search(r"\.layers\.(\d+)\.", name)
    return Weight(kind if len(shape) > 1 else "plain", int(at[1]) if at else -1, shape[-1], math.prod(shape[:-1]))


def of_folder(folder: Path) -> Model:
    """Read a model from its folder: the headers only. ModelError for a damaged one."""
    config = read_object(folder / "config.json")
    return model(config, ((info.name, info.shape) for info in tensors.read_tensors(folder)))


def predict(type_: str, made: Model, imatrix: bool = False) -> Prediction:
    """Predict a file of a type: exact for the weights, and about right for vocabulary and head.

    `imatrix`: an importance matrix is there; one is made for every type that needs it.
    """
    total, fallen, found = _HEAD + _TOKEN * made.vocabulary, Counter[str](), Counter[str]()
    for weight in made.weights:
        wanted, got = chosen(type_, weight, made, imatrix)
        fallen[got] += got != wanted
        per, size = block(got)
        total += _ENTRY + weight.rows * (weight.columns // per) * size
        found[got] += 1
    return Prediction(total, dict(found.most_common()), dict((+fallen).most_common()))


def chosen(type_: str, weight: Weight, made: Model, imatrix: bool = False) -> tuple[str, str]:
    """Give the type that the rules want for a tensor, and the one it gets: another where its rows do not fit."""
    kind = TYPES[type_]
    imatrix = (imatrix or kind.needs_imatrix) and kind.takes_imatrix
    wanted = "F32" if weight.kind == "plain" else _wanted(kind, weight, made, imatrix)
    return wanted, _fitting(wanted, weight.columns)


def told(types: Mapping[str, int], fallen: Mapping[str, int]) -> str:
    """Say in a sentence which tensors fell back to another type; "" when none did."""
    count = sum(fallen.values())
    if not count:
        return ""
    *first, last = fallen
    named = f"{', '.join(first)} or {last}" if first else last
    one = count == 1
    return (
        f"{count} of {sum(types.values())} tensors {'is' if one else 'are'} {named}: "
        f"{'its' if one else 'their'} rows are no multiple of 256."
    )


#: What a tensor becomes whose rows are no multiple of its type's block.
_FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_FALLBACK |= dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0")
_LOW = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ1_S", "IQ1_M")


def _fitting(type_: str, columns: int) -> str:
    if columns % block(type_)[0] == 0:
        return type_
    other = _FALLBACK.get(type_, type_ if block(type_)[0] <= 32 else "IQ4_NL")
    return other if columns % block(other)[0] == 0 else "F16"


def _wanted(kind: Type, weight: Weight, made: Model, imatrix: bool) -> str:
    """Give the type that the rules want for a tensor, before its shape is looked at."""
    if kind.tensor in ("F32", "F16", "BF16"):
        return kind.tensor
    if weight.kind == "output" or (made.tied and weight.kind == "embedding"):
        return _output(kind, weight)
    if kind.name == "MXFP4_MOE":
        experts = made.experts and weight.kind in ("up", "gate", "down")
        return "MXFP4" if experts else "Q8_0"
    if weight.kind == "embedding":
        return _embedding(kind)
    if kind.name in _LOW:
        return _low(kind, weight, made)
    rule = {"v": _value, "qkv": _value, "k": _key, "q": _query, "down": _down, "attention_output": _attention}
    if weight.kind in rule:
        return rule[weight.kind](kind, weight, made, imatrix)
    inner = made.layers // 8 <= weight.layer < 7 * made.layers // 8
    return "IQ3_XXS" if kind.name == "IQ3_XS" and weight.kind in ("up", "gate") and inner else kind.tensor


def _output(kind: Type, weight: Weight) -> str:
    if kind.name == "MXFP4_MOE" or weight.columns % block(kind.tensor)[0]:
        return "Q8_0"
    if kind.name in (*_LOW, "IQ3_XXS"):
        return "Q5_K"
    return "Q8_0" if kind.tensor == "Q8_0" else "Q6_K"


def _embedding(kind: Type) -> str:
    special = dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M"), "Q2_K")
    special |= dict.fromkeys(("IQ2_S", "IQ2_M", "IQ3_XXS"), "IQ3_S") | dict.fromkeys(("TQ1_0", "TQ2_0"), "Q4_K")
    return special.get(kind.name, kind.tensor)


def _low(kind: Type, weight: Weight, made: Model) -> str:
    """The types of two bits and less."""
    better = "IQ3_S" if kind.name in ("IQ2_S", "IQ2_M") else "Q2_K"
    if weight.kind in ("v", "qkv"):
        return "Q4_K" if made.gqa >= 4 or made.experts >= 4 else better
    if weight.kind == "k" and made.experts == 8:
        return "Q4_K"
    if weight.kind == "down" and weight.layer < made.layers // 8:
        return better
    if weight.kind == "attention_output":
        if made.experts == 8:
            return "Q5_K"
        return {"IQ1_S": "IQ2_XXS", "IQ1_M": "IQ2_XXS", "IQ2_S": "IQ3_S", "IQ2_M": "IQ3_S"}.get(kind.name, kind.tensor)
    return kind.tensor


def _more(layer: int, layers: int) -> bool:
    """Tell whether a layer gets more bits: the first and the last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _value(kind: Type, weight: Weight, made: Model, imatrix: bool) -> str:
    name, chosen, grouped = kind.name, kind.tensor, made.gqa >= 4
    if name == "Q2_K":
        chosen = "Q4_K" if grouped else "Q3_K"
    elif name in ("Q2_K_S", "IQ3_XS", "IQ3_S") and grouped:
        chosen = "Q4_K"
    elif name == "IQ3_XXS":
        chosen = "Q4_K" if grouped else "IQ3_XXS" if imatrix else "IQ3_S"
    elif name == "IQ3_M":
        chosen = "Q4_K"
    elif name == "Q3_K_M":
        chosen = "Q5_K" if weight.layer < 2 else "Q4_K"
    elif name == "Q3_K_L" or (name in ("IQ4_NL", "IQ4_XS") and grouped):
        chosen = "Q5_K"
    elif name in ("Q4_K_M", "Q5_K_M") and _more(weight.layer, made.layers):
        chosen = "Q6_K"
    elif name == "Q4_K_S" and weight.layer < 4:
        chosen = "Q5_K"
    if made.seventy and chosen in ("Q3_K", "Q4_K"):
        chosen = "Q5_K"
    return "Q8_0" if made.experts == 8 else chosen


def _key(kind: Type, weight: Weight, made: Model, imatrix: bool) -> str:
    return "Q8_0" if made.experts == 8 else _query(kind, weight, made, imatrix)


def _query(kind: Type, weight: Weight, made: Model, imatrix: bool) -> str:
    return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(kind.name, kind.tensor)


def _down(kind: Type, weight: Weight, made: Model, imatrix: bool) -> str:
    name, layer, early = kind.name, weight.layer, weight.layer < made.layers // 8
    if name == "Q2_K":
        return "Q3_K"
    if name == "Q3_K_M":
        return "Q5_K" if layer < made.layers // 16 else "Q4_K"
    if name == "Q3_K_L":
        return "Q5_K"
    if name in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _more(layer, made.layers) else kind.tensor
    if name == "IQ3_XXS" and not imatrix:
        return "Q4_K" if early else "Q3_K"
    if name == "IQ3_M" and made.experts == 8 and _more(layer, made.layers):
        return "Q4_K"
    first = {"Q2_K_S": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_S": "Q5_K"}
    first |= {"Q4_0": "Q4_1", "Q5_0": "Q5_1"} if imatrix else {"IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K"}
    return first.get(name, kind.tensor) if early else kind.tensor


def _attention(kind: Type, weight: Weight, made: Model, imatrix: bool) -> str:
    if made.experts == 8:
        more = (
            "Q2_K",
            "IQ3_XS",
            "IQ3_XXS",
            "Q3_K_S",
            "Q3_K_M",
            "IQ4_NL",
            "Q4_K_S",
            "Q4_K_M",
            "IQ3_S",
            "IQ3_M",
            "IQ4_XS",
        )
        return "Q5_K" if kind.name in more else kind.tensor
    special = {"Q2_K": "Q3_K", "IQ3_XXS": "IQ3_S", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}
    return special.get(kind.name, kind.tensor)
