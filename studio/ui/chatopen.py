"""The engine behind the chat page: one session for the window, opened for who was picked, given back when a run needs
the memory.

Two panes of one file are on one copy of its weights; another checkpoint, strength or template changes a pane and loads
nothing anew.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.chat import identity
from studio.chat.session import Pane, Session
from studio.errors import StudioError
from studio.ui import chatpick, chatprep, chatset, live
from studio.ui.chatpick import Source
from studio.ui.chatset import Asked
from studio.ui.live import Scene

log = logging.getLogger("studio.window")
Facts = dict[str, Any]
PANES = (0, 1)


@dataclasses.dataclass(frozen=True)
class Who:
    """Who is asked, and how: the page as it is set now."""

    sources: tuple[Source | None, ...]
    templates: tuple[str, ...]
    strengths: tuple[float, ...]
    asked: Asked
    system: str
    model: str

    @classmethod
    def now(cls, scene: Scene, asked: Asked | None = None, system: str | None = None) -> Who:
        """Read it from the choices; settings that somebody types at the moment come beside."""
        return cls(
            tuple(chatpick.chosen(scene)),
            tuple(chatset.templates(scene)),
            tuple(chatset.strengths(scene)),
            chatset.kept(scene) if asked is None else asked,
            chatset.system(scene) if system is None else system,
            scene.model,
        )

    def wanted(self, index: int) -> Facts | None:
        """Say which files a pane needs to have made; None for a file that is there."""
        source = self.sources[index]
        if source is None or source.file:
            return None
        return chatprep.request(source, self.sources[1 - index], self.model)

    def pane(self, index: int, files: Facts | None) -> Pane:
        """Give a pane that speaks with these files."""
        source = self.sources[index]
        assert source is not None
        if files is None:
            made = Pane(source.name, source.file)
        else:
            made = Pane(
                source.name,
                str(files["gguf"]),
                raw=bool(files["raw"]),
                adapter=str(files["adapter"]),
                strength=self.strengths[index] if files["adapter"] else 1.0,
                template=str(files["template"]),
            )
        wrong = self.templates[index]
        return dataclasses.replace(made, template=wrong, raw=False) if wrong else made


@dataclasses.dataclass
class Opened:
    """A session that answers: which panes of the page it has, in its order, what it told of each, and what failed."""

    session: Session
    places: list[int]
    told: dict[int, Facts]
    notes: dict[int, str]
    errors: dict[int, Facts] = dataclasses.field(default_factory=dict)

    def at(self, index: int) -> int:
        """Give a pane's number in the session."""
        return self.places.index(index)

    def pane(self, index: int) -> Pane:
        """Give a pane of the page as the session has it."""
        return self.session.panes[self.at(index)]

    def raw(self, index: int) -> bool:
        """Tell whether a pane goes on with the text it is given, as a base does."""
        pane, told = self.pane(index), self.told[index]
        return pane.raw or not (pane.template or told["has_template"])

    def facts(self, index: int) -> Facts:
        """Tell who a pane is as chat.session.identity does, with the hashes that are known by now; and more for us."""
        pane, told = self.pane(index), self.told[index]
        hashes = [identity.known(path)[: identity.SHORT] if path else "" for path in (pane.gguf, pane.adapter)]
        return {
            "name": pane.name,
            "file": Path(pane.gguf).name,
            "sha256": hashes[0],
            "adapter": Path(pane.adapter).name if pane.adapter else "",
            "adapter_sha256": hashes[1],
            "strength": pane.strength if pane.adapter else 0.0,
            "raw": self.raw(index),
            "type": told["type"],
            "context": told["n_ctx"],
            "device": told["device"],
            "paths": [pane.gguf, pane.adapter],
        }


_lock = threading.Lock()
_opened: Opened | None = None
_loaded: tuple[Any, ...] = ()


def named(facts: Facts, read: Callable[[str], str] = identity.known) -> Facts:
    """Give an identity with the hashes that were not known when it was made."""
    for name, path in zip(("sha256", "adapter_sha256"), facts.get("paths") or (), strict=False):
        if path and not facts[name]:
            facts = {**facts, name: read(path)[: identity.SHORT]}
    return facts


