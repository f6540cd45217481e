"""Load the base (in 4 bits or not) with its adapter, and find control tokens that the base never learned.

The base is loaded once; a parent's adapter is continued, not stacked, so that a run's adapter alone turns the base into
what was trained, and merging needs no order. In full fine-tuning there is none: all weights learn, in float32, for a
step of 1e-5 on a weight of 0.02 is lost in the 8 bits of bf16; the arithmetic may be in bf16 all the same.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from studio.errors import ConfigError, ModelError
from studio.hardware import choose, fast_bf16
from studio.models import experts
from studio.models.check import UNTRAINED_NORM, read_config
from studio.train import together, variants
from studio.train.policy import Policy

if TYPE_CHECKING:
    import torch

    from studio.methods.base import TrainConfig
    from studio.render.encode import Renderer

NF4_BLOCK = 64


def device() -> torch.device:
    """Choose the device: CUDA (ROCm too; of several processes each has its card), Apple's MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", together.local_rank()) if together.world() > 1 else torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def compute_dtype(where: torch.device, asked: str | None = None) -> torch.dtype:
    """Choose the dtype of the base's arithmetic: as asked for, else bf16 on GPUs that have it, float32 on a CPU."""
    import torch

    if asked is not None:
        return {"bf16": torch.bfloat16, "float32": torch.float32}[asked]
    if where.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.bfloat16 if where.type == "mps" else torch.float32


def fill_in(config: TrainConfig, parameters: int, mixture: int = 0) -> TrainConfig:
    """Choose what the user left to us, for this device and the size of the base (hardware.choose).

    `mixture` counts the experts of a layer.
    """
    where = device()
    _check_optimizer(config.optimizer, where)
    chosen = choose(
        parameters,
        device=where.type,
        memory=psutil.virtual_memory().total,
        four_bit=importlib.util.find_spec("bitsandbytes") is not None,
        bf16=fast_bf16(where.type),
        tuning=config.tuning,
        experts=mixture,
    )
    return dataclasses.replace(
        config, **{name: value for name, value in chosen.items() if getattr(config, name) is None}
    )


def _check_optimizer(asked: str | None, where: torch.device) -> None:
    asked = asked or "adamw"
    if (where.type == "mps" and asked != "adamw") or (where.type == "cpu" and asked.startswith("paged")):
        raise ConfigError(f"{asked} does not work on this device ({where.type}).", "Use adamw.", field="optimizer")
    if asked != "adamw" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(f"{asked} needs bitsandbytes, which is not installed.", "Use adamw.", field="optimizer")


def load(
    folder: Path, renderer: Renderer, config: TrainConfig, parent: Path | None = None, run: Path | None = None
) -> Policy:
    """Load a base with a new adapter, or with a copy of the parent's adapter to continue; or to learn itself.

    LoRA on all linear layers but the output layer (Dettmers et al. 2023), of a mixture on attention's. `run` is the
    run's directory, where an adapter that does not begin as nothing keeps what it began with. Raises ModelError and
    ConfigError.
    """
    import peft
    import torch

    where, full = device(), config.tuning == "full"
    dtype = torch.float32 if full else compute_dtype(where, config.dtype)
    base = load_base(folder, config.quantize_base or "none", where, dtype)
    new_tokens = _untrained(base, renderer)
    if len(renderer.tokenizer) > base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(len(renderer.tokenizer), mean_resizing=False)
        _start_at_mean(base, renderer)
    base.config.use_cache = False
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
    if full:
        model = base
        if parent is not None:
            model = peft.PeftModel.from_pretrained(base, parent, is_trainable=False, local_files_only=True)
            model = model.merge_and_unload()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    elif parent is not None:
        _check_parent(parent, config)
        model = peft.PeftModel.from_pretrained(base, parent, is_trainable=True, local_files_only=True)
        new_tokens = _flat(json.loads((parent / "adapter_config.json").read_text("utf-8")))
    else:
        tied = bool(getattr(base.config, "tie_word_embeddings", False))
        lora = peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=config.lora_r,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            use_rslora=config.use_rslora,
            use_dora=config.use_dora,
            target_modules=experts.ATTENTION if experts.numbers(read_config(folder)) else "all-linear",
            trainable_token_indices=_token_layers(base, new_tokens, tied) if new_tokens else None,
        )
        model = peft.get_peft_model(base, lora)
    model.train()
    policy = Policy(
        model,
        where,
        new_tokens,
        noise=config.neftune_noise_alpha,
        recomputes=bool(config.gradient_checkpointing),
    )
    if config.init_lora_weights != "default" and run is not None:
        variants.begin(policy, folder, config, run)
    return policy


