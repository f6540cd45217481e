"""The card as one page that opens by itself: nothing is fetched, no script runs, whatever a model has said.

What got worse stands first. Every answer can be read one by one; texts that may offend are folded away until asked for.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studio.evals import card, overplot
from studio.feedback import engines

FILE = "report.html"
#: Answers of a suite that are shown; all of them are in answers.jsonl.
MOST = 1000
#: Of more figures that cannot be told the list is folded, as in the window.
FOLD = 8
_KNOWN = ("item", "measure", "asked", "before", "after", "marks", "offensive", "title")
_SIDES = ("before", "after")
Row = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --ground: #fafafa; --card: #fff; --line: #e4e4e7; --text: #18181b; --soft: #63636b;
  --red: #b91c1c; --green: #047857; --blue: #4f46e5; --st-amber: #b45309; }
@media (prefers-color-scheme: dark) { :root { --ground: #131316; --card: #1b1b1f; --line: #2e2e34; --text: #ececf0;
  --soft: #a1a1aa; --red: #f87171; --green: #34d399; --blue: #a5b4fc; --st-amber: #fbbf24; } }
:root { --st-accent: var(--blue); --st-red: var(--red); --st-muted: var(--soft); --st-line: var(--line);
  --st-text: var(--text); --st-card: var(--card); }
.narrow { display: none; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 64px; max-width: 1040px; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 0 0 8px; } h3 { font-size: 15px; margin: 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; margin: 12px 0;
  overflow-x: auto; }
h1, p, .along td, .along th { overflow-wrap: anywhere; }
p { margin: 4px 0; } .soft { color: var(--soft); font-size: 13px; } .worse { color: var(--red); }
.better { color: var(--green); } .different { color: var(--blue); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: 13px; }
td { font-variant-numeric: tabular-nums; } .tight { white-space: nowrap; }
details { border-top: 1px solid var(--line); padding: 6px 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
details details { margin-left: 14px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0 10px; padding: 8px 10px; border-radius: 8px;
  background: var(--ground); border: 1px solid var(--line); font: 13px/1.45 ui-monospace, monospace; }
svg { display: block; } svg .line { stroke: var(--line); } svg .before { stroke: var(--soft); fill: var(--card); }
svg .after { stroke: var(--blue); fill: var(--blue); } svg .dot-before { fill: var(--soft); opacity: 0.6; }
svg .dot-after { fill: var(--blue); opacity: 0.6; } svg text { font: 11px system-ui, sans-serif; }
@media (max-width: 560px) { .wide, thead { display: none; } .narrow { display: block; }
  table, tbody, tr { display: block; } tr { border-top: 1px solid var(--line); padding: 6px 0; }
  td { display: inline-block; border: 0; padding: 0 14px 2px 0; } td:first-child, .along td { display: block; }
  td:first-child { font-weight: 600; } td:first-child span { font-weight: 400; }
  td:not(:first-child)::before { content: attr(data-head) " "; color: var(--soft); font-size: 12px; } }
svg .name { fill: var(--soft); } svg.st-goodhart { max-width: 100%; height: auto; margin: 6px 0; }
"""


