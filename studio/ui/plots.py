"""Plots as inline SVG, built on the server: no chart library, no flicker, the same after a reload.

Lines carry their name and last value at their end instead of a legend. Every colour is written in the element with a
fallback, so that a plot without its style sheet is still a plot. Each plot is drawn twice, wide and narrow, and the
style sheet shows the one that fits, so that its text keeps its size on a telephone.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from studio.evals.overplot import nice as nice
from studio.ui.parts import esc, near_zero

MAX_POINTS = 600
_COLOURS = {"accent": "#4f46e5", "amber": "#b45309", "muted": "#63636b", "line": "#e4e4e7", "text": "#18181b"}
Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line: points (x, y), a name, a colour of the sheet, and whether each point gets a dot."""

    name: str
    points: Sequence[Point]
    colour: str = "accent"
    dots: bool = False


def both(draw: Callable[[int], str], wide: int = 600, narrow: int = 340) -> str:
    """Draw a plot for wide and for narrow windows, in about the pixels that it will take."""
    return f'<div class="st-wide">{draw(wide)}</div><div class="st-narrow">{draw(narrow)}</div>'


def lines(
    series: Sequence[Series],
    *,
    x_end: float,
    label: str,
    width: int = 600,
    height: int = 300,
    unit: str = "steps",
    decimals: int = 0,
) -> str:
    """Draw lines over 0 to `x_end` of a unit, told with `decimals`; values that are not finite are left out."""
    kept = _finite(series)
    if not kept:
        return ""
    left, right, top, bottom = 44, 8.0, 12, 30
    ticks = nice([y for s in kept for _, y in s.points])
    low, high = ticks[0], ticks[-1]
    x_end = max(x_end, 1.0, *(x for s in kept for x, _ in s.points))
    digits = max(2, _digits(ticks))
    reached = max(s.points[-1][0] for s in kept)
    done = max(0.2, reached / x_end)
    for s in kept:  # room for the names at the lines' ends
        right = max(right, (left + (width - left) * done + 8 + 6.1 * len(_end(s, digits)) - width) / done)

    def px(x: float) -> float:
        return left + (width - left - right) * x / x_end

    def py(y: float) -> float:
        return top + (height - top - bottom) * (high - y) / (high - low)

    out = [_open(width, height, label)]
    for tick in ticks:
        out.append(_rule(left, py(tick), width - right))
        out.append(_text(left - 8, py(tick) + 4, _short(tick, ticks), anchor="end"))
    told = unit.removesuffix("s") if x_end == 1 else unit
    for x in (0.0, x_end / 2, x_end) if decimals or x_end > 1 else (0.0, x_end):
        anchor = {0.0: "start", x_end: "end"}.get(x, "middle")
        out.append(_text(px(x), height - 8, f"{x:,.{decimals}f}{f' {told}' if x == x_end else ''}", anchor=anchor))
    ends: list[tuple[float, Series]] = []
    for s in kept:
        out.append(_line([(px(x), py(y)) for x, y in s.points], s.colour))
        if s.dots or len(s.points) == 1:
            out += [_dot(px(x), py(y), s.colour) for x, y in s.points]
        ends.append((py(s.points[-1][1]), s))
    for y, s in _apart(ends, 15, top + 8, height - bottom - 2):
        out.append(_text(px(reached) + 7, y, _end(s, digits), s.colour))
    return "".join([*out, "</svg>"])


def small(
    series: Sequence[Series], *, x_end: float, label: str, width: int = 210, height: int = 96, share: bool = False
) -> str:
    """Draw lines over steps in little room: no names at the lines, their last values stand in the card's head.

    A `share` has an axis in per cent, from 0 on.
    """
    kept = _finite(series)
    if not kept:
        return ""
    values = [y for s in kept for _, y in s.points]
    ticks = nice([0.0, max(0.01, *values)] if share else values, wanted=2)
    shown = [ticks[0], ticks[-1]] if len(ticks) > 3 else ticks
    names = [f"{100 * tick:g} %" if share else _short(tick, ticks) for tick in shown]
    left = 12 + 6.2 * max(map(len, names))
    top, bottom, right, high = 8, 8, 4, ticks[-1]
    x_end = max(x_end, 1.0, *(x for s in kept for x, _ in s.points))
    out = [_open(width, height, label)]
    for tick, name in zip(shown, names, strict=True):
        y = top + (height - top - bottom) * (high - tick) / (high - ticks[0])
        out += [_rule(left, y, width - right), _text(left - 6, y + 4, name, anchor="end")]
    for s in kept:
        points = [
            (
                left + (width - left - right) * x / x_end,
                top + (height - top - bottom) * (high - y) / (high - ticks[0]),
            )
            for x, y in s.points
        ]
        out.append(_line(points, s.colour))
        if s.dots or len(points) == 1:
            out += [_dot(x, y, s.colour) for x, y in points]
    return "".join([*out, "</svg>"])


