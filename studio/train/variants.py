"""What can be trained with what, and how a new adapter begins.

PiSSA, OLoRA and LoftQ begin with factors A0, B0 that are not zero. Of a 16 or 32-bit base their product is taken out of
the weights, so that the model is the same before its first step:

    W = (W - s B0 A0) + s B0 A0                                                                  s: alpha / r

What is trained then is no adapter of the base as it lies on the disk. Saved is the difference, an ordinary LoRA of
twice the rank against that base, which merge, export, chat and a child run read as any other:

    s (B A - B0 A0) = s [B, -B0] [A; A0]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import paths
from studio.errors import ConfigError
from studio.methods.base import Method, TrainConfig
from studio.models.tensors import read_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from studio.train.policy import Policy

#: The factors that an adapter began with, in the run's directory: a resumed run must begin from the same.
START = "start.safetensors"
_PREFIX = "base_model.model."
_WEIGHTS = "adapter_model.safetensors"


def check(method: Method, config: TrainConfig, continued: bool, mixture: int = 0) -> None:
    """Refuse settings that do not go together.

    `continued` tells that a parent's adapter is trained on; `mixture` counts the experts of a layer of the base.
    """
    start = config.init_lora_weights
    shared = method.kind == "online" or bool(method.head)
    if config.tuning == "full":
        if shared:
            _refuse(
                "tuning",
                f"what {method.name} makes shares its base with other adapters, so all weights of it cannot learn",
                "Use tuning=lora.",
            )
        if mixture:
            _refuse(
                "tuning",
                "this base is a mixture of experts, whose router would unlearn to keep them all at work: nothing here "
                "teaches it that",
                "Use tuning=lora.",
            )
        if config.quantize_base == "nf4":
            _refuse("quantize_base", "4-bit weights cannot learn, only an adapter on them", "Use quantize_base=none.")
        for name in ("use_dora", "use_rslora"):
            if getattr(config, name):
                _refuse(name, f"{name} is about an adapter, and full fine-tuning has none", "Leave it out.")
        if start != "default":
            _refuse("init_lora_weights", "full fine-tuning has no adapter to begin with", "Leave it out.")
    if start != "default":
        if continued:
            _refuse("init_lora_weights", "a child continues its parent's adapter, nothing begins", "Leave it out.")
        if method.kind == "online":
            _refuse(
                "init_lora_weights",
                f"{start} changes the base, which {method.name} shares with the reward model",
                "Leave it out.",
            )
        for name in ("use_dora", "use_rslora"):
            if getattr(config, name):
                _refuse(
                    "init_lora_weights",
                    f"{start} scales its own factors by alpha / r; with {name} they mean something else",
                    f"Leave out one of init_lora_weights and {name}.",
                )
        if (start == "loftq") != (config.quantize_base == "nf4"):
            why = (
                "loftq makes up for what 4 bits lose, and this base is not in 4 bits"
                if start == "loftq"
                else f"{start} takes its product out of the base's weights, which 4 bits would round again"
            )
            _refuse("init_lora_weights", why, "Use quantize_base=nf4 with loftq, quantize_base=none with the others.")
    if config.neftune_noise_alpha and (method.reference or method.kind == "online"):
        _refuse(
            "neftune_noise_alpha",
            f"{method.name} compares with a reference that has no noise: the difference would be the noise's",
            "Use it with sft.",
        )


def _refuse(field: str, why: str, remedy: str) -> None:
    raise ConfigError(f"{why[0].upper()}{why[1:]}.", remedy, field=field)


def begin(policy: Policy, folder: Path, config: TrainConfig, run: Path) -> None:
    """Give a new adapter the factors that it begins with, kept in the run's directory, and the base what is left."""
    import torch
    from safetensors.torch import load_file, save_file

    layers = _layers(policy)
    kept = run / START
    if not kept.is_file():
        factors: dict[str, Tensor] = {}
        for name, layer in layers.items():
            a, b = _factors(config.init_lora_weights, _source(layer, name, folder), config.lora_r, _scale(config))
            factors |= {f"{name}.A": a.cpu().contiguous(), f"{name}.B": b.cpu().contiguous()}
        save_file(factors, run / ".start.tmp")
        (run / ".start.tmp").replace(kept)
    factors = load_file(kept)
    with torch.no_grad():
        for name, layer in layers.items():
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            a.copy_(factors[f"{name}.A"])
            b.copy_(factors[f"{name}.B"])
            if config.init_lora_weights != "loftq":
                weight = layer.get_base_layer().weight
                weight.copy_((weight.float() - _scale(config) * (b @ a)).to(weight.dtype))


