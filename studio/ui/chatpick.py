"""Who can speak on the chat page: the base, runs and their checkpoints, exports, files and adapters by their place.

A pick is kept in the choices: a key (`base`, `run:ID`, `file:PATH`, `adapter:PATH`) and, beside it, the name of a
checkpoint. What comes from a browser is looked up in the list and never used as a path, but for the place of a file or
of an adapter, which is checked first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.errors import InputError, ModelError
from studio.methods import METHODS
from studio.models import elsewhere, ggufhead
from studio.ui import choice, live
from studio.ui.live import Scene, View

SIDES = ("left", "right")
#: What stands at the end of the list: something that is not in it.
OTHER = "other"
#: The panes that show the field for something that is not in the list.
opening: set[int] = set()
_MOST_FILES = 12
_PICK_IT = "Pick the model that it was made for on the Model page, which fetches it, too; then open this again."


@dataclasses.dataclass(frozen=True)
class Source:
    """One that a pane can speak with: the base, a run (a directory), a file, or an adapter made elsewhere `on` a model.

    `steps` are the names of its checkpoints, `step` the one that is meant, "" for the run as it ended, which is there
    when `whole`.
    """

    key: str
    label: str
    run: str = ""
    file: str = ""
    adapter: str = ""
    on: str = ""
    step: str = ""
    steps: tuple[str, ...] = ()
    whole: bool = True

    @property
    def base(self) -> bool:
        """Tell whether it is the base."""
        return self.key == "base"

    def stands_on(self, model: str) -> bool:
        """Tell whether it is something on a model: the two then share that model's weights."""
        return bool(self.run) or (bool(self.adapter) and self.on == model)

    @property
    def name(self) -> str:
        """Name it with its step."""
        return f"{self.label}, {in_words(self.step)}" if self.step else self.label


def in_words(step: str) -> str:
    """Write a checkpoint's name as people read it: step 60."""
    number = step.removeprefix("step-")
    return f"step {int(number):,}" if number.isdigit() else step


def sources(scene: Scene) -> list[Source]:
    """List all that belong to the chosen model: the base, runs and exports, the newest first; and what was opened."""
    if not scene.model:
        return [*_adapters(scene), *_files(scene)]
    runs = [source for view in scene.views if (source := _run(scene, view)) is not None]
    facts = scene.chosen.get("facts") or {}
    adapters = list(_adapters(scene))
    there = any(source.stands_on(scene.model) for source in [*runs, *adapters]) or (
        facts.get("model") == scene.model and facts.get("exportable") is not False
    )
    base = [Source("base", f"Base: {_last(scene.model)}")] if there else []
    return [*base, *runs, *_exports(scene), *adapters, *_files(scene)]


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


def _adapters(scene: Scene) -> Iterator[Source]:
    """List the adapters made elsewhere that were opened, each with the model that it was found to fit."""
    for folder, base in (scene.chosen.get("chat") or {}).get("adapters") or []:
        if (Path(folder) / elsewhere.CONFIG).is_file():
            beside = f" on {_last(base)}" if base != scene.model else ""
            name = f"Adapter: {elsewhere.title(Path(folder))}{beside}"
            yield Source(f"adapter:{folder}", name, adapter=folder, on=base)


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


def wait_for(pane: int, on: bool = True) -> None:
    """Show the field for the place of a file or a folder in a pane, or take it away."""
    (opening.add if on else opening.discard)(pane)
    live.touch()


def open_place(side: str, text: str, model: str) -> None:
    """Choose a GGUF file by its path, or an adapter by its folder or hub id; `model` is the model that is picked.

    Raises InputError for what is not there, ModelError for what is damaged or does not fit.
    """
    cleaned = text.strip().strip("'\"")
    if not cleaned:
        raise InputError("There is no place.", "Write the path of a GGUF file, or of a folder with an adapter.")
    if (folder := elsewhere.folder_of(cleaned)) is not None:
        _keep(side, "adapters", f"adapter:{folder}", [str(folder), _fits(folder, model)])
        return
    try:
        path = Path(cleaned).expanduser().resolve()
        file, there = path.is_file(), path.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a ~nobody
        file = there = False
    if there:
        raise InputError(
            f"There is no adapter in {cleaned[:200]!r}.",
            "Choose the folder with adapter_config.json. A whole model is picked on the Model page.",
        )
    if not file:
        raise InputError(
            f"There is neither a file nor a folder {cleaned[:200]!r}.",
            "Write its whole path, such as /home/me/model.gguf or /home/me/my-lora. What is on the hub must be fetched "
            "first.",
        )
    head = ggufhead.read(path)
    if head.metadata.get("general.type") == "adapter":
        raise InputError(
            "This file is an adapter: it cannot speak without its base.",
            "Open the run or the folder that it was made of.",
            file=str(path),
        )
    _keep(side, "files", f"file:{path}", str(path))


def _keep(side: str, group: str, key: str, entry: Any) -> None:
    """Put what was opened at the end of its list, and pick it."""
    place = entry if isinstance(entry, str) else entry[0]
    before: list[Any] = (choice.get("chat").get(group) or [])[-_MOST_FILES:]
    kept = [old for old in before if (old if isinstance(old, str) else old[0]) != place]
    choice.update(chat={group: [*kept, entry], side: key, f"{side}_step": ""})


def _fits(folder: Path, model: str) -> str:
    """Give the base of an adapter: the picked model where it fits, else the one that its config names.

    Raises ModelError: neither of them does.
    """
    refused: ModelError | None = None
    if model:
        try:
            elsewhere.inspect(folder, model)
            return model
        except ModelError as error:
            refused = error
    try:
        named = elsewhere.base_of(folder)
        elsewhere.inspect(folder, named)
        return named
    except ModelError as error:
        refused = refused or error
    remedy = _PICK_IT if "--model" in refused.remedy else refused.remedy
    raise ModelError(refused.message, remedy, file=refused.file)
