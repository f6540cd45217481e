"""The card as one page that opens by itself: nothing is fetched, no script runs, whatever a model has said.

What got worse stands first. Every answer can be read one by one; texts that may offend are folded away until asked for.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studio.evals import card
from studio.feedback import engines

FILE = "report.html"
#: Answers of a suite that are shown; all of them are in answers.jsonl.
MOST = 1000
_KNOWN = ("item", "measure", "asked", "before", "after", "marks", "offensive", "title")
_SIDES = ("before", "after")
Row = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --ground: #fafafa; --card: #fff; --line: #e4e4e7; --text: #18181b; --soft: #63636b;
  --red: #b91c1c; --green: #047857; --blue: #4f46e5; }
@media (prefers-color-scheme: dark) { :root { --ground: #131316; --card: #1b1b1f; --line: #2e2e34; --text: #ececf0;
  --soft: #a1a1aa; --red: #f87171; --green: #34d399; --blue: #a5b4fc; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 64px; max-width: 1040px; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 0 0 8px; } h3 { font-size: 15px; margin: 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; margin: 12px 0;
  overflow-x: auto; }
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
svg .dot-after { fill: var(--blue); opacity: 0.6; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
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
    for name, (title, nothing) in _LISTS.items():
        rows = document[name]
        if not rows and not nothing:
            continue
        yield f'<section class="{name}-list"><h2>{title}</h2>'
        if rows:
            cells = [[_esc(row["suite"]), _esc(row["label"]), _esc(row["words"])] for row in rows]
            yield _table(("Suite", "Figure", "Before and after"), cells)
        else:
            yield f"<p>{nothing}</p>"
        if name == "worse":
            yield (
                f'<p class="soft">{document["tested"]} figures are compared. A difference is one whose p stays below '
                f"{card.LEVEL:g} after Holm's correction for their number; each interval holds 95 % by itself.</p>"
            )
        yield "</section>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out cells that are HTML already."""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


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
    values = [_esc(card.value(dict(figure), sides[name]["value"])) if name in sides else "–" for name in _SIDES]
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
    """Draw each side's figure and interval on one scale: of shares 0 to 100 %, else from the lowest to the highest."""
    sides = [(name, figure["sides"][name]) for name in _SIDES if name in figure["sides"]]
    ends = [side[part] for _, side in sides for part in ("low", "value", "high") if side[part] is not None]
    low, high = card.scale(dict(figure)) or (min(ends), max(ends))
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
    """Draw what is points by side, {side: [[x, y], ...]}; other pictures are the window's."""
    for name, plot in plots.items():
        sides = {side: plot[side] for side in _SIDES if isinstance(plot, Mapping) and isinstance(plot.get(side), list)}
        points = [point for side in sides.values() for point in side]
        if not points or not all(isinstance(point, (list, tuple)) and len(point) == 2 for point in points):
            continue
        yield f'<p class="soft">{_esc(name.replace("_", " "))}: before grey, after in colour</p>'
        yield _scatter(sides, points)


def _scatter(sides: Mapping[str, Sequence[Sequence[float]]], points: Sequence[Sequence[float]]) -> str:
    width, height = 480, 180
    xs, ys = [float(p[0]) for p in points], [float(p[1]) for p in points]
    left, right, low, high = min(xs), max(xs), min(0.0, *ys), max(ys)

    def place(point: Sequence[float]) -> tuple[float, float]:
        x = 40 + (width - 56) * (point[0] - left) / ((right - left) or 1)
        return round(x, 1), round(8 + (height - 36) * (high - point[1]) / ((high - low) or 1), 1)

    out = [f'<svg width="{width}" height="{height}" role="img">']
    out.append(f'<line class="line" x1="40" x2="{width - 16}" y1="{height - 28}" y2="{height - 28}"/>')
    out += [f'<text x="2" y="16">{high:.3g}</text><text x="2" y="{height - 26}">{low:.3g}</text>']
    out += [f'<text x="40" y="{height - 10}">{left:g}</text><text x="{width - 40}" y="{height - 10}">{right:g}</text>']
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
        head = _esc(row.get("title") or asked[:140] + ("…" if len(asked) > 140 else ""))
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
    out = [f'<p class="soft">Asked</p><pre>{_esc(row.get("asked") or "")}</pre>']
    for side in _SIDES:
        if row.get(side) is not None:
            out.append(f'<p class="soft">{side.capitalize()}</p><pre>{_esc(row[side])}</pre>')
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
