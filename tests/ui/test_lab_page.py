"""The Lab page: cards, what goes, what an experiment came to, and its pictures."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from studio import events, jobs, paths, runs
from studio.errors import RunError
from studio.lab import experiments
from studio.ui import labplots, labview, live
from studio.ui.pages import lab


def side(value: float) -> dict[str, Any]:
    return {"n": 100, "value": value, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1)}


def figure(name: str, before: float, after: float) -> dict[str, Any]:
    return {
        "measure": name,
        "label": f"Figure {name}",
        "words": f"{before} before, {after} after",
        "sides": {"before": side(before), "after": side(after)},
        "difference": {"p_holm": 0.0001},
    }


PLOTS: dict[str, dict[str, Any]] = {
    "shares": {"kind": "shares", "figures": ["x", "y"], "sides": ["before", "after"]},
    "road": {
        "kind": "road",
        "series": [
            {"name": name, "side": at, "points": [[0.0, 1.0, 0], [2.0, y, 10], [6.0, y, 20]]}
            for at in ("low", "high")
            for name, y in (("reward", 3.0), ("right", 0.4))
        ],
    },
    "rising": {
        "kind": "rising",
        "series": [
            {"name": name, "points": [[n, y, max(0.0, y - 0.1), y + 0.05] for n, y in ((0, 0.0), (8, 0.5), (512, 0.9))]}
            for name in ("answers and stops", "new facts")
        ],
    },
    "seeds": {
        "kind": "seeds",
        "spread": {
            name: {
                road: {"values": [0.8, 0.9], "mean": 0.85, "sd": 0.07, "low": 0.2, "high": 1.5}
                for road in ("dpo", "ppo")
            }
            for name in ("style", "right")
        },
    },
}


def finished(name: str = "agree", kind: str = "shares", shown: bool = True) -> runs.Run:
    run = runs.create(experiments.asked(name))
    document = {
        "run": run.id,
        "title": experiments.load(name).title,
        "seed": 0,
        "seconds": 100.0,
        "tested": 2,
        "figures": [figure("x", 0.1, 0.6), figure("y", 0.9, 0.5)],
        "verdict": {"shown": shown, "words": "The effect <b>is</b> there."},
        "paragraph": "It went from 10 % to 60 %.",
        "plot": PLOTS[kind],
        "answers": [{"asked": "What?", "right": "This", "before": "This.", "after": "That."}],
    }
    paths.write_text(run.dir / "result.json", json.dumps(document))
    writer = events.Writer(run.dir / "events.jsonl")
    writer(events.event("started", kind="lab", title="t", attempt=1))
    writer(events.event("finished", result=document))
    writer.close()
    return run


def test_before_the_first_there_are_five_cards_to_start() -> None:
    scene = live.look()
    drawn = labview.cards(scene)
    assert drawn.count(">Start<") == 5 and "No experiment was done yet" in labview.result(scene)
    for name in experiments.EXPERIMENTS:
        assert experiments.load(name).title in drawn and experiments.load(name).question in drawn
    assert labview.line(scene) == ("empty", "five experiments")


def test_a_finished_experiment_is_shown_with_its_plot_paragraph_figures_and_answers() -> None:
    run = finished()
    scene = live.look()
    drawn = labview.result(scene)
    for said in (
        "It went from 10 % to 60 %.",
        "shown, beyond the interval",
        "Figure x",
        "&lt; 0.001",
        "That.",
        "seed 0",
    ):
        assert said in drawn, said
    assert "<b>is</b>" not in drawn, "text stays text"
    assert labview.line(scene) == ("done", "Agreeing is rewarded")
    assert "Start again" in labview.cards(scene)
    other = finished("shift", shown=False)
    assert labview.shown(live.look()).id == other.id  # type: ignore[union-attr]
    assert "not shown here" in labview.result(live.look())
    lab.act(json.dumps({"do": "show", "id": run.id}))
    assert labview.shown(live.look()).id == run.id  # type: ignore[union-attr]
    lab.act(json.dumps({"do": "show", "id": "../../etc"}))
    assert labview.shown(live.look()).id == run.id, "what is no run of the lab is not shown"  # type: ignore[union-attr]
    assert lab.act("no json") == "" and lab.act("{}") == ""


def test_while_it_goes_the_page_says_what_is_done() -> None:
    run = runs.create(experiments.asked("goodhart"))
    with run.hold():
        writer = events.Writer(run.dir / "events.jsonl")
        writer(events.event("started", kind="lab", title="t", attempt=1))
        step = {
            "step": 5,
            "total": 20,
            "loss": 0.1,
            "learning_rate": 1e-4,
            "epoch": 1,
            "tokens_per_s": 1,
            "seconds_left": 9,
        }
        writer({**events.event("step", **step), "part": "low", "score": 1.5})
        writer.close()
        scene = live.look()
        drawn = labview.result(scene)
        assert "low, step 5 of 20, score 1.50" in drawn and 'aria-valuenow="25"' in drawn
        assert labview.line(scene) == ("running", "A measure becomes a target, 25 %")
        assert "disabled" in labview.cards(scene)


def test_one_that_was_stopped_can_be_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = runs.create(experiments.asked("little")), finished("agree")
    writer = events.Writer(run.dir / "events.jsonl")
    writer(events.event("started", kind="lab", title="t", attempt=1))
    writer(events.event("stopped", step=0))
    writer.close()
    assert labview.cards(live.look()).count(">Resume<") == 1
    begun: list[runs.Run] = []
    monkeypatch.setattr(jobs, "submit", lambda run: begun.append(run))
    lab.act(json.dumps({"do": "resume", "id": run.id}))
    assert [one.id for one in begun] == [run.id]
    with pytest.raises(RunError, match="nothing to go on with"):
        lab.act(json.dumps({"do": "resume", "id": other.id}))


@pytest.mark.parametrize("kind", list(PLOTS))
def test_every_plot_is_whole_named_and_inside_its_frame(kind: str) -> None:
    result = {"title": "T", "figures": [figure("x", 0.1, 0.6), figure("y", 0.9, 0.5)], "plot": PLOTS[kind]}
    drawn = labplots.drawn(result)
    wide, narrow = ElementTree.fromstring(f"<div>{drawn}</div>").iter("svg")
    for svg in (wide, narrow):
        width, height = map(float, (svg.get("viewBox") or "").split()[2:])
        assert (svg.get("aria-label") or "").startswith("T. ") and len(svg.get("aria-label") or "") > 20
        dots = [(float(dot.get("cx") or -1), float(dot.get("cy") or -1)) for dot in svg.iter("circle")]
        assert len(dots) >= 4 and all(0 <= x <= width and 0 <= y <= height for x, y in dots)
        for line in svg.iter("polyline"):
            points = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
            assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_a_result_without_a_plot_that_is_known_draws_none() -> None:
    assert labplots.drawn({"plot": {"kind": "pie"}}) == "" and labplots.drawn({}) == ""
