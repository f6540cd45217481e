"""Log-probabilities of the reference on the disk: asked once for the same sequences, base and adapter.

A file is named after all that its numbers depend on: the sequences themselves (so that template, cut and arrangement
count, and two methods that ask for the same share it), the base's weights, the adapter as it stands in memory, and the
arithmetic. It is written beside and renamed, and begins with its own checksum: half a file, or a damaged one, is asked
again. Files live in $STUDIO_HOME/cache/reference, 1 GB at most: past that, those unused for the longest time go.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio import paths
from studio.methods.base import Row
from studio.train.policy import Policy

VERSION = 1
MOST_BYTES = 1 << 30
_SUFFIX, _DIGEST = ".ref", 32
Array = np.ndarray[Any, Any]


def root() -> Path:
    """Give the folder of the files."""
    folder = paths.cache() / "reference"
    folder.mkdir(exist_ok=True)
    return folder


def key(policy: Policy, base: Path, arithmetic: Sequence[Any], sequences: Iterable[Row]) -> str:
    """Hash all that the log-probabilities depend on; `arithmetic` says how the base computes."""
    found = hashlib.sha256()
    found.update(json.dumps([VERSION, *map(str, arithmetic), *weights(base)]).encode())
    for name, values in sorted(adapter(policy).items()):
        found.update(name.encode() + values)
    for row in sequences:
        ids, labels = np.asarray(row["ids"], np.int32), np.asarray(row["labels"], np.int32)
        found.update(len(ids).to_bytes(8, "little") + ids.tobytes() + labels.tobytes())
    return found.hexdigest()[:40]


def weights(base: Path) -> list[Any]:
    """Name a model's files by what changes with them: the config's text, size and time of the weights."""
    files = sorted([*base.glob("*.safetensors"), *base.glob("*.bin")])
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return [paths.sha256(base / "config.json"), *stats]


def adapter(policy: Policy) -> dict[str, bytes]:
    """Give what the adapter adds to the base. A pair whose B is 0 adds nothing, whatever its A: a new adapter's."""
    import torch

    if policy.full:
        return {}  # the base as its files are
    made = {}
    tensors = policy.trainable()
    for name, tensor in tensors.items():
        other = tensors.get(name.replace(".lora_A.", ".lora_B."))
        if other is None or other.any():
            made[name] = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    shape = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
    configs = getattr(policy.model, "peft_config", {}) if made else {}
    for name, config in configs.items():
        made[f"config.{name}"] = json.dumps([str(getattr(config, what, None)) for what in shape]).encode()
    return made


def read(name: str) -> Array | None:
    """Give the numbers of a key, (n, sides) float32; None where there are none, or none that are whole."""
    path = root() / (name + _SUFFIX)
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            raise ValueError(path)
        values: Array = np.load(io.BytesIO(data[_DIGEST:]), allow_pickle=False)
        os.utime(path)
    except (OSError, ValueError):
        return None
    return values


def write(name: str, values: Array) -> None:
    """Keep the numbers of a key, and let go of what was not used for long. A full disk is no reason to fail."""
    folder, buffer = root(), io.BytesIO()
    np.save(buffer, values.astype(np.float32), allow_pickle=False)
    data = buffer.getvalue()
    beside = folder / f".{name}.{os.getpid()}.tmp"
    try:
        with beside.open("wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, folder / (name + _SUFFIX))
        paths.fsync_dir(folder)
    except OSError:
        beside.unlink(missing_ok=True)
    _prune(folder)


def _prune(folder: Path) -> None:
    files = {}
    for path in folder.iterdir():
        try:
            files[path] = path.stat()
        except OSError:
            continue  # another run has just removed it
    total = sum(stat.st_size for stat in files.values())
    for path in sorted(files, key=lambda path: files[path].st_mtime):
        if total <= MOST_BYTES:
            break
        path.unlink(missing_ok=True)
        total -= files[path].st_size
