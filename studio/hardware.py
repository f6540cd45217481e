"""What this machine has, asked once from a child process and kept; and how much memory a run will need."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from studio import backends, paths
from studio.child import Child
from studio.errors import StudioError
from studio.models.shape import Shape

if TYPE_CHECKING:
    from studio.models.catalogue import Entry
    from studio.models.check import ModelInfo

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found; sizes in GiB. `llama` is llama-cpp-python's version, "" when it does not load, `problem` why.

    `backends` are the GPU backends that llama.cpp was built for (backends.py), none of them: it computes on the CPU.
    """

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
    bf16: bool = True
    backends: tuple[str, ...] = ()


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
        bf16=found.get("bf16", False),
        backends=tuple(found.get("backends", ())),
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
        found["bf16"] = fast_bf16(found["device"])
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
        libraries = [path.name for path in (Path(llama_cpp.__file__).parent / "lib").glob("*")]
        said = llama_cpp.llama_print_system_info().decode("utf-8", "replace")
        found["backends"] = backends.builds(libraries, said) if llama_cpp.llama_supports_gpu_offload() else []
    except (ImportError, OSError, RuntimeError) as error:
        found["llama"] = ""
        found["problem"] = found["problem"] or f"llama-cpp-python: {error}"
    yield found


def fast_bf16(device: str) -> bool:
    """Tell whether a device multiplies in bf16 by itself. A CPU without that (AVX512-BF16, AMX) is slower at it."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    asked = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")]
    return device == "mps" or any(bool(is_there()) for is_there in asked if is_there is not None)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The memory of a run, in GiB, by what it goes to; `writing` is what answers take beyond what learning does."""

    weights: float
    adapter: float
    activations: float
    logits: float
    overhead: float
    writing: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.learning + self.writing + self.overhead

    @property
    def learning(self) -> float:
        """What learning takes beside the loaded model: gradients, optimizer, activations, logits."""
        return self.adapter + self.activations + self.logits

    def parts(self) -> dict[str, float]:
        """Name the parts for people."""
        writing = {"writing answers": self.writing} if self.writing else {}
        return {
            "weights": self.weights,
            "adapter and optimizer": self.adapter,
            "activations": self.activations,
            "logits": self.logits,
            **writing,
            "overhead": self.overhead,
        }


@dataclasses.dataclass(frozen=True)
class Work:
    """What a method does with the base, as far as memory goes (methods/needs.py tells it for each).

    `sides` sequences of an example cannot lie in memory apart (2: a pair), though the prompt of them once; `learned` is
    the share of tokens that is learned; `asked` counts further adapters (reference, reward), `critic` tells of one that
    learns; `written` answers are sampled at once.
    """

    sides: int = 1
    learned: float = 0.25
    asked: int = 0
    critic: bool = False
    written: int = 0


#: On a CPU activations are recomputed from so many weights on: below, they are small, and a third of the time is saved.
CHECKPOINT_FROM = 1e8
#: On a CPU that multiplies in bf16, it is from so many weights on that this pays well; that is then said.
BF16_FROM = 1e8
#: From this share of the memory on a run is called tight: the rest is for what else runs, and for peaks.
TIGHT = 0.85
_OVERHEAD_GB = 0.6  # the CUDA context, or torch in memory, and what the allocator keeps in reserve
#: A chunk of logits in float32 takes so many bytes, and is of so many positions at most.
_CHUNK_BYTES, _CHUNK_MOST = 1 << 26, 256
#: Bytes of an optimizer's two averages, for each weight that learns.
AVERAGES = {"adamw": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2}