def spark(points: Sequence[Point], label: str, width: int = 84, height: int = 22) -> str:
    """Draw a line without axes, as high and as wide as its place."""
    kept = thin([point for point in points if math.isfinite(point[1])], 60)
    if len(kept) < 2:
        return ""
    low, high = min(y for _, y in kept), max(y for _, y in kept)
    first, last = kept[0][0], kept[-1][0]
    placed = [
        (2 + (width - 4) * (x - first) / ((last - first) or 1), 2 + (height - 4) * (high - y) / ((high - low) or 1))
        for x, y in kept
    ]
    svg = _open(width, height, label).replace("st-plot", "st-spark")
    return f"{svg}{_line(placed, 'accent')}</svg>"


def against(
    points: Sequence[tuple[str, float, float]],
    *,
    label: str,
    x_name: str,
    y_name: str,
    chosen: str = "",
    width: int = 600,
    height: int = 240,
) -> str:
    """Draw named points (name, x, y) on a line, x from 0 on and y in powers of ten; `chosen` stands out.

    Points whose y is not above 0 have no place on such an axis and are left out.
    """
    kept = sorted((p for p in points if math.isfinite(p[1]) and math.isfinite(p[2]) and p[2] > 0), key=lambda p: p[1])
    if len(kept) < 2:
        return ""
    low, high = math.floor(math.log10(min(p[2] for p in kept))), math.ceil(math.log10(max(p[2] for p in kept)))
    powers = range(low, max(high, low + 1) + 1)
    ticks = nice([0.0, max(p[1] for p in kept)])
    left, right, top, bottom = 44, 16, 24, 30

    def px(x: float) -> float:
        return left + (width - left - right) * x / ticks[-1]

    def py(y: float) -> float:
        return top + (height - top - bottom) * (powers[-1] - math.log10(y)) / (powers[-1] - powers[0])

    out = [_open(width, height, label), _text(0, 10, y_name)]
    for power in powers:
        out.append(_rule(left, py(10.0**power), width - right))
        name = f"{10.0**power:g}" if power >= -2 else f"1e{power}"
        out.append(_text(left - 8, py(10.0**power) + 4, name, anchor="end"))
    for tick in ticks:
        last = tick == ticks[-1]
        text = f"{_short(tick, ticks)}{' ' + x_name if last else ''}"
        out.append(_text(px(tick), height - 8, text, anchor="end" if last else "middle" if tick else "start"))
    out.append(_line([(px(x), py(y)) for _, x, y in kept], "muted"))
    taken: list[tuple[float, float, float]] = []
    for name, x, y in kept:
        half = 3.2 * len(name)
        at = min(max(px(x), left + half), width - right - half)
        lines = (py(y) + over for over in (-8, 17, -20, 29, -32, 41))
        place = next((v for v in lines if top - 12 <= v <= height - bottom and _free(taken, at, v, half)), None)
        if place is not None:
            taken.append((at, place, half))
            halo = 'style="paint-order:stroke;stroke:var(--st-card, #fff);stroke-width:4px;'
            words = _text(at, place, name, "accent" if name == chosen else "text", anchor="middle")
            out.append(words.replace('style="', halo))
    out += [_dot(px(x), py(y), "accent" if name == chosen else "muted") for name, x, y in kept]
    return "".join([*out, "</svg>"])


def _free(taken: Sequence[tuple[float, float, float]], x: float, y: float, half: float) -> bool:
    """Tell whether a name of this width stands clear of those that stand there."""
    return all(abs(x - other) >= half + wide + 4 or abs(y - line) >= 12 for other, line, wide in taken)


def _finite(series: Sequence[Series]) -> list[Series]:
    kept = [Series(s.name, thin([p for p in s.points if math.isfinite(p[1])]), s.colour, s.dots) for s in series]
    return [s for s in kept if s.points]


