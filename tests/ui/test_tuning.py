"""Train and Align are drawn from what is on disk: curves, results, the queue, runs compared."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import disk
import pytest
from filelock import FileLock
from test_parts import PAYLOADS, see

from studio import jobs, runs
from studio.errors import RunError, StudioError
from studio.methods import METHODS
from studio.runs import RunConfig
from studio.ui import (
    choice,
    compare,
    curves,
    history,
    kit,
    live,
    methodview,
    parts,
    plots,
    queueview,
    rail,
    terminal,
    tuning,
)

SFT, DPO = "20261124-200001-starter-sft-aaaa", "20261124-200002-starter-pairs-bbbb"
ONLINE = ["score", "kl", "length", "entropy", "clip_fraction"]


@pytest.fixture
def path(home: Path) -> Path:
    """The starter taught and aligned, with data for both pages."""
    disk.whole_path(home, demo=False)
    disk.choices(home)
    return home


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    """An online method of another package."""
    made = dataclasses.replace(METHODS["sft"], name="toy", kind="online", kinds=("prompt",), title="Play (toy)")
    monkeypatch.setitem(METHODS, "toy", made)
    return "toy"


# --- the live run ----------------------------------------------------------------------------------------------------


def test_a_preference_run_shows_loss_margin_accuracy_and_both_log_probabilities(path: Path) -> None:
    events = disk.dpo_events(20, 20)
    for item in events[1:]:
        item |= {"logps/chosen": -41.0, "logps/rejected": -60.0 - item["step"]}
    events.append({"type": "evaluated", "step": 20, "loss": 0.5, "rewards/margins": 1.25})
    run = disk.write_run(path, "20261124-300000-x-eeee", RunConfig("train", "x", "starter", "dpo", "/d"), events)
    with FileLock(run.dir / "lock"):
        drawn = see(curves.curves(live.look().line["align"])).text
    for said in ("Loss per pair", "Margin of the chosen", "held out 1.25", "chosen -41.0", "rejected -80.0"):
        assert said in drawn, said
    assert "100 %" in drawn  # 0.5 + 20 / 30, at most 1


def test_an_online_run_shows_score_kl_length_and_entropy(path: Path, toy: str) -> None:
    events: list[dict[str, Any]] = [{"type": "started"}]
    for step in (1, 2, 3):
        values = dict(zip(ONLINE, (0.1 * step, 0.5 * step, 30.0, 2.0, 0.04), strict=True))
        events.append({"type": "step", "step": step, "total": 9, "loss": 0.0, **values})
    run = disk.write_run(path, "20261124-300000-x-eeee", RunConfig("train", "x", "starter", toy, "/d"), events)
    with FileLock(run.dir / "lock"):
        scene = live.look()
        drawn = see(curves.curves(scene.line["align"])).text
        assert "score 0.30" in rail.strip(scene)
    for said in ("Score of the answers", "KL to the parent", "1.50", "Answer length", "30.0", "Clip share4 %"):
        assert said in drawn, said
    assert "Loss" not in drawn


def test_at_most_six_small_plots_whatever_a_run_tells(path: Path) -> None:
    keys = [key for group in curves.GROUPS for key, _ in group.keys]
    events = [{"type": "step", "step": s, "total": 9, "loss": 1.0, **dict.fromkeys(keys, 1.0)} for s in (1, 2)]
    disk.write_run(path, "20261124-300000-x-eeee", RunConfig("train", "x", "starter", "dpo", "/d"), events)
    assert curves.curves(live.look().line["align"]).count("<h3>") == 6


def test_alarms_stand_above_the_curves_and_the_worst_first(path: Path) -> None:
    notes = [
        {"type": "note", "level": "warning", "code": "a", "text": "The margin saturates."},
        {"type": "note", "level": "alarm", "code": "b", "text": "Score rises while length runs away."},
        {"type": "note", "level": "info", "code": "c", "text": "Trains on the CPU."},
        {"type": "note", "level": "warning", "code": "a", "text": "The margin saturates still."},
    ]
    config = RunConfig("train", "x", "starter", "dpo", "/d")
    disk.write_run(path, "20261124-300000-x-eeee", config, [*disk.dpo_events(), *notes])
    view = live.look().line["align"]
    drawn = curves.curves(view)
    assert drawn.index("length runs away") < drawn.index("saturates still") < drawn.index("Loss per pair")
    assert "The margin saturates." not in drawn and "Trains on the CPU" not in drawn
    assert "Trains on the CPU" in tuning.notes(view) and "saturates" not in tuning.notes(view)


def test_a_figure_that_should_rise_is_judged_so_and_the_moved_weights_are_said(path: Path) -> None:
    result = {
        "heldout": {
            "name": "rewards/accuracies",
            "before": 0.5,
            "after": 0.8,
            "n": 40,
            "better": "higher",
            "baseline": 0.6,
        },
        "moved": 0.417,
    }
    config = RunConfig("train", "x", "starter", "dpo", "/d")
    disk.write_run(path, "20261124-300000-x-eeee", config, [{"type": "started"}, {"type": "finished"}], result)
    drawn = see(tuning.result(live.look().line["align"])).text
    assert "Held-out pair accuracy" in drawn and "0.50 → 0.80" in drawn and "worse" not in drawn
    assert "0.42 %" in drawn
    assert not tuning.higher_is_better({"name": "loss"}) and tuning.higher_is_better({"name": "score"})
    assert not tuning.higher_is_better({"name": "score", "better": "lower"})


def test_a_judge_stands_beside_one_who_only_goes_by_length(path: Path) -> None:
    config = RunConfig("train", "x", "starter", "reward", "/d")
    judge = {"accuracy": 0.86, "low": 0.79, "high": 0.91, "longer_wins": 0.3, "n": 120}
    run = disk.write_run(path, "20261124-300000-x-eeee", config, [{"type": "started"}, {"type": "finished"}], {})
    for low, said in ((0.79, "better"), (0.6, "not shown")):  # length alone is right on 70 %: the shorter one wins
        (run.dir / "result.json").write_text(json.dumps({"reward": {**judge, "low": low}}), "utf-8")
        drawn = see(tuning.result(live.look().line["align"])).text
        assert "86 % (" in drawn and "Going by length alone120 pairs70 %" in drawn and said in drawn


def test_the_preferred_style_is_said(path: Path) -> None:
    behaviour = {**disk.SFT_RESULT["behaviour"], "style": {"name": "a <b>", "told": 0.9, "before": 0.25, "after": 0.75}}  # type: ignore[dict-item]
    config = RunConfig("train", "x", "starter", "dpo", "/d")
    result = {"behaviour": behaviour}
    disk.write_run(path, "20261124-300000-x-eeee", config, [{"type": "started"}, {"type": "finished"}], result)
    view = live.look().line["align"]
    assert "Preferred style: a <b>20 answers25 % → 75 %better" in see(tuning.result(view)).text
    assert compare.outcome(view)["Preferred style: a <b>"] == "25 % → 75 %"


# --- the queue -------------------------------------------------------------------------------------------------------


def test_what_starts_while_something_runs_waits_on_every_page(path: Path) -> None:
    config = RunConfig("train", "next", "starter", "sft", "/data/x.jsonl")
    with FileLock(path / "runs" / DPO / "lock"):
        events = path / "runs" / DPO / "events.jsonl"
        events.write_text(events.read_text("utf-8") + json.dumps({"type": "started"}) + "\n", "utf-8")
        first, second = kit.begin(config), kit.begin(config)
        scene = live.look()
        assert [view.id for view in scene.queue] == [first.id, second.id]
        assert "2 waiting" in rail.strip(scene) and rail._STATES["align"](scene)[0] == "running"
        assert scene.line["train"].id == SFT  # what waits is not what is shown
        before = live.stamp(scene)
        queueview.up(scene, second.id)
        assert live.stamp(live.look()) != before
        assert [view.id for view in live.look().queue] == [second.id, first.id]
        queueview.remove(live.look(), first.id)
        assert not first.dir.exists() and "1 waiting" in rail.strip(live.look())
        with pytest.raises(RunError):
            queueview.up(live.look(), SFT)
        with pytest.raises(RunError):  # a download does not wait
            light = disk.write_run(
                path, "20261124-300000-l-eeee", RunConfig("download", "l", "m"), [{"type": "started"}]
            )
            with FileLock(light.dir / "lock"):
                kit.begin(RunConfig("check", "c", "m"))


def test_a_run_that_was_to_go_on_keeps_what_it_has_when_it_is_taken_out(path: Path) -> None:
    config = RunConfig("train", "half", "starter", "sft", "/data/x.jsonl")
    half = disk.write_run(path, "20261124-300000-h-eeee", config, [*disk.sft_events(9), {"type": "stopped", "step": 9}])
    with FileLock(path / "runs" / DPO / "lock"):
        jobs.submit(half)
        assert live.look().queue[0].id == half.id and "waits for its turn" in curves.curves(live.look().queue[0])
        queueview.remove(live.look(), half.id)
    assert half.status() == "stopped" and kit.resumable(live.find(half.id))


# --- the runs --------------------------------------------------------------------------------------------------------


def test_two_ticked_runs_are_compared_by_what_differs(path: Path) -> None:
    config = RunConfig("train", "other", "starter", "dpo", "/data/more.jsonl", settings={"beta": 0.3})
    better = {**disk.SFT_RESULT, "heldout": {"name": "loss", "before": 0.69, "after": 0.2, "n": 16}, "moved": 0.4}
    other = "20261124-300000-other-eeee"
    disk.write_run(path, other, config, [*disk.dpo_events(), {"type": "finished"}], better)
    scene = live.look()
    assert compare.compared(scene, "align") == ""
    for run_id in (DPO, other):
        history.compare(live.look(), "align", run_id)
    scene = live.look()
    a, b = history.compared(scene, "align")
    rows = {see(name).text: (left, right) for name, left, right in compare.differences(scene, a, b)}
    assert rows["Beta"] == ("0.1", "0.3") and rows["Data"] == ("starter_pairs.jsonl", "more.jsonl")
    assert rows["Starts from"] == ("starter sft", "the model itself") and "Learning rate" not in rows
    came = {name: (left, right) for name, left, right in compare.outcomes(a, b)}
    assert came["Held-out loss"] == ("3.42 → 1.21", "0.69 → 0.20") and came["Weights moved"][1] == "0.4 %"
    drawn = see(compare.compared(scene, "align"))
    assert drawn.tags.count("polyline") == 12  # loss, accuracy, margin, trained, of two runs, wide and narrow
    history.compare(scene, "align", other)  # its tick away again
    assert compare.compared(live.look(), "align") == ""


def test_of_three_ticked_runs_the_oldest_tick_is_let_go(path: Path) -> None:
    names = [f"20261124-30000{i}-x-eeee" for i in range(3)]
    for name in names:
        disk.write_run(path, name, RunConfig("train", "x", "starter", "dpo", "/d"), disk.dpo_events())
        history.compare(live.look(), "align", name)
    assert [view.id for view in history.compared(live.look(), "align")] == names[1:]
    with pytest.raises(RunError):
        history.compare(live.look(), "align", "../../etc")


def test_the_table_has_a_spark_a_line_and_a_figure_for_each_run(path: Path) -> None:
    seen = see(history.table(live.look(), "align"))
    assert seen.tags.count("polyline") == 1 and seen.tags.count("input") == 1
    assert "SFT → DPO" in seen.text and "3.42 → 1.21" in seen.text and "42 s" in seen.text
    choice.update(model="other/model")
    assert history.table(live.look(), "align") == ""


def test_runs_of_methods_that_are_gone_are_drawn_all_the_same(path: Path) -> None:
    gone = RunConfig("train", "gone", "starter", "nobody", "/d", settings={"x": 1})
    view = live.View(disk.write_run(path, "20261124-300000-g-eeee", gone, disk.dpo_events()), gone, status="finished")
    view.take(view.run.events())
    assert compare.settings(view) == {"x": 1} and "polyline" in curves.curves(view) and rail.short("nobody") == "nobody"


# --- foreign text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_becomes_no_element_and_no_attribute_of_these_pages(path: Path, payload: str) -> None:
    plain_text = re.sub(r"\S", "x", payload)

    def drawn(text: str) -> str:
        config = RunConfig("train", text, "starter", "dpo", f"/data/{text}", settings={"template": text})
        notes = [{"type": "note", "level": level, "code": text, "text": text} for level in ("alarm", "info")]
        result = {**disk.SFT_RESULT, "heldout": {"name": text, "before": 1.0, "after": 2.0, "n": text, "better": text}}
        views = []
        for name in ("20261124-400000-x-eeee", "20261124-400001-x-eeee"):
            run = runs.Run(path / "runs" / name)
            view = live.View(run, config, status="finished")
            view.take([*disk.dpo_events(), *notes])
            run.dir.mkdir(exist_ok=True)
            (run.dir / "result.json").write_text(json.dumps(result), "utf-8")
            views.append(view)
        chosen = {**choice.read(), "compare": {"align": [view.id for view in views]}}
        scene = live.Scene(chosen, views, None, {"align": views[0]}, None, queue=views)
        advice = terminal.of_next(scene, "align")
        pieces = [
            curves.curves(views[0]),
            tuning.result(views[0]),
            tuning.notes(views[0]),
            tuning.figures(scene, "align"),
            terminal.of_run(scene.line.get("align")),
            history.table(scene, "align"),
            compare.compared(scene, "align"),
            queueview.waiting(scene, "align"),
            rail.strip(scene),
            methodview.methods(scene, "align"),
            plots.small([plots.Series(text, [(1, 2.0)])], x_end=1, label=text),
            plots.spark([(1, 2.0), (2, 1.0)], text),
            kit.explain(StudioError(text, text)),
            parts.note(text),
            advice,
        ]
        return "".join(pieces)

    seen, plain = see(drawn(payload)), see(drawn(plain_text))
    assert seen.tags == plain.tags
    assert [name for name, _ in seen.attributes] == [name for name, _ in plain.attributes]
