"""How many layers of a model go to the GPU: as many as fit in what is free there, the rest stays with the processor."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Sequence
from typing import Any

_MIB = 1 << 20
#: What llama.cpp's own buffers and the driver take beside weights and cache, at least.
SPARE = 512 * _MIB
#: The share of a GPU's memory that stays free; more of it beside a training, whose need still grows.
SPARE_SHARE, SPARE_BUSY = 0.05, 0.2
_KINDS = (1, 2)  # ggml_backend_dev_type: GPU, integrated GPU


@dataclasses.dataclass(frozen=True)
class Device:
    """A GPU as llama.cpp sees it; sizes in bytes."""

    name: str
    free: int
    total: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many layers to hand to the GPU (the output layer counts as one, after all others), and why not all."""

    layers: int
    reason: str = ""


def plan(
    device: str,
    can_offload: bool,
    devices: Sequence[Device] | None,
    layers: int,
    weight_bytes: int,
    cache_bytes: int,
    busy: bool = False,
) -> Plan:
    """Decide for a model of so many layers.

    `device` is `auto` or `cpu`; `devices` None: this build does not tell, so all layers are tried. A layer takes its
    share of weights and cache: free - spare >= n (weights + cache) / (layers + 1).
    """
    if device == "cpu":
        return Plan(0, "the processor was asked for")
    if not can_offload:
        return Plan(0)
    if devices is None:
        return Plan(layers + 1)
    if not devices:
        return Plan(0, "this llama.cpp is built for a GPU, and finds none")
    share = SPARE_BUSY if busy else SPARE_SHARE
    room = sum(max(0, gpu.free - max(SPARE, int(share * gpu.total))) for gpu in devices)
    each = max(1.0, (weight_bytes + cache_bytes) / (layers + 1))
    fit = min(layers + 1, int(room / each))
    if fit == layers + 1:
        return Plan(fit)
    free = sum(gpu.free for gpu in devices)
    beside = " beside the training" if busy else ""
    return Plan(fit, f"{free / 1e9:.1f} GB of the GPU's memory are free{beside}")


def devices() -> list[Device] | None:
    """Ask llama.cpp for the GPUs and their memory; None where the library does not tell."""
    from llama_cpp import _ggml

    try:
        lib = _ggml.libggml
        get, kind, name, memory = (
            getattr(lib, f"ggml_backend_dev_{part}") for part in ("get", "type", "name", "memory")
        )
        get.argtypes, get.restype = [ctypes.c_size_t], ctypes.c_void_p
        kind.argtypes, kind.restype = [ctypes.c_void_p], ctypes.c_int
        name.argtypes, name.restype = [ctypes.c_void_p], ctypes.c_char_p
        memory.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]
        memory.restype = None
        lib.ggml_backend_dev_count.argtypes, lib.ggml_backend_dev_count.restype = [], ctypes.c_size_t
    except AttributeError:
        return None
    found: list[Device] = []
    for index in range(lib.ggml_backend_dev_count()):
        device = get(index)
        if kind(device) in _KINDS:
            free, total = ctypes.c_size_t(), ctypes.c_size_t()
            memory(device, free, total)
            found.append(Device((name(device) or b"GPU").decode(), free.value, total.value))
    return found


def cache_bytes(meta: dict[str, str], n_ctx: int) -> int:
    """Estimate a 16-bit cache: 2 (keys, values) x 2 bytes x layers x context x heads x head size."""
    arch = meta.get("general.architecture", "")

    def number(name: str, default: int) -> int:
        value = meta.get(f"{arch}.{name}", "")
        return int(value) if value.isdigit() else default

    width, heads = number("embedding_length", 4096), number("attention.head_count", 32)
    size = number("attention.key_length", width // max(1, heads))
    return 4 * number("block_count", 32) * n_ctx * number("attention.head_count_kv", heads) * size


def said(plan: Plan, devices: Sequence[Device] | None, layers: int) -> str:
    """Name where a model is: `CPU`, or `CUDA0, 30 of 30 layers`."""
    if not plan.layers:
        return "CPU"
    names: Any = ", ".join(gpu.name for gpu in devices or ()) or "GPU"
    return f"{names}, {min(plan.layers, layers)} of {layers} layers"
