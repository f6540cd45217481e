"""The picture of a proxy that is optimised: proxy and gold over the root of KL, Gao et al.'s forms, and the turn.

Dots are what was measured, each with its 95 % interval; a curve is the form fitted to them, and where it is not
identified the picture says so and draws none. From the turn on, where the proxy still rises and the gold falls, the
ground is marked. SVG by attributes alone, each colour a variable with a value to fall back on: so the same picture
stands in the window and in report.html, which lets no style inside an element count.
"""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from studio.evals.overopt import Fit

#: The roads of the suite goodhart: what each is called, and what its fitted form is.
TITLES = {"bon": "Best of n: proxy and gold", "rl": "Along the training: proxy and gold"}
FORMS = {"bon": "d (α − β d)", "rl": "d (α − β log d)"}
X_NAME = "square root of KL from the start, √nats"
_HEX = {"accent": "#4f46e5", "amber": "#b45309", "muted": "#63636b", "line": "#e4e4e7", "red": "#b91c1c"}
_HEX |= {"text": "#18181b", "card": "#fff"}
_LEFT, _TOP, _TALL, _GAP, _BOTTOM, _RIGHT = 46, 44, 104, 30, 40, 14
_LETTER, _STEPS = 6.1, 60
Scale = Callable[[float], float]


@dataclasses.dataclass(frozen=True)
class Point:
    """What was measured at a distance, with its 95 % interval where there is one."""

    d: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Line:
    """What was measured along a road, and its fit; None where none is identified."""

    name: str
    colour: str
    points: Sequence[Point]
    fit: Fit | None = None

    def curve(self) -> list[tuple[float, float]]:
        """Give the fitted form from the first distance to the last, above the first value; empty without a fit."""
        if self.fit is None:
            return []
        ds = [point.d for point in self.points]
        low, high, begun = min(ds), max(ds), self.points[0].value
        steps = (low + (high - low) * at / _STEPS for at in range(_STEPS + 1))
        return [(d, begun + self.fit.at(d)) for d in steps]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One measure: its title and a line for each road; `share` is told in per cent."""

    title: str
    lines: Sequence[Line]
    share: bool = False
    colour: str = "text"


@dataclasses.dataclass(frozen=True)
class Mark:
    """A turn: its distance, its words, and the point of the last panel's line that it is at."""

    d: float
    words: str
    sure: bool
    value: float


# --- of the suite's plots --------------------------------------------------------------------------------------------


def fit_of(told: Any) -> Fit | None:
    """Read a fit as a result tells it."""
    if not isinstance(told, Mapping):
        return None
    return Fit(str(told["form"]), float(told["alpha"]), float(told["beta"]), float(told["error"]))


def panels(form: str, plots: Mapping[str, Any]) -> list[Panel]:
    """Give proxy above, gold below, of a road of the suite goodhart."""
    names, made = plots.get("names") or {}, []
    for what, colour in (("proxy", "amber"), ("gold", "accent")):
        points = [
            Point(float(one["d"]), float(one[what]), one.get(f"{what}_low"), one.get(f"{what}_high"))
            for one in plots[form]
            if math.isfinite(float(one[what]))
        ]
        title = f"{what}: {names[what]}" if names.get(what) else what
        line = Line(what, colour, points, fit_of(plots.get(f"{form}_fit_{what}")))
        made.append(Panel(title, [line], share=bool(plots.get("gold_is_share")) and what == "gold", colour=colour))
    return made


def marks(form: str, plots: Mapping[str, Any]) -> list[Mark]:
    """Give where the proxy still rises and the gold falls; empty where it does nowhere."""
    turn = plots.get(f"{form}_turn")
    if not turn:
        return []
    at = next((one for one in plots[form] if one.get("d") == turn.get("d")), turn)
    return [Mark(float(at["d"]), f"from {where(turn)} on", bool(turn.get("sure")), float(at["gold"]))]


def where(turn: Mapping[str, Any]) -> str:
    """Name the point of a turn."""
    return f"best of {turn['n']}" if "n" in turn else str(turn["name"])


def turned(turns: Sequence[Mark]) -> str:
    """Say where the proxy still rises and the gold falls."""
    said = [f"{_capital(turn.words)} the proxy still rises and the gold falls{_chance(turn)}." for turn in turns]
    return " ".join(said) or "Nowhere does the gold fall while the proxy still rises."