def _line(points: Sequence[Point], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f"fill:none;stroke:{_colour(colour)};stroke-width:1.6;stroke-linejoin:round"
    return f'<polyline points="{path}" fill="none" style="{style}"/>'


def histogram(
    edges: Sequence[int], counts: Sequence[int], *, limit: int | None, label: str, width: int = 380, height: int = 150
) -> str:
    """Draw how many rows have which length in tokens: `counts[i]` of them from `edges[i]` up to below `edges[i + 1]`.

    Bars from `limit` on are amber, and the limit is a dashed line.
    """
    if not any(counts) or len(edges) != len(counts) + 1:
        return ""
    left, right, top, bottom = 4, 4, 24, 22
    slot = (width - left - right) / len(counts)
    tall = height - top - bottom
    out = [_open(width, height, label)]
    for i, count in enumerate(counts):
        if not count:
            continue
        bar = max(2.0, tall * count / max(counts))
        over = limit is not None and edges[i] >= limit
        out.append(
            f'<rect x="{left + i * slot + 1:.1f}" y="{top + tall - bar:.1f}" width="{max(1.0, slot - 2):.1f}" '
            f'height="{bar:.1f}" rx="2" style="fill:{_colour("amber" if over else "accent")}">'
            f"<title>{edges[i]:,} to {max(edges[i], edges[i + 1] - 1):,} tokens: {count:,} rows</title></rect>"
        )
    out.append(_rule(left, top + tall + 0.5, width - right))
    out.append(_text(left, height - 6, f"{edges[0]:,}"))
    out.append(_text(width - right, height - 6, f"{edges[-1]:,} tokens", anchor="end"))
    if limit is not None and edges[0] <= limit <= edges[-1]:
        at = min(bisect.bisect_right(edges, limit) - 1, len(counts) - 1)
        x = left + slot * (at + (limit - edges[at]) / max(1, edges[at + 1] - edges[at]))
        out.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{top + tall}" '
            f'style="stroke:{_colour("muted")};stroke-width:1.5;stroke-dasharray:3 3"/>'
        )
        before = x > width / 2
        out.append(
            _text(x - 6 if before else x + 6, 14, f"longest kept, {limit:,}", anchor="end" if before else "start")
        )
    return "".join([*out, "</svg>"])


def thin(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """Keep at most `most` points: the mean of each stretch, and the first and last as they are."""
    if len(points) <= most:
        return list(points)
    stretch = math.ceil((len(points) - 2) / (most - 2))
    inner = [points[i : i + stretch] for i in range(1, len(points) - 1, stretch)]
    means = [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in inner]
    return [points[0], *means, points[-1]]


def _digits(ticks: Sequence[float]) -> int:
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _short(tick: float, ticks: Sequence[float]) -> str:
    return f"{tick + 0.0:.{_digits(ticks)}f}"


def _end(s: Series, digits: int) -> str:
    value = s.points[-1][1]
    return f"{s.name} {value:.{digits}f}" if abs(value) >= 0.01 or value == 0 else f"{s.name} {near_zero(value)}"


def _apart(ends: list[tuple[float, Series]], gap: float, top: float, bottom: float) -> list[tuple[float, Series]]:
    """Move labels apart, so that two lines ending at one height stay readable."""
    placed: list[tuple[float, Series]] = []
    for y, s in sorted(ends, key=lambda end: end[0]):
        y = max(y + 4, top)
        if placed and y - placed[-1][0] < gap:
            y = placed[-1][0] + gap
        placed.append((y, s))
    over = placed[-1][0] - bottom if placed else 0
    return [(y - over, s) for y, s in placed] if over > 0 else placed


def _open(width: int, height: int, label: str) -> str:
    return f'<svg class="st-plot" viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{esc(label)}">'


def _colour(name: str) -> str:
    return f"var(--st-{name}, {_COLOURS[name]})"


def _rule(x1: float, y: float, x2: float) -> str:
    return f'<line x1="{x1}" x2="{x2}" y1="{y:.1f}" y2="{y:.1f}" style="stroke:{_colour("line")};stroke-width:1"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" style="fill:{_colour(colour)}"/>'


def _text(x: float, y: float, text: str, colour: str = "muted", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" style="fill:{_colour(colour)}">'
        f"{esc(text)}</text>"
    )
