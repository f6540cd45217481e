"""Who can speak on the chat page: the base, runs and their checkpoints, exports, files by path; and who was picked.

A pick is kept in the choices: a key (`base`, `run:ID`, `file:PATH`) and, beside it, the name of a checkpoint. What
comes from a browser is looked up in the list and never used as a path, but for a file's, which is checked first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.methods import METHODS
from studio.models import ggufhead
from studio.ui import choice, live
from studio.ui.live import Scene, View

SIDES = ("left", "right")
_MOST_FILES = 12


@dataclasses.dataclass(frozen=True)
class Source:
    """One that a pane can speak with: the base, a run (a directory), or a file.

    `steps` are the names of its checkpoints, `step` the one that is meant, "" for the run as it ended, which is there
    when `whole`.
    """

    key: str
    label: str
    run: str = ""
    file: str = ""
    step: str = ""
    steps: tuple[str, ...] = ()
    whole: bool = True

    @property
    def base(self) -> bool:
        """Tell whether it is the base."""
        return self.key == "base"

    @property
    def name(self) -> str:
        """Name it with its step."""
        return f"{self.label}, {in_words(self.step)}" if self.step else self.label


def in_words(step: str) -> str:
    """Write a checkpoint's name as people read it: step 60."""
    number = step.removeprefix("step-")
    return f"step {int(number):,}" if number.isdigit() else step


def sources(scene: Scene) -> list[Source]:
    """List all that belong to the chosen model: the base, runs newest first, exports newest first, files by path."""
    if not scene.model:
        return list(_files(scene))
    runs = [source for view in scene.views if (source := _run(scene, view)) is not None]
    facts = scene.chosen.get("facts") or {}
    there = bool(runs) or (facts.get("model") == scene.model and facts.get("exportable") is not False)
    base = [Source("base", f"Base: {_last(scene.model)}")] if there else []
    return [*base, *runs, *_exports(scene), *_files(scene)]


def _last(model: str) -> str:
    """Give a folder's name; a hub id as it is."""
    return model.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if Path(model).is_absolute() else model


def _run(scene: Scene, view: View) -> Source | None:
    """Give a run of the chosen model that answers: a finished one, or one with checkpoints."""
    from studio.ui import choosing  # which needs the pages' kit, and that this

    method = METHODS.get(view.config.method)
    if view.config.kind != "train" or view.config.model != scene.model or method is None or method.head:
        return None
    folder = view.run.dir
    steps = tuple(path.name for path in view.run.checkpoints() if (path / "adapter_config.json").is_file())
    whole = view.status == "finished" and any(
        path.is_file() for path in (folder / "adapter" / "studio.json", folder / "model" / "studio.json")
    )
    if not whole and not steps:
        return None
    return Source(f"run:{view.id}", choosing.named(scene, view), str(folder), steps=steps, whole=whole)


def _exports(scene: Scene) -> Iterator[Source]:
    seen = set()
    for view in scene.of_step("export"):
        for file in view.result().get("files") or [] if view.status == "finished" else []:
            path = str(file.get("path"))
            if path not in seen and Path(path).is_file():
                seen.add(path)
                yield Source(f"file:{path}", f"Export: {Path(path).name}", file=path)


def _files(scene: Scene) -> Iterator[Source]:
    exported = {source.file for source in _exports(scene)} if scene.model else set()
    for path in (scene.chosen.get("chat") or {}).get("files") or []:
        if path not in exported and Path(path).is_file():
            yield Source(f"file:{path}", f"File: {Path(path).name}", file=path)


def chosen(scene: Scene) -> list[Source | None]:
    """Give the two panes' sources: what was picked if it is still there, else the base and the newest that is tuned."""
    found, picked = sources(scene), scene.chosen.get("chat") or {}
    by_key = {source.key: source for source in found}
    base = by_key.get("base")
    tuned = next((source for source in found if not source.base), None)
    both = []
    for side, other in zip(SIDES, (base, tuned), strict=True):
        source = by_key.get(str(picked.get(side))) or other
        both.append(_at(source, str(picked.get(f"{side}_step") or "")))
    return both


def _at(source: Source | None, step: str) -> Source | None:
    """Take a source at a checkpoint; a run that has not finished is its newest one."""
    if source is None or (not step and source.whole):
        return source
    if step not in source.steps:
        step = "" if source.whole else source.steps[-1]
    return dataclasses.replace(source, step=step)


def pick(side: str, key: str) -> None:
    """Choose a pane's source from the list."""
    if side in SIDES and any(source.key == key for source in sources(live.look())):
        choice.update(chat={side: key, f"{side}_step": ""})


def pick_step(side: str, step: str) -> None:
    """Choose a checkpoint of a pane's run, "" for its end."""
    if side in SIDES:
        source = chosen(live.look())[SIDES.index(side)]
        if source is not None and step in ("", *source.steps):
            choice.update(chat={f"{side}_step": step})


def open_file(side: str, text: str) -> None:
    """Choose a GGUF file by its path. Raises InputError, and ModelError for one that is damaged."""
    cleaned = text.strip().strip("'\"")
    if not cleaned:
        raise InputError("There is no path.", "Write the path of a GGUF file.")
    try:
        path = Path(cleaned).expanduser().resolve()
        here = path.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a ~nobody
        here = False
    if not here:
        raise InputError(f"There is no file {cleaned[:200]!r}.", "Write its whole path, such as /home/me/model.gguf.")
    head = ggufhead.read(path)
    if head.metadata.get("general.type") == "adapter":
        raise InputError(
            "This file is an adapter: it cannot speak without its base.",
            "Open the run that it was made of.",
            file=str(path),
        )
    before: list[Any] = (choice.get("chat").get("files") or [])[-_MOST_FILES:]
    files = [*(old for old in before if old != str(path)), str(path)]
    choice.update(chat={"files": files, side: f"file:{path}", f"{side}_step": ""})
