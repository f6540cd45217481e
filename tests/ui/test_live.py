"""The pages are drawn from the disk: what a worker wrote is what they show."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import disk
import pytest
from filelock import FileLock

from studio.runs import RunConfig
from studio.ui import chatpick, choice, curves, demo, examine, exportview, kit, live, rail, talk, tuning

SFT = RunConfig("train", "starter sft", "starter", "sft", "/data/starter_sft.jsonl")


def states(scene: live.Scene) -> dict[str, tuple[str, str]]:
    return {page: rail._STATES[page](scene) for page in rail.PAGES}


def test_an_empty_studio_says_what_is_missing(home: Path) -> None:
    scene = live.look()
    assert {page: state for page, (state, _) in states(scene).items()} == dict.fromkeys(rail.PAGES, "empty")
    assert "Nothing is running" in rail.strip(scene)
    assert "Pick a model" in tuning.before(scene, "train")


def test_the_whole_path_is_read_back(home: Path) -> None:
    disk.whole_path(home)
    disk.choices(home)
    scene = live.look()
    assert states(scene) == {
        "model": ("done", "Studio starter, 5.9 M"),
        "data": ("done", "600 rows, 320 pairs, 3 flagged"),
        "train": ("done", "SFT done, loss 1.06"),
        "align": ("done", "DPO done, margin 1.80"),
        "export": ("done", "Q8_0, checked"),
        "feedback": ("empty", "no sets yet"),
        "evaluate": ("ready", "ready to start"),
        "lab": ("empty", "five experiments"),
        "chat": ("ready", "ask both"),
    }
    left, right = chatpick.chosen(scene)
    assert left is not None and left.base
    assert right is not None and right.file.endswith("first-Q8_0.gguf")  # the runs' adapters are not there


def test_a_running_run_is_on_the_strip_and_the_rail(home: Path) -> None:
    disk.choices(home)
    run = disk.write_run(home, "20261124-200001-a-aaaa", SFT, disk.sft_events(46, 75))
    with FileLock(run.dir / "lock"):
        scene = live.look()
        assert scene.running is not None and scene.running.id == run.id
        strip = rail.strip(scene)
        assert "SFT · starter sft" in strip and "step 46 of 75" in strip and "loss 1." in strip and "12 s left" in strip
        assert 'aria-valuenow="61"' in strip
        assert rail._STATES["train"](scene) == ("running", "SFT running, 61 %")
        assert "Time left" in tuning.figures(scene, "train") and "polyline" in curves.curves(scene.line["train"])
    assert live.look().line["train"].status == "interrupted"
    assert kit.resumable(live.look().line["train"])


def test_only_what_is_new_is_read_and_a_half_line_waits(home: Path) -> None:
    run = disk.write_run(home, "20261124-200001-a-aaaa", SFT, disk.sft_events(3, 75))
    assert len(live.look().views[0].curve()) == 3
    path = run.dir / "events.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"type": "step", "step": 4, "total": 75, "loss": 0.5}))
    assert len(live.look().views[0].curve()) == 3
    with path.open("a") as file:
        file.write("\n")
    assert live.look().views[0].curve()[-1] == (4.0, 0.5)


def test_after_a_resume_the_last_value_of_a_step_wins(home: Path) -> None:
    again = [{"type": "started"}, {"type": "step", "step": 2, "total": 75, "loss": 9.0}]
    disk.write_run(home, "20261124-200001-a-aaaa", SFT, [*disk.sft_events(3, 75), *again])
    view = live.look().views[0]
    assert [step for step, _ in view.curve()] == [1.0, 2.0] and view.curve()[-1] == (2.0, 9.0)
    assert (view.last_step() or {})["step"] == 2


def test_the_stamp_changes_only_when_the_disk_does(home: Path) -> None:
    run = disk.write_run(home, "20261124-200001-a-aaaa", SFT, disk.sft_events(3, 75))
    first = live.stamp(live.look())
    assert live.stamp(live.look()) == first
    choice.update(model="starter")
    second = live.stamp(live.look())
    with (run.dir / "events.jsonl").open("a") as file:
        file.write(json.dumps({"type": "stopped", "step": 3}) + "\n")
    assert first != second != live.stamp(live.look())


def test_a_failed_run_shows_cause_and_remedy_but_no_traceback(home: Path) -> None:
    disk.choices(home)
    error = {"kind": "OutOfMemory", "message": "The memory ran out.", "remedy": "Set a smaller micro_batch_size."}
    run = disk.write_run(home, "20261124-200001-a-aaaa", SFT, [{"type": "started"}, {"type": "failed", "error": error}])
    (run.dir / "worker.log").write_text("Traceback (most recent call last):\n  boom\n", "utf-8")
    shown = curves.curves(live.look().line["train"])
    assert "The memory ran out." in shown and "micro_batch_size" in shown and "Traceback" not in shown


def test_what_got_worse_stands_first(home: Path) -> None:
    disk.choices(home)
    worse = {**disk.SFT_RESULT, "heldout": {"name": "loss", "before": 1.0, "after": 2.0, "n": 30}}
    disk.write_run(home, "20261124-200001-a-aaaa", SFT, [*disk.sft_events(), {"type": "finished"}], worse)
    shown = tuning.result(live.look().line["train"])
    assert shown.index("worse") < shown.index("better")


def test_another_models_runs_are_not_shown(home: Path) -> None:
    disk.whole_path(home)
    disk.choices(home)
    choice.update(model="other/model")
    scene = live.look()
    assert scene.line == {} and states(scene)["train"][0] != "done"


def test_a_picked_run_stays_until_a_newer_one_is_made(home: Path) -> None:
    disk.choices(home)
    done = [*disk.sft_events(), {"type": "finished"}]
    for name in ("20261124-200001-a-aaaa", "20261124-200002-b-bbbb"):
        disk.write_run(home, name, SFT, done, disk.SFT_RESULT)
    kit.remember_pick("train", "20261124-200001-a-aaaa")
    assert live.look().line["train"].id == "20261124-200001-a-aaaa"
    kit.remember_pick("train", "../../etc")
    assert live.look().line["train"].id == "20261124-200001-a-aaaa"
    disk.write_run(home, "20261124-200003-c-cccc", SFT, done, disk.SFT_RESULT)
    assert live.look().line["train"].id == "20261124-200003-c-cccc"


def test_a_certificate_that_does_not_hold_says_so_first(home: Path) -> None:
    disk.whole_path(home)
    disk.choices(home)
    path = home / "runs" / "20261124-200003-first-assistant-cccc" / "result.json"
    result = json.loads(path.read_text("utf-8"))
    result["certificate"] = {
        "ok": False,
        "lines": [
            {"name": "prompt", "ok": True, "value": "12 of 12"},
            {"name": "ending", "ok": False, "value": "3 of 20", "limit": "all", "remedy": "Train with the end token."},
        ],
    }
    path.write_text(json.dumps(result), "utf-8")
    scene = live.look()
    shown = exportview.certificate(scene)
    assert shown.index("Ending") < shown.index("Prompt") and "Train with the end token." in shown
    assert rail._STATES["export"](scene) == ("failed", "Q8_0, does not hold")


def test_the_first_screen_offers_the_path_then_follows_it_then_shows_what_came_out(home: Path) -> None:
    assert "See the whole path once" in demo.hero(live.look()) and demo.result(live.look()) == ""
    config = RunConfig("demo", "First assistant", "starter")
    run = disk.write_run(home, "20261124-200000-d-dddd", config, disk.sft_events(20, 75, part="sft"))
    with FileLock(run.dir / "lock"):
        shown = demo.hero(live.look())
        assert "Making your first assistant" in shown and "step 20 of 75" in shown and "polyline" in shown
    with (run.dir / "events.jsonl").open("a") as file:
        file.write(json.dumps({"type": "finished", "result": {}}) + "\n")
    (run.dir / "result.json").write_text(json.dumps(disk.DEMO_RESULT), "utf-8")
    scene = live.look()
    assert "Your first assistant is made" in demo.hero(scene)
    assert "93 %" in demo.result(scene) and "789 questions" in demo.result(scene)


def test_choices_survive_and_a_broken_file_counts_as_none(home: Path) -> None:
    choice.update(form={"sft": {"epochs": "3"}})
    choice.update(form={"dpo": {"beta": "0.2"}})
    assert choice.get("form") == {"sft": {"epochs": "3"}, "dpo": {"beta": "0.2"}}
    choice.path().write_text("{half", "utf-8")
    assert choice.read() == {}


def test_an_uploaded_file_gets_a_safe_name_and_never_replaces_another(home: Path, tmp_path: Path) -> None:
    names = []
    for text in ("a", "b", "b"):
        source = tmp_path / ".. CON é.JSONL"
        source.write_text(text, "utf-8")
        names.append(Path(examine.keep(str(source))))
    assert all(path.parent == home / "data" for path in names)
    assert names[0] != names[1] == names[2] and names[0].read_text("utf-8") == "a"
    assert names[0].suffix == ".jsonl"


def test_what_was_said_is_kept_by_pane(home: Path) -> None:
    said = [{"user": "Hi", "answers": ["base", "tuned"]}, {"user": "And?"}]
    talk.keep(said)
    assert talk.turns() == said
    assert [m["content"] for m in talk.history(said, 0)] == ["Hi", "base", "And?"]
    assert [m["content"] for m in talk.history(said, 1)] == ["Hi", "tuned", "And?"]


def test_importing_the_window_loads_no_framework() -> None:
    import subprocess

    code = "import studio.ui, sys\nassert not {'torch', 'transformers', 'llama_cpp', 'gradio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("module", ["studio.ui.shell", "studio.ui.serve"])
def test_building_the_window_loads_no_framework(module: str) -> None:
    import subprocess

    code = (
        f"import {module}, sys; bad = {{'torch', 'transformers', 'llama_cpp'}} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_long_curve_stays_short_and_keeps_its_last_value() -> None:
    curve = live.Curve()
    for step in range(1, 100_001):
        curve.add(float(step), 2.0 if step % 2 else 4.0)
    points = curve.points()
    assert len(points) <= 2 * live.MAX_POINTS + 1 and points[-1] == (100_000.0, 4.0)
    assert all(abs(y - 3.0) < 0.1 for _, y in points[1:-1]) and [x for x, _ in points] == sorted(x for x, _ in points)
    curve.add(50_000.0, 1.0)
    assert curve.points()[-1] == (50_000.0, 1.0) and max(x for x, _ in curve.points()) == 50_000.0
    curve.add(50_001.0, float("nan"))
    assert curve.points()[-1] == (50_000.0, 1.0)


def test_a_small_change_is_written_with_the_digits_it_takes() -> None:
    assert tuning.change(0.6931, 0.6862) == "0.693 → 0.686"
    assert tuning.change(3.4, 1.2) == "3.40 → 1.20" and tuning.change(1.0, 1.0) == "1.00 → 1.00"
