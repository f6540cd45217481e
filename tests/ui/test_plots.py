"""Plots are text: what is in them can be read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from studio.ui import plots

LOSS = plots.Series("training", [(1, 3.0), (50, 1.5), (100, 1.0)])
HELD = plots.Series("held out", [(50, 1.6), (100, 1.02)], "amber", dots=True)


def points(svg: str) -> list[list[tuple[float, float]]]:
    return [
        [tuple(map(float, pair.split(","))) for pair in line.split()]  # type: ignore[misc]
        for line in re.findall(r'polyline points="([^"]+)"', svg)
    ]


def test_a_plot_is_well_formed_and_named() -> None:
    root = ET.fromstring(plots.lines([LOSS, HELD], x_end=100, label="Loss <b>"))
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == "Loss <b>"


def test_lines_carry_their_name_and_last_value_and_do_not_overlap() -> None:
    svg = plots.lines([LOSS, HELD], x_end=100, label="Loss")
    texts = dict(re.findall(r'y="([\d.]+)" text-anchor="start" font-size="11" [^>]+>([^<]+)<', svg))
    ends = {text: float(y) for y, text in texts.items() if " " in text}
    assert set(ends) == {"training 1.00", "held out 1.02"}
    assert abs(ends["training 1.00"] - ends["held out 1.02"]) >= 15


def test_everything_stays_inside_the_drawing() -> None:
    for width in (340, 600):
        svg = plots.lines([LOSS, HELD], x_end=100, label="Loss", width=width)
        assert all(0 <= x <= width and 0 <= y <= 300 for line in points(svg) for x, y in line)
        for x, text in re.findall(r'<text x="([\d.]+)" [^>]*text-anchor="start"[^>]*>([^<]+)<', svg):
            assert float(x) + 5.8 * len(text) <= width


def test_a_falling_loss_falls_on_the_screen_and_time_goes_right() -> None:
    (line,) = points(plots.lines([LOSS], x_end=200, label="Loss"))
    assert [x for x, _ in line] == sorted(x for x, _ in line) and [y for _, y in line] == sorted(y for _, y in line)
    assert line[-1][0] < 330  # half of the run: half of the width


def test_values_that_are_not_finite_are_left_out() -> None:
    series = plots.Series("training", [(1, 2.0), (2, float("nan")), (3, float("inf")), (4, 1.0)])
    assert len(points(plots.lines([series], x_end=4, label="Loss"))[0]) == 2


def test_nothing_to_draw_draws_nothing() -> None:
    assert plots.lines([plots.Series("training", [])], x_end=10, label="Loss") == ""
    assert plots.histogram([0, 8], [0], limit=10, label="Length") == ""


def test_long_runs_are_thinned_and_keep_their_ends() -> None:
    many = [(float(i), float(i % 7)) for i in range(100_000)]
    thin = plots.thin(many)
    assert len(thin) <= plots.MAX_POINTS and thin[0] == many[0] and thin[-1] == many[-1]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [([0.0, 1.0], [0, 0.2, 0.4, 0.6, 0.8, 1.0]), ([-1.0, 1.0], [-1, -0.5, 0, 0.5, 1]), ([3.0, 3.0], None)],
)
def test_ticks_are_round_and_enclose_the_values(values: list[float], ticks: list[float] | None) -> None:
    found = plots.nice(values)
    assert found[0] <= min(values) and found[-1] >= max(values) and len(found) >= 2
    if ticks is not None:
        assert found == pytest.approx(ticks)


def test_bars_past_the_limit_are_amber() -> None:
    svg = plots.histogram([0, 100, 200, 300, 400], [5, 0, 1, 1], limit=200, label="Length")
    bars = re.findall(r"<rect [^>]+>", svg)
    assert sum("--st-amber" in bar for bar in bars) == 2 and sum("--st-accent" in bar for bar in bars) == 1
    assert "longest kept, 200" in svg
    ET.fromstring(svg)


def test_without_its_sheet_a_plot_still_has_colours() -> None:
    svg = plots.lines([LOSS], x_end=100, label="Loss")
    assert "fill:none" in svg and "var(--st-accent, #4f46e5)" in svg


def test_values_as_close_as_the_ticks_are_told_apart() -> None:
    near = [plots.Series("a", [(1, 0.691), (2, 0.6884)]), plots.Series("b", [(1, 0.691), (2, 0.6862)])]
    svg = plots.lines(near, x_end=2, label="Loss")
    assert "a 0.688" in svg and "b 0.686" in svg


def test_a_small_plot_holds_its_lines_and_its_axis_encloses_them() -> None:
    svg = plots.small([LOSS, HELD], x_end=100, label="Loss <b>")
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == "Loss <b>"
    assert all(0 <= x <= 210 and 0 <= y <= 96 for line in points(svg) for x, y in line)
    first = points(svg)[0]
    assert first[0][1] < first[-1][1]  # the loss falls
    ticks = [float(text.text or "") for text in root.iter() if text.tag.endswith("text")]
    assert min(ticks) <= 1.0 and max(ticks) >= 3.0
    assert plots.small([plots.Series("none", [(1, float("nan"))])], x_end=1, label="") == ""


def test_a_spark_goes_from_edge_to_edge_and_needs_two_points() -> None:
    (line,) = points(plots.spark([(10, 1.0), (20, float("inf")), (30, 3.0), (40, 2.0)], "score"))
    assert line == [(2.0, 20.0), (55.3, 2.0), (82.0, 11.0)]  # 84 by 22 with a rim of 2; the last value is half-way up
    assert plots.spark([(1, 1.0)], "score") == "" and "NaN" not in plots.spark([(1, 1.0), (2, 1.0)], "flat")
    assert len(points(plots.spark([(x, x) for x in range(5000)], "long"))[0]) <= 60
