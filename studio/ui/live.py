"""What is on disk now, as the pages need it: runs as views, and the line of runs that belongs to the chosen model.

Every event file is followed: a look reads only what is new. Nothing here is the truth; forget it all and the next look
reads it again. A second tab, a reload and a restarted window see the same.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import events, runs
from studio.lab.experiments.base import MADE
from studio.ui import choice

if TYPE_CHECKING:
    from studio.methods import Method

Event = dict[str, Any]
Point = tuple[float, float]
MAX_POINTS = 600
#: What step events carry beside metrics; every other number is a curve, at most MAX_CURVES of them a run.
_NO_METRICS = {"step", "total", "time", "attempt", "learning_rate", "epoch", "tokens_per_s", "seconds_left"}
MAX_CURVES = 64
#: Kinds that do other runs as their steps: the strip shows the whole, and Stop stops it.
_WHOLE = ("demo", "recipe")
#: The steps of the rail that runs belong to.
STEPS = ("train", "align", "export")


class Curve:
    """A line that grows: at most 2 x MAX_POINTS points, whatever the number of steps.

    When there are more, neighbours are averaged, and from then on as many new values together. A value at an earlier
    step than the last means that the run was resumed there: what came after it is dropped.
    """

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._waiting: list[Point] = []
        self._stride = 1

    def add(self, x: float, y: float) -> None:
        """Append a value; one that is not finite is left out."""
        if not math.isfinite(y):
            return
        if self._waiting and x <= self._waiting[-1][0]:
            self._waiting = [point for point in self._waiting if point[0] < x]
        if self._points and x <= self._points[-1][0]:
            self._points = [point for point in self._points if point[0] < x]
        self._waiting.append((x, y))
        if len(self._waiting) > self._stride:
            self._points.append(_mean(self._waiting[:-1]))
            del self._waiting[:-1]
        if len(self._points) > 2 * MAX_POINTS:
            self._points = [_mean(self._points[i : i + 2]) for i in range(0, len(self._points), 2)]
            self._stride *= 2

    def points(self) -> list[Point]:
        """Give the line; its last point is the last value as it was."""
        return [*self._points, *self._waiting[-1:]]


def _mean(points: list[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


@dataclass
class View:
    """One run as it stands: its curves, samples, notes, last progress, how it ended."""

    run: runs.Run
    config: runs.RunConfig
    curves: dict[tuple[str, str, str], Curve] = field(default_factory=dict)
    steps: dict[str, Event] = field(default_factory=dict)
    samples: dict[tuple[str, int, str], Event] = field(default_factory=dict)
    notes: list[Event] = field(default_factory=list)
    progress: Event | None = None
    checkpoint: Event | None = None
    error: dict[str, Any] = field(default_factory=dict)
    last: Event | None = None
    count: int = 0
    status: str = "new"
    _step: Event | None = None
    _result: tuple[int, dict[str, Any] | None] = (0, None)

    @property
    def id(self) -> str:
        """Give the run's id."""
        return self.run.id

    @property
    def running(self) -> bool:
        """Tell whether a worker is busy with it."""
        return self.status == "running"

    def result(self) -> dict[str, Any]:
        """Read result.json (again only when it has changed); empty before the run has finished."""
        try:
            stamp = (self.run.dir / "result.json").stat().st_mtime_ns
        except OSError:
            return {}
        if self._result[0] != stamp:
            self._result = (stamp, self.run.result())
        return self._result[1] or {}

    def curve(self, name: str = "loss", part: str = "") -> list[Point]:
        """Give (step, value) of a metric as it was trained."""
        found = self.curves.get(("step", part, name))
        return found.points() if found else []

    def held_out(self, name: str = "loss", part: str = "") -> list[Point]:
        """Give (step, value) of a metric on the held-out rows."""
        found = self.curves.get(("evaluated", part, name))
        return found.points() if found else []

    def last_step(self, part: str | None = None) -> Event | None:
        """Give the newest step event, of one part or of all."""
        return self._step if part is None else self.steps.get(part)

    def _add(self, key: tuple[str, str, str], step: float, value: float) -> None:
        if key in self.curves or len(self.curves) < MAX_CURVES:
            self.curves.setdefault(key, Curve()).add(step, value)

    def percent(self) -> float | None:
        """Tell how much is done, 0 to 1, of the newest countable thing."""
        newest = self.newest()
        if newest is None:
            return None
        done = newest.get("step", newest.get("done"))
        total = newest.get("total")
        if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
            return None
        return min(1.0, max(0.0, done / total))

    def newest(self) -> Event | None:
        """Give the newer of the last step and the last progress."""
        step = self._step
        if step is None or self.progress is None:
            return step or self.progress
        return step if step.get("time", 0) >= self.progress.get("time", 0) else self.progress

    def take(self, new: list[Event]) -> None:
        """Take in new events."""
        for item in new:
            self.count += 1
            kind, part, step = str(item["type"]), str(item.get("part") or ""), int(item.get("step") or 0)
            match kind:
                case "step" | "evaluated":
                    if kind == "step":
                        self._step = self.steps[part] = item
                    for name, value in item.items():
                        if isinstance(value, int | float) and not isinstance(value, bool) and name not in _NO_METRICS:
                            self._add((kind, part, name), float(step), float(value))
                case "sample":
                    self.samples[part, step, str(item.get("prompt"))] = item
                case "progress":
                    self.progress = item
                case "note":
                    self.notes.append(item)
                case "checkpoint":
                    self.checkpoint = item
                case "failed":
                    self.error = item.get("error") or {}
                case "started":
                    self.error = {}
            if kind != "note":
                self.last = item