def _scale(config: TrainConfig) -> float:
    return config.lora_alpha / config.lora_r


def _layers(policy: Policy) -> dict[str, Any]:
    """Give the layers that have an adapter, by their name in the base."""
    found = policy.model.named_modules()
    return {name.removeprefix(_PREFIX): layer for name, layer in found if hasattr(layer, "lora_A")}


def _source(layer: Any, name: str, folder: Path) -> Tensor:
    """Give the matrix that is factored, (out, in) float32: the weights, or what 4 bits lose of them."""
    base = layer.get_base_layer()
    if type(base).__name__ != "Linear4bit":
        found: Tensor = base.weight.detach().float()
        return found
    import bitsandbytes.functional as bnb
    from safetensors import safe_open

    file = next(info.file for info in read_tensors(folder) if info.name == f"{name}.weight")
    with safe_open(file, framework="pt") as opened:
        weight = opened.get_tensor(f"{name}.weight").to(base.weight.device).float()
    return weight - bnb.dequantize_4bit(base.weight.data, base.weight.quant_state).float()


def _factors(start: str, weight: Tensor, r: int, scale: float) -> tuple[Tensor, Tensor]:
    """Factor a matrix (out, in) as s B A, with A (r, in) and B (out, r) in float32.

    pissa: its r largest singular values, an equal share in both (Meng et al. 2024, arXiv:2404.02948, eq. 2 and 3), or
    nearly so by a few power iterations; loftq: the same of what 4 bits lose (Li et al. 2023, arXiv:2310.08659,
    algorithm 1, T = 1); olora: the first r columns of its QR (Buyukakyuz 2024, arXiv:2406.01775).
    """
    import torch

    if r > min(weight.shape):
        raise ConfigError(
            f"A layer of {weight.shape[0]} x {weight.shape[1]} has no {r} parts to begin with ({start}).",
            f"Use lora_r={min(weight.shape)} or less.",
            field="lora_r",
        )
    if start == "olora":
        q, upper = torch.linalg.qr(weight)
        return upper[:r], q[:, :r]
    if start.startswith("pissa_niter_"):
        u, values, v = torch.svd_lowrank(weight, r, niter=int(start.rpartition("_")[2]))
        rows = v.T
    else:
        u, values, rows = torch.linalg.svd(weight, full_matrices=False)
    root = (values[:r] / scale).sqrt()
    return root[:, None] * rows[:r], u[:, :r] * root


def settle(adapter: Path, run: Path) -> dict[str, Any]:
    """Turn a saved adapter that began with factors of its own into an ordinary LoRA against the base on the disk.

    Gives what its config then says about rank and scale.
    """
    import torch
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_config.json"
    config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if (run / START).is_file():
        start = load_file(run / START)
        made = {}
        for key, value in load_file(adapter / _WEIGHTS).items():
            layer, kind, half = key.removeprefix(_PREFIX).partition(".lora_")
            if kind and half[0] == "A":
                value = torch.cat([value, start[f"{layer}.A"]])
            elif kind:
                value = torch.cat([value, -start[f"{layer}.B"]], dim=1)
            made[key] = value.contiguous()
        save_file(made, adapter / _WEIGHTS, metadata={"format": "pt"})
        config |= {"r": 2 * config["r"], "lora_alpha": 2 * config["lora_alpha"], "init_lora_weights": True}
        paths.write_text(path, json.dumps(config, indent=1) + "\n")
    return {name: config[name] for name in ("lora_alpha", "use_rslora", "use_dora")} | {"lora_r": config["r"]}
