"""Write a model as GGUF in one pass over the base's shards, a block of rows at a time, adapter merged on the way.

What differs from one architecture to the next stands in architectures.py. One-dimensional tensors stay float32; a tied
output layer is not written: llama.cpp reads the embedding's rows again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from studio import events, paths
from studio.data.records import Message
from studio.errors import ExportError, ModelError
from studio.export import architectures, packed, vocab
from studio.export.architectures import Architecture
from studio.export.merge import Merged
from studio.models import check, elsewhere, experts, mixture, quants, tokenizer
from studio.models.architecture import EXPORTABLE
from studio.models.shape import Shape
from studio.render.labels import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from studio.render.encode import Renderer

F16_MAX = 65504.0
ALIGNMENT = 32  # bytes; the format's own, where a file does not say otherwise
BLOCK = 4 << 20  # weights of a tensor that are in memory at a time, at most (but for a whole head's rows)
_PLAIN = ("F32", "F16", "BF16")  # numbers as they are; the other types are made by packed.py


@dataclasses.dataclass(frozen=True)
class Part:
    """One tensor of the file: its name there, those of the checkpoint that lie in it (experts), its shape, its type."""

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    type_: str

    @property
    def nbytes(self) -> int:
        """Size of the data."""
        weights, size = quants.block(self.type_)
        return math.prod(self.shape) // weights * size


def writes(type_: str, model: mixture.Model) -> bool:
    """Tell whether a file of this type is written here, from the model's own weights (the others: quantize.py)."""
    if quants.TYPES[type_].needs_imatrix:
        return False
    made = {mixture.chosen(type_, weight, model)[1] for weight in model.weights}
    return made <= {*_PLAIN, *packed.BLOCKS}


def write(
    base: Path,
    adapter: Path | None,
    out: Path,
    renderer: Renderer,
    *,
    name: str,
    dtype: str = "F16",
    tuned: bool | None = None,
    rows_only: bool = False,
    durable: bool = True,
    emit: events.Emit | None = None,
    should_stop: Callable[[], None] | None = None,
) -> Path:
    """Write base (+ adapter) as one GGUF file with vocabulary, chat template and stop tokens.

    `dtype` is a type that this file `writes`. At most twice BLOCK weights are in memory at a time. The file appears
    whole or not at all. With `tuned` (by default where there is an adapter) the file's eos is the token that ends a
    turn; a plain base keeps its own. `rows_only` takes only the trained rows of control tokens from the adapter
    (Merged): the file speaks as the base in plain text, and as the adapter's run with the adapter on it. `durable`
    False leaves it to the system when the file reaches the disk, for one that others are made from and that is deleted
    then. Raises ModelError for what llama.cpp has no place for, ExportError for weights that the type cannot hold.
    """
    import gguf

    config = check.read_config(base)
    facts = architectures.find(config)
    merged = Merged(base, adapter, rows_only=rows_only)
    parts, extra = plan(merged, config, dtype), architectures.extra(config)
    carrier = elsewhere.speaker(base, adapter)
    beside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        writer = gguf.GGUFWriter(beside, EXPORTABLE[config["architectures"][0]])
        writer.add_name(_named(name, vocab.strips(carrier)))
        writer.add_file_type(gguf.LlamaFileType[quants.TYPES[dtype].constant.removeprefix("LLAMA_FTYPE_")])
        if dtype not in _PLAIN:
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        architectures.write_config(writer, config, merged.rows)
        chats = (adapter is not None if tuned is None else tuned) or not renderer.added
        _vocabulary(writer, carrier, merged.rows, renderer, chats, rows_only, tokenizer.scores(base))
        for key, array in extra.items():
            writer.add_tensor_info(key, array.shape, array.dtype, array.nbytes)
        for part in parts:
            kind = gguf.GGMLQuantizationType[part.type_]
            writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), part.nbytes, kind)
        head(writer)
        found = ((part, part.type_, rows) for part in parts for rows in blocks(part, merged, facts, config))
        with packed.Packer(part.type_ for part in parts) as packer:
            tensors = itertools.groupby(packer.pack(found), key=operator.itemgetter(0))
            data = ((rows for _, rows in tensor) for _, tensor in tensors)
            counted = _counted(data, len(parts), dtype, emit, should_stop)
            finish(beside, out, itertools.chain(([array] for array in extra.values()), counted), durable)
    finally:
        beside.unlink(missing_ok=True)
    return out


