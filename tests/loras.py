"""LoRA adapters as GGUF, written by hand: the format as llama.cpp documents it, independent of our own writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_lora(
    base: Path, out: Path, *, seed: int = 0, rank: int = 4, alpha: float = 8.0, size: float = 0.02, parts: str = "ffn_"
) -> dict[str, Any]:
    """Write a random adapter on the matrices of a GGUF file whose name holds `parts`.

    Gives {tensor name: B A (out, in)}: what strength 1 adds to each weight is alpha / rank times that.
    """
    import gguf

    reader = gguf.GGUFReader(str(base))
    arch = str(reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(str(out), arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    draw = np.random.default_rng(seed)
    made = {}
    for tensor in reader.tensors:
        if parts in tensor.name and len(tensor.shape) == 2:
            columns, rows = map(int, tensor.shape)
            a = draw.normal(0, size, (rank, columns)).astype(np.float32)
            b = draw.normal(0, size, (rows, rank)).astype(np.float32)
            writer.add_tensor(f"{tensor.name}.lora_a", a)
            writer.add_tensor(f"{tensor.name}.lora_b", b)
            made[tensor.name] = b @ a
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made
