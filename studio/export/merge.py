"""Merge an adapter into the 16-bit base, one tensor at a time: the model is never held twice, not even once.

    W' = W + scale * B A,   scale = alpha / r          (Hu et al. 2021, arXiv:2106.09685, section 4.1)

Never into the 4-bit base: rounding the sum to 4 bits would throw away most of what was learned. Rows of control tokens
that were trained replace the base's rows; brand-new tokens are appended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import ExportError
from studio.models import check

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "base_model.model."
_REFUSED = {
    "use_dora": "DoRA changes the direction and the length of the weights apart",
    "modules_to_save": "whole layers were trained beside the adapter",
    "rank_pattern": "its layers have different ranks",
    "alpha_pattern": "its layers have different scales",
    "lora_bias": "it trains biases",
}


class Merged:
    """The tensors of a base with an adapter merged in, read lazily. `adapter` None gives the base as it is."""

    def __init__(self, base: Path, adapter: Path | None = None) -> None:
        self._infos = {info.name: info for info in check.read_tensors(base)}
        self._lora: dict[str, tuple[Tensor, Tensor]] = {}
        self._rows: dict[str, Tensor] = {}
        self._indices: dict[str, list[int]] = {}
        self._scale = 1.0
        if adapter is not None:
            self._read_adapter(adapter)

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

    def shape(self, name: str) -> tuple[int, ...]:
        """Give a tensor's shape after merging (appended token rows counted)."""
        shape = self._infos[name].shape
        grown = max(self._indices.get(name, [-1])) + 1
        return (max(shape[0], grown), *shape[1:])

    def tensor(self, name: str) -> Tensor:
        """Read one tensor, merged where the adapter has something for it, in float32."""
        import torch
        from safetensors import safe_open

        with safe_open(self._infos[name].file, framework="pt") as file:
            weight = file.get_tensor(name).float()
        if name in self._lora:
            a, b = self._lora[name]
            weight = weight + self._scale * (b.float() @ a.float())
        if name in self._rows:
            missing = self.shape(name)[0] - weight.shape[0]
            if missing > 0:
                weight = torch.cat([weight, weight.new_zeros(missing, weight.shape[1])])
            weight[self._indices[name]] = self._rows[name].float()
        return weight

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Give every tensor in turn."""
        for name in self._infos:
            yield name, self.tensor(name)

    def _read_adapter(self, adapter: Path) -> None:
        from safetensors.torch import load_file

        config = read_adapter_config(adapter)
        self._scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
        halves: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(adapter / "adapter_model.safetensors").items():
            name = key.removeprefix(_PREFIX)
            for half in ("lora_A", "lora_B"):
                if f".{half}.weight" in name:
                    halves.setdefault(name.replace(f".{half}.weight", ".weight"), {})[half] = value
                    break
            else:
                self._trained_rows(name, value, config)
        for name, pair in halves.items():
            a, b = pair.get("lora_A"), pair.get("lora_B")
            if name not in self._infos or a is None or b is None:
                raise ExportError(f"The adapter names {name}, which the base lacks.", "It belongs to another base.")
            if (b.shape[0], a.shape[1]) != self._infos[name].shape or a.shape[0] != b.shape[1]:
                raise ExportError(
                    f"The adapter's {name} is {b.shape[0]} x {a.shape[1]}, the base's {self._infos[name].shape}.",
                    "It belongs to another base.",
                )
            self._lora[name] = (a, b)

    def _trained_rows(self, key: str, value: Tensor, config: dict[str, Any]) -> None:
        layer, _, kind = key.partition(".token_adapter.")
        name = f"{layer}.weight"
        if kind != "trainable_tokens_delta":
            raise ExportError(f"The adapter holds {key}, which Studio cannot merge.", "Merge it with peft instead.")
        if name not in self._infos:
            return  # a tied output layer: its rows are the input's
        indices = config["trainable_token_indices"]
        self._indices[name] = list(indices if isinstance(indices, list) else indices[layer.split(".")[-1]])
        self._rows[name] = value


def read_adapter_config(adapter: Path) -> dict[str, Any]:
    """Read adapter_config.json and refuse, with the reason, what cannot be merged by the formula above."""
    config: dict[str, Any] = check.read_json(adapter / "adapter_config.json")
    for name, reason in _REFUSED.items():
        if config.get(name):
            raise ExportError(f"The adapter uses {name}: {reason}.", "Merge it with peft and export the merged model.")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, (int, float)) or not 0 < rank <= 65536:
        raise ExportError(f"The adapter's rank is {rank!r}.", "It is damaged: take it from its source again.")
    return config


def write_model(base: Path, adapter: Path | None, out: Path, max_shard: int = 4 << 30) -> list[Path]:
    """Write the merged model as bf16 safetensors shards with config, tokenizer and template.

    An ordinary model folder.
    """
    import torch
    from safetensors.torch import save_file

    merged = Merged(base, adapter)
    out.mkdir(parents=True, exist_ok=True)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    weight_map: dict[str, str] = {}
    files: list[Path] = []

    def flush() -> None:
        path = out / f"model-{len(files) + 1:05d}.safetensors"
        save_file(shards[-1], path, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shards[-1], path.name))
        files.append(path)
        shards.append({})

    for name, tensor in merged:
        data = tensor.to(torch.bfloat16).contiguous()
        if size and size + data.nbytes > max_shard:
            flush()
            size = 0
        shards[-1][name] = data
        size += data.nbytes
    flush()
    if len(files) == 1:
        files = [files[0].rename(out / "model.safetensors")]
    else:
        index = {"metadata": {"total_size": sum(f.stat().st_size for f in files)}, "weight_map": weight_map}
        (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    _write_config(base, merged, out)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        source = next((f / name for f in (adapter, base) if f is not None and (f / name).is_file()), None)
        if source is not None:
            (out / name).write_bytes(source.read_bytes())
    return files


def _write_config(base: Path, merged: Merged, out: Path) -> None:
    config = check.read_config(base)
    config["vocab_size"] = merged.rows
    config["dtype"] = "bfloat16"
    config.pop("torch_dtype", None)
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
