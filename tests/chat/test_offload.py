"""How many layers go to a GPU: numbers by hand; and what a machine without one is told."""

from __future__ import annotations

import pytest

from studio.chat import offload
from studio.chat.offload import Device, Plan

GB = 10**9


def plan(free: int, total: int = 24 * GB, weights: int = 6 * GB, cache: int = 2 * GB, busy: bool = False) -> Plan:
    return offload.plan("auto", True, [Device("CUDA0", free, total)], 31, weights, cache, busy)


def test_all_layers_go_where_all_fit() -> None:
    # 8 GB in 32 parts of 0.25 GB; 5 % of 24 GB (1.2 GB) stay free: 9.2 GB are enough, a byte less is not
    assert plan(9_200_000_000) == Plan(32)
    assert plan(9_199_999_999).layers == 31


def test_as_many_layers_as_fit_beside_a_training() -> None:
    # 20 % of 24 GB stay free: 8 GB - 4.8 GB = 3.2 GB hold 12 parts of 0.25 GB
    found = plan(8 * GB, busy=True)
    assert found == Plan(12, "8.0 GB of the GPU's memory are free beside the training")
    assert offload.said(found, [Device("CUDA0", 8 * GB, 24 * GB)], 31) == "CUDA0, 12 of 31 layers"


def test_a_small_gpu_keeps_half_a_gib_free() -> None:
    spare = 512 << 20
    assert plan(spare + 250_000_000, total=2 * GB).layers == 1
    assert plan(spare - 1, total=2 * GB) == Plan(0, "0.5 GB of the GPU's memory are free")


def test_several_gpus_are_added_up() -> None:
    two = [Device("CUDA0", 5 * GB, 10 * GB), Device("CUDA1", 5 * GB, 10 * GB)]
    # each keeps 512 MiB: 2 x (5 - 0.5369) GB = 8.926 GB
    assert offload.plan("auto", True, two, 31, 6 * GB, 2 * GB) == Plan(32)
    assert offload.said(Plan(32), two, 31) == "CUDA0, CUDA1, 31 of 31 layers"


def test_the_processor_is_taken_for_a_reason() -> None:
    assert offload.plan("cpu", True, [Device("CUDA0", 24 * GB, 24 * GB)], 31, GB, GB).reason
    assert offload.plan("auto", False, None, 31, GB, GB) == Plan(0)  # a build without a GPU: nothing to explain
    assert "finds none" in offload.plan("auto", True, [], 31, GB, GB).reason
    assert offload.plan("auto", True, None, 31, GB, GB) == Plan(32)  # it does not tell: all are tried
    assert offload.said(Plan(0), [], 31) == "CPU"


def test_a_cache_is_counted_in_16_bits() -> None:
    meta = {
        "general.architecture": "llama",
        "llama.block_count": "30",
        "llama.embedding_length": "576",
        "llama.attention.head_count": "9",
        "llama.attention.head_count_kv": "3",
    }
    # keys and values: 2 x 2 bytes x 30 layers x 2048 tokens x 3 heads x 64
    assert offload.cache_bytes(meta, 2048) == 47_185_920
    assert offload.cache_bytes({**meta, "llama.attention.key_length": "128"}, 2048) == 2 * 47_185_920


def test_this_build_is_asked_for_its_gpus() -> None:
    binding = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    found = offload.devices()
    assert found is not None and all(0 <= gpu.free <= gpu.total for gpu in found)
    if not binding.llama_supports_gpu_offload():
        assert found == []
