"""The pictures of the lab's experiments, from the plot data of their results: each figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from studio.evals import overplot
from studio.ui import evalplots, plots
from studio.ui.plots import _dot, _line, _open, _rule, _text

_ROW, _VALUE = 46, "value"
#: The two runs and the two measures of a road, as they are drawn.
_PRICES = (("low", "amber", "low price of distance"), ("high", "accent", "high price"))
_MEASURES = (("reward", "reward of held-out answers, points"), ("right", "replies that are right and to the point"))
_SIDES = {"before": "muted", "after": "accent"}


def drawn(result: Mapping[str, Any]) -> str:
    """Draw what an experiment found; nothing for a plot that is not known."""
    plot = result.get("plot") or {}
    draw = {"shares": _shares, "road": _road, "rising": _rising, "seeds": _seeds}.get(str(plot.get("kind")))
    if draw is None:
        return ""
    picture = plots.both(lambda width: draw(result, width), 600, 340)
    if plot["kind"] != "road":
        return picture
    panels, turns = road(plot)
    said = overplot.captions(panels)
    if n := plot.get("n"):
        said[0] += f" Every dot is of the same {n} questions; the figures below are of all."
    return picture + evalplots.told(panels, turns, said)


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
    return overplot.draw(*road(result["plot"]), str(result["title"]), width)


def road(plot: Mapping[str, Any]) -> tuple[list[overplot.Panel], list[overplot.Mark]]:
    """Give the panels of a road, a line for each price of distance, and where the reward still rises and gold falls."""
    lines: dict[str, list[overplot.Line]] = {name: [] for name, _ in _MEASURES}
    for side, colour, title in _PRICES:
        for s in plot["series"]:
            if s["side"] == side and s["name"] in lines:
                lines[s["name"]].append(
                    overplot.Line(title, colour, _points(s["points"]), overplot.fit_of(s.get("fit")))
                )
    panels = [overplot.Panel(title, lines[name], share=name == "right") for name, title in _MEASURES]
    turns = []
    for side, _, title in _PRICES:
        if turn := (plot.get("turns") or {}).get(side):
            gold = next(s["points"][turn["at"]][1] for s in plot["series"] if (s["name"], s["side"]) == ("right", side))
            turns.append(overplot.Mark(turn["d"], f"{title}: from step {turn['step']} on", turn["sure"], gold))
    return panels, turns


def _points(points: Sequence[Sequence[float]]) -> list[overplot.Point]:
    """Read points [d, value, low, high, step], or of an older result [d, value, step]."""
    return [
        overplot.Point(one[0], one[1], *(one[2:4] if len(one) > 4 else ())) for one in points if math.isfinite(one[1])
    ]
