"""Merge an adapter into the 16-bit base, a few rows at a time: the model is never held twice, not even once.

    W' = W + scale * B A,   scale = alpha / r, with rsLoRA alpha / sqrt(r)   (Hu et al. 2021, arXiv:2106.09685, 4.1)

and with DoRA, whose rows have lengths m of their own, m W' / ||W'||       (Liu et al. 2024, arXiv:2402.09353, eq. 5)

Both are made row by row, so that a block of rows is all that has to be in memory. Never into the 4-bit base: rounding
the sum to 4 bits would throw away most of what was learned. Rows of control tokens that were trained replace the base's
rows; brand-new tokens are appended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import ModelError
from studio.models import adapter as adapter_check
from studio.models import check, elsewhere, family, tokenizer
from studio.models.architecture import OUTPUT
from studio.models.folder import read_object
from studio.models.shape import Shape

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "base_model.model."


class Merged:
    """The tensors of a base with an adapter merged in, read lazily. `adapter` None gives the base as it is.

    `rows_only` takes from the adapter the trained rows of control tokens alone: the base as the adapter's LoRA is meant
    to stand on it. `pairs` holds A (r, in) and B (out, r) by tensor, `scale` what their product counts.
    """

    def __init__(self, base: Path, adapter: Path | None = None, *, rows_only: bool = False) -> None:
        self._infos = {info.name: info for info in check.read_tensors(base)}
        if Shape.of(check.read_config(base), 1).tied:  # a second copy of the embedding would miss its trained rows
            self._infos.pop(OUTPUT, None)
        self._files: dict[Path, Any] = {}
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        self._lengths: dict[str, Tensor] = {}
        self._rows: dict[str, Tensor] = {}
        self._indices: dict[str, list[int]] = {}
        self.scale = 1.0
        if adapter is not None:
            self._read_adapter(base, adapter, rows_only)

    @property
    def names(self) -> list[str]:
        """List the tensors in the order of the base's files."""
        return list(self._infos)

    @property
    def parameters(self) -> int:
        """Count the weights."""
        return sum(math.prod(self.shape(name)) for name in self._infos)

    @property
    def rows(self) -> int:
        """Give the height of the token embedding."""
        return max(self.shape(name)[0] for name in self._infos if name.endswith("embed_tokens.weight"))

    @property
    def row_ids(self) -> list[int]:
        """List the tokens whose rows the adapter brings."""
        return sorted({row for rows in self._indices.values() for row in rows})

    @property
    def trained_rows(self) -> list[str]:
        """List the tensors that have such rows."""
        return list(self._indices)

    @property
    def scaled(self) -> bool:
        """Tell whether rows have lengths of their own (DoRA)."""
        return bool(self._lengths)

    def shape(self, name: str) -> tuple[int, ...]:
        """Give a tensor's shape after merging (appended token rows counted)."""
        shape = self._infos[name].shape
        grown = max(self._indices.get(name, [-1])) + 1
        return (max(shape[0], grown), *shape[1:])

    def tensor(self, name: str) -> Tensor:
        """Read one tensor, merged where the adapter has something for it, in float32."""
        return self.block(name, 0, self.shape(name)[0])

    def block(self, name: str, start: int, stop: int) -> Tensor:
        """Read the rows start..stop of a tensor, merged, in float32; rows that the base lacks begin as zeros."""
        weight = self._read(name, start, stop)
        if name in self.pairs:
            a, b = self.pairs[name]
            weight.addmm_(b[start:stop].float(), a.float(), alpha=self.scale)
        if name in self._lengths:
            weight = weight * (self._lengths[name][start:stop].float() / weight.norm(dim=1))[:, None]
        for at, row in enumerate(self._indices.get(name, ())):
            if start <= row < stop:
                weight[row - start] = self._rows[name][at].float()
        return weight

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Give every tensor in turn."""
        for name in self._infos:
            yield name, self.tensor(name)

    def _read(self, name: str, start: int, stop: int) -> Tensor:
        """Read rows of the base as float32; a new tensor, which may be written to."""
        import torch
        from safetensors import safe_open

        info = self._infos[name]
        if info.file not in self._files:
            self._files[info.file] = safe_open(info.file, framework="pt")
        have = self._files[info.file].get_slice(name)[start : min(stop, info.shape[0])]
        if len(have) == stop - start:
            return have.to(torch.float32, copy=True)
        weight = torch.zeros((stop - start, *info.shape[1:]))
        weight[: have.shape[0]] = have
        return weight

    def _read_adapter(self, base: Path, folder: Path, rows_only: bool) -> None:
        from safetensors.torch import load_file

        found = adapter_check.check(folder, check.inspect(str(base)), merges=True)
        self.scale = found.scale
        halves: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(folder / "adapter_model.safetensors").items():
            if not value.isfinite().all():
                said = f"The adapter's {key.removeprefix(_PREFIX)[:120]} holds values that are no numbers."
                raise ModelError(
                    said, "Its training broke: take an earlier checkpoint, or train again.", file=str(folder)
                )
            layer, kind, half = key.removeprefix(_PREFIX).partition(".lora_")
            if kind and rows_only:
                continue
            if half.startswith("magnitude_vector"):
                self._lengths[f"{layer}.weight"] = value
                continue
            if kind:
                halves.setdefault(f"{layer}.weight", {})[half[0]] = value
                continue
            name = layer.partition(".token_adapter.")[0] + ".weight"
            if name in self._infos:  # a tied output layer has none: its rows are the input's
                self._indices[name], self._rows[name] = found.tokens, value
        self.pairs = {name: (pair["A"], pair["B"]) for name, pair in halves.items()}


def write_model(base: Path, adapter: Path | None, out: Path, max_shard: int = 1 << 30) -> list[Path]:
    """Write the merged model as bf16 safetensors shards with config, tokenizer and template.

    An ordinary model folder, for transformers, vLLM and others. A shard of at most `max_shard` bytes (or a larger
    tensor) is in memory at a time.
    """
    import torch
    from safetensors.torch import save_file

    merged = Merged(base, adapter)
    out.mkdir(parents=True, exist_ok=True)
    shard: dict[str, Tensor] = {}
    held: list[list[str]] = []

    def flush() -> None:
        save_file(shard, out / f"{len(held)}.part", metadata={"format": "pt"})
        held.append(list(shard))
        shard.clear()

    for name, tensor in merged:
        data = tensor.to(torch.bfloat16).contiguous()
        if shard and sum(one.nbytes for one in shard.values()) + data.nbytes > max_shard:
            flush()
        shard[name] = data
    flush()
    names = [f"model-{at + 1:05d}-of-{len(held):05d}.safetensors" for at in range(len(held))]
    if len(held) == 1:
        names = ["model.safetensors"]
    else:
        size = sum((out / f"{at}.part").stat().st_size for at in range(len(held)))
        weight_map = {tensor: name for name, tensors in zip(names, held, strict=True) for tensor in tensors}
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    files = [(out / f"{at}.part").rename(out / name) for at, name in enumerate(names)]
    _write_config(base, merged, out)
    speaker = elsewhere.speaker(base, adapter)
    if (speaker / tokenizer.FAST).is_file():
        (out / tokenizer.FAST).write_bytes((speaker / tokenizer.FAST).read_bytes())
    else:
        (out / tokenizer.FAST).write_text(tokenizer.text(speaker), encoding="utf-8", newline="\n")
    if (speaker / "tokenizer_config.json").is_file():
        (out / "tokenizer_config.json").write_bytes((speaker / "tokenizer_config.json").read_bytes())
    _write_ends(base, speaker, elsewhere.template(base, adapter), out)
    if template := elsewhere.template(base, adapter):
        (out / "chat_template.jinja").write_text(template, encoding="utf-8", newline="\n")
    return files


def _write_config(base: Path, merged: Merged, out: Path) -> None:
    config = check.read_config(base)
    config["vocab_size"] = merged.rows
    config["dtype"] = "bfloat16"
    config.pop("torch_dtype", None)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _write_ends(base: Path, speaker: Path, template: str, out: Path) -> None:
    """Write the generation config with all tokens that end an answer: a base's knows the end of a text only."""
    path = base / "generation_config.json"
    config = read_object(path) if path.is_file() else {}
    if template:
        vocabulary = check.read_vocabulary(speaker)
        named, said = {index: token for token, index in vocabulary.items()}, config.get("eos_token_id")
        listed = said if isinstance(said, list) else [said]
        declared = [named[index] for index in listed if isinstance(index, int) and index in named]
        ours = family.known(template)
        declared = [*(ours.stops if ours else ()), *declared]
        eos = check.special_tokens(speaker)["eos_token"] or None
        if stops := family.stop_tokens(template, vocabulary, eos, declared):
            config["eos_token_id"] = [vocabulary[token] for token in stops]
            config.pop("_from_model_config", None)  # transformers would take config.json's in its place
    if config:
        (out / path.name).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
