"""Thumbs of the Chat page: one set, the last thumb counts, what was asked for again is no label, and it trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio import runs
from studio.cli.__main__ import run
from studio.data import dataset, hubdata, preferences, thumbs
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError, RunError

ASKED = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    return tmp_path


def answer(text: str) -> Record:
    return Record(ASKED, [Answer(text, {"name": "sums", "sha256": "aa"})], seed=3, id=f"id-{text}")


def rows() -> list[tuple[str, bool]]:
    made = thumbs.current()
    found = preferences.rows("kto", preferences.records(made.dir)) if made else []
    return [(row["completion"][0]["content"], row["label"]) for row in found]


def test_the_last_thumb_counts_and_one_that_was_taken_back_leaves_nothing() -> None:
    thumbs.rate(answer("one"), "none")
    assert thumbs.current() is None, "nothing was said, so no set begins"
    for text, rating in (("one", "up"), ("two", "down"), ("one", "down"), ("three", "up"), ("two", "none")):
        thumbs.rate(answer(text), rating)
    assert rows() == [("one", False), ("three", True)]
    assert list(thumbs.found()) == ["id-one", "id-three"]
    kept = thumbs.found()["id-three"]
    assert kept.by == {"kind": "person", "name": "thumbs"} and kept.seed == 3 and kept.time and kept.prompt == ASKED
    assert kept.answers[0].identity["sha256"] == "aa" and kept.about["arm"] == "aa"
    with pytest.raises(ConfigError, match="is no rating"):
        thumbs.rate(answer("one"), "great")


def test_an_answer_that_was_asked_for_again_is_kept_and_is_no_label() -> None:
    thumbs.again(answer("one"))
    thumbs.rate(answer("two"), "up")
    thumbs.again(answer("two"))
    assert rows() == [("two", True)]
    assert [record.about["regenerated"] for record in thumbs.found().values()] == [True, True]
    thumbs.rate(answer("two"), "none")  # that it was asked for again stays true
    assert rows() == [] and thumbs.found()["id-two"].labels == [None]
    thumbs.rate(answer("one"), "down")
    assert rows() == [("one", False)] and thumbs.found()["id-one"].about["regenerated"]


def test_there_is_one_set_that_says_what_it_gives_and_a_new_one_after_it_was_deleted() -> None:
    thumbs.rate(answer("one"), "up")
    first = thumbs.current()
    assert first is not None and first.status() == "finished" and first.config.options == {"source": "thumbs"}
    other = runs.create(runs.RunConfig("feedback", "another", options={"source": "rules"}))
    thumbs.rate(answer("two"), "down")
    assert thumbs.current() == first and not (other.dir / preferences.FILE).exists()
    told = json.loads((first.dir / "result.json").read_text("utf-8"))
    assert (told["records"], told["kto"], told["sft"], told["preference"]) == (2, 2, 1, 0)
    runs.delete(first)
    assert thumbs.current() is None and thumbs.found() == {}
    thumbs.rate(answer("three"), "up")
    assert thumbs.current() not in (None, first) and rows() == [("three", True)]


def test_what_somebody_else_writes_is_seen() -> None:
    thumbs.rate(answer("one"), "up")
    made = thumbs.current()
    assert made is not None and len(thumbs.found()) == 1
    preferences.add(made.dir, answer("two"))
    assert list(thumbs.found()) == ["id-one", "id-two"]


def test_their_name_opens_them_as_data(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="No answer has a thumb yet"):
        preferences.named("thumbs", "kto")
    thumbs.again(answer("zero"))
    with pytest.raises(DataError, match="gives a kto row"):
        preferences.named("thumbs", "kto")
    thumbs.rate(answer("one"), "up")
    thumbs.rate(answer("two"), "down")
    (file,) = hubdata.paths_of("thumbs")
    found = dataset.check(file)
    assert found.kind == "kto" and found.rows == 2 and preferences.named("thumbs:kto") == file
    assert preferences.named("thumbs:sft").name.startswith("answers-1-")
    monkeypatch.chdir(place)
    (place / "thumbs").write_text("a file of this name goes first\n")
    assert preferences.named("thumbs") == Path("thumbs")


def test_they_train_kto_by_their_name_and_the_run_knows_where_they_come_from(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(8):
        thumbs.rate(answer(f"answer {number}"), "up" if number % 2 else "down")
    words = ["train", "kto", "--data", "thumbs", "--model", str(tiny), "--set", "max_steps=1", "--json"]
    assert run([*words, "--set", "quantize_base=none", "--set", "batch_size=4"]) == 0
    made = runs.find(json.loads(capsys.readouterr().out)["run"])
    set_ = thumbs.current()
    assert set_ is not None and Path(made.config.data).parent == set_.dir
    with pytest.raises(RunError, match="learned from"):
        runs.delete(set_)