def captions(found: Sequence[Panel]) -> list[str]:
    """Say how the picture is read, and of each line its fit or why there is none."""
    said = ["Dots: measured, with 95 % intervals where there are some. Curves: Gao et al.'s forms, fitted to the dots."]
    for panel in found:
        for line in panel.lines:
            name = line.name if len(panel.lines) == 1 else f"{panel.title}, {line.name}"
            said.append(f"{_capital(name)}: {fitted(line)}")
    return said


def fitted(line: Line) -> str:
    """Write a line's fit as a formula, with where it is highest; or why no curve is drawn."""
    if line.fit is None:
        count = len({point.d for point in line.points if point.d > 0})
        return (
            f"no curve is drawn: its two numbers cannot be told apart by {count} distance{'s' * (count != 1)} that "
            "are too few or too alike."
        )
    sign, beta = ("+" if line.fit.beta < 0 else "−"), abs(line.fit.beta)
    formula = FORMS[line.fit.form].replace("α", _number(line.fit.alpha)).replace("− β", f"{sign} {_number(beta)}")
    top = max((point.d for point in line.points), default=0.0)
    peak = line.fit.peak
    highest = f", highest at d = {peak:.2f}" if peak is not None and 0 < peak <= top else ""
    return f"R(d) = {formula}{highest}; off by {line.fit.error:.2g} on average."


def _chance(turn: Mark) -> str:
    return "" if turn.sure else ", which may be chance"


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- drawing ---------------------------------------------------------------------------------------------------------


def draw(found: Sequence[Panel], turns: Sequence[Mark], label: str, width: int = 620) -> str:
    """Draw the panels below each other over one axis of distances."""
    end = max((point.d for panel in found for line in panel.lines for point in line.points), default=0.0)
    across = nice([0.0, end or 1.0])
    begin = _TOP + 13 * max(0, len(turns) - 1)
    height = begin + len(found) * _TALL + (len(found) - 1) * _GAP + _BOTTOM

    def px(d: float) -> float:
        return _LEFT + (width - _LEFT - _RIGHT) * d / across[-1]

    told = " ".join([f"{label}.", turned(turns), *captions(found)])
    out = [f'<svg class="st-plot st-goodhart" viewBox="0 0 {width} {height}" width="{width}" role="img" ']
    out[0] += f'aria-label="{_esc(told[:1200])}">'
    out += _key(found, width)
    out += [_ground(turn, px, (begin - 14, height - _BOTTOM), 13 * at, width) for at, turn in enumerate(turns)]
    for number, panel in enumerate(found):
        out += _panel(panel, begin + number * (_TALL + _GAP), px, width, turns if number == len(found) - 1 else ())
    for tick in across:
        anchor = "middle" if 0 < tick < across[-1] else "start" if tick == 0 else "end"
        out.append(_text(px(tick), height - _BOTTOM + 16, f"{tick:g}", anchor=anchor))
    out.append(_text(_LEFT + (width - _LEFT - _RIGHT) / 2, height - 6, X_NAME, anchor="middle"))
    return "".join([*out, "</svg>"])


def _key(found: Sequence[Panel], width: int) -> list[str]:
    """Draw whose each colour is where there are several, and, where there is room, what a dot and a curve are."""
    several = [line for line in found[0].lines] if found and len(found[0].lines) > 1 else []
    out, at = [], float(_LEFT)
    for line in several:
        out += [_dot(at + 4, 9, line.colour), _text(at + 12, 13, line.name, line.colour)]
        at += 24 + _LETTER * len(line.name)
    if at + 24 + _LETTER * len("measured fitted") > width:
        return out
    out += [_dot(at + 4, 9, "muted"), _text(at + 12, 13, "measured")]
    at += 24 + _LETTER * len("measured")
    if any(line.fit is not None for panel in found for line in panel.lines):
        out += [_path([(at, 9), (at + 16, 9)], "muted"), _text(at + 22, 13, "fitted")]
    return out


