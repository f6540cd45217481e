"""Who answers: a name (RUN, ADAPTER, MODEL or GGUF) as a pane of the chat engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import events, runs
from studio.chat.session import Pane
from studio.errors import RunError
from studio.export import chatfiles, meant
from studio.models import hub


@dataclasses.dataclass(frozen=True)
class Spoken:
    """A pane, and what is unusual about it in a sentence ("" for nothing)."""

    pane: Pane
    note: str = ""


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


def _exported(run: runs.Run) -> dict[str, Any] | None:
    for child in runs.children(run):
        result = child.result() if child.config.kind == "export" else None
        if result is not None and all(Path(f["path"]).is_file() for f in result["files"]):
            return result
    return None


def _trained(run: runs.Run) -> Any:
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