def page(document: Mapping[str, Any], shown: Mapping[str, Sequence[Row]]) -> str:
    """Make the page of a card's document (job.py) and the answers of its suites."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Evaluation of {_esc(document['of'])}</title><style>{_STYLE}</style></head><body>",
        *_head(document),
        *(_changes(document) if document["against"] else ()),
    ]
    for name, suite in document["suites"].items():
        parts += _suite(name, suite, shown.get(name) or ())
    made = "\n".join([*parts, "</body></html>\n"])
    return made.encode("utf-8", "replace").decode()


def _esc(text: object) -> str:
    return html.escape(str(text), quote=True)


def _said(text: object) -> str:
    """Write foreign text in a line of ours: a sign that turns the direction of reading ends with it."""
    return f'<span dir="auto">{_esc(text)}</span>'


def _head(document: Mapping[str, Any]) -> Iterable[str]:
    yield f"<h1>Evaluation of {_esc(document['of'])}</h1>"
    against = f"against {_esc(document['against'])}" if document["against"] else "with nothing to compare it with"
    yield f'<p class="soft">{against}; seed {_esc(document["seed"])}; run {_esc(document["run"])}</p>'
    yield f'<p class="soft">Asked through {_esc(document["through"])}.</p>'
    if document.get("judge"):
        judge = document["judge"]
        yield f'<p class="soft">Judge: {_esc(judge.get("name"))}, through {_esc(engines.through(judge))}.</p>'


_LISTS = {
    "worse": ("What got worse", "Nothing got worse beyond chance."),
    "better": ("What got better", "Nothing got better beyond chance."),
    "changed": ("What is different", ""),
    "undecided": ("What cannot be told", "Every figure differs beyond chance."),
}


def _changes(document: Mapping[str, Any]) -> Iterable[str]:
    if not document["tested"]:
        yield '<section class="worse-list"><h2>What got worse</h2>'
        yield "<p>No figure could be compared; the notes of the suites below say why.</p></section>"
        return
    for name, (title, nothing) in _LISTS.items():
        rows = document[name]
        if not rows and not nothing:
            continue
        yield f'<section class="{name}-list"><h2>{title}</h2>'
        if rows:
            yield from _listed(name, rows, document["suites"])
        else:
            yield f"<p>{nothing}</p>"
        if name == "worse":
            yield (
                f'<p class="soft">{document["tested"]} figures are compared. A difference is one whose p stays below '
                f"{card.LEVEL:g} after Holm's correction for their number; each interval holds 95 % by itself.</p>"
            )
        yield "</section>"


def _listed(name: str, rows: Sequence[Row], suites: Mapping[str, Any]) -> Iterable[str]:
    """Lay out one of the lists; a long one of what cannot be told is folded."""
    heads = ("Figure", "Suite", "Before and after")
    cells = [[_esc(row["label"]), _esc(suites[row["suite"]]["title"]), _esc(row["words"])] for row in rows]
    if name == "undecided" and len(rows) > FOLD:
        yield f"<details><summary>Show all {len(rows)}</summary>{_table(heads, cells)}</details>"
    else:
        yield _table(heads, cells)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], style: str = "") -> str:
    """Lay out cells that are HTML already; each says its column's name where a narrow window puts them in lines."""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td data-head="{name}">{cell}</td>' for name, cell in zip(head, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<table class="{style}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _suite(name: str, suite: Mapping[str, Any], rows: Sequence[Row]) -> Iterable[str]:
    yield f'<section id="{_esc(name)}"><h2>{_esc(suite["title"])}</h2><p>{_esc(suite["says"])}</p>'
    measured = [figure for figure in suite["figures"] if figure["sides"]]
    if measured:
        heads = ("Figure", "n", "Before", "After", "95 % intervals", "p (Holm)", "Verdict")
        yield _table(heads, [_figure(figure) for figure in measured])
    missing = [figure["label"] for figure in suite["figures"] if not figure["sides"]]
    if missing:
        yield f'<p class="soft">Not measured here: {_esc(", ".join(missing))}.</p>'
    for note in suite["notes"]:
        yield f"<p>{_esc(note)}</p>"
    yield f'<p class="soft">What it cannot show: {_esc(suite["cannot"])}</p>'
    yield from _plots(suite["plots"])
    if rows:
        yield from _answers(rows, suite["figures"])
    yield "</section>"


def _figure(figure: Mapping[str, Any]) -> list[str]:
    sides, found = figure["sides"], figure["difference"]
    counts = "/".join(str(n) for n in sorted({side["n"] for side in sides.values()}))
    said = [_esc(card.value(dict(figure), sides[name]["value"])) if name in sides else "–" for name in _SIDES]
    values = [f'<span class="tight">{value}</span>' for value in said]
    p = "–" if found is None else "&lt; 0.001" if found["p_holm"] < 0.001 else f"{found['p_holm']:.3f}"
    verdict = figure["verdict"]
    label = f"<h3>{_esc(figure['label'])}</h3>" + (f'<span class="soft">{_esc(figure["says"])}</span>')
    style = verdict if verdict in ("better", "worse", "different") else "soft"
    return [
        label,
        counts,
        *values,
        intervals(figure),
        f'<span class="tight">{p}</span>',
        f'<span class="{style}">{_esc(verdict or "–")}</span>',
    ]


# --- pictures --------------------------------------------------------------------------------------------------------


def intervals(figure: Mapping[str, Any], width: int = 220) -> str:
    """Draw each side's figure and interval on one scale: of shares 0 to 100 %, else from 0 as far as they reach."""
    sides = [(name, figure["sides"][name]) for name in _SIDES if name in figure["sides"]]
    ends = [side[part] for _, side in sides for part in ("low", "value", "high") if side[part] is not None]
    low, high = card.scale(dict(figure)) or (min(0.0, *ends), max(0.0, *ends))
    span, height = (high - low) or 1.0, 8 + 16 * len(sides)

    def at(number: float) -> float:
        return round(6 + (width - 12) * (number - low) / span, 1)

    said = "; ".join(f"{name} {card.side_words(dict(figure), side)}" for name, side in sides)
    out = [f'<svg width="{width}" height="{height}" role="img" aria-label="{_esc(said)}">']
    out.append(f'<line class="line" x1="6" x2="{width - 6}" y1="{height - 3}" y2="{height - 3}"/>')
    for place, (name, side) in enumerate(sides):
        y = 10 + 16 * place
        if side["low"] is not None and side["high"] is not None:
            x1, x2 = at(side["low"]), at(side["high"])
            out.append(f'<line class="{name}" stroke-width="2" x1="{x1}" x2="{x2}" y1="{y}" y2="{y}"/>')
        out.append(f'<circle class="{name}" stroke-width="2" cx="{at(side["value"])}" cy="{y}" r="4"/>')
    return "".join([*out, f"<title>{_esc(said)}</title></svg>"])


def _plots(plots: Mapping[str, Any]) -> Iterable[str]:
    """Draw roads of an optimised proxy, and what is points by side, {side: [[x, y], ...]}; others are the window's."""
    for name, plot in plots.items():
        if name in overplot.TITLES and isinstance(plot, list) and plot:
            yield from _road(name, plots)
            continue
        if name == "side_by_side" and isinstance(plot, Mapping) and plot.get("rows"):
            yield from _along(plot)
            continue
        sides = {side: plot[side] for side in _SIDES if isinstance(plot, Mapping) and isinstance(plot.get(side), list)}
        points = [point for side in sides.values() for point in side]
        if not points or not all(isinstance(point, (list, tuple)) and len(point) == 2 for point in points):
            continue
        yield f'<p class="soft">{_esc(name.replace("_", " "))}: before grey, after in colour</p>'
        yield _scatter(sides, points)


def _along(plot: Mapping[str, Any]) -> Iterable[str]:
    """Lay out the same questions as each answered them: before, at each checkpoint, after."""
    yield "<h3>Before, during and after, side by side</h3>"
    rows = []
    for row in plot["rows"]:
        cells = [f'{_esc(row["asked"])}<br><span class="soft">{_esc(row["right"])}</span>']
        for said in row["said"]:
            text = " ".join(str(said["text"]).split())
            short = _said(text[:100] + "…" * (len(text) > 100)) if text else '<span class="soft">(nothing)</span>'
            style, word = ("better", "right") if said["right"] else ("soft", "wrong")
            more = (
                f'<br><span class="soft">goes on rightly: {_esc(said["goes_on"][:80])}</span>'
                if said["goes_on"]
                else ""
            )
            cells.append(f'{short} <span class="{style}">{word}</span>{more}')
        rows.append(cells)
    yield _table(("Asked", *map(_esc, plot["columns"])), rows, "along")


def _road(form: str, plots: Mapping[str, Any]) -> Iterable[str]:
    found, turns, title = overplot.panels(form, plots), overplot.marks(form, plots), overplot.TITLES[form]
    yield f"<h3>{_esc(title)}</h3>"
    for size, width in (("wide", 620), ("narrow", 340)):
        yield f'<div class="{size}">{overplot.draw(found, turns, title, width)}</div>'
    yield f"<p>{_esc(overplot.turned(turns))}</p>"
    for said in overplot.captions(found):
        yield f'<p class="soft">{_esc(said)}</p>'


def _scatter(sides: Mapping[str, Sequence[Sequence[float]]], points: Sequence[Sequence[float]]) -> str:
    width, height = 480, 180
    xs, ys = [float(p[0]) for p in points], [float(p[1]) for p in points]
    left, right, low, high = min(xs), max(xs), min(0.0, *ys), max(ys)

    def place(point: Sequence[float]) -> tuple[float, float]:
        x = 40 + (width - 56) * (point[0] - left) / ((right - left) or 1)
        return round(x, 1), round(8 + (height - 36) * (high - point[1]) / ((high - low) or 1), 1)

    out = [f'<svg width="{width}" height="{height}" role="img">']
    out.append(f'<line class="line" x1="40" x2="{width - 16}" y1="{height - 28}" y2="{height - 28}"/>')
    out += [f'<g class="name"><text x="2" y="16">{high:.3g}</text><text x="2" y="{height - 26}">{low:.3g}</text>']
    out.append(f'<text x="40" y="{height - 10}">{left:g}</text>')
    out.append(f'<text x="{width - 40}" y="{height - 10}">{right:g}</text></g>')
    for side, found in sides.items():
        out += [f'<circle class="dot-{side}" cx="{x}" cy="{y}" r="3"/>' for x, y in map(place, found)]
    return "".join([*out, "</svg>"])


# --- answers ---------------------------------------------------------------------------------------------------------


def _answers(rows: Sequence[Row], figures: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    labels = {figure["measure"]: figure["label"] for figure in figures}
    yield f"<details><summary>Answers, one by one ({len(rows)})</summary>"
    for number, row in enumerate(rows[:MOST], 1):
        yield _answer(number, row, labels)
    if len(rows) > MOST:
        yield f'<p class="soft">The first {MOST} of {len(rows)}; all are in shown.json beside this page.</p>'
    yield "</details>"


def _answer(number: int, row: Row, labels: Mapping[str, str]) -> str:
    asked = " ".join(str(row.get("asked") or "").split())
    marks = row.get("marks") if isinstance(row.get("marks"), Mapping) else {}
    label = labels.get(str(row.get("measure") or ""), str(row.get("measure") or ""))
    told = ", ".join(f"{side} {_mark(mark)}" for side, mark in marks.items()) if marks else ""
    about = f'<span class="soft">{_esc(label)}{": " if label and told else ""}{_esc(told)}</span>'
    if not _offends(row.get("offensive")):
        head = _said(row.get("title") or asked[:140] + ("…" if len(asked) > 140 else ""))
        return f"<details><summary>{number}. {head} {about}</summary>{_texts(row)}</details>"
    hidden = f"<details><summary>Show the text; it may offend</summary>{_texts(row)}</details>"
    return f"<details><summary>{number}. A text that may offend {about}</summary>{hidden}</details>"


def _offends(said: Any) -> bool:
    """Read the flag, which may be told by side."""
    return any(said.values()) if isinstance(said, Mapping) else bool(said)


def _mark(mark: Any) -> str:
    if isinstance(mark, (int, float)):
        return {0.0: "no", 1.0: "yes", 0.5: "half"}.get(float(mark), f"{mark:.3g}")
    return str(mark)


def _texts(row: Row) -> str:
    """Show the question, what each side said, and all else that the suite wrote down."""
    out = [f'<p class="soft">Asked</p><pre dir="auto">{_esc(row.get("asked") or "")}</pre>']
    for side in _SIDES:
        if row.get(side) is not None:
            out.append(f'<p class="soft">{side.capitalize()}</p><pre dir="auto">{_esc(row[side])}</pre>')
    for name, value in row.items():
        if name in _KNOWN or value in (None, "", [], {}):
            continue
        pairs = value.items() if isinstance(value, Mapping) else [("", value)]
        said = "\n".join(f"{side}: {_plain(one)}" if side else _plain(one) for side, one in pairs)
        out.append(f'<p class="soft">{_esc(str(name).replace("_", " ").capitalize())}</p><pre>{_esc(said)}</pre>')
    return "".join(out)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "\n".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