def _ground(turn: Mark, px: Scale, reach: tuple[float, float], down: float, width: int) -> str:
    """Mark the ground from a turn on, and say what happens there, `down` below the first such words."""
    colour, x, right = "red" if turn.sure else "muted", px(turn.d), width - _RIGHT
    top, bottom = reach
    told = f"{turn.words}: proxy up, gold down{'' if turn.sure else ' (may be chance)'}"
    words = told if _LETTER * len(told) <= width else turn.words
    room = _LETTER * len(words)
    at, anchor = (x + 4, "start") if x + 4 + room <= width else (max(float(right), room), "end")
    return (
        f'<rect x="{x:.1f}" y="{top}" width="{max(0.0, right - x):.1f}" height="{bottom - top:.1f}" '
        f'fill="{_colour(colour)}" fill-opacity="0.07"/>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom:.1f}" stroke="{_colour(colour)}" '
        f'stroke-dasharray="3 3"/>{_text(at, _TOP - 17 + down, words, colour, anchor)}'
    )


def _panel(panel: Panel, top: float, px: Scale, width: int, turns: Sequence[Mark]) -> list[str]:
    """Draw one measure: its scale, each line's intervals, dots, curve, and last value."""
    seen = [
        value
        for line in panel.lines
        for point in line.points
        for value in (point.value, point.low, point.high)
        if value is not None
    ]
    seen += [value for line in panel.lines for _, value in line.curve()]
    seen = [min(1.0, max(0.0, value)) for value in seen] if panel.share else seen
    scale = nice(seen or [0.0, 1.0], wanted=3)

    def py(value: float) -> float:
        value = min(scale[-1], max(scale[0], value))
        return top + 16 + (_TALL - 16) * (scale[-1] - value) / (scale[-1] - scale[0])

    out = [_halo(_text(_LEFT, top + 6, panel.title, panel.colour))]
    for tick in scale:
        name = f"{100 * tick:.0f} %" if panel.share else f"{tick:g}".replace("-", "−")
        y = py(tick)
        out.append(f'<line x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_colour("line")}"/>')
        out.append(_text(_LEFT - 6, y + 4, name, anchor="end"))
    for line in panel.lines:
        for point in line.points:
            if point.low is not None and point.high is not None:
                ends = [(px(point.d), py(point.low)), (px(point.d), py(point.high))]
                out.append(_path(ends, line.colour, thin=True))
        inside = [(d, value) for d, value in line.curve() if scale[0] <= value <= scale[-1]]
        curve = [(px(d), py(value)) for d, value in inside]
        out.append(_path(curve, line.colour) if curve else "")
        out += [_dot(px(point.d), py(point.value), line.colour) for point in line.points]
    bare = [line for line in panel.lines if line.fit is None]
    if bare:
        names = f"{', '.join(line.name for line in bare)}: " if len(panel.lines) > 1 else ""
        out.append(_halo(_text(width - _RIGHT, top + 6, f"{names}no curve, not identified", anchor="end")))
    for turn in turns:
        ring = _colour("red" if turn.sure else "muted")
        out.append(
            f'<circle cx="{px(turn.d):.1f}" cy="{py(turn.value):.1f}" r="6.5" fill="none" stroke="{ring}" '
            'stroke-width="1.6"/>'
        )
    return out


def nice(values: Sequence[float], wanted: int = 5) -> list[float]:
    """Give round tick values that enclose all values: steps of 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(high)):
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _esc(text: object) -> str:
    return html.escape(str(text), quote=True)


def _colour(name: str) -> str:
    return f"var(--st-{name}, {_HEX[name]})"


def _path(points: Sequence[tuple[float, float]], colour: str, thin: bool = False) -> str:
    where_ = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    width = 'stroke-width="1.2" stroke-opacity="0.5"' if thin else 'stroke-width="1.8"'
    return f'<polyline points="{where_}" fill="none" stroke="{_colour(colour)}" {width} stroke-linejoin="round"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(colour)}"/>'


def _text(x: float, y: float, text: str, colour: str = "muted", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" fill="{_colour(colour)}">'
        f"{_esc(text)}</text>"
    )


def _halo(text: str) -> str:
    """Put the card's colour behind a text, so that a line under it leaves it readable."""
    edge = f'<text paint-order="stroke" stroke="{_colour("card")}" stroke-width="4" '
    return text.replace("<text ", edge, 1)
