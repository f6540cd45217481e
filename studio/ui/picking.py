"""Which model the page shows, and what is known of it: kept in the choices, so that tabs and restarts agree.

Facts come from three places, the best first: a check of the files that are here, the hub's own words about a model that
is not, the catalogue. The first two are asked of a child.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.child import Child
from studio.errors import ModelError, StudioError
from studio.models import architecture, catalogue, hub
from studio.models.catalogue import Entry
from studio.models.shape import Shape
from studio.ui import choice, starter
from studio.ui.live import Scene, View

Document = dict[str, Any]
PATIENCE = 60.0  # seconds

_child = Child("studio.models.ask:handle")
_trying = Child("studio.render.vet:handle")
_BOUND = re.compile(r"([<>])\s*=?\s*(\d+(?:\.\d+)?)\s*([bm])\b", re.IGNORECASE)
_SIZE = re.compile(r"\d+(?:\.\d+)?[bm]", re.IGNORECASE)
_SCALE = {"b": 1e9, "m": 1e6}


@dataclasses.dataclass(frozen=True)
class Pick:
    """What the page shows: a model (starter, a folder, a hub id), and what its list is searched for.

    `facts`, `offer` and `error` are what was found out about `shown`; `found` is what the hub has for a query;
    `waiting` is the download whose model is used as soon as it is here.
    """

    shown: str = ""
    query: str = ""
    facts: Document = dataclasses.field(default_factory=dict)
    offer: Document = dataclasses.field(default_factory=dict)
    error: Document = dataclasses.field(default_factory=dict)
    found: Document = dataclasses.field(default_factory=dict)
    waiting: str = ""

    @property
    def hits(self) -> list[Document]:
        """List what the hub has for the query, as long as it is the same."""
        return list(self.found.get("models") or []) if self.query and self.found.get("query") == self.query else []

    @staticmethod
    def at(chosen: Mapping[str, Any]) -> Pick:
        """Read it from the choices; what does not fit counts as not chosen."""
        found = chosen.get("base")
        usual = Pick()
        kept = {}
        for field in dataclasses.fields(Pick):
            value = found.get(field.name) if isinstance(found, dict) else None
            kept[field.name] = value if isinstance(value, type(getattr(usual, field.name))) else None
        return Pick(**{name: value for name, value in kept.items() if value is not None})

    def keep(self) -> None:
        """Write it into the choices."""
        choice.update(base=dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Known:
    """Everything that is known of a model; see the module for where it comes from."""

    model: str
    entry: Entry | None
    folder: str
    facts: Document
    offer: Document
    error: Document
    download: View | None
    numbers: View | None

    @property
    def here(self) -> bool:
        """Tell whether its files are on this machine."""
        return bool(self.folder)

    @property
    def name(self) -> str:
        """Give the name that people know it by."""
        if self.model == starter.NAME:
            return "Studio starter"
        return self.model.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]

    def get(self, field: str) -> Any:
        """Give a fact from the best source that has it; None when no source does."""
        for source in (self.facts, self.offer):
            if source.get(field):
                return source[field]
        return getattr(self.entry, field, None) or None

    @property
    def shape(self) -> Shape | None:
        """Give the numbers that its memory follows from."""
        for source in (self.facts, self.offer):
            if isinstance(found := source.get("shape"), dict) and found:
                try:
                    return Shape(**found)
                except TypeError:
                    continue
        return self.entry.shape if self.entry is not None else None

    @property
    def layers(self) -> int:
        """Give the number of layers, 0 when it is not known."""
        return int(self.facts.get("layers") or (self.shape.layers if self.shape is not None else 0))

    @property
    def gated(self) -> bool:
        """Tell whether the hub asks for a click on its licence first, and we have not seen that it was done."""
        asked = bool(self.offer["gated"]) if self.offer else bool(self.entry and self.entry.gated)
        return asked and self.offer.get("access") is not True

    @property
    def page(self) -> str:
        """Give the address of its page on the hub."""
        if self.offer.get("page"):
            return str(self.offer["page"])
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.model.partition('@')[0]}"

    @property
    def trains(self) -> tuple[bool, str]:
        """Say whether its architecture can be trained and exported, and in words what can be done with it."""
        for source in (self.facts, self.offer):
            if source.get("use"):
                return bool(source.get("exportable")), str(source["use"])
        kind = self.get("architecture")
        return architecture.support(str(kind)) if kind else (True, "")

    @property
    def refusal(self) -> Document:
        """Give the reason, as an error's JSON, why it cannot be used at all; empty when there is none."""
        result = self.download.result() if self.download is not None and self.here else {}
        if self.here:
            return {} if self.facts else dict(result.get("problem") or {})
        if self.offer.get("refusal"):
            return dict(self.offer["refusal"])
        if self.entry is not None and self.entry.own_code and not self.offer:
            return {
                "message": "The model wants its own Python code to be run (auto_map).",
                "remedy": "Studio never runs code from a model. Choose one that transformers supports by itself.",
            }
        return {}

    @property
    def bytes(self) -> tuple[float, bool]:
        """Give the size of its files, and whether that is exact (else: 16 bits a weight)."""
        for source in (self.facts, self.offer):
            if source.get("bytes"):
                return float(source["bytes"]), True
        return 2.0 * float(self.get("parameters") or 0), False


def shown(scene: Scene) -> str:
    """Give the model whose card is shown: the pressed one, else the one in use, else the starter."""
    return Pick.at(scene.chosen).shown or scene.model or starter.NAME


