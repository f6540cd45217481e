"""The rule for room on a disk: places on one disk add up, a fifth is spared, a folder may still be missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio import disk
from studio.disk import Need
from studio.errors import ExportError, TrainingError


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    facts = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: facts._replace(free=count))


def test_what_goes_on_one_disk_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = [Need("files", 50, tmp_path / "a" / "b"), Need("copies", 50, tmp_path / "c"), Need("none", 0, tmp_path)]
    free(monkeypatch, 120)
    disk.check(needs, TrainingError, "Free some.")
    free(monkeypatch, 119)
    with pytest.raises(TrainingError) as caught:
        disk.check(needs, TrainingError, "Free some.")
    assert "120 bytes are needed (files 50 bytes, copies 50 bytes, and a fifth to spare)" in caught.value.message
    assert f"119 bytes are free in {tmp_path}." in caught.value.message
    assert caught.value.remedy == "Free some."
    with pytest.raises(ExportError):
        disk.check(needs, ExportError, "")


def test_a_folder_that_is_not_there_yet_counts_as_the_one_above(tmp_path: Path) -> None:
    assert disk.free(tmp_path / "not" / "there") == pytest.approx(disk.free(tmp_path), rel=0.1)
    assert not (tmp_path / "not").exists()


def test_a_folder_holds_what_its_files_hold(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"123")
    assert disk.held(tmp_path) == 8 and disk.held(tmp_path / "nothing") == 0


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "2 kB"), (340e6, "340 MB"), (1.25e9, "1.2 GB"), (4e12, "4,000.0 GB")],
)
def test_sizes_for_people(count: float, said: str) -> None:
    assert disk.size(count) == said
