"""Where a run stands among all that it came from and all that came of it, as a graph read from run directories.

Nodes are the base, files of data, votes, sets of judged answers, training runs, evaluations, exports and recipes; an
edge says what one was for the other. Pure reading: nothing is stored, and what is gone is a node of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio import paths, runs
from studio.data import preferences
from studio.runs import Run, RunConfig

#: What a node can be. `gone`: something that was needed and is no longer there.
KINDS = ("base", "data", "votes", "set", "run", "eval", "export", "recipe", "lab", "gone")
#: So many nodes are read at most: a graph of hundreds is no picture.
MOST = 200
_OF_RUN = {"train": "run", "feedback": "set", "export": "export", "merge": "export", "eval": "eval"}
#: Runs that leave nothing that others are made of, and are not shown.
_HIDDEN = ("rehearse", "push", "download", "check", "demo")
#: Runs that do others as their steps, and the folder in their directory that these may lie in.
_MAKERS = {"recipe": "steps", "lab": "runs"}


@dataclasses.dataclass(frozen=True)
class Node:
    """A thing: `key` tells it apart, `run` is its run's id ("" where it is none), `said` what became of it."""

    key: str
    kind: str
    title: str
    run: str = ""
    method: str = ""
    status: str = ""
    said: str = ""
    place: str = ""


@dataclasses.dataclass(frozen=True)
class Edge:
    """From what was there to what was made of it; `why` in a word: parent, data, scores, judges, learns from."""

    source: str
    target: str
    why: str


