"""Look at a model folder before anything is loaded from it: is it whole, is it safe, can we train and export it?

Reads JSON and safetensors headers only: no code of the folder is run, nothing is unpickled, no framework is imported.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any

from studio.errors import ModelError
from studio.models import family, hub

_MAX_HEADER = 100 << 20
_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}

#: transformers' class -> llama.cpp's architecture: what we can train and also export.
EXPORTABLE = {"LlamaForCausalLM": "llama"}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a model card in the window says. `template` is where the chat template comes from; sizes are in bytes."""

    name: str
    folder: str
    architecture: str
    parameters: int
    layers: int
    hidden_size: int
    vocab_size: int
    context: int
    bytes: int
    dtype: str
    template: str
    family: str
    end_of_turn: str
    stop_tokens: list[str]
    licence: str
    exportable: bool
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One tensor of a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path


def inspect(model: str) -> ModelInfo:
    """Check a model (`starter`, a folder, a hub id) and describe it.

    Raises ModelError with a remedy when it cannot be used.
    """
    folder = hub.resolve(model)
    config = read_config(folder)
    architecture = (config.get("architectures") or ["unknown"])[0]
    tensors = read_tensors(folder)
    vocabulary = read_vocabulary(folder)
    vocab_size = _whole(config, "vocab_size", folder)
    if vocabulary and max(vocabulary.values()) >= vocab_size:
        raise ModelError(
            f"The tokenizer knows {max(vocabulary.values()) + 1} tokens, the model's embedding has {vocab_size} rows.",
            "Take tokenizer and weights from the same source.",
            file=str(folder / "tokenizer.json"),
        )
    own = read_template(folder)
    fam = family.choose(architecture, vocabulary)
    source = own or fam.template
    stops = family.stop_tokens(source, vocabulary, _eos(folder))
    ends = stops[0] if stops else fam.end_of_turn
    return ModelInfo(
        name="Studio starter" if model == "starter" else folder.name if folder.exists() else model,
        folder=str(folder),
        architecture=architecture,
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        layers=_whole(config, "num_hidden_layers", folder),
        hidden_size=_whole(config, "hidden_size", folder),
        vocab_size=vocab_size,
        context=int(config.get("max_position_embeddings") or 0),
        bytes=sum(math.prod(tensor.shape) * _BYTES[tensor.dtype] for tensor in tensors),
        dtype=max({t.dtype for t in tensors}, key=lambda d: sum(math.prod(t.shape) for t in tensors if t.dtype == d)),
        template="its own" if own else f"none of its own: {fam.title} is added",
        family=(family.identify(own) or "its own") if own else fam.name,
        end_of_turn=ends,
        stop_tokens=stops or [fam.end_of_turn],
        licence=_licence(folder),
        exportable=architecture in EXPORTABLE,
        config=config,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json and refuse what could run code."""
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise ModelError("config.json is not an object.", "Download the model again.", file=str(path))
    if "auto_map" in config:
        raise ModelError(
            "The model wants its own Python code to be run (auto_map).",
            "Studio never runs code from a model folder. Choose a model that transformers supports by itself.",
            file=str(path),
        )
    for key in config:
        if key.startswith("_attn_implementation") or key == "model_file":
            raise ModelError(f"config.json sets {key!r}, which can load foreign code.", "Remove it.", file=str(path))
    if scripts := sorted(folder.glob("*.py")):
        raise ModelError(
            f"The folder holds Python code ({scripts[0].name}).",
            "Studio never runs code from a model folder. Remove the file, or choose another model.",
            file=str(scripts[0]),
        )
    return config


def read_tensors(folder: Path) -> list[TensorInfo]:
    """List all tensors, checking every shard's header; refuses pickle weights and incomplete shards."""
    files = weight_files(folder)
    return [tensor for file in files for tensor in read_header(file)]


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors shards of a folder."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        listed = read_json(index).get("weight_map", {})
        names = sorted(set(listed.values())) if isinstance(listed, dict) else []
        for name in names:
            if not isinstance(name, str) or Path(name).name != name:
                raise ModelError(f"The index names {name!r}, outside the folder.", "Do not use it.", file=str(index))
            if not (folder / name).is_file():
                raise ModelError(f"The shard {name} is missing.", "Download the model again.", file=str(index))
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
    if pickles:
        raise ModelError(
            f"The weights are a pickle file ({pickles[0].name}), which can run any code when it is opened.",
            "Choose a model with safetensors weights.",
            file=str(pickles[0]),
        )
    raise ModelError("There are no weights (model.safetensors).", "Download the model again.", file=str(folder))


def read_header(path: Path) -> list[TensorInfo]:
    """Read a safetensors header and check it: size, ranges, no overlap, no gap, bytes = shape x dtype."""
    size = path.stat().st_size

    def bad(what: str) -> ModelError:
        return ModelError(f"{path.name}: {what}", "Download the file again.", file=str(path))

    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise bad("it is too short to be a safetensors file.")
        (length,) = struct.unpack("<Q", prefix)
        if length > _MAX_HEADER or 8 + length > size:
            raise bad("its header is damaged.")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise bad("its header is not JSON.") from None
    if not isinstance(header, dict):
        raise bad("its header is damaged.")
    found, spans = [], []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            right = all(isinstance(n, int) and n >= 0 for n in (*shape, start, end))
            right = right and end - start == math.prod(shape) * _BYTES[dtype]
        except (KeyError, TypeError, ValueError):
            right = False
        if not right or end > size - 8 - length:
            raise bad(f"the tensor {name[:80]!r} does not fit the file: it is damaged or cut off.")
        spans.append((start, end))
        found.append(TensorInfo(name, dtype, shape, path))
    at = 0
    for start, end in sorted(spans):
        if start != at:
            raise bad("its tensors overlap or leave gaps.")
        at = end
    if at != size - 8 - length:
        raise bad("it is cut off or has data that belongs to no tensor.")
    return found


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Read token -> id from tokenizer.json, added tokens included."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError("There is no tokenizer.json.", "Choose a model with a fast tokenizer.", file=str(folder))
    data = read_json(path)
    vocabulary = data.get("model", {}).get("vocab", {}) if isinstance(data, dict) else {}
    if isinstance(vocabulary, list):
        vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
    added = {token["content"]: token["id"] for token in data.get("added_tokens", [])}
    return {**vocabulary, **added}


def read_template(folder: Path) -> str:
    """Read the model's own chat template, "" when it has none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    config = folder / "tokenizer_config.json"
    template = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def read_json(path: Path) -> Any:
    """Read a JSON file of a model folder; ModelError when it is missing or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.name} is missing.", "Choose a folder with a whole model.", file=str(path)) from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path.name} is not valid JSON.", "Download the model again.", file=str(path)) from None


def _eos(folder: Path) -> str | None:
    path = folder / "tokenizer_config.json"
    eos = read_json(path).get("eos_token") if path.is_file() else None
    return eos.get("content") if isinstance(eos, dict) else eos


def _whole(config: dict[str, Any], name: str, folder: Path) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ModelError(f"config.json has no usable {name}.", "Download it again.", file=str(folder / "config.json"))
    return value


def _licence(folder: Path) -> str:
    """Read `license:` from the front matter of the model card, "" when there is none."""
    card = folder / "README.md"
    if card.is_file():
        head = card.read_text("utf-8", errors="replace")[:4000].split("---")
        for line in head[1].splitlines() if len(head) > 2 else []:
            if line.startswith("license:"):
                return line.partition(":")[2].strip()
    return ""