def load_base(folder: Path, quantize_base: str, where: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Load the base frozen: `nf4` is 4-bit NormalFloat with double quantisation, `none` keeps 16 or 32 bits."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    dtype = dtype or compute_dtype(where)
    quantization = None
    if quantize_base == "nf4":
        if where.type == "mps":
            raise ConfigError(
                "4-bit training does not work on this Mac.", "Use --set quantize_base=none.", field="quantize_base"
            )
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=storage(dtype),
        )
    try:
        base = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            quantization_config=quantization,
            device_map={"": where.type if where.index is None else where},
            attn_implementation="sdpa" if _scaled_dot_product(folder) else "eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"The model could not be loaded: {reason[0][:300] if reason else type(error).__name__}",
            "`studio models check FOLDER` looks at the folder; worker.log in the run's folder has the details.",
            file=str(folder),
        ) from error
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    if quantize_base == "nf4":
        _check_blocks(base)
        _keep_differentiable(base)
    return base


def _scaled_dot_product(folder: Path) -> bool:
    """Tell whether transformers computes this architecture's attention in one call; Gemma 2 caps its scores between."""
    import transformers

    kind = (read_config(folder).get("architectures") or [""])[0]
    return bool(getattr(getattr(transformers, kind, None), "_supports_sdpa", True))


def storage(dtype: torch.dtype) -> torch.dtype:
    """Choose the type that 4-bit weights lie in: FSDP shards tensors of one type only, so there it is the others'."""
    import torch

    return dtype if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true") else torch.uint8


def _keep_differentiable(base: Any) -> None:
    """Keep bitsandbytes from packing the weights anew at the first evaluation on a CPU with AVX512-BF16.

    It never unpacks them, and the kernel for packed ones has no gradient: all layers below would learn nothing, unsaid.
    """
    for module in base.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False


def _check_blocks(base: Any) -> None:
    """bitsandbytes packs weights in blocks of 64 along each row; a row of another length fails only when it is used."""
    for name, module in base.named_modules():
        if type(module).__name__ == "Linear4bit" and module.in_features % NF4_BLOCK:
            raise ConfigError(
                f"{name} has {module.in_features} inputs, which 4 bits cannot hold (no multiple of {NF4_BLOCK}).",
                "Use --set quantize_base=none.",
                field="quantize_base",
            )


def _untrained(base: Any, renderer: Renderer) -> list[int]:
    """List the template's control tokens that the base never learned: brand-new ones, and rows of hardly any length."""
    weight = base.get_input_embeddings().weight.detach().float()
    norms = weight.norm(dim=1)
    median = norms[norms > 0].median()
    rows = weight.shape[0]
    return [token for token in renderer.control_ids if token >= rows or norms[token] < UNTRAINED_NORM * median]


def _start_at_mean(base: Any, renderer: Renderer) -> None:
    """Start brand-new tokens at the mean of the old rows, in the input and the output embedding."""
    new = len(renderer.added_tokens)
    for layer in (base.get_input_embeddings(), base.get_output_embeddings()):
        weight = layer.weight.data
        weight[-new:] = weight[:-new].float().mean(0).to(weight.dtype)


def _token_layers(base: Any, tokens: Sequence[int], tied: bool) -> dict[str, list[int]]:
    """Name the embedding layers whose rows are trained: the input's, and the output's too where they are not tied."""
    names = {id(module): name.split(".")[-1] for name, module in base.named_modules()}
    layers = [base.get_input_embeddings()] + ([] if tied else [base.get_output_embeddings()])
    return {names[id(layer)]: list(tokens) for layer in layers}


def _flat(adapter: dict[str, Any]) -> list[int]:
    indices = adapter.get("trainable_token_indices") or {}
    return sorted(set(indices if isinstance(indices, list) else [i for row in indices.values() for i in row]))


def _check_parent(parent: Path, config: TrainConfig) -> None:
    """A child continues its parent's adapter, so its shape must be the parent's."""
    adapter = json.loads((parent / "adapter_config.json").read_text("utf-8"))
    own = {"lora_r": adapter["r"], **{name: adapter.get(name) or False for name in ("use_rslora", "use_dora")}}
    for name, value in {"lora_alpha": adapter["lora_alpha"], **own}.items():
        if getattr(config, name) != value:
            raise ConfigError(
                f"The parent's adapter has {name} {value}, this run asks for {getattr(config, name)}.",
                f"Leave {name} out: a child continues its parent's adapter.",
                field=name,
            )
