"""The trash: whole in its place or whole in the trash, put back or emptied, and nothing outside is touched."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from studio import trash
from studio.errors import InputError


def thing(folder: Path, name: str = "thing", size: int = 10) -> Path:
    place = folder / name
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "file").write_bytes(b"x" * size)
    return place


def test_what_is_thrown_away_can_be_put_back_as_it_was(home: Path) -> None:
    place = thing(home)
    entry = trash.put(place, "My thing")
    assert not place.exists() and [e.id for e in trash.entries()] == [entry.id]
    assert (entry.what, entry.place, entry.bytes) == ("My thing", str(place), 10) and "my-thing" in entry.id
    assert json.loads((home / "trash" / entry.id / "what.json").read_text())["what"] == "My thing"
    assert trash.restore(entry.id[:20]).id == entry.id
    assert (place / "deep" / "file").read_bytes() == b"x" * 10
    assert trash.entries() == [] and list((home / "trash").iterdir()) == []


def test_emptying_frees_all_also_what_is_read_only_and_leaves_no_trace(home: Path) -> None:
    first, second = thing(home, "first", 7), thing(home, "second", 5)
    os.chmod(first / "deep", 0o500)
    trash.put(first, "first")
    kept = trash.put(second, "second")
    assert trash.empty([e for e in trash.entries() if e.id != kept.id]) == 7
    assert [e.id for e in trash.entries()] == [kept.id]
    assert trash.empty() == 5 and list((home / "trash").iterdir()) == []


def test_links_are_neither_thrown_away_nor_followed(home: Path, tmp_path: Path) -> None:
    outside = thing(tmp_path, "outside")
    (home / "link").symlink_to(outside)
    with pytest.raises(InputError, match="not a file or a folder of its own"):
        trash.put(home / "link", "link")
    place = thing(home)
    (place / "link").symlink_to(outside)
    (place / "file-link").symlink_to(outside / "deep" / "file")
    entry = trash.put(place, "thing")
    assert entry.bytes == 10  # what a link points to is not its size
    assert trash.empty() == 10
    assert (outside / "deep" / "file").read_bytes() == b"x" * 10


def test_the_data_folder_itself_and_nothing_are_refused(home: Path) -> None:
    for place in (home, home.parent, Path("/")):
        with pytest.raises(InputError, match="holds the data folder"):
            trash.put(place, "all")
    with pytest.raises(InputError, match="not there"):
        trash.put(home / "nothing", "nothing")
    assert trash.entries() == []


def test_a_trash_that_is_a_link_is_refused(home: Path, tmp_path: Path) -> None:
    place = thing(home)
    (home / "trash").symlink_to(tmp_path)
    with pytest.raises(InputError, match="is a link"):
        trash.put(place, "thing")
    with pytest.raises(InputError, match="is a link"):
        trash.empty()
    assert place.exists() and list(tmp_path.iterdir()) == []


def test_another_disk_is_refused_and_nothing_is_left_behind(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, rename = thing(home), os.rename

    def other_disk(source: object, target: object) -> None:
        if str(source) == str(place):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(str(source), str(target))

    monkeypatch.setattr(os, "rename", other_disk)
    with pytest.raises(InputError, match="another disk") as caught:
        trash.put(place, "thing")
    assert "--for-good" in caught.value.remedy
    assert (place / "deep" / "file").exists() and list((home / "trash").iterdir()) == []


def test_a_break_before_the_move_leaves_the_thing_in_its_place_and_no_entry(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = thing(home)

    def killed(*_: object) -> None:
        os.truncate(next((home / "trash").glob("*/what.json")), 5)
        raise KeyboardInterrupt

    monkeypatch.setattr(trash, "_move", killed)
    with pytest.raises(KeyboardInterrupt):
        trash.put(place, "thing")
    assert place.exists() and trash.entries() == []


def test_what_was_half_written_or_does_not_belong_is_no_entry(home: Path) -> None:
    entry = trash.put(thing(home), "thing")
    for name, text in (("half", '{"what": "x"'), ("list", "[]"), ("empty", "{}")):
        (home / "trash" / name / "item").mkdir(parents=True)
        (home / "trash" / name / "what.json").write_text(text)
    (home / "trash" / "bare").mkdir()
    assert [e.id for e in trash.entries()] == [entry.id]


def test_nothing_is_put_back_over_something_or_where_nothing_is(home: Path) -> None:
    inner = trash.put(thing(home / "run", "checkpoints"), "checkpoints")
    outer = trash.put(home / "run", "run")
    with pytest.raises(InputError, match="where it lay, is not there"):
        trash.restore(inner.id)
    trash.restore(outer.id)
    (home / "run" / "checkpoints").mkdir()
    with pytest.raises(InputError, match="is there already"):
        trash.restore(inner.id)
    (home / "run" / "checkpoints").rmdir()
    trash.restore(inner.id)
    assert (home / "run" / "checkpoints" / "deep" / "file").exists()


@pytest.mark.parametrize("name", ["", "..", "../runs", "nobody", "/etc", "keep.json"])
def test_a_name_from_outside_is_looked_up_in_the_list_and_never_a_path(home: Path, name: str) -> None:
    trash.put(thing(home), "thing")
    trash.keep(30)
    with pytest.raises(InputError, match="in the trash"):
        trash.restore(name)


def test_what_is_old_goes_by_itself_only_where_that_was_asked_for(home: Path) -> None:
    old = trash.put(thing(home, "old"), "old")
    day = 86400.0
    assert trash.days() is None and trash.tidy(old.when + 1000 * day) == 0 and len(trash.entries()) == 1
    trash.keep(30)
    assert trash.days() == 30 and trash.tidy(old.when + 29 * day) == 0
    assert trash.tidy(old.when + 31 * day) == 10 and trash.entries() == []
    trash.keep(None)
    assert trash.days() is None
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="not a number of days"):
            trash.keep(wrong)
    (home / "trash" / "keep.json").write_text("{half")
    assert trash.days() is None
