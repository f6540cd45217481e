"""Where a run stands, as a picture: what it came from and what came of it; each run leads to its own page."""

from __future__ import annotations

import json

from studio.lab import lineage
from studio.lab.lineage import Graph, Node
from studio.methods import METHODS
from studio.ui import live, parts, recipefile
from studio.ui.live import Scene, View
from studio.ui.parts import esc

_HIGH, _GAP, _ROW = 44, 14, 78
_WORDS = {
    "base": "base model", "data": "data", "votes": "votes", "set": "judged answers", "run": "run", "eval": "evaluation",
    "export": "export", "recipe": "recipe", "lab": "experiment", "gone": "gone",
}  # fmt: skip
_PAGES = {
    "base": "model", "data": "data", "votes": "chat", "set": "feedback", "export": "export", "eval": "evaluate",
    "lab": "lab", "recipe": "lab",
}  # fmt: skip
#: Pages that show the run they are told of.
_SHOW = ("train", "align", "evaluate", "feedback", "lab")
_kept: dict[str, tuple[object, str]] = {}


def card(scene: Scene, view: View | None) -> str:
    """Draw the card of a run's line; nothing where it stands alone. It is read again only when a run came or went."""
    if view is None:
        return ""
    stamp = (view.id, tuple((other.id, other.status) for other in scene.views))
    known = _kept.get(view.id)
    if known is None or known[0] != stamp:
        graph = lineage.read(view.run)
        drawn = plotted(graph) if len(graph.nodes) > 1 else ""
        said = f"all of it in words: studio show {view.id} --tree"
        known = (stamp, parts.card("Where it stands", drawn + recipefile.button(view), esc(said)) if drawn else "")
        _kept.clear()  # one page shows one run
        _kept[view.id] = known
    return known[1]


def plotted(graph: Graph) -> str:
    """Draw a graph for wide and for narrow windows."""
    wide, narrow = draw(graph, 600, 3), draw(graph, 340, 2)
    return f'<div class="st-wide">{wide}</div><div class="st-narrow">{narrow}</div>'


def draw(graph: Graph, width: int, columns: int) -> str:
    """Draw a graph as SVG, what was there first on top, at most so many things in a row."""
    places, high = _places(graph, width, columns)
    wide = (width - _GAP * (columns - 1)) / columns
    name = f"st-line-{width}"
    said = "; ".join(
        f"{graph.node(edge.target).title} from {graph.node(edge.source).title} ({edge.why})" for edge in graph.edges
    )
    out = [
        f'<svg class="st-plot st-line" viewBox="0 0 {width} {high}" width="{width}" role="group" '
        f'aria-labelledby="{name}-title {name}-said">'
        f'<title id="{name}-title">Where {esc(graph.node(graph.focus).title)} stands</title>'
        f'<desc id="{name}-said">{esc(said, 1500)}</desc>'
    ]
    for edge in graph.edges:
        (x1, y1), (x2, y2) = places[edge.source], places[edge.target]
        x1, x2, y1 = x1 + wide / 2, x2 + wide / 2, y1 + _HIGH
        bend = (y2 - y1) / 2
        out.append(
            f'<path d="M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}" '
            f'fill="none" style="stroke:var(--st-muted, #63636b);stroke-width:1.2">'
            f"<title>{esc(edge.why)}</title></path>"
        )
    out += [_box(node, *places[node.key], wide, node.key == graph.focus) for node in graph.nodes]
    return "".join([*out, "</svg>"])


def _places(graph: Graph, width: int, columns: int) -> tuple[dict[str, tuple[float, float]], int]:
    """Give the upper left corner of each node: a row a rank, several where it has too many; and the height of all."""
    ranks, rows = graph.ranks(), dict[int, list[str]]()
    for node in graph.nodes:
        rows.setdefault(ranks[node.key], []).append(node.key)
    wide, y = (width - _GAP * (columns - 1)) / columns, 2.0
    places: dict[str, tuple[float, float]] = {}
    for rank in sorted(rows):
        for start in range(0, len(rows[rank]), columns):
            part = rows[rank][start : start + columns]
            left = (width - len(part) * wide - (len(part) - 1) * _GAP) / 2
            for at, key in enumerate(part):
                places[key] = (left + at * (wide + _GAP), y)
            y += _ROW
    return places, round(y - _ROW + _HIGH + 4)


def _box(node: Node, x: float, y: float, wide: float, chosen: bool) -> str:
    """Draw a node: its title, what it is and what became of it; a run is a link to its page."""
    room = int((wide - 16) / 6.3)
    what = " · ".join(filter(None, (node.method or _WORDS[node.kind], node.said or node.status)))
    colour = "accent" if chosen else "line"
    dash = ";stroke-dasharray:4 3" if node.kind == "gone" else ""
    drawn = (
        f'<rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{wide - 1:.1f}" height="{_HIGH}" rx="8" '
        f'style="fill:var(--st-card, #fff);stroke:var(--st-{colour}, #e4e4e7);stroke-width:{2 if chosen else 1.2}'
        f'{dash}"/>'
        f'<text x="{x + 9:.1f}" y="{y + 18:.1f}" font-size="12" style="fill:var(--st-text, #18181b)">'
        f"{esc(_short(node.title, room))}</text>"
        f'<text x="{x + 9:.1f}" y="{y + 34:.1f}" font-size="11" style="fill:var(--st-muted, #63636b)">'
        f"{esc(_short(what, room))}</text><title>{esc(f'{node.title}: {what}', 300)}</title>"
    )
    page = _page(node)
    if not page:
        return f"<g>{drawn}</g>"
    name = esc(
        f"{_WORDS[node.kind]} {node.title}, {node.run}" if node.run else f"{_WORDS[node.kind]} {node.title}", 200
    )
    sends = ""
    if page in _SHOW and node.run:
        message = esc(json.dumps({"do": "show", "id": node.run}))
        sends = f' data-st-send="{message}" data-st-to="st-{page}-do"'
    return f'<a href="#{page}" aria-label="{name}"{sends}>{drawn}</a>'


def _page(node: Node) -> str:
    """Name the page that a node's card is on; "" where it has none."""
    if node.kind == "run":
        method = METHODS.get(node.method)
        return live.page_of(method) if method is not None else ""
    return _PAGES.get(node.kind, "")


def _short(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"
