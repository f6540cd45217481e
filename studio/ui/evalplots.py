"""Pictures of an evaluation: a difference with its interval, both sides' figures, what a suite drew (Outcome.plots).

Colours tell verdicts: red worse, green better, indigo different, grey what may be chance. Before is grey and hollow,
after indigo and full, here and in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.evals import card, overplot, stats
from studio.ui import parts, plots
from studio.ui.parts import esc

Figure = Mapping[str, Any]
SIDES = ("before", "after")
_TONES = {card.WORSE: "red", card.BETTER: "green", card.DIFFERENT: "accent"}
_HEX = {"red": "#b91c1c", "green": "#047857", "accent": "#4f46e5", "muted": "#63636b", "line": "#e4e4e7"}
#: What each plot of a list of shares is called.
BARS = {
    "types": "Refused, by type of prompt",
    "accuracy": "Right answers, by what was changed",
}
ALONG = "Before, during and after, side by side"
_LETTER = 6.1


def is_share(figure: Figure) -> bool:
    """Tell whether a figure is told in per cent."""
    return "share" in (figure["kind"], figure["unit"])


def span(figures: Sequence[Figure]) -> float:
    """Give how far the shares' differences reach, intervals included, so that all are drawn on one scale."""
    found = [made["difference"] for made in figures if made["difference"] is not None and is_share(made)]
    return min(1.0, max([0.05, *(reach(one) for one in found)]))


def reach(difference: Mapping[str, Any]) -> float:
    """Give how far a difference's interval reaches from nothing."""
    ends = (difference[part] for part in ("low", "value", "high"))
    return max(abs(end) for end in ends if end is not None)


def change(figure: Figure, most: float, width: int = 124) -> str:
    """Draw a difference as a dot and its interval as a line, on a scale from -most to +most with a mark at nothing."""
    found, height = figure["difference"], 18
    far = most if is_share(figure) else reach(found) or 1.0
    colour = _TONES.get(figure["verdict"], "muted")

    def at(number: float) -> float:
        return 5 + (width - 10) * (min(1.0, max(-1.0, number / far)) + 1) / 2

    out = [_svg(width, height, card.words(dict(figure)))]
    out.append(_stroke(width / 2, 1, width / 2, height - 1, "line", 1.5))
    if found["low"] is not None and found["high"] is not None:
        out.append(_stroke(at(found["low"]), 9, at(found["high"]), 9, colour, 2.5))
    out.append(_circle(at(found["value"]), 9, 4, colour))
    return "".join([*out, "</svg>"])


def levels(figure: Figure, width: int = 170, scale: tuple[float, float] | None = None) -> str:
    """Draw each side's figure with its interval: of shares on 0 to 100 %, else from 0 as far as they reach."""
    sides = [(name, figure["sides"][name]) for name in SIDES if name in figure["sides"]]
    low, high = (0.0, 1.0) if is_share(figure) else scale or ends([side for _, side in sides])
    low, high = min(0.0, low), max(0.0, high)
    said = "; ".join(f"{name} {card.side_words(dict(figure), side)}" for name, side in sides)
    height = 4 + 13 * len(sides)

    def at(number: float) -> float:
        return 5 + (width - 10) * min(1.0, max(0.0, (number - low) / ((high - low) or 1.0)))

    out = [_svg(width, height, said), _stroke(5, height - 1, width - 5, height - 1, "line", 1)]
    for place, (name, side) in enumerate(sides):
        y, colour = 7 + 13 * place, "accent" if name == "after" else "muted"
        if side["low"] is not None and side["high"] is not None:
            out.append(_stroke(at(side["low"]), y, at(side["high"]), y, colour, 2))
        out.append(_circle(at(side["value"]), y, 3.5, colour, hollow=name == "before"))
    return "".join([*out, "</svg>"])


