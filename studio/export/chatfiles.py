"""The files that a chat needs, made once and kept in STUDIO_HOME/base: a base, and an adapter beside it.

A base and what was trained on it share one file of weights. Rows of control tokens that were trained are in that file:
an adapter cannot hold them, and the base, which is asked in plain text, never meets them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import events, paths
from studio.errors import RunError
from studio.export import adapter as lora
from studio.export import gguf
from studio.export.merge import Merged
from studio.models import check, elsewhere
from studio.render import encode

if TYPE_CHECKING:
    from studio.export.known import Known
    from studio.render.encode import Renderer

TYPE = "Q8_0"


@dataclasses.dataclass(frozen=True)
class Files:
    """What speaks: a GGUF file, and a LoRA on it where there is one; `note` says what is unusual about them."""

    gguf: Path
    adapter: Path | None = None
    note: str = ""


def of_base(base: Path, emit: events.Emit | None = None) -> Path:
    """Give a plain base's own file."""
    return _made(base, [], lambda path: _write(base, None, path, encode.load(base), False, False, emit))


def of_adapter(base: Path, adapter: Path | None, template: str = "", emit: events.Emit | None = None) -> Files:
    """Give the files of an adapter on its base (or of a whole trained model, `adapter` None).

    `template` names the family that was trained on, "" for the model's own. With DoRA, which no adapter file can hold,
    the two are merged, and the weights are there a second time.
    """
    return _files(base, adapter, encode.load(base, template), True, emit)


def of_known(known: Known, emit: events.Emit | None = None) -> Files:
    """Give the files of anything that can be exported (known.py): a run, an adapter made elsewhere, a model."""
    if known.adapter is None and not known.tuned:
        return Files(of_base(known.base, emit))
    return _files(known.base, known.adapter, known.renderer, known.tuned, emit)


def _files(base: Path, adapter: Path | None, renderer: Renderer, tuned: bool, emit: events.Emit | None) -> Files:
    if adapter is None:
        whole = _made(base, ["whole"], lambda path: _write(base, None, path, renderer, tuned, False, emit))
        return Files(whole, note="A whole model: its weights are in memory beside the base's.")
    merged = Merged(base, adapter)
    weights = paths.sha256(adapter / "adapter_model.safetensors")
    spoken = [renderer.source if tuned else "", paths.sha256(elsewhere.speaker(base, adapter) / "tokenizer.json")]
    if merged.scaled:
        key = ["merged", weights, *spoken]
        path = _made(base, key, lambda path: _write(base, adapter, path, renderer, tuned, False, emit))
        return Files(path, note="A DoRA adapter is merged: its weights are in memory beside the base's.")
    rows = gguf.rows_of(base, adapter)
    key = ["shared", rows, *spoken]
    shared = _made(base, key, lambda path: _write(base, adapter, path, renderer, tuned, True, emit))
    on_it = _made(
        base,
        ["lora", weights],
        lambda path: lora.write(base, adapter, path, name=adapter.name, rows_in_base=True),
        "lora",
    )
    note = f"The trained rows of {len(merged.row_ids)} control tokens are in the file that both share." if rows else ""
    return Files(shared, on_it, note)


def of_run(trained: Any, emit: events.Emit | None = None) -> Files:
    """Give the files of a finished run (train.prepare.Trained). Raises RunError when its base is gone."""
    if not trained.base.is_dir():
        raise RunError(f"The base of {trained.run.id} is gone: {trained.base}", "Put the model back, or train again.")
    template = trained.about.get("template", "") if trained.adapter else ""
    return of_adapter(trained.base, trained.adapter, template, emit)


def _write(
    base: Path,
    adapter: Path | None,
    path: Path,
    renderer: Renderer,
    tuned: bool,
    rows_only: bool,
    emit: events.Emit | None,
) -> None:
    name = paths.slug(base.name, "base")
    gguf.write(base, adapter, path, renderer, name=name, dtype=TYPE, tuned=tuned, rows_only=rows_only, emit=emit)


def _made(base: Path, about: list[str], make: Any, kind: str = TYPE) -> Path:
    """Give the file for a base and what is said about it, made when it is not there yet."""
    folder = paths.home() / "base"
    folder.mkdir(exist_ok=True)
    shards = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in check.weight_files(base)]
    key = hashlib.sha256(json.dumps([str(base), shards, about]).encode()).hexdigest()[:12]
    path = folder / f"{paths.slug(base.name, 'base')}-{key}-{kind}.gguf"
    if not path.is_file():
        make(path)
    return path
