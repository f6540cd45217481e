"""A rehearsal stands beside the next run: its sentence, or its error; never among the runs of a step."""

from __future__ import annotations

from pathlib import Path

import disk
from filelock import FileLock

from studio.runs import RunConfig
from studio.ui import choosing, live, rail, rehearsal

SAID = "The whole run takes about 12 min: 134 steps."


def config(data: str, kind: str = "rehearse") -> RunConfig:
    return RunConfig(kind, "rows", "starter", "sft", data)


def test_what_a_rehearsal_said_stands_beside_the_next_run(home: Path) -> None:
    disk.choices(home)
    scene = live.look()
    data = str(choosing.data(scene, "train", choosing.method(scene, "train"))["file"])
    assert rehearsal.said(scene, "train") == ""
    result = {"said": SAID, "rows": {"rehearsed": 28}}
    events = [{"type": "started", "kind": "rehearse", "title": "rows", "attempt": 1}]
    run = disk.write_run(home, "20261124-200002-a-aaaa", config(data), events)
    with FileLock(run.dir / "lock"):
        assert "A few rows" in rehearsal.said(live.look(), "train")
        assert "Rehearse · rows" in rail.strip(live.look())
    finished = [*events, {"type": "finished", "result": result}]
    disk.write_run(home, "20261124-200003-b-bbbb", config(data), finished, result)
    scene = live.look()
    assert SAID in rehearsal.said(scene, "train") and "28 rows" in rehearsal.said(scene, "train")
    assert "train" not in scene.line and not scene.of_step("train"), "it is no run of the step"
    error = {"kind": "DataError", "message": "KTO learns from the difference.", "remedy": "Add unwanted answers."}
    disk.write_run(home, "20261124-200004-c-cccc", config(data), [*events, {"type": "failed", "error": error}])
    assert "KTO learns from the difference." in rehearsal.said(live.look(), "train")
    disk.write_run(home, "20261124-200005-d-dddd", config("/other.jsonl"), finished, result)
    assert rehearsal.said(live.look(), "train") == "", "another file's says nothing of this one"