def plan(merged: Merged, config: dict[str, Any], dtype: str) -> list[Part]:
    """List the tensors of a file of this type. Raises ModelError for a tensor that llama.cpp has no place for."""
    tied = Shape.of(config, 1).tied
    mapping = names(config)
    model = mixture.model(config, ((source, merged.shape(source)) for source in merged.names))
    groups: dict[str, dict[int | None, str]] = {}
    for source in merged.names:
        if (tied and source == "lm_head.weight") or source.endswith(".rotary_emb.inv_freq"):
            continue
        stacked, number = experts.stack(source) or (source, None)
        groups.setdefault(stacked, {})[number] = source
    parts = []
    for stacked, members in groups.items():
        name = mapping.get_name(stacked, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ModelError(
                f"The tensor {stacked} has no place in GGUF.", "This variant of the architecture is not supported."
            )
        sources = tuple(members[number] for number in sorted(members, key=lambda number: number or 0))
        shape = merged.shape(sources[0])
        _, type_ = mixture.chosen(dtype, mixture.weight(sources[0], shape), model)
        parts.append(Part(name, sources, shape if None in members else (len(sources), *shape), type_))
    return parts


def names(config: dict[str, Any]) -> Any:
    """Give llama.cpp's names of a model's tensors: `names(config).get_name(source, try_suffixes=...)`."""
    import gguf

    arch = EXPORTABLE[config["architectures"][0]]
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    return gguf.get_tensor_name_map(kind, config["num_hidden_layers"])


def rows_of(base: Path, adapter: Path | None) -> str:
    """Name the rows of control tokens that an adapter brings: a hash of them, "" when there are none."""
    merged = Merged(base, adapter, rows_only=True)
    if not merged.row_ids:
        return ""
    found = hashlib.sha256()
    for row in merged.row_ids:
        for name in sorted(merged.trained_rows):
            found.update(f"{name} {row} ".encode() + merged.block(name, row, row + 1).numpy().tobytes())
    return found.hexdigest()


def reorder(rows: Tensor, source: str, facts: Architecture, config: dict[str, Any]) -> Tensor:
    """Reorder whole heads of q and k from transformers' halves to llama.cpp's pairs, where it rotates pairs."""
    if not facts.pairs or not re.search(r"\.[qk]_proj\.", source):
        return rows
    size = Shape.of(config, 1).head_dim
    return rows.reshape(-1, 2, size // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def head(writer: Any) -> None:
    """Write a file's header, and nothing else, and close it."""
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.write_padding(writer.fout[0], writer.fout[0].tell())
    finally:
        writer.close()


def finish(beside: Path, out: Path, tensors: Iterable[Iterable[np.ndarray[Any, Any]]], durable: bool = True) -> None:
    """Append tensors to a file that has its header, each block by block and padded, and put it in its place."""
    with beside.open("ab") as file:
        for data in tensors:
            size = 0
            for block in data:
                file.write(np.ascontiguousarray(block).data)
                size += block.nbytes
            file.write(bytes(-size % ALIGNMENT))
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(beside, out)
    if durable:
        paths.fsync_dir(out.parent)


def _counted(
    tensors: Iterable[Iterable[np.ndarray[Any, Any]]],
    count: int,
    dtype: str,
    emit: events.Emit | None,
    should_stop: Callable[[], None] | None,
) -> Iterator[Iterable[np.ndarray[Any, Any]]]:
    """Pass tensors on, tell how far it is, and ask before each whether to stop."""
    progress = events.Progress(emit, f"Writing {dtype}", count, "tensors") if emit else None
    for tensor in tensors:
        if should_stop is not None:
            should_stop()
        yield tensor
        if progress:
            progress.step()


def blocks(
    part: Part, merged: Merged, facts: Architecture, config: dict[str, Any], most: int = BLOCK
) -> Iterator[np.ndarray[Any, Any]]:
    """Give a tensor's data in blocks of whole heads, as they lie in the file."""
    head_dim = Shape.of(config, 1).head_dim
    for source in part.sources:
        shift = facts.norm if source.endswith("norm.weight") else 0.0
        height, *rest = merged.shape(source)
        step = max(most // math.prod(rest) // head_dim, 1) * head_dim
        for start in range(0, height, step):
            rows = merged.block(source, start, min(start + step, height))
            yield _stored(reorder(rows + shift if shift else rows, source, facts, config), source, part.type_)


def _stored(rows: Tensor, source: str, type_: str) -> np.ndarray[Any, Any]:
    """Round float32 values to the type of the tensor, where it is one of plain numbers.

    Raises ExportError where that type cannot hold them.
    """
    import torch

    if type_ == "F32":
        return rows.numpy()
    if type_ == "BF16":
        return rows.bfloat16().view(torch.int16).numpy()
    least, most = rows.aminmax()  # not abs().max(), which would write all of it once more
    largest = max(-least, most) / (127.0 if type_ == "Q8_0" else 1.0)  # the scales of a block are halves too
    if not largest <= F16_MAX:
        raise ExportError(
            f"{source} holds values that {type_} cannot (above {F16_MAX:g}, or not a number).",
            "Export as BF16 or F32.",
        )
    return rows.half().numpy() if type_ == "F16" else rows.numpy()


def _named(name: str, strips: bool) -> str:
    """Give the file's name; llama.cpp knows by it alone that special tokens take the spaces behind them (Phi-3)."""
    plain = re.sub("phi-?3", "Phi 3", name, flags=re.IGNORECASE)
    if not strips:
        return plain
    return name if plain != name else f"{name} (Phi-3)"


def _vocabulary(
    writer: Any, folder: Path, rows: int, renderer: Renderer, chats: bool, keep_eos: bool, scores: dict[str, float]
) -> None:
    words = renderer.tokenizer
    end = renderer.stop_tokens[0] if chats else None
    first = opening(renderer) if chats else None
    vocab.add_vocabulary(
        writer,
        folder,
        rows,
        template=renderer.source if chats else "",
        bos=words.bos_token,
        eos=words.eos_token if keep_eos or end is None else end,
        pad=words.pad_token,
        end_of_turn=end,
        opened=first is not None,
        add_bos=begins(renderer, chats),
        scores=scores,
    )


def opening(renderer: Renderer) -> int | None:
    """Give the special token that a chat begins with, None where it begins with text."""
    pieces = renderer.template.pieces([Message("user", "x")], generate=True)
    ids = renderer.encode([Plan(pieces, [])])[0].ids
    added = renderer.tokenizer.added_tokens_decoder
    return ids[0] if ids and ids[0] in added and added[ids[0]].special else None


def begins(renderer: Renderer, chats: bool) -> bool:
    """Tell whether programs should put BOS in front: where a chat begins with it; of a base, as its tokenizer does."""
    bos = renderer.tokenizer.bos_token_id
    if bos is None:
        return False
    return opening(renderer) == bos if chats else renderer.tokenizer("a")["input_ids"][:1] == [bos]