def chunk_of(vocabulary: int) -> int:
    """Give the positions to which the output layer is applied at a time."""
    return max(1, min(_CHUNK_MOST, _CHUNK_BYTES // 4 // vocabulary))


def rows_at_once(device: str) -> int:
    """Give the rows of full length that are in memory at once where nobody says (`micro_batch_size`)."""
    return 4 if device == "cuda" else 8


def choose(
    parameters: int,
    *,
    device: str,
    memory: float,
    four_bit: bool = True,
    bf16: bool = True,
    tuning: str = "lora",
    experts: int = 0,
) -> dict[str, Any]:
    """Choose what the user left to us, for the device and the size of the base. `memory`: the machine's, in bytes.

    4 bits on a GPU from half a billion weights on (below, the embedding outweighs the rest and nothing is saved), and
    on a CPU only where the base in float32 would take half of the memory: there 4 bits are several times slower. bf16
    on a GPU that multiplies in it (`bf16`). A CPU that does takes half the time with it (135 M weights: 1.9 times the
    tokens a second), but then learns less at first (held-out loss 1.9 % higher after 20 steps: what a young adapter
    adds is lost where a layer's sum is rounded), so there it has to be asked for.
    Of a mixture (`experts`) 4 bits would hold attention alone, a few per cent of it.
    """
    large = {"cuda": parameters > 5e8, "cpu": 4 * parameters > memory / 2}.get(device, False)
    four = large and four_bit and tuning == "lora" and not experts
    return {
        "quantize_base": "nf4" if four else "none",
        "gradient_checkpointing": device != "cpu" or parameters > CHECKPOINT_FROM,
        "dtype": "bf16" if device == "mps" or (device == "cuda" and bf16) else "float32",
        "optimizer": "paged_adamw_8bit" if device == "cuda" and four_bit else "adamw",
        "micro_batch_size": rows_at_once(device),
    }


def estimate(
    model: Shape | Entry | ModelInfo,
    *,
    quantize_base: str = "nf4",
    tuning: str = "lora",
    optimizer: str = "adamw",
    lora_r: int = 16,
    lora_dropout: float = 0.0,
    use_dora: bool = False,
    max_length: int = 1024,
    micro_batch_size: int = 4,
    batch_size: int = 16,
    gradient_checkpointing: bool = True,
    dtype: str = "bf16",
    work: Work = Work(),
    tokens: int | None = None,
    device: str = "cuda",
) -> Estimate:
    """Estimate the memory of a run from the shape of its base and its settings.

    weights = P_lin (4 + 0.127) / 8 + b P_emb           P_lin: the layers' linear maps, P_emb: the rest; nf4
            = b P, 4 P where all weights learn          b: 2 (bf16) or 4 (float32)
    adapter = n (4 + 4 + a) A + 4 n F                   n = L r sum(in + out); weight, gradient, the optimizer's
                                                        averages a; A adapters learn, F are only asked. Full: P (4 + a)
    act     = N (K + made + 4 d + 8 d S)                K = L b d + layer with checkpointing, else L layer
    logits  = (b + 4) C V, 4 C V with b = 4             C = chunk_of(V) positions at a time, never N; only what is
                                                        beyond one layer's backward, which comes when they are gone
    writing = 2 L k b W T + 2 k b W T + (b + 12) W V    W answers of up to T tokens: keys and values, one layer's copy

    `layer` is what one layer keeps of a token for the backward (Shape.kept); then come what a layer's backward makes
    and, of the share S that is learned, the hidden states with their gradient. N, the tokens in memory at once, are
    micro_batch_size * max_length, but no more than a batch has and no fewer than an example that cannot be split; or
    `tokens`, where they are known. q, k = width of all heads, of all key/value heads; L layers, d hidden, f
    feed-forward, V vocabulary. Averages that are paged lie in the machine's memory. On a CPU older C libraries keep
    freed memory in pieces too small for what comes next, and take 2 to 4 times as much in the end (train/memory.py).

    Source: counted tensor by tensor in the autograd graph of a Llama with peft 0.21; benchmarks/memory.py measures.
    """
    s = model if isinstance(model, Shape) else model.shape
    b, k = (2 if dtype == "bf16" else 4), s.kv_heads * s.head_dim
    full = tuning == "full"
    averages = 0 if optimizer.startswith("paged") and device == "cuda" else AVERAGES[optimizer]
    learning = s.lora(lora_r) * ((8 + averages) * (1 + work.critic) + 4 * work.asked)
    if full:
        learning = s.parameters * (4 + averages)
    together = work.sides - (work.sides - 1) * (1 - work.learned)
    room = max(micro_batch_size, together) * max_length
    n = min(int(room), batch_size * work.sides * max_length) if tokens is None else tokens

    layer = s.kept(b, full, lora_r, lora_dropout, use_dora)
    kept = (s.layers * b * s.hidden + layer) if gradient_checkpointing else s.layers * layer
    copies = (5 * s.linear if use_dora else 2 * s.linear if full and b == 2 else 0) // (
        s.layers if gradient_checkpointing else 1
    )
    unpacked = b * s.hidden * (s.heads * s.head_dim if s.experts else s.ffn) if quantize_base == "nf4" else 0
    passing = n * (kept + s.made(b) + 4 * s.hidden + 8 * s.hidden * work.learned) + copies + unpacked
    later = n * (s.made(b) + (layer if gradient_checkpointing else 0))
    logits = max(0, (4 if b == 4 else b + 4) * chunk_of(s.vocab) * s.vocab - later)
    answers = min(work.written, 64) * ((s.layers + 1) * 2 * k * b * max_length + (b + 12) * s.vocab)
    return Estimate(
        weights=(4 * s.parameters if full else _base(s, b, quantize_base)) / GIB,
        adapter=learning / GIB,
        activations=passing / GIB,
        logits=logits / GIB,
        overhead=_OVERHEAD_GB,
        writing=max(0, answers - passing - logits) / GIB,
    )


def _base(s: Shape, b: int, quantize_base: str) -> float:
    return s.linear * ((4 + 0.127) / 8 if quantize_base == "nf4" else b) + (s.mixed + s.embedding) * b


def estimate_here(model: Shape | Entry | ModelInfo, on: Machine, **settings: Any) -> Estimate:
    """Estimate for a machine with what Studio chooses there when nothing is set."""
    s = model if isinstance(model, Shape) else model.shape
    return estimate(s, **{**chosen_on(on, s, settings), **settings})


def chosen_on(on: Machine, s: Shape, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Choose for a machine as it was found, given what the user set; also names its device."""
    device = on.device or "cpu"
    tuning = str(settings.get("tuning", "lora"))
    there: dict[str, Any] = {"device": device, "memory": on.ram_gb * GIB, "four_bit": on.four_bit, "bf16": on.bf16}
    return {**choose(s.parameters, **there, tuning=tuning, experts=s.experts), "device": device}


def verdict(need: Estimate, on: Machine) -> str:
    """Say `fits`, `tight` (over 85 % of it) or `too large`: VRAM where there is a GPU, else the machine's memory."""
    have = on.vram_gb if on.device == "cuda" else on.ram_gb
    if need.total > have:
        return "too large"
    return "tight" if need.total > TIGHT * have else "fits"
