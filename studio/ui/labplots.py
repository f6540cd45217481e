"""The pictures of the lab's experiments, from the plot data of their results: each figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from studio.ui import plots
from studio.ui.parts import esc
from studio.ui.plots import _dot, _line, _open, _rule, _text

_ROW, _VALUE = 46, "value"
_SIDES = {"before": "muted", "after": "accent"}


def drawn(result: Mapping[str, Any]) -> str:
    """Draw what an experiment found; nothing for a plot that is not known."""
    plot = result.get("plot") or {}
    draw = {"shares": _shares, "road": _road, "rising": _rising, "seeds": _seeds}.get(str(plot.get("kind")))
    if draw is None:
        return ""
    return plots.both(lambda width: draw(result, width), 600, 340)


def _shares(result: Mapping[str, Any], width: int) -> str:
    """Draw shares before and after, one figure a row, with their intervals."""
    names = (result["plot"].get("names") or {}).get("sides") or result["plot"].get("sides") or _SIDES
    titles = names if isinstance(names, dict) else {side: side for side in _SIDES}
    figures = [one for one in result["figures"] if one["measure"] in result["plot"]["figures"]]
    rows = [(one["label"], [(side, one["sides"][side]) for side in _SIDES if side in one["sides"]]) for one in figures]
    return _rows(rows, titles, width, str(result["title"]))


def _seeds(result: Mapping[str, Any], width: int) -> str:
    """Draw each seed's share, and the mean of each method with its interval."""
    rows = []
    for name, label in (("style", "Answers as preferred"), ("right", "Right answers")):
        for road, found in result["plot"]["spread"][name].items():
            side = {"value": found["mean"], "low": found["low"], "high": found["high"], "dots": found["values"]}
            rows.append((f"{label}, {road.upper()}", [("after", side)]))
    return _rows(rows, {"after": "mean of the seeds"}, width, str(result["title"]))


def _rows(
    rows: Sequence[tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]],
    titles: Mapping[str, str],
    width: int,
    label: str,
) -> str:
    """Draw rows of shares on an axis from 0 to 100 %: a name above, and a line with a dot for each side."""
    left, right, top = 6, 48, 22
    height = top + _ROW * len(rows) + 20

    def px(share: float) -> float:
        return left + (width - left - right) * min(1.0, max(0.0, share))

    said = "; ".join(
        f"{name}: {', '.join(f'{titles.get(s, s)} {100 * one[_VALUE]:.0f} %' for s, one in sides)}"
        for name, sides in rows
    )
    out = [_open(width, height, f"{label}. {said}")]
    at = float(left)
    for side, title in titles.items():
        out += [_dot(at + 4, 9, _SIDES.get(side, "accent")), _text(at + 12, 13, title)]
        at += 28 + 6.3 * len(title)
    for tick in (0.0, 0.5, 1.0):
        x = px(tick)
        out.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 18}" '
            f'style="stroke:var(--st-line, #e4e4e7);stroke-width:1"/>'
        )
        anchor = {0.0: "start", 1.0: "end"}.get(tick, "middle")
        out.append(_text(x, height - 4, f"{100 * tick:.0f} %", anchor=anchor))
    for number, (name, sides) in enumerate(rows):
        y = top + _ROW * number + 12
        out.append(_text(left, y, name, "text"))
        for place, (side, one) in enumerate(sides):
            line, colour = y + 11 + 12 * place, _SIDES.get(side, "accent")
            low, high = one.get("low"), one.get("high")
            if low is not None and high is not None:
                out.append(_line([(px(low), line), (px(high), line)], colour))
            out += [_dot(px(value), line, "muted") for value in one.get("dots") or ()]
            out.append(_dot(px(one["value"]), line, colour))
            out.append(_text(width - right + 8, line + 4, f"{100 * one['value']:.0f} %", colour))
    return "".join([*out, "</svg>"])


