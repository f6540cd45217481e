"""What lies on the disk: sizes, what needs what, what is refused, and `studio disk`, `delete` and `trash`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from studio import paths, runs, stock, trash
from studio.cli.__main__ import run as command
from studio.errors import InputError, RunError
from studio.runs import Run, RunConfig


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache of the test's own."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def train(title: str, model: str = "starter", parent: Run | None = None, *, done: bool = True, **more: Any) -> Run:
    run = runs.create(RunConfig("train", title, model, "sft", parent=str(parent.dir) if parent else "", **more))
    for step in (1, 2):
        folder = run.dir / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "model").write_bytes(b"c" * 500)
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"a" * 300)
    if done:
        paths.write_text(run.dir / "result.json", json.dumps({"heldout": {}}))
    return run


def hub_model(cache: Path, name: str, size: int) -> Path:
    """A repository as huggingface-hub lays it out: a blob, and a link to it in a snapshot."""
    repo, commit = cache / f"models--{name.replace('/', '--')}", "a" * 40
    blob = repo / "blobs" / ("b" * 64)
    for folder in (blob.parent, repo / "snapshots" / commit, repo / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(b"m" * size)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit / "model.safetensors").symlink_to(Path("..", "..", "blobs", blob.name))
    return repo


def by_name(name: str) -> stock.Item:
    return next(item for item in stock.look().items if item.name == name)


def test_everything_is_listed_with_its_bytes_the_largest_first(home: Path, cache: Path) -> None:
    run = train("taught", "org/base")
    hub_model(cache, "org/base", 5000)
    (home / "base").mkdir()
    (home / "base" / "x-Q8_0.gguf").write_bytes(b"g" * 700)
    (home / "cache" / "tokens").mkdir(parents=True)
    (home / "cache" / "tokens" / "t").write_bytes(b"t" * 40)
    (home / "chat.json").write_text("{}")
    trash_me = home / "cache" / "old"
    trash_me.mkdir()
    (trash_me / "f").write_bytes(b"o" * 60)
    trash.put(trash_me, "old")
    found = stock.look()
    sizes = [item.bytes + item.checkpoint_bytes for item in found.items]
    assert sizes == sorted(sizes, reverse=True) and found.items[0].name == "org/base"
    kinds = found.kinds()
    config, result = ((run.dir / name).stat().st_size for name in ("config.json", "result.json"))
    what = next((home / "trash").glob("*/what.json")).stat().st_size
    assert kinds["base"] == 5000 + 40  # and the reference to the commit
    assert kinds["checkpoints"] == 1000 and kinds["run"] == 300 + config + result
    assert (kinds["chat"], kinds["cache"], kinds["trash"]) == (700, 40, 60 + what)
    assert kinds["other"] == 2
    assert found.bytes == sum(kinds.values()) and 0 < found.free <= found.total
    taught = by_name("taught")
    assert (taught.checkpoints, taught.checkpoint_bytes) == (2, 1000)


def test_a_file_with_two_names_counts_once(home: Path, cache: Path) -> None:
    run = train("taught")
    before = stock.look().bytes
    os.link(run.adapter / "adapter_model.safetensors", run.dir / "checkpoints" / "step-000002" / "adapter")
    assert stock.look().bytes == before


def test_what_needs_a_thing_is_named(home: Path, cache: Path, tmp_path: Path, tiny: Path) -> None:
    hub_model(cache, "org/base", 100)
    parent = train("parent", "org/base")
    child = train("child", "org/base@main", parent)
    scored = train("scored", str(tiny), options={"reward": str(parent.dir)})
    assert set(by_name("org/base").needed_by) == {f"parent ({parent.id})", f"child ({child.id})"}
    assert set(by_name("parent").needed_by) == {f"child ({child.id})", f"scored ({scored.id})"}
    assert by_name("child").needed_by == ()
    local = by_name(tiny.name)
    assert local.needed_by == (f"scored ({scored.id})",) and local.refusal == stock.OUTSIDE
    with pytest.raises(RunError, match=f"{child.id} started from .*; {scored.id} has its answers scored by"):
        stock.delete_run(parent)
    with pytest.raises(RunError, match="started from"):
        stock.delete(f"run:{parent.id}")
    with pytest.raises(InputError, match="outside of Studio's folder"):
        stock.delete(local.key)
    assert parent.dir.is_dir() and tiny.is_dir()


def test_checkpoints_go_and_what_was_trained_stays(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("taught")
    child = train("child", parent=run)  # does not need them
    assert command(["delete", run.id, "--checkpoints"]) == 0
    said = capsys.readouterr().out
    assert f"Deleted the checkpoints of {run.id}: 1 kB, in the trash" in said
    assert run.checkpoints() == [] and (run.adapter / "adapter_model.safetensors").is_file() and run.result()
    assert run.status() == "new" == child.status()  # no lock was left behind by looking
    entry = trash.entries()[0]
    assert (entry.what, entry.bytes) == ("checkpoints of taught", 1000)
    assert command(["trash", "--restore", entry.id]) == 0 and len(run.checkpoints()) == 2
    with pytest.raises(RunError, match="has no checkpoints"):
        empty = train("empty")
        stock.delete_checkpoints(empty, for_good=True)
        stock.delete_checkpoints(empty)


def test_a_run_that_is_not_over_keeps_its_checkpoints(home: Path) -> None:
    run = train("half", done=False)
    with pytest.raises(RunError, match="goes on from its checkpoints") as caught:
        stock.delete_checkpoints(run)
    assert f"studio resume {run.id}" in caught.value.remedy and len(run.checkpoints()) == 2


def test_what_is_going_is_refused_with_the_reason(home: Path, cache: Path) -> None:
    repo = hub_model(cache, "org/base", 100)
    run = train("taught", "org/base")
    (home / "cache" / "tokens").mkdir(parents=True)
    (home / "cache" / "tokens" / "t").write_bytes(b"t")
    with FileLock(run.dir / "lock"):
        for act in (stock.delete_run, stock.delete_checkpoints):
            with pytest.raises(RunError, match="is going"):
                act(run)
        for key in ("hub:models--org--base", "cache:tokens"):
            with pytest.raises(InputError, match="that is going uses it"):
                stock.delete(key, for_good=True)
    assert run.dir.is_dir() and repo.is_dir() and (home / "cache" / "tokens" / "t").is_file()


def test_a_run_goes_into_the_trash_and_comes_back_as_it_was(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("taught")
    with run.hold():
        pass  # as a worker leaves it
    before = run.status()
    assert command(["delete", run.id, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["deleted"] == run.id and document["bytes"] >= 1300 and not run.dir.exists()
    assert command(["trash", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [e["id"] for e in listed["entries"]] == [document["trash"]] and listed["days"] is None
    assert command(["trash", "--restore", document["trash"]]) == 0
    assert run.status() == before and len(run.checkpoints()) == 2
    stock.delete_run(run)
    capsys.readouterr()
    assert command(["trash", "--empty", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed"] == document["bytes"] and trash.entries() == []


def test_a_run_elsewhere_is_named_by_its_directory(home: Path, tmp_path: Path) -> None:
    run = runs.create(RunConfig("train", "apart", "starter", "sft"), tmp_path / "apart")
    (tmp_path / "mine.txt").write_text("mine")
    assert command(["delete", str(run.dir)]) == 0
    assert not run.dir.exists() and (tmp_path / "mine.txt").read_text() == "mine"
    assert trash.entries()[0].place == str(run.dir)
    again = runs.create(RunConfig("train", "apart", "starter", "sft"), tmp_path / "again")
    (tmp_path / "link").symlink_to(again.dir)
    assert command(["delete", str(tmp_path / "link")]) == 0  # names the run; the link itself is not ours
    assert (tmp_path / "link").is_symlink() and not again.dir.exists()


def test_a_model_of_the_hub_is_asked_for_twice_and_its_links_are_not_followed(
    home: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo, other = hub_model(cache, "org/base", 100), hub_model(cache, "org/other", 100)
    mine = tmp_path / "mine.safetensors"
    mine.write_text("mine")
    (repo / "snapshots" / ("a" * 40) / "evil.safetensors").symlink_to(mine)
    (repo / "blobs" / "folder").symlink_to(tmp_path)
    run = train("taught", "org/base")
    assert command(["delete", "org/base"]) == 2
    said = capsys.readouterr().err
    assert "no trash" in said and f"needed by: taught ({run.id})" in said and "--for-good" in said and repo.is_dir()
    assert command(["delete", "org/base", "--for-good"]) == 0
    assert not repo.exists() and other.is_dir() and mine.read_text() == "mine" and trash.entries() == []


def test_half_a_download_can_be_taken_away(home: Path, cache: Path) -> None:
    blob = cache / "models--org--half" / "blobs" / "c.incomplete"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"h" * 900)
    item = by_name("org/half")
    assert item.bytes == 900 and item.about == "a download that did not end"
    stock.delete(item.key, for_good=True)
    assert not (cache / "models--org--half").exists()


def test_a_link_in_the_cache_is_in_no_list(home: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "blobs").mkdir(parents=True)
    (cache / "models--org--link").symlink_to(tmp_path / "elsewhere")
    (home / "cache").mkdir()
    (home / "cache" / "link").symlink_to(tmp_path / "elsewhere")
    keys = {item.key for item in stock.look().items}
    assert not keys & {"hub:models--org--link", "cache:link"}
    for key in ("hub:models--org--link", "hub:..", "cache:../runs", "chat:../window.json", "run:../x", "nonsense", ""):
        with pytest.raises(InputError, match="not there any more"):
            stock.delete(key, for_good=True)
    assert (tmp_path / "elsewhere" / "blobs").is_dir()


def test_a_cache_goes_at_once_and_the_chats_base_can_be_put_back(home: Path, cache: Path) -> None:
    (home / "cache" / "tokens").mkdir(parents=True)
    (home / "cache" / "tokens" / "t").write_bytes(b"t")
    (home / "chat.json").write_text("{}")
    (home / "base").mkdir()
    base = home / "base" / "x-Q8_0.gguf"
    base.write_bytes(b"g" * 70)
    assert stock.delete("cache:tokens") is None and not (home / "cache" / "tokens").exists()
    entry = stock.delete("chat:x-Q8_0.gguf")
    assert entry is not None and not base.exists()
    trash.restore(entry.id)
    assert base.read_bytes() == b"g" * 70
    with pytest.raises(InputError, match="Studio keeps these"):
        stock.delete("other")


def test_what_an_export_wrote_elsewhere_is_shown_and_left_alone(home: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "files"
    out.mkdir()
    (out / "x.gguf").write_bytes(b"g" * 900)
    run = runs.create(RunConfig("export", "made", "starter", options={"out": str(out)}))
    item = by_name(str(out))
    assert item.bytes == 900 and item.refusal == stock.OUTSIDE
    assert stock.look().kinds()["export"] < 900  # it does not lie here
    with pytest.raises(InputError, match="outside"):
        stock.delete(item.key, for_good=True)
    stock.delete_run(run)
    assert (out / "x.gguf").is_file()


def test_disk_prints_a_table_and_one_document(home: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("taught")
    assert command(["disk", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    mine = next(item for item in document["items"] if item["key"] == f"run:{run.id}")
    assert mine["checkpoint_bytes"] == 1000 and mine["checkpoints"] == 2 and mine["trash"] is True
    assert document["bytes"] == sum(document["kinds"].values())
    assert command(["disk"]) == 0
    said = capsys.readouterr().out
    assert run.id in said and "1 kB of it checkpoints" in said and "are free." in said
    for words in (["delete", "nobody"], ["delete", "nobody", "--checkpoints"], ["trash", "--restore", "x"]):
        assert command(words) == 2
    assert command(["trash", "--after", "30"]) == 0 and trash.days() == 30
    assert command(["trash", "--after", "never"]) == 0 and trash.days() is None
    assert command(["trash", "--after", "soon"]) == 2