def known(scene: Scene, model: str) -> Known:
    """Collect what is known of a model."""
    pick = Pick.at(scene.chosen)
    mine = pick if pick.shown == model else Pick()
    place = folder_of(model)
    download = _newest(scene, "download", model)
    used = scene.chosen.get("facts") or {}
    fetched = download.result().get("facts") if download is not None and download.status == "finished" else None
    checked = mine.facts or (used if used.get("model") == model == scene.model else fetched) or {}
    return Known(
        model,
        catalogue.find(model),
        place,
        checked if place else {},
        mine.offer,
        mine.error,
        download,
        _newest(scene, "check", model),
    )


def others(scene: Scene) -> list[str]:
    """List models that are not in the catalogue, but were used or fetched here and still are; the newest first."""
    runs = [view.config.model for view in scene.views]
    names = dict.fromkeys(name for name in (scene.model, *runs) if name and catalogue.find(name) is None)
    return [name for name in names if folder_of(name)][:8]


def search(query: str) -> list[Entry]:
    """List the catalogue's models that fit: words as in `catalogue.search`, `3b` for a size, `< 4b` and `> 1b`."""
    bounds = [(sign, float(number) * _SCALE[unit.lower()]) for sign, number, unit in _BOUND.findall(query)]
    words = _BOUND.sub(" ", query).split()
    sizes = [word.lower() for word in words if _SIZE.fullmatch(word)]
    found = catalogue.search(" ".join(word for word in words if not _SIZE.fullmatch(word)))
    return [
        entry
        for entry in found
        if all((entry.parameters < bound) == (sign == "<") for sign, bound in bounds)
        and all(_of_size(entry, size) for size in sizes)
    ]


def _of_size(entry: Entry, size: str) -> bool:
    text = f"{entry.id} {catalogue.amount(entry.parameters)}".lower()
    return re.search(rf"(?<![\d.]){re.escape(size)}", text) is not None


def canonical(text: str) -> str:
    """Turn what was typed into a model's name: starter, a folder's path, org/name[@revision]. Raises ModelError."""
    cleaned = text.strip().strip("'\"")
    if not cleaned:
        raise ModelError("No model is named.", "Write a folder, or a hub id such as HuggingFaceTB/SmolLM2-135M.")
    if cleaned == starter.NAME:
        return cleaned
    try:
        folder = Path(cleaned).expanduser()
        if folder.is_dir():
            return str(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a home that does not exist
        pass
    wanted = hub.reference(cleaned)
    if wanted.revision != "main":
        return f"{wanted.repo}@{wanted.revision}"
    same = (entry.id for entry in catalogue.entries() if entry.id.lower() == wanted.repo.lower())
    return next(same, wanted.repo)


def is_folder(model: str) -> bool:
    """Tell whether a model is a folder of the user's."""
    return model != starter.NAME and Path(model).is_absolute()


def folder_of(model: str) -> str:
    """Give the folder of a model that is here, an empty text for one that is not."""
    if model == starter.NAME and not starter.here():
        return ""
    try:
        return str(hub.here(model) or "")
    except ModelError:
        return ""


def inspect(model: str) -> Document:
    """Check a model that is here. Raises what is wrong with it."""
    facts = _child.ask({"op": "inspect", "model": model}, PATIENCE)
    return facts | _trying.ask({name: facts[name] for name in ("folder", "stop_tokens")}, PATIENCE)


def offer(model: str) -> Document:
    """Ask the hub about a model. Raises what it says."""
    return _child.ask({"op": "offer", "model": model}, PATIENCE)


def search_hub(query: str) -> Document:
    """Search the hub for words. Raises what it says."""
    return {**_child.ask({"op": "search", "query": query}, PATIENCE), "query": query}


def find_out(scene: Scene, ask_hub: bool) -> None:
    """Find out what is not known yet about the shown model, and keep it unless another one is shown by then."""
    it = known(scene, shown(scene))
    found: dict[str, Any] = {"error": {}}
    try:
        if it.here and not it.facts:
            found["facts"] = inspect(it.model)
        elif not it.here and not it.offer and ask_hub:
            found["offer"] = offer(it.model)
    except StudioError as error:
        if it.here or it.entry is None:  # of a model of the catalogue enough is known without the hub
            found["error"] = error.to_dict()
    now = Pick.at(choice.read())
    if now.shown in ("", it.model):
        dataclasses.replace(now, shown=it.model, **found).keep()


def use(model: str, facts: Document) -> None:
    """Use a model from now on."""
    choice.update(model=model, facts={**facts, "model": model})
    pick = Pick.at(choice.read())
    dataclasses.replace(pick, shown=model, facts=facts, error={}, waiting="").keep()


def settle(scene: Scene) -> bool:
    """Use the model that was waited for, if its download is done and it is still the one that is shown."""
    pick = Pick.at(scene.chosen)
    view = next((view for view in scene.views if view.id == pick.waiting), None) if pick.waiting else None
    if view is None or view.status != "finished":
        return False
    facts = view.result().get("facts")
    if facts and pick.shown == view.config.model:
        use(pick.shown, facts)
    else:
        dataclasses.replace(pick, waiting="").keep()
    return True


def _newest(scene: Scene, kind: str, model: str) -> View | None:
    return next((v for v in scene.views if v.config.kind == kind and v.config.model == model), None)