@dataclass
class Scene:
    """Everything a page can show: the choices, the runs, and the runs of the chosen model's line.

    `running` computes; `beside` is a download or a look at weights, which may go on at the same time; `queue` waits.
    """

    chosen: dict[str, Any]
    views: list[View]
    running: View | None
    line: dict[str, View]
    demo: View | None
    beside: View | None = None
    queue: list[View] = field(default_factory=list)

    @property
    def model(self) -> str:
        """Give the chosen model's name, or an empty text."""
        return str(self.chosen.get("model") or "")

    def of_step(self, step: str) -> list[View]:
        """List the chosen model's runs of one step, newest first."""
        return [view for view in self.views if belongs(view.config) == step and view.config.model == self.model]

    def newest(self, step: str) -> View | None:
        """Give the run of a step that is shown unless another was picked: the one that goes, else the last begun."""
        mine = self.of_step(step)
        going = [view for view in mine if view.running]
        begun = [view for view in mine if view.status not in ("queued", "new")]
        return next(iter([*going, *begun, *mine]), None)

    def data(self, step: str) -> dict[str, Any]:
        """Give the data in use for train or align: file, rows, kind, flagged."""
        found = self.chosen.get("data")
        used = found.get(step) if isinstance(found, dict) else None
        return used if isinstance(used, dict) else {}


_views: dict[Path, tuple[events.Follower, View]] = {}
_lock = threading.RLock()
_version = 0


def look() -> Scene:
    """Read what is new on disk."""
    with _lock:
        waiting = runs.queued()
        views = [view for run in runs.all_runs() if (view := _view(run, waiting)) is not None]
        # What an experiment made is nobody's newest run.
        views.sort(key=lambda view: view.config.title.startswith(MADE))
        for gone in set(_views) - {view.run.dir for view in views}:
            del _views[gone]
        chosen = choice.read()
        busy = sorted((v for v in views if v.running and not v.config.light), key=lambda v: v.config.kind not in _WHOLE)
        scene = Scene(chosen, views, busy[0] if busy else None, {}, None)
        scene.beside = next((view for view in views if view.running and view.config.light), None)
        scene.demo = next((view for view in views if view.config.kind == "demo"), None)
        scene.queue = sorted((v for v in views if v.status == "queued"), key=lambda v: waiting.index(v.id))
        found = chosen.get("runs")
        picked: dict[str, Any] = found if isinstance(found, dict) else {}
        for step in STEPS:
            if (newest := scene.newest(step)) is not None:
                pick = picked.get(step) or {}
                wanted = pick.get("id") if pick.get("newest") == newest.id else newest.id
                scene.line[step] = next((view for view in scene.of_step(step) if view.id == wanted), newest)
        return scene


def touch() -> None:
    """Make every tab look again, after something changed that is neither a choice nor a run."""
    global _version
    with _lock:
        _version += 1


def stamp(scene: Scene) -> tuple[object, ...]:
    """Give something that changes whenever the scene does."""
    return (
        _version,
        repr(scene.chosen),
        tuple(view.id for view in scene.queue),
        *((view.id, view.count, view.status, bool(view.result())) for view in scene.views),
    )


def find(run_id: str) -> View | None:
    """Find a run by its whole id, from the list of runs (ids from a browser are never used as paths)."""
    return next((view for view in look().views if view.id == run_id), None)


def belongs(config: runs.RunConfig) -> str:
    """Tell which step of the rail a run belongs to; an empty text for none."""
    if config.kind == "export":
        return "export"
    if config.kind != "train":
        return ""
    from studio.methods import METHODS

    method = METHODS.get(config.method)
    return page_of(method) if method is not None else ""


def page_of(method: Method) -> str:
    """Tell which page a method is on: Train has what learns from conversations and texts, Align all the rest."""
    return "train" if method.kind == "offline" and {"sft", "text"} & set(method.kinds) else "align"


def _view(run: runs.Run, waiting: list[str]) -> View | None:
    known = _views.get(run.dir)
    if known is None:
        try:
            config = run.config
        except (OSError, ValueError, TypeError):
            return None  # being written, or not a run of this version
        known = _views[run.dir] = (events.Follower(run.dir / "events.jsonl"), View(run, config))
    follower, view = known
    view.take(follower.read())
    over = view.last is not None and view.last["type"] in events.TERMINAL
    if over and not view.running and view.last is not None:
        view.status = "queued" if run.id in waiting else view.last["type"]
    else:
        view.status = run.status([view.last] if view.last else [])
    return view