@dataclasses.dataclass
class Graph:
    """Nodes in an order in which what was needed comes first, and the edges between them; `focus` is a node's key."""

    focus: str
    nodes: list[Node] = dataclasses.field(default_factory=list)
    edges: list[Edge] = dataclasses.field(default_factory=list)
    cut: int = 0

    def node(self, key: str) -> Node:
        """Give a node by its key."""
        return next(node for node in self.nodes if node.key == key)

    def into(self, key: str) -> list[Edge]:
        """Give the edges that lead to a node."""
        return [edge for edge in self.edges if edge.target == key]

    def out_of(self, key: str) -> list[Edge]:
        """Give the edges that lead away from a node."""
        return [edge for edge in self.edges if edge.source == key]

    def ranks(self) -> dict[str, int]:
        """Give how many edges lead to each node at most, one after the other: what was there at first is 0."""
        found: dict[str, int] = {}
        for node in self.nodes:  # what was needed comes first
            found[node.key] = max((found[edge.source] + 1 for edge in self.into(node.key)), default=0)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Give it as JSON."""
        return dataclasses.asdict(self)


def read(run: Run) -> Graph:
    """Read the graph around a run: what it came from, and what came of it, some things further on included."""
    made = _Reader(run)
    made.before(run)
    made.after(run)
    return made.graph()


class _Reader:
    """Follows what runs name, each once; the list of all runs is read once, however many stand in the graph."""

    def __init__(self, run: Run) -> None:
        self.focus = _key(run)
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], Edge] = {}
        self.cut = 0
        self.seen: set[Path] = set()  # runs whose needs were read
        self.users: dict[Path, list[Run]] = {}  # of a run: those that need it
        self.makers: dict[Path, Run] = {}  # of a step: the recipe or the experiment that did it
        for other in runs.all_runs():
            self._look(other)

    def before(self, run: Run) -> str:
        """Add a run and all that it came from; give its key."""
        key = _key(run)
        if key in self.nodes:
            return key
        if len(self.nodes) >= MOST:
            self.cut += 1
            return ""
        config = run.config
        self.nodes[key] = _of_run(run)
        for why, place in _needs(config):
            source = self._needed(place)
            if source:
                self._edge(source, key, why)
            if why == "parent" and source.startswith("gone:"):
                self._base(config, source)
        if not config.parent:
            self._base(config, key)
        if (maker := self._maker(run)) is not None and (source := self.before(maker)):
            self._edge(source, key, "step of")
        return key

    def _maker(self, run: Run) -> Run | None:
        """Find the recipe or the experiment that a run is a step of: it lies in its directory, or is named there."""
        around = run.dir.parent.parent
        inside = _is_run(around) and Run(around).config.kind in _MAKERS
        return Run(around.resolve()) if inside else self.makers.get(run.dir.resolve())

    def _look(self, run: Run) -> None:
        """Read what a run needs, once, and which runs it did as its steps."""
        here = run.dir.resolve()
        if here in self.seen:
            return
        self.seen.add(here)
        config = run.config
        if config.kind in _HIDDEN:
            return
        for place in {_made_by(place) for _, place in _needs(config)}:
            self.users.setdefault(place, []).append(run)
        for step in _steps(run) if config.kind in _MAKERS else ():
            self.makers.setdefault(step, run)
            self.users.setdefault(here, []).append(Run(step))
            self._look(Run(step))

    def _base(self, config: RunConfig, key: str) -> None:
        if config.model:
            self._edge(self._add(Node(f"base:{config.model}", "base", Path(config.model).name)), key, "base")

    def after(self, run: Run) -> None:
        """Add what came of a run, and of that; each with what else it came from."""
        beside = run.dir.parent.glob("*/config.json") if run.dir.parent != paths.runs() else ()
        for other in [*runs.elsewhere(run), *(Run(path.parent) for path in beside if _is_run(path.parent))]:
            self._look(other)
        for other in self.users.get(run.dir.resolve(), ()):
            new = _key(other) not in self.nodes
            if self.before(other) and new:
                self.after(other)

    def _needed(self, place: str) -> str:
        """Add what stands at a place: a run, a file, votes, or nothing any more."""
        path = Path(place)
        if _is_run(path) or (not path.is_absolute() and runs.is_run(place)):
            return self.before(runs.find(place))
        if _is_run(path.parent) and Run(path.parent).config.kind == preferences.KIND:
            return self.before(Run(path.parent.resolve()))
        if path.is_file() or path.is_dir():
            votes = path.parent == paths.home() / "preferences"
            return self._add(Node(f"file:{path}", "votes" if votes else "data", path.name, place=str(path)))
        parent = path.suffix == "" and path.is_absolute()
        said = "deleted: what came before it is not known" if parent else "no longer there"
        return self._add(Node(f"gone:{place}", "gone", path.name or place, said=said))

    def _add(self, node: Node) -> str:
        self.nodes.setdefault(node.key, node)
        return node.key

    def _edge(self, source: str, target: str, why: str) -> None:
        self.edges.setdefault((source, target), Edge(source, target, why))

    def graph(self) -> Graph:
        """Put what was needed before what was made of it; of equals the first one read."""
        before: dict[str, list[str]] = {}
        for source, target in self.edges:
            before.setdefault(target, []).append(source)
        order: dict[str, None] = {}

        def place(key: str) -> None:
            if key not in order:
                for source in before.get(key, ()):
                    place(source)
                order[key] = None

        for key in self.nodes:
            place(key)
        nodes = [self.nodes[key] for key in order]
        return Graph(self.focus, nodes, list(self.edges.values()), self.cut)


def _steps(run: Run) -> list[Path]:
    """List the runs that a recipe or an experiment did: those that it names, and those in its directory."""
    try:
        named = json.loads((run.dir / "steps.json").read_text("utf-8"))
    except (OSError, ValueError):
        named = (run.result() or {}).get("runs")
    told = [Path(str(place)).resolve() for place in named.values()] if isinstance(named, dict) else []
    inside = [path.parent.resolve() for path in (run.dir / _MAKERS[run.config.kind]).glob("*/config.json")]
    return [place for place in dict.fromkeys([*told, *inside]) if _is_run(place)]


def _is_run(folder: Path) -> bool:
    """Tell whether a directory is a run's, without a look through the list of all runs where it is none."""
    return (folder / "config.json").is_file() and runs.is_run(str(folder))


def _made_by(place: str) -> Path:
    """Give the run that a place is, or whose file it is."""
    path = Path(place)
    return (path.parent if path.suffix == ".jsonl" else path).resolve()


def _key(run: Run) -> str:
    return f"run:{run.dir.resolve()}"


