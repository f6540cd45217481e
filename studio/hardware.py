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
from studio.models.shape import Shape

if TYPE_CHECKING:
    from studio.models.catalogue import Entry
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


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The memory of a run, in GiB, by what it goes to."""

    weights: float
    adapter: float
    activations: float
    logits: float
    overhead: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.adapter + self.activations + self.logits + self.overhead

    def parts(self) -> dict[str, float]:
        """Name the parts for people."""
        return {
            "weights": self.weights,
            "adapter and optimizer": self.adapter,
            "activations": self.activations,
            "logits": self.logits,
            "overhead": self.overhead,
        }


#: On a CPU activations are recomputed from so many weights on: below, they are small, and a third of the time is saved.
CHECKPOINT_FROM = 1e8
#: From this share of the memory on a run is called tight: the rest is for what else runs, and for peaks.
TIGHT = 0.85
_OVERHEAD_GB = 0.6  # the CUDA context, or torch in memory, and what the allocator keeps in reserve


def estimate(
    model: Shape | Entry | ModelInfo,
    *,
    quantize_base: str = "nf4",
    lora_r: int = 16,
    max_length: int = 1024,
    micro_batch_size: int = 4,
    checkpointing: bool = True,
    value_bytes: int = 2,
) -> Estimate:
    """Estimate the memory of a run that trains an adapter (QLoRA with `nf4`, LoRA with `none`).

    weights = P_lin (4 + 0.127) / 8 + b P_emb                        P_lin: the layers' linear maps, P_emb: embeddings
    adapter = L r sum(in + out) (4 + 4 + 8)                          weight, gradient, two moments of AdamW, float32
    act     = N (b L d + b (6 d + 2 q + 2 k + 3 f) + 14 r)           N: tokens in memory; with checkpointing
    logits  = (b + 12) V N / 4                                       a quarter of the tokens is learned

    b = value_bytes (2: bf16, on a GPU; 4: float32, on a CPU); q, k = width of all heads, of all key/value heads;
    L layers, d hidden, f feed-forward, V vocabulary. Without checkpointing each layer keeps its own activations;
    without nf4 the linear maps take b bytes a weight. Overhead is a constant.
    """
    s = model if isinstance(model, Shape) else model.shape
    b, q, k = value_bytes, s.heads * s.head_dim, s.kv_heads * s.head_dim
    each = (4 + 0.127) / 8 if quantize_base == "nf4" else b
    tokens = micro_batch_size * max_length
    layer = b * (6 * s.hidden + 2 * q + 2 * k + 3 * s.ffn) + 14 * lora_r
    kept = b * s.layers * s.hidden + layer if checkpointing else s.layers * layer
    return Estimate(
        weights=(s.linear * each + s.embedding * b) / GIB,
        adapter=16 * s.lora(lora_r) / GIB,
        activations=tokens * kept / GIB,
        logits=(b + 12) * s.vocab * tokens / 4 / GIB,
        overhead=_OVERHEAD_GB,
    )


def estimate_here(model: Shape | Entry | ModelInfo, on: Machine, **settings: Any) -> Estimate:
    """Estimate for a machine with what Studio chooses there when nothing is set.

    On a GPU 4 bits from half a billion weights on, bf16; on a CPU float32, 4 bits only where float32 would take half
    of the memory.
    """
    s = model if isinstance(model, Shape) else model.shape
    cpu = on.device not in ("cuda", "mps")
    four = 4 * s.parameters > on.ram_gb * GIB / 2 if cpu else on.device == "cuda" and s.parameters > 5e8
    chosen = {
        "quantize_base": "nf4" if four and on.four_bit else "none",
        "checkpointing": not cpu or s.parameters > CHECKPOINT_FROM,
        "value_bytes": 4 if cpu else 2,
    }
    return estimate(s, **{**chosen, **settings})


def verdict(need: Estimate, on: Machine) -> str:
    """Say `fits`, `tight` (over 85 % of it) or `too large`: VRAM where there is a GPU, else the machine's memory."""
    have = on.vram_gb if on.device == "cuda" else on.ram_gb
    if need.total > have:
        return "too large"
    return "tight" if need.total > TIGHT * have else "fits"
