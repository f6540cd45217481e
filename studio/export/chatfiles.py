"""The files that a chat needs, made once and kept in STUDIO_HOME/base: a base, and an adapter beside it.

A base and what was trained on it share one file of weights. Rows of control tokens that were trained are in that file:
an adapter cannot hold them, and the base, which is asked in plain text, never meets them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import events, paths
from studio.errors import RunError, Stopped
from studio.export import adapter as lora
from studio.export import gguf
from studio.export import known as knowing
from studio.export.merge import Merged
from studio.models import catalogue, check, elsewhere, hub, tokenizer
from studio.render import encode
from studio.render.inspect import told
from studio.runs import Run
from studio.train import checkpoint

if TYPE_CHECKING:
    from studio.render.encode import Renderer

TYPE = "Q8_0"


@dataclasses.dataclass(frozen=True)
class Files:
    """What speaks: a GGUF file, and a LoRA on it where there is one; `note` says what is unusual about them.

    `raw`: it is asked in plain text; `template` stands in the place of the file's own.
    """

    gguf: Path
    adapter: Path | None = None
    note: str = ""
    raw: bool = False
    template: str = ""


def of_base(base: Path, emit: events.Emit | None = None) -> Path:
    """Give a plain base's own file."""
    return _made(base, [], lambda path: _write(base, None, path, encode.load(base), False, False, emit))


def of_adapter(base: Path, adapter: Path | None, template: str = "", emit: events.Emit | None = None) -> Files:
    """Give the files of an adapter on its base (or of a whole trained model, `adapter` None).

    `template` names the family that was trained on, "" for the model's own. With DoRA, which no adapter file can hold,
    the two are merged, and the weights are there a second time.
    """
    return _files(base, adapter, encode.load(base, template), True, emit)


def of_known(known: knowing.Known, emit: events.Emit | None = None) -> Files:
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
    spoken = [renderer.source if tuned else "", paths.sha256(tokenizer.file(elsewhere.speaker(base, adapter)))]
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


def of_checkpoint(run: Run, name: str, emit: events.Emit | None = None) -> Files:
    """Give the files of a checkpoint (`step-000060`) of a run that may still go on. Raises RunError."""
    return of_adapter(*checkpoint_of(run, name), emit)


def checkpoint_of(run: Run, name: str) -> tuple[Path, Path, str]:
    """Give base, adapter and template of a checkpoint. Raises RunError for one that is not there, or not whole."""
    (base, _, template), folder = _about(run), run.dir / "checkpoints" / name
    if folder not in run.checkpoints():
        raise RunError(f"{run.id} has no checkpoint {name!r}.", "Only the newest ones are kept: choose one of those.")
    if problem := checkpoint.verify(folder):
        raise RunError(f"The checkpoint {name} of {run.id} is damaged: {problem}.", "Choose another one.")
    if not (folder / "adapter_config.json").is_file():
        raise RunError(f"The checkpoint {name} is a whole model, not an adapter.", "Talk to the finished run.")
    return base, folder, template


def of_root(root: Path, tuned: Files | None = None, base: Path | None = None, emit: events.Emit | None = None) -> Files:
    """Give what a lineage began with: on the weights of `tuned`, an adapter on `base`, where those are the root's own.

    A base that brings no template is asked in plain text.
    """
    own = check.read_template(root)
    shared = tuned is not None and tuned.adapter is not None and base == root
    file = tuned.gguf if tuned is not None and shared else of_base(root, emit)
    return Files(file, raw=not own, template=own)


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Make the files of one side of a chat, in a child; {"progress": event} on the way, then what `_answer` gives.

    {"run": a directory, "checkpoint": a name or "", "base": whether its base is meant}, {"adapter": the folder of one
    made elsewhere, "model": its base, "base": likewise}, or {"model": M} for a model that nothing was trained on.
    """
    yield from told(_answer, request, cancelled)


def _answer(request: dict[str, Any], emit: events.Emit, cancelled: Callable[[], bool]) -> dict[str, Any]:
    """Give {"gguf", "adapter", "note", "raw", "template", "from": the folders of weights they were made of}."""

    def halting(event: events.Event) -> None:
        if cancelled():
            raise Stopped("Stopped while the chat's files were made.", "Ask again when you like.")
        emit(event)

    if request.get("adapter"):
        base = root = hub.resolve(str(request["model"]))
        known = knowing.of_adapter(Path(request["adapter"]), base)
        files = dataclasses.replace(of_known(known, halting), raw=not known.chats)
    elif not request.get("run"):
        base = root = hub.resolve(str(request["model"]))
        files = of_root(root, emit=halting)
    else:
        run, name = Run(Path(request["run"])), str(request.get("checkpoint") or "")
        base, root, files = _spoken(run, name, halting)
    if request.get("base") and (request.get("run") or request.get("adapter")):
        files = of_root(root, files, base, halting)
    found = {name: str(value or "") for name, value in dataclasses.asdict(files).items() if name != "raw"}
    return {**found, "raw": files.raw, "from": [str(base), str(root)]}


def _spoken(run: Run, name: str, emit: events.Emit) -> tuple[Path, Path, Files]:
    """Give base, root and files of a run or of a checkpoint of it."""
    from studio.train.prepare import Trained

    if name:
        return *_about(run)[:2], of_checkpoint(run, name, emit)
    trained = Trained.of(run)
    return trained.base, trained.root, of_run(trained, emit)


def _about(run: Run) -> tuple[Path, Path, str]:
    """Give base, root and template of a run, which need not have finished.

    What it says about itself counts, else what was asked; a child's template is its parent's.
    """
    from studio.train.prepare import ABOUT, Trained

    if (run.adapter / ABOUT).is_file():
        trained = Trained.of(run)
        return trained.base, trained.root, str(trained.about.get("template") or "")
    parent, asked = run.parent(), run.config
    begins = Trained.of(parent) if parent is not None else None
    wanted = catalogue.settings(asked.model, asked.method)
    inherited = begins.about.get("template") if begins is not None and begins.adapter is not None else None
    template = str(asked.settings.get("template", inherited or wanted.get("template", "")) or "")
    if begins is not None:
        return begins.base, begins.root, template
    base = hub.resolve(asked.model)
    return base, base, template


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
