"""The disk page: what is listed, what is asked before something goes, and that a browser's words are never a path."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from studio import paths, runs, trash
from studio.runs import Run, RunConfig
from studio.ui import diskview, kit, live, rail
from studio.ui.pages import disk as page


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(diskview, "_known", (None, 0.0, None, []))
    return tmp_path / "hub"


def taught(title: str = "taught", parent: Run | None = None, model: str = "starter") -> Run:
    run = runs.create(RunConfig("train", title, model, "sft", parent=str(parent.dir) if parent else ""))
    (run.dir / "checkpoints" / "step-000001").mkdir(parents=True)
    (run.dir / "checkpoints" / "step-000001" / "model").write_bytes(b"c" * 2_000_000)
    paths.write_text(run.dir / "result.json", "{}")
    (run.dir / "events.jsonl").write_text('{"type": "finished", "time": 1.0}\n')
    return run


def things() -> str:
    diskview.measure()
    return diskview.things(live.look())


def sends(html: str) -> list[dict[str, str]]:
    from html import unescape

    return [json.loads(unescape(found)) for found in re.findall(r'data-st-send="([^"]*)"', html)]


def act(**message: object) -> str:
    return kit.edge(page.act)(json.dumps(message))


def test_before_the_first_look_it_says_so_and_afterwards_the_rail_has_the_sum(home: Path) -> None:
    scene = live.look()
    assert "Measuring" in diskview.bar(scene) and diskview.line() == "measuring" and diskview.things(scene) == ""
    assert "Nothing on the disk yet" in things()
    taught()
    things()
    assert "2.0 MB" in diskview.line() and "2.0 MB" in rail.rail(live.look())
    assert "checkpoints 2.0 MB" in diskview.bar(live.look())


def test_checkpoints_are_asked_about_go_into_the_trash_and_come_back(home: Path) -> None:
    run = taught()
    key = f"run:{run.id}"
    assert [m["do"] for m in sends(things())] == ["ask-checkpoints", "ask"]
    asked = act(do="ask-checkpoints", key=key)
    assert "Its 1 checkpoint, 2.0 MB, goes into the trash" in asked
    assert run.checkpoints() and [m["do"] for m in sends(asked)] == ["keep", "checkpoints"]
    assert act(do="checkpoints", key=key) == "" and not run.checkpoints() and run.result() == {}
    shown = diskview.thrown(live.look())
    entry = trash.entries()[0]
    assert "checkpoints of taught" in shown and {"do": "restore", "id": entry.id} in sends(shown)
    assert act(do="restore", id=entry.id) == "" and len(run.checkpoints()) == 1
    assert "Nothing is in it" in diskview.thrown(live.look())


def test_what_others_need_has_no_delete_and_is_refused_by_name_all_the_same(home: Path) -> None:
    parent = taught("parent")
    child = taught("child", parent)
    drawn = things()
    assert "needed by child (" in drawn and {"do": "ask", "key": f"run:{parent.id}"} not in sends(drawn)
    refused = act(do="delete", key=f"run:{parent.id}")
    assert f"{child.id} started from {parent.id}" in refused and "What to do" in refused and parent.dir.is_dir()
    assert act(do="delete", key=f"run:{child.id}") == "" and not child.dir.exists()
    assert act(do="empty") == "" and trash.entries() == []


def test_a_model_of_the_hub_is_asked_about_twice(home: Path, cache: Path) -> None:
    blob = cache / "models--org--base" / "blobs" / "x"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"m" * 3_000_000)
    run, key = taught(model="org/base"), "hub:models--org--base"
    assert {"do": "ask", "key": key} in sends(things())
    first = act(do="ask", key=key)
    assert "no trash" in first and run.id in first and [m["do"] for m in sends(first)] == ["keep", "ask-again"]
    assert "--for-good" in act(do="delete", key=key) and blob.is_file(), "one word from a browser is not enough"
    second = act(do="ask-again", key=key)
    assert "3.0 MB are freed at once" in second and "taught" in second
    assert act(do="delete", key=key, sure=True) == "" and not blob.exists()


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"do": "nothing"}', '{"do": ["ask"]}', "null"])
def test_what_is_no_message_does_nothing(home: Path, text: str) -> None:
    assert page.act(text) == ""


@pytest.mark.parametrize("key", ["run:..", "run:../../etc", "/etc", "cache:../runs", "", None, 3])
def test_a_key_that_is_in_no_list_is_an_error_and_deletes_nothing(home: Path, key: object) -> None:
    run = taught()
    for do in ("ask", "ask-again", "ask-checkpoints", "delete", "checkpoints", "restore"):
        assert 'role="alert"' in (said := act(do=do, key=key, id=key, sure=True)) and "What to do" in said, do
    assert run.dir.is_dir() and run.checkpoints()


def test_foreign_text_is_escaped(home: Path) -> None:
    run = taught('<img src=x onerror="alert(1)">')
    for drawn in (things(), act(do="ask", key=f"run:{run.id}"), act(do="ask-checkpoints", key=f"run:{run.id}")):
        assert "<img" not in drawn and "&lt;img" in drawn
    act(do="delete", key=f"run:{run.id}")
    assert "<img" not in diskview.thrown(live.look())


def test_the_trash_goes_by_itself_only_after_a_tick(home: Path) -> None:
    diskview.measure()
    assert "checked" not in diskview.thrown(live.look())
    act(do="after")
    assert trash.days() == 30 and "checked" in diskview.thrown(live.look())
    act(do="after")
    assert trash.days() is None


def test_runs_that_come_and_go_are_measured_but_not_at_every_look(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    calls: list[object] = []
    monkeypatch.setattr(diskview, "measure", lambda stamp=None: calls.append(stamp))
    monkeypatch.setattr(diskview, "_known", (None, -1e9, None, []))

    def look(count: int) -> None:
        diskview.watch(live.look())
        end = time.monotonic() + 5
        while (diskview._busy.locked() or len(calls) < count) and time.monotonic() < end:
            time.sleep(0.01)
        assert len(calls) == count

    look(1)
    monkeypatch.setattr(diskview, "_known", (calls[-1], time.monotonic(), None, []))
    taught()
    look(1)  # too soon
    monkeypatch.setattr(diskview, "_known", (calls[-1], -1e9, object(), []))
    look(2)
    monkeypatch.setattr(diskview, "_known", (calls[-1], -1e9, object(), []))
    look(2)  # nothing has changed
