"""What the data page looks at and asks about it: kept in the choices, so that tabs and restarts agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from studio.config import build
from studio.data.records import Reading
from studio.errors import ConfigError
from studio.methods import METHODS, Method
from studio.models import catalogue
from studio.ui import choice, starter
from studio.ui.live import Scene

Document = dict[str, Any]
PAGES = {"train": "Train", "align": "Align"}
#: What a row of each kind is called, one and many.
WORDS = {
    "sft": ("conversation", "conversations"),
    "text": ("text", "texts"),
    "preference": ("pair", "pairs"),
    "kto": ("labelled answer", "labelled answers"),
    "prompt": ("prompt", "prompts"),
}


@dataclasses.dataclass(frozen=True)
class Looking:
    """The file and row that are shown, how the file is read, how its table is sorted, and what was repaired.

    `draft` is a mapping that makes no whole row yet; once it does, it becomes a part of `reading`.
    `fixes` are the one-click repairs, oldest first: {"title", "rows", "code"} and what they changed ("drop", "fill", or
    "settings" with the values that stood there "before"), so that each can be undone.
    """

    file: str = ""
    index: int = 0
    part: int = 0
    reading: Document = dataclasses.field(default_factory=dict)
    mapping_open: bool = False
    draft: Document = dataclasses.field(default_factory=dict)
    page: int = 0
    sort: str = "file"
    contains: str = ""
    code: str = ""
    fixes: tuple[Document, ...] = ()

    @staticmethod
    def at(chosen: Mapping[str, Any]) -> Looking:
        """Read it from the choices; what does not fit counts as not chosen."""
        found = chosen.get("looking")
        names = {f.name for f in dataclasses.fields(Looking)}
        values = {name: value for name, value in (found or {}).items() if name in names}
        values["fixes"] = tuple(values.get("fixes") or ())
        return Looking(**values)

    def keep(self) -> None:
        """Write it into the choices."""
        choice.update(looking=dataclasses.asdict(self) | {"fixes": list(self.fixes)})

    def read_as(self) -> Reading:
        """Give the reading as the data room takes it."""
        return Reading.from_dict(self.reading)

    def changed(self, **values: Any) -> Looking:
        """Give it with other values; another reading starts the rows anew."""
        if "reading" in values and values["reading"] != self.reading:
            values = {"index": 0, "part": 0, "page": 0, **values}
        return dataclasses.replace(self, **values)

    # What to ask the child.

    def _asked(self, op: str, **values: Any) -> Document:
        return {"op": op, "data": self.file, "reading": self.reading, **values}

    def detect(self) -> Document:
        """Ask what the first rows are, with the mapping as far as it has come."""
        return {
            "op": "detect",
            "data": self.file,
            "reading": {**self.reading, **({"mapping": self.draft} if self.draft else {})},
        }

    def check(self) -> Document:
        """Ask what the file holds."""
        return self._asked("check")

    def row(self, scene: Scene, kind: str) -> Document:
        """Ask for the row that is shown, as the model will see it."""
        method = method_of(kind)
        return self._asked(
            "row",
            model=model_of(scene),
            template=str(setting(scene, method, "template")),
            max_length=max_length(scene, kind),
            train_on=str(setting(scene, method, "train_on")),
            cut=str(setting(scene, method, "cut")),
            index=self.index,
            part=self.part,
        )

    def measure(self, scene: Scene, kind: str) -> Document:
        """Ask for the findings and the statistics of the whole file."""
        method = method_of(kind)
        names = ("template", "train_on", "cut", "batch_size", "held_out", "seed")
        values = {name: setting(scene, method, name) for name in names}
        values |= {"max_length": max_length(scene, kind)}
        return self._asked("measure", model=model_of(scene), **values)

    def split(self, scene: Scene, kind: str) -> Document:
        """Ask what the held-out share takes."""
        method = method_of(kind)
        return self._asked("split", held_out=setting(scene, method, "held_out"), seed=setting(scene, method, "seed"))

    def rows(self, lines: list[int] | None) -> Document:
        """Ask for a page of the table; `lines` are those of the chosen kind of problem."""
        return self._asked("rows", page=self.page, sort=self.sort, contains=self.contains, lines=lines)


def model_of(scene: Scene) -> str:
    """Give the model whose tokens are shown: the chosen one, else the starter."""
    return scene.model or starter.NAME


def methods_of(kind: str) -> list[Method]:
    """List the methods that learn from a kind of data."""
    return [method for method in METHODS.values() if kind in method.kinds]


def method_of(kind: str) -> Method:
    """Give the method whose settings count for a kind; of one that cannot be trained yet, those of the first method."""
    return next(iter(methods_of(kind)), next(iter(METHODS.values())))


def step_of(kind: str) -> str:
    """Name the page that trains on a kind; empty when no method does."""
    if not methods_of(kind):
        return ""
    return "train" if kind in ("sft", "text") else "align"


def setting(scene: Scene, method: Method, name: str) -> Any:
    """Give a setting of a method as a run would have it: as typed, else as the base asks for, else the default."""
    default = getattr(method.Config(), name)
    typed = ((scene.chosen.get("form") or {}).get(method.name) or {}).get(name)
    if typed is None:
        return catalogue.settings(scene.model, method.name).get(name, default)
    try:
        return getattr(build(method.Config, {name: typed}), name)
    except ConfigError:
        return default  # the form says what is wrong with it when the run starts


def counted_by(scene: Scene, method: Method) -> list[str]:
    """Tell what the tokens of a row follow from: the model, the template, and which answers are learned."""
    return [model_of(scene), *(str(setting(scene, method, name)) for name in ("template", "train_on"))]


def max_length(scene: Scene, kind: str) -> int:
    """Give the longest row that is kept: the setting, or what the base can read if that is less."""
    return max(1, min(int(setting(scene, method_of(kind), "max_length")), context(scene) or 1 << 30))


def context(scene: Scene) -> int:
    """Give how many tokens the chosen model can read, 0 where it is not known."""
    return int((scene.chosen.get("facts") or {}).get("context") or 0)


def put(scene: Scene, kind: str, values: Mapping[str, Any]) -> Document:
    """Change settings of every method that learns from a kind; gives what stood there before, for `take_back`."""
    before: Document = {}
    form = {}
    for method in methods_of(kind) or [method_of(kind)]:
        typed = dict((scene.chosen.get("form") or {}).get(method.name) or {})
        before[method.name] = {name: typed.get(name) for name in values}
        form[method.name] = {**typed, **{name: str(value) for name, value in values.items()}}
    choice.update(form=form)
    return before


def take_back(scene: Scene, before: Mapping[str, Mapping[str, Any]]) -> None:
    """Give settings the values that they had before `put`."""
    form = {}
    for name, values in before.items():
        typed = {**((scene.chosen.get("form") or {}).get(name) or {}), **values}
        form[name] = {key: value for key, value in typed.items() if value is not None}
    choice.update(form=form)
