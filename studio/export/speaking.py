"""Who answers: a name (RUN, ADAPTER, MODEL or GGUF) as a pane of the chat engine, or as what transformers loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import events, runs
from studio.chat.session import Pane
from studio.errors import RunError
from studio.export import chatfiles, meant
from studio.models import adapter as adapters
from studio.models import check, hub
from studio.render import encode

if TYPE_CHECKING:
    from studio.render.encode import Renderer
    from studio.train.prepare import Trained


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A pane, and what is unusual about it in a sentence ("" for nothing)."""

    pane: Pane
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run at a point of its training: a checkpoint of it by name ("": its end), or (`begun`) where it began.

    What it began with is told by its adapter's being left out: it reads the same prompts.
    """

    name: str
    run: runs.Run
    checkpoint: str = ""
    begun: bool = False


@dataclasses.dataclass(frozen=True)
class Weights:
    """What transformers loads for one who answers: a base, the adapter on it, and the renderer of its prompts.

    `rests`: the adapter's layers are left out, and only its rows of control tokens count. `raw`: it is asked in plain
    text.
    """

    base: Path
    adapter: Path | None
    renderer: Renderer
    raw: bool = False
    rests: bool = False


def find(
    name: str,
    who: str,
    base: str = "",
    *,
    together: bool = False,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Spoken:
    """Give a file's pane, or a run's: its newest export where it answers alone, else its adapter on the shared base.

    An adapter made elsewhere stands on its base (`base`, where its folder does not name it) in the same way, a model
    alone. `together`: another pane is to share the weights. Raises RunError, ModelError and ConfigError.
    """
    if Path(who).suffix == ".gguf":
        return Spoken(Pane(name, str(Path(who).expanduser().resolve())))
    found, raw = meant.find(who, base), False
    run, result = found.run, None
    if run is not None:
        result = run.result() if run.config.kind == "export" else None if together else _exported(run)
    if result is not None:
        return Spoken(Pane(name, str(result["files"][0]["path"])))
    if run is not None:
        files = chatfiles.of_run(_trained(run), emit)
    else:
        known = found.known(emit, should_stop)
        files, raw = chatfiles.of_known(known, emit), not known.chats
    return Spoken(Pane(name, str(files.gguf), raw=raw, adapter=str(files.adapter or "")), files.note)


def base_of(who: str, base: str, tuned: Pane) -> Pane:
    """Give what a run, or an adapter made elsewhere, began with: on the weights of `tuned` where they are the base's.

    Raises RunError where that is not known.
    """
    root, stands_on = _roots(who, base)
    beside = chatfiles.Files(Path(tuned.gguf), Path(tuned.adapter) if tuned.adapter else None)
    files = chatfiles.of_root(root, beside, stands_on)
    return Pane("base", str(files.gguf), raw=files.raw, template=files.template)


def staged(stage: Stage) -> Pane:
    """Give the pane of a run at a point of its training. Raises RunError."""
    run = stage.run
    files = chatfiles.of_checkpoint(run, stage.checkpoint) if stage.checkpoint else chatfiles.of_run(_trained(run))
    strength = 0.0 if stage.begun else 1.0
    return Pane(stage.name, str(files.gguf), adapter=str(files.adapter or ""), strength=strength)


# --- through transformers --------------------------------------------------------------------------------------------


def weights(
    who: str,
    base: str = "",
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Weights:
    """Give what transformers loads for a run, an adapter made elsewhere, or a model; also one that has no GGUF form.

    Raises RunError, ModelError and ConfigError.
    """
    found = meant.find(who, base)
    run = found.run
    if run is not None and (run.config.kind == "train" or run.config.parent):
        made = _trained(run)
        return _adapted(made.base, made.adapter, made.about.get("template", "") if made.adapter else "")
    if run is None and found.adapter is None:
        return _alone(hub.resolve(found.model, emit, should_stop))
    known = found.known(emit, should_stop)
    if known.adapter is not None:
        adapters.check(known.adapter, check.inspect(str(known.base)))
    return Weights(known.base, known.adapter, known.renderer, raw=not known.chats)


def weights_of_base(who: str, base: str, tuned: Weights) -> Weights:
    """Give what a run, or an adapter, began with: `tuned` without its adapter where that stands on the same weights."""
    root, stands_on = _roots(who, base)
    alone = _alone(root)
    shared = tuned.adapter is not None and stands_on == root
    return dataclasses.replace(alone, adapter=tuned.adapter, rests=True) if shared else alone


def weights_at(stage: Stage) -> Weights:
    """Give what transformers loads for a run at a point of its training. Raises RunError."""
    if stage.checkpoint:
        made = _adapted(*chatfiles.checkpoint_of(stage.run, stage.checkpoint))
    else:
        made = weights(str(stage.run.dir))
    return dataclasses.replace(made, rests=stage.begun)


def no_gguf(who: str, emit: events.Emit | None = None, should_stop: Callable[[], bool] | None = None) -> str:
    """Say why what a name means cannot be a GGUF file although transformers may run it, "" where it can.

    What was trained or exported here can. Of a model, or an adapter's base, the files are looked at.
    """
    found = meant.find(who)
    if found.run is not None:
        return ""
    folder = hub.resolve(found.model, emit, should_stop)
    named = check.read_config(folder).get("architectures")
    kind = str(named[0]) if isinstance(named, list) and named else ""
    if kind and kind not in check.EXPORTABLE:
        return f"{kind} cannot be written as GGUF here"
    told = check.inspect(str(folder))
    return "" if told.exportable else f"{told.name} {told.use}"


def _alone(folder: Path) -> Weights:
    """Give a model as it is; one without a template of its own goes on with plain text."""
    check.refuse_damaged(folder)
    renderer = encode.load(folder)
    return Weights(folder, None, renderer, raw=renderer.added)


def _adapted(base: Path, folder: Path | None, template: str) -> Weights:
    if not base.is_dir():
        raise RunError(f"The base is gone: {base}", "Put the model back, or train again.")
    if folder is not None:
        adapters.check(folder, check.inspect(str(base)))
    return Weights(base, folder, encode.load(base, template))


# --- what a name means -----------------------------------------------------------------------------------------------


def _exported(run: runs.Run) -> dict[str, Any] | None:
    for child in runs.children(run):
        result = child.result() if child.config.kind == "export" else None
        if result is not None and all(Path(f["path"]).is_file() for f in result["files"]):
            return result
    return None


def _trained(run: runs.Run) -> Trained:
    from studio.train.prepare import Trained

    trained = run if run.config.kind == "train" else run.parent()
    if trained is None:
        raise RunError(f"{run.id} was not trained here.", "Name a run that was trained, or a GGUF file.")
    return Trained.of(trained)


def _roots(who: str, base: str) -> tuple[Path, Path]:
    """Give what a lineage began with, and the base that its adapter stands on."""
    found = None if Path(who).suffix == ".gguf" else meant.find(who, base)
    run = found.run if found is not None else None
    if run is not None and (run.config.kind == "train" or run.config.parent):
        trained = _trained(run)
        return trained.root, trained.base
    options = run.config.options if run is not None else {}
    if found is None or not (found.adapter or options.get("adapter")):
        what = "a GGUF file does not say what its base is" if found is None else f"{who} is a base itself"
        raise RunError(f"--against base needs a run or an adapter: {what}.", "Name two files, runs or models.")
    root = hub.resolve(found.model)
    return root, root