def _needs(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Give what a run's config names: (what it was for it, the place)."""
    if config.parent:
        yield (
            ("evaluated" if config.kind == "eval" else "answers" if config.kind == "feedback" else "parent"),
            config.parent,
        )
    if config.data:
        yield ("prompts" if config.kind == "feedback" else "data"), config.data
    if (reward := str(config.options.get("reward") or "")) and Path(reward).is_absolute() and runs.is_run(reward):
        yield "scores", reward
    for name, why in (("judge", "judges"), ("against", "compared with"), ("answers_from", "answers")):
        for place in str(config.options.get(name) or "").split(","):
            known = Path(place).is_absolute() or (paths.runs() / place / "config.json").is_file()
            if place and known and runs.is_run(place) and str(runs.find(place).dir) != config.parent:
                yield why, str(runs.find(place).dir)


def _of_run(run: Run) -> Node:
    config, result = run.config, run.result() or {}
    kind = _OF_RUN.get(config.kind, config.kind if config.kind in KINDS else "run")
    method = config.method or (str(config.options.get("source") or "") if kind == "set" else "")
    if kind == "set":  # people go on with one after its run has ended
        result = preferences.counts(preferences.records(run.dir), str(config.options.get("pairing") or "all"))
    return Node(_key(run), kind, config.title, run.id, method, run.status(), _said(kind, result), str(run.dir))


def _said(kind: str, result: dict[str, Any]) -> str:
    """Say in a few words what became of a run."""
    held = result.get("heldout") or {}
    if None not in (held.get("before"), held.get("after")) and held.get("n"):
        return f"held-out {held['name']} {held['before']:.3f} -> {held['after']:.3f} ({held['n']} rows)"
    if kind == "set" and result["records"]:
        return f"{_many(result['records'], 'record')}, {_many(result['preference'], 'pair')}"
    if kind == "export" and result.get("files"):
        return ", ".join(str(file.get("type") or Path(file["path"]).name) for file in result["files"][:4])
    if kind == "eval" and "worse" in result:
        return f"{len(result['worse'])} worse, {len(result['better'])} better, {len(result['undecided'])} undecided"
    return ""


def _many(count: int, one: str) -> str:
    return f"{count:,} {one}{'s' * (count != 1)}"


# --- in the terminal -------------------------------------------------------------------------------------------------


def lines(graph: Graph) -> list[str]:
    """Draw the graph as a tree: each run once, below what it came from; what else it came from stands under it."""
    out: list[str] = []
    seen: set[str] = set()
    nodes, into, children = {node.key: node for node in graph.nodes}, dict[str, list[Edge]](), dict[str, list[str]]()
    for edge in graph.edges:
        into.setdefault(edge.target, []).append(edge)
    trunks = {key: _trunk(into.get(key, [])) for key in nodes}
    for key, trunk in trunks.items():
        if trunk is not None:
            children.setdefault(trunk.source, []).append(key)

    def draw(key: str, depth: int) -> None:
        if key in seen:
            return
        seen.add(key)
        here = "  <- this run" if key == graph.focus else ""
        out.append("  " * max(0, depth - 1) + ("└ " if depth else "") + _line(nodes[key]) + here)
        indent, others = "  " * (depth + 1), (edge for edge in into.get(key, ()) if edge != trunks[key])
        out.extend(f"{indent}{edge.why}: {_beside(nodes[edge.source])}" for edge in others)
        for child in children.get(key, ()):
            draw(child, depth + 1)

    for key in nodes:  # a file that only stands beside others is named there
        if trunks[key] is None and (key in children or key == graph.focus or nodes[key].run):
            draw(key, 0)
    left = f"({graph.cut} of what it stands with, and what hangs on them, are not shown)"
    return out + ([left] if graph.cut else [])


def _trunk(into: list[Edge]) -> Edge | None:
    """Choose the edge that a node hangs from: its parent, else the base, who is evaluated or answers, data."""
    order = (
        "parent",
        "base",
        "evaluated",
        "answers",
        "judges",
        "scores",
        "prompts",
        "data",
        "compared with",
        "step of",
    )
    return min(into, key=lambda edge: order.index(edge.why), default=None)


def _beside(node: Node) -> str:
    return node.run or (f"{node.title} ({node.said})" if node.said else node.title)


def _line(node: Node) -> str:
    if not node.run:
        return node.title + (f" ({node.said})" if node.said else "")
    what = node.method if node.kind == "run" and node.method else f"{node.kind} {node.method}".strip()
    return f"{what}: {node.run} ({node.status})" + (f"  {node.said}" if node.said else "")