def known(facts: Facts) -> Facts:
    """Give an identity with its hashes, read now where they were not before, and without what is ours only."""
    return {name: value for name, value in named(facts, identity.sha256).items() if name != "paths"}


def opened() -> Opened | None:
    """Give the session that is open."""
    return _opened


def ready(who: Who) -> bool:
    """Tell whether all files are there, so that opening takes no longer than loading them."""
    return any(who.sources) and all(
        wanted is None or chatprep.known(wanted) is not None for wanted in map(who.wanted, PANES)
    )


def open_for(who: Who, tell: Callable[[str], None] = lambda text: None, stopped: Any = None) -> Opened:
    """Give a session of who is asked; a pane that cannot be opened stands among the errors. Raises StudioError.

    `tell` hears what takes long: making files, loading them.
    """
    panes: dict[int, Pane] = {}
    notes: dict[int, str] = {}
    errors: dict[int, Facts] = {}
    for index in (index for index in PANES if who.sources[index] is not None):
        try:
            files = _files(who, index, tell, stopped)
        except StudioError as error:
            errors[index] = error.to_dict()
            continue
        panes[index], notes[index] = who.pane(index, files), str((files or {}).get("note") or "")
    tell("Loading the weights…")
    with _lock:
        made = _session(panes, who.asked.context, errors) if panes else None
        if made is None:
            raise _first(errors)
        made.notes, made.errors = notes, errors
    threading.Thread(target=_hash, args=(list(made.session.panes),), daemon=True).start()
    return made


def _files(who: Who, index: int, tell: Callable[[str], None], stopped: Any) -> Facts | None:
    wanted = who.wanted(index)
    if wanted is None:
        return None

    def heard(event: Facts) -> None:
        done, total = event.get("done"), event.get("total")
        share = f" {100 * done / total:.0f} %" if isinstance(done, int | float) and total else ""
        tell(f"Making the file that the chat speaks with, once…{share}")

    if chatprep.known(wanted) is None:
        tell("Making the file that the chat speaks with, once…")
    return chatprep.make(wanted, heard, stopped)


def _session(panes: dict[int, Pane], context: int, errors: dict[int, Facts]) -> Opened | None:
    """Give the open session, changed to these panes, or a new one; panes whose file is refused are left out."""
    global _opened, _loaded
    loaded = (context, *((index, pane.gguf) for index, pane in panes.items()))
    if _opened is None or _loaded != loaded:
        close()
        _opened, _loaded = Opened(Session(list(panes.values()), n_ctx=context), list(panes), {}, {}), loaded
    made = _opened
    for place, pane in enumerate(panes.values()):
        made.session.change(place, **{f.name: getattr(pane, f.name) for f in dataclasses.fields(pane)})
    try:
        made.told = dict(zip(made.places, made.session.load(), strict=True))
    except StudioError as error:
        close()
        bad = _refused(panes, context) if len(panes) > 1 else {}
        errors |= bad or dict.fromkeys(panes, error.to_dict())
        left = {index: pane for index, pane in panes.items() if index not in errors}
        return _session(left, context, errors) if left else None
    return made


def _refused(panes: dict[int, Pane], context: int) -> dict[int, Facts]:
    """Try panes one by one: which of them cannot be loaded, and why."""
    found = {}
    for index, pane in panes.items():
        alone = Session([pane], n_ctx=context)
        try:
            alone.load()
        except StudioError as error:
            found[index] = error.to_dict()
        finally:
            alone.close()
    return found


def _first(errors: dict[int, Facts]) -> StudioError:
    """Make an error of what the panes failed with."""
    from studio import errors as tree

    if not errors:
        return tree.InputError("There is nobody to talk to yet.", "Choose a model, or train one first.")
    return tree.from_dict(next(iter(errors.values())))


def _hash(panes: list[Pane]) -> None:
    """Read the files once for their hashes; the page names them when they are known."""
    paths = [path for pane in panes for path in (pane.gguf, pane.adapter) if path and not identity.known(path)]
    for path in dict.fromkeys(paths):
        identity.sha256(path)
    if paths:
        live.touch()


def close() -> None:
    """End the engine and give its memory back."""
    global _opened, _loaded
    if _opened is not None:
        _opened.session.close()
    _opened, _loaded = None, ()
