"""What this machine has, asked once from a child process and kept; and how much memory a run will need."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psutil

from studio import paths
from studio.child import Child
from studio.errors import StudioError

if TYPE_CHECKING:
    from studio.models.check import ModelInfo

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found; sizes in GiB. `llama` is llama-cpp-python's version, "" when it does not load, `problem` why."""

    system: str
    cpu: str
    cores: int
    ram_gb: float
    disk_free_gb: float
    gpu: str
    vram_gb: float
    device: str
    torch: str
    four_bit: bool
    llama: str
    problem: str


@functools.cache
def machine() -> Machine:
    """Look at this machine; torch and llama.cpp are asked in a child, so that nothing heavy is loaded here."""
    child = Child("studio.hardware:handle")
    try:
        found = child.ask({}, timeout=120)
    except StudioError as error:
        found = {"problem": error.message}
    finally:
        child.close()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        ram_gb=round(psutil.virtual_memory().total / GIB, 1),
        disk_free_gb=round(shutil.disk_usage(paths.home()).free / GIB, 1),
        gpu=found.get("gpu", ""),
        vram_gb=found.get("vram_gb", 0.0),
        device=found.get("device", ""),
        torch=found.get("torch", ""),
        four_bit=found.get("four_bit", False),
        llama=found.get("llama", ""),
        problem=found.get("problem", ""),
    )


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Ask torch, bitsandbytes and llama.cpp, in the child."""
    found: dict[str, Any] = {"problem": ""}
    try:
        import torch

        found["torch"] = torch.__version__
        found["device"] = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        if found["device"] == "cuda":
            facts = torch.cuda.get_device_properties(0)
            found["gpu"], found["vram_gb"] = facts.name, round(facts.total_memory / GIB, 1)
    except (ImportError, OSError) as error:
        found["problem"] = f"torch: {error}"
    try:
        import bitsandbytes.functional as bnb
        import torch

        if found["device"] in ("cpu", "cuda"):
            quantized, state = bnb.quantize_4bit(torch.ones(64, 64, device=found["device"]), quant_type="nf4")
            found["four_bit"] = bool(torch.isfinite(bnb.dequantize_4bit(quantized, state)).all())
    except Exception as error:  # any failure here means the same: no 4-bit
        found["four_bit"] = False
        found["problem"] = found["problem"] or f"bitsandbytes: {error}"
    try:
        import llama_cpp

        found["llama"] = llama_cpp.__version__
    except (ImportError, OSError, RuntimeError) as error:
        found["llama"] = ""
        found["problem"] = found["problem"] or f"llama-cpp-python: {error}"
    yield found


def estimate_gb(
    info: ModelInfo,
    *,
    quantize_base: str = "nf4",
    lora_r: int = 16,
    max_length: int = 1024,
    micro_batch_size: int = 4,
    checkpointing: bool = True,
) -> float:
    """Estimate the memory of a QLoRA run in GiB.

    weights = P_lin (4 + 0.127) / 8 + (1|2) V d b + norms        (b: bytes of the embedding's dtype)
    lora    = n_r (4 + 4 + 8)                                     n_r = L r sum(in + out) of the seven projections
    act     = N (2 L d + 2 (6 d + 2 q + 2 k + 3 f) + 14 r)        N = tokens in memory, with checkpointing
    logits  = 14 V N_learned                                      a quarter of the tokens is learned
    """
    config = info.config
    layers, d, f, v = (
        info.layers,
        info.hidden_size,
        int(config.get("intermediate_size") or 4 * info.hidden_size),
        info.vocab_size,
    )
    heads = int(config.get("num_attention_heads") or 1)
    head_dim = int(config.get("head_dim") or d // heads)
    q, k = heads * head_dim, int(config.get("num_key_value_heads") or heads) * head_dim
    p_lin = layers * (d * q * 2 + d * k * 2 + 3 * d * f)
    tied = bool(config.get("tie_word_embeddings"))
    weights = p_lin * ((4 + 0.127) / 8 if quantize_base == "nf4" else 2) + (1 if tied else 2) * v * d * 2
    lora = layers * lora_r * (2 * (d + q) + 2 * (d + k) + 3 * (d + f)) * 16
    tokens = micro_batch_size * max_length
    act = tokens * ((2 * layers * d if checkpointing else 0) + 2 * (6 * d + 2 * q + 2 * k + 3 * f) + 14 * lora_r)
    if not checkpointing:
        act *= layers
    logits = tokens / 4 * v * 14
    return float((weights + lora + act + logits) / GIB + 0.6)
