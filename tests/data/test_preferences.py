"""Judged answers as one store: what a record gives as rows, what a crash leaves, and how a set is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from studio import runs
from studio.data import dataset, hubdata, preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError

ASKED = [{"role": "user", "content": "Which is the highest mountain?"}]


def record(*texts: str, **parts: Any) -> Record:
    return Record(ASKED, [Answer(text, {"name": text[:1]}) for text in texts], **parts)


def said(row: dict[str, Any], side: str) -> str:
    return str(row[side][0]["content"])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> runs.Run:
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    return runs.create(runs.RunConfig("feedback", "a set", options={"source": "rules"}))


def test_a_ranking_gives_every_pair_that_differs_in_rank_or_its_two_ends() -> None:
    four = record("one", "two", "three", "four", ranks=[2, 1, 3, 2])  # two is best, one and four tie, three is worst
    found = {(said(row, "chosen"), said(row, "rejected")) for row in preferences.rows("preference", [four])}
    assert found == {("two", "one"), ("two", "four"), ("two", "three"), ("one", "three"), ("four", "three")}
    assert preferences.pairs(four, "ends") == [("two", "three")]
    assert preferences.pairs(record("a", "b", ranks=[1, 1]), "ends") == []
    assert preferences.pairs(record("a", "b", " ", ranks=[1, 2, 3]), "ends") == [("a", "b")], "an empty one is no end"


def test_rated_rows_are_the_ends_of_a_ranking_and_labels_go_before_ranks() -> None:
    assert preferences.labelled(record("a", "b", "c", ranks=[1, 2, 3])) == [("a", True), ("c", False)]
    assert preferences.labelled(record("a", "b", ranks=[1, 1])) == []
    assert preferences.labelled(record("a", "b", ranks=[1, 2], bad=True)) == [("a", False), ("b", False)]
    assert preferences.labelled(record("a", "b", labels=[None, True])) == [("b", True)]


def test_an_answer_to_imitate_is_the_best_one_and_none_where_all_are_bad() -> None:
    rows = preferences.rows("sft", [record("a", "b", ranks=[2, 1]), record("a", "b", ranks=[1, 2], bad=True)])
    assert rows == [{"messages": [*ASKED, {"role": "assistant", "content": "b"}]}]
    assert preferences.rows("sft", [record("a", labels=[True])])[0]["messages"][-1]["content"] == "a"


@pytest.mark.parametrize("kind", list(preferences.KINDS))
def test_what_was_dropped_or_says_nothing_gives_no_row(kind: str) -> None:
    dropped = record("a", "b", ranks=[1, 2], dropped="the orders disagree")
    empty, same = record(" ", "b", ranks=[1, 2]), record("x", "x ", ranks=[1, 2])
    assert preferences.rows(kind, [dropped, record("a", "b"), record("a\0", ranks=[1], labels=[True])]) == []
    assert preferences.rows("preference", [empty, same]) == []
    assert preferences.counts([dropped, same]) == {
        "records": 2, "dropped": {"the orders disagree": 1}, "preference": 0, "kto": 1, "sft": 1,
    }  # fmt: skip


def test_records_come_back_as_they_were_and_a_torn_line_goes_away(made: runs.Run) -> None:
    first = preferences.add(
        made.dir,
        record("a", "b", ranks=[2, 1], scores=[0.5, 1.5], p=0.25, by={"kind": "rule", "name": "json"}, id="k1"),
    )
    with (made.dir / preferences.FILE).open("ab") as file:
        file.write(b'{"prompt": [{"role": "user", "con')  # killed in the middle of a line
    assert preferences.records(made.dir) == [first]
    second = preferences.add(made.dir, record("c", id="k2"))
    assert preferences.records(made.dir) == [first, second]
    again = preferences.add(made.dir, dataclasses.replace(first, dropped="wrong"))
    assert preferences.records(made.dir) == [again, second], "the last of one id counts"


def test_what_is_no_judgement_is_refused(made: runs.Run) -> None:
    for wrong in (record(), record("a", "b", ranks=[1]), dataclasses.replace(record("a"), prompt=[])):
        with pytest.raises(ConfigError):
            preferences.add(made.dir, wrong)
    assert not (made.dir / preferences.FILE).exists()


def test_a_set_is_named_by_its_run_and_its_file_by_what_it_holds(made: runs.Run) -> None:
    with pytest.raises(DataError, match="gives a preference row"):
        preferences.named(made.id, "preference")
    preferences.add(made.dir, record("a", "b", "c", ranks=[1, 2, 3], id="k1"))
    pairs = preferences.named(made.id, "preference")
    assert pairs.parent == made.dir and pairs.name.startswith("pairs-3-")
    assert preferences.named(f"{made.id}:preference/ends").name.startswith("pairs-1-")
    assert preferences.named(f"{made.id}:kto").name.startswith("rated-2-")
    assert preferences.named(str(made.dir), "sft").name.startswith("answers-1-")
    assert hubdata.paths_of(made.id) == [pairs] and preferences.named("no-such.jsonl") == Path("no-such.jsonl")
    for name, kind in ((pairs, "preference"), (preferences.named(f"{made.id}:sft"), "sft")):
        assert dataset.check(name).kind == kind and dataset.check(name).ok
    before = pairs.read_bytes()
    preferences.add(made.dir, record("d", "e", ranks=[1, 2], id="k2"))
    assert preferences.named(made.id, "preference") != pairs and pairs.read_bytes() == before


def test_a_set_that_a_run_learned_from_is_not_deleted(made: runs.Run) -> None:
    preferences.add(made.dir, record("a", "b", ranks=[1, 2], id="k1"))
    file = preferences.named(made.id, "preference")
    child = runs.create(runs.RunConfig("train", "dpo", method="dpo", data=str(file)))
    assert runs.needed_by(made) == [(child, f"learned from {made.id}")]


def test_keys_name_a_record_by_what_it_is_about() -> None:
    assert preferences.key(ASKED, 3) == preferences.key(json.loads(json.dumps(ASKED)), 3)
    assert preferences.key(ASKED, 3) != preferences.key(ASKED, 4) and len(preferences.key(1)) == 16