def ends(sides: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Give the lowest and the highest of what is to be drawn."""
    found = [side[part] for side in sides for part in ("low", "value", "high") if side[part] is not None]
    return min(found), max(found)


# --- what a suite drew -----------------------------------------------------------------------------------------------


def drawn(suite: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Draw a suite's plots: (title, picture) each; one of a form that is not known here is left out."""
    found = []
    for name, plot in suite["plots"].items():
        if isinstance(plot, list) and plot and all("share" in row and "side" in row for row in plot):
            if not _told(plot, suite):
                found.append((BARS.get(name, _words(name)), bars(plot, suite)))
        elif isinstance(plot, list) and plot and name in overplot.TITLES:
            found.append((overplot.TITLES[name], road(name, suite["plots"])))
        elif isinstance(plot, Mapping) and name == "side_by_side" and plot.get("rows"):
            found.append((ALONG, side_by_side(plot)))
        elif isinstance(plot, Mapping) and name == "loss_by_length" and (made := scatter(plot)):
            found.append(("Loss of an answer, by its length", made))
    return found


def _told(plot: Sequence[Mapping[str, Any]], suite: Mapping[str, Any]) -> bool:
    """Tell whether all that a plot shows stands among the figures, with the same intervals."""
    figures = {made["measure"] for made in suite["figures"]}
    return all((row.get("measure") or f"attack_{row.get('attack')}") in figures for row in plot)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def rows(plot: Sequence[Mapping[str, Any]], suite: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Put a list of shares by what they are shares of: (label, {side: {"value", "low", "high", "n"}})."""
    labels = {made["measure"]: made["label"] for made in suite["figures"]}
    made: dict[str, dict[str, Any]] = {}
    for row in plot:
        key = str(row.get("says") or row.get("attack") or row.get("type") or row.get("measure") or row.get("kind"))
        label = labels.get(key, key.replace("_", " "))
        beside = row.get("label") or (row.get("kind") if "attack" in row else "")
        label = f"{label} ({beside})" if beside and beside != key else label
        low, high = stats.wilson(float(row["share"]) * int(row["n"]), int(row["n"])) if row.get("n") else (None, None)
        made.setdefault(label, {})[str(row["side"])] = {"value": row["share"], "low": low, "high": high, "n": row["n"]}
    return list(made.items())


def bars(plot: Sequence[Mapping[str, Any]], suite: Mapping[str, Any]) -> str:
    """Draw shares, one kind a row, each side as a dot on its interval."""
    found = rows(plot, suite)
    return plots.both(lambda width: _bars(found, width), 620, 340)


def _bars(found: Sequence[tuple[str, Mapping[str, Any]]], width: int) -> str:
    wide = width > 500
    left = min(300.0, 12 + _LETTER * max(len(label) for label, _ in found)) if wide else 4.0
    right, top, tall = 52, 6, 26 if wide else 42
    height = top + tall * len(found) + 20

    def at(number: float) -> float:
        return left + (width - left - right) * min(1.0, max(0.0, number))

    told = "; ".join(
        f"{label}: " + ", ".join(f"{side} {100 * one['value']:.0f} %" for side, one in sides.items())
        for label, sides in found
    )
    out = [_svg(width, height, told, grows=True)]
    for tick in (0.0, 0.5, 1.0):
        out.append(_stroke(at(tick), top, at(tick), height - 18, "line", 1))
        out.append(_text(at(tick), height - 4, f"{100 * tick:.0f} %", "middle"))
    for place, (label, sides) in enumerate(found):
        y = top + tall * place + (8 if wide else 22)
        most = int(left / _LETTER) if wide else 60
        out.append(_text(0, y + 6 if wide else y - 9, label if len(label) <= most else f"{label[: most - 1]}…"))
        for number, side in enumerate(side for side in SIDES if side in sides):
            one, colour, line = sides[side], "accent" if side == "after" else "muted", y + 9 * number
            if one["low"] is not None:
                out.append(_stroke(at(one["low"]), line, at(one["high"]), line, colour, 2))
            out.append(_circle(at(one["value"]), line, 3.5, colour, hollow=side == "before"))
        last = sides.get("after") or next(iter(sides.values()))
        out.append(_text(width, y + 8, f"{100 * last['value']:.0f} %", "end"))
    return "".join([*out, "</svg>"])


def side_by_side(plot: Mapping[str, Any]) -> str:
    """Lay out the same questions as each answered them: a row a question, a column before, a checkpoint, and after."""
    names, rows = plot["columns"], []
    for row in plot["rows"]:
        asked = f"{esc(row['asked'], 300)}<small>{esc(row['right'], 120)}</small>"
        rows.append([asked, *(_cell(name, said) for name, said in zip(names, row["said"], strict=True))])
    return f'<div class="st-along">{parts.table(["Asked", *names], rows)}</div>'


def _cell(name: str, said: Mapping[str, Any]) -> str:
    """Draw what one of them said; a narrow window has no columns, so that it says whose answer it is."""
    pill = parts.pill("right", "good") if said["right"] else parts.pill("wrong", "plain")
    text = esc(" ".join(str(said["text"]).split())[:100]) or '<span class="st-muted">(nothing)</span>'
    goes_on = esc(str(said["goes_on"])[:80])
    more = f"<small>goes on rightly: {goes_on}</small>" if goes_on else ""
    return f'<span class="st-narrow-only st-muted">{esc(name)}: </span><span dir="auto">{text}</span> {pill}{more}'


def road(form: str, found: Mapping[str, Any]) -> str:
    """Draw proxy and gold over the root of KL with their fits, and mark where the proxy still rises and gold falls."""
    panels, turns = overplot.panels(form, found), overplot.marks(form, found)
    picture = plots.both(lambda width: overplot.draw(panels, turns, overplot.TITLES[form], width), 620, 340)
    return picture + told(panels, turns, overplot.captions(panels))


def told(panels: Sequence[overplot.Panel], turns: Sequence[overplot.Mark], said: Sequence[str]) -> str:
    """Say beneath a road where it turns, and folded how it is read and what was fitted."""
    lines = "".join(map(parts.note, said))
    fitted = any(line.fit is not None for panel in panels for line in panel.lines)
    head = "How it is read, and the fitted forms" if fitted else "How it is read, and why no form is fitted"
    where = f'<p class="st-worded">{esc(overplot.turned(turns))}</p>'
    return f'{where}<details class="st-more"><summary>{head}</summary>{lines}</details>'


def scatter(plot: Mapping[str, Any]) -> str:
    """Draw a point an item, before hollow and after full."""
    sides = {side: [(float(x), float(y)) for x, y in plot.get(side) or []] for side in SIDES}
    points = [point for found in sides.values() for point in found]
    return plots.both(lambda width: _scatter(sides, points, width)) if points else ""


def _scatter(
    sides: Mapping[str, Sequence[tuple[float, float]]], points: Sequence[tuple[float, float]], width: int
) -> str:
    height, left, right, top, bottom = 220, 58, 12, 10, 24
    across, up = plots.nice([0.0, *(x for x, _ in points)]), plots.nice([0.0, *(y for _, y in points)], wanted=4)

    def px(x: float) -> float:
        return left + (width - left - right) * x / across[-1]

    def py(y: float) -> float:
        return top + (height - top - bottom) * (1 - y / up[-1])

    out = [_svg(width, height, f"loss in nats a token, of {len(points)} answers by their length in tokens", grows=True)]
    for tick in up:
        name = f"{tick:g}{' nats' if tick == up[-1] else ''}"
        out += [_stroke(left, py(tick), width - right, py(tick), "line", 1), _text(left - 6, py(tick) + 4, name, "end")]
    for tick in across:
        last = tick == across[-1]
        out.append(_text(px(tick), height - 6, f"{tick:g}{' tokens' if last else ''}", "end" if last else "middle"))
    for side, found in sides.items():
        colour = "accent" if side == "after" else "muted"
        out += [_circle(px(x), py(y), 2.8, colour, hollow=side == "before") for x, y in found]
    return "".join([*out, "</svg>"])


# --- strokes ---------------------------------------------------------------------------------------------------------


def key(names: Mapping[str, str]) -> str:
    """Draw what the dots mean: {side: who}."""
    drawn = "".join(
        f'<span><i class="st-dot-{side}" aria-hidden="true"></i>{esc(text, 80)}</span>' for side, text in names.items()
    )
    return f'<p class="st-key">{drawn}</p>'


def _colour(name: str) -> str:
    return f"var(--st-{name}, {_HEX[name]})"


def _svg(width: float, height: float, said: str, grows: bool = False) -> str:
    place = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="st-{"plot" if grows else "range"}" {place} role="img" aria-label="{esc(said, 1200)}">'


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, thick: float) -> str:
    style = f"stroke:{_colour(colour)};stroke-width:{thick};stroke-linecap:round"
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" style="{style}"/>'


def _circle(x: float, y: float, r: float, colour: str, hollow: bool = False) -> str:
    fill = "var(--st-card, #fff)" if hollow else _colour(colour)
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" style="fill:{fill};stroke:{_colour(colour)};stroke-width:1.5"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" style="fill:{_colour("muted")}">'
        f"{esc(text)}</text>"
    )