def _rising(result: Mapping[str, Any], width: int) -> str:
    """Draw shares with intervals over the number of rows, in doublings; 0 rows stands at the left by itself."""
    series = result["plot"]["series"]
    counts = [int(point[0]) for point in series[0]["points"]]
    left, right, top, bottom, height = 40, 14, 22, 30, 250

    def px(count: float) -> float:
        return left + (width - left - right) * counts.index(int(count)) / max(1, len(counts) - 1)

    def py(share: float) -> float:
        return top + (height - top - bottom) * (1 - min(1.0, max(0.0, share)))

    ends = "; ".join(
        f"{s['name']} from {100 * s['points'][0][1]:.0f} to {100 * s['points'][-1][1]:.0f} %" for s in series
    )
    out = [_open(width, height, f"{result['title']}. {ends}")]
    for tick in (0.0, 0.5, 1.0):
        out += [
            _rule(left, py(tick), width - right),
            _text(left - 6, py(tick) + 4, f"{100 * tick:.0f} %", anchor="end"),
        ]
    for number, count in enumerate(counts):
        last = number == len(counts) - 1
        text = f"{count:,}{' rows' if last else ''}"
        out.append(_text(px(count), height - 8, text, anchor="end" if last else "middle" if number else "start"))
    at = float(left)
    for s, colour in zip(series, ("accent", "amber"), strict=False):
        out += [_dot(at + 4, 9, colour), _text(at + 12, 13, s["name"], colour)]
        at += 30 + 6.3 * len(s["name"])
        out.append(_line([(px(x), py(y)) for x, y, *_ in s["points"]], colour))
        for x, y, low, high in s["points"]:
            out += [_line([(px(x), py(low)), (px(x), py(high))], colour), _dot(px(x), py(y), colour)]
    return "".join([*out, "</svg>"])


def _road(result: Mapping[str, Any], width: int) -> str:
    """Draw reward (above) and right answers (below) over the distance from the parent, for both prices of it."""
    series = result["plot"]["series"]
    far = max([point[0] for s in series for point in s["points"]] or [1.0]) or 1.0
    ticks = plots.nice([0.0, far], wanted=4)
    left, right, half, top, gap = 40, 14, 105, 22, 26
    height = top + 2 * half + gap + 34

    def px(x: float) -> float:
        return left + (width - left - right) * x / ticks[-1]

    out = [_open(width, height, f"{result['title']}. {_told(series)}")]
    at = float(left)
    for side, colour, title in (("low", "amber", "low price of distance"), ("high", "accent", "high price")):
        out += [_dot(at + 4, 9, colour), _text(at + 12, 13, title, colour)]
        at += 30 + 6.3 * len(title)
        for name, y0 in (("reward", top), ("right", top + half + gap)):
            scale = plots.nice([0.0, *(p[1] for s in series if s["name"] == name for p in s["points"])], wanted=3)
            high = 1.0 if name == "right" else scale[-1]
            found: list[Any] = next((s["points"] for s in series if s["name"] == name and s["side"] == side), [])
            points = [(px(x), y0 + 12 + (half - 12) * (1 - y / high)) for x, y, *_ in found if math.isfinite(y)]
            if side == "low":
                title_ = (
                    "reward of held-out answers, points"
                    if name == "reward"
                    else "replies that are right and to the point"
                )
                out.append(_text(left, y0 + 8, title_, "text"))
                for share in (0.0, high):
                    y = y0 + 12 + (half - 12) * (1 - share / high)
                    shown = f"{100 * share:.0f} %" if name == "right" else f"{share:g}"
                    out += [_rule(left, y, width - right), _text(left - 6, y + 4, shown, anchor="end")]
            out.append(_line(points, colour))
            out += [_dot(x, y, colour) for x, y in points]
    for tick in ticks:
        last = tick == ticks[-1]
        text = f"{tick:g}{' sqrt of nats' if last else ''}"
        out.append(_text(px(tick), height - 6, text, anchor="end" if last else "middle" if tick else "start"))
    return "".join([*out, "</svg>"])


def _told(series: Sequence[Mapping[str, Any]]) -> str:
    words = {"low": "low price", "high": "high price"}
    return esc(
        "; ".join(
            f"{s['name']} at the {words[s['side']]} from {s['points'][0][1]:.2f} to {s['points'][-1][1]:.2f}"
            for s in series
        ),
        600,
    )
