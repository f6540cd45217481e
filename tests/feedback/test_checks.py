"""Rules as a judge of given and of drawn answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from scripted import Scripted

import studio
from studio import runs
from studio.data import preferences
from studio.data.preferences import Record
from studio.errors import ConfigError, DataError


def records(result: dict[str, Any]) -> list[Record]:
    return preferences.records(Path(result["dir"]))


def test_a_rule_that_the_file_follows_agrees_with_it_wholly_and_its_set_trains(pairs_file: Path) -> None:
    result = studio.make_feedback("rules", data=pairs_file, settings={"rule": "sentence"})
    both = result["report"]["agreement"]["file"]
    assert (both["share"], both["kappa"], both["n"]) == (1.0, 1.0, 40) and result["usable"] is True
    assert result["report"]["swap"] is None and result["by"] == {"kind": "rule", "name": "sentence"}
    assert result["preference"] == 40 and result["kto"] == 80
    fast = {"max_steps": 2, "held_out": 0.0, "max_length": 96}
    assert studio.train_model("dpo", data=result["run"], model="starter", settings=fast)["rows"]["trained"] == 40


def test_listed_completions_are_ranked_by_ones_own_function(tmp_path: Path) -> None:
    rule = tmp_path / "mine.py"
    rule.write_text("def score(prompt, answer, reference, stopped):\n    return -len(answer)\n")
    rows: list[dict[str, object]] = [
        {"prompt": "Say it.", "completions": [{"model": "m1", "completion": "long one"}, {"completion": "short"}]}
    ]
    data = write_jsonl(tmp_path / "c.jsonl", rows)
    (record,) = records(studio.make_feedback("rules", data=data, settings={"rule": f"{rule}:score"}))
    assert record.scores == [-8.0, -5.0] and record.ranks == [2, 1] and record.labels == []
    assert [answer.identity["name"] for answer in record.answers] == ["m1", "answer 2"]


def test_rated_rows_that_ask_the_same_go_together(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "Hi", "completion": "Hello there.", "label": True},
        {"prompt": "Bye", "completion": "See you.", "label": True},
        {"prompt": "Hi", "completion": "what", "label": False},
    ]
    result = studio.make_feedback("rules", data=write_jsonl(tmp_path / "r.jsonl", rows), settings={"rule": "sentence"})
    found = {record.prompt[0]["content"]: record for record in records(result)}
    assert found["Hi"].ranks == [1, 2] and found["Hi"].about["file"] == [1, 2] and found["Bye"].ranks == [1]
    assert result["kto"] == 3 and result["preference"] == 1


def test_answers_are_drawn_where_somebody_is_named(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "p.jsonl", [{"prompt": f"Question {i}"} for i in range(3)])
    with Scripted(lambda turns: "A plain answer.") as one, Scripted(lambda turns: "no") as other:
        given = {"answers_from": f"{one.name},{other.name}", "n": 2, "rule": "sentence", "temperature": "0"}
        result = studio.make_feedback("rules", data=data, settings=given)
        assert len(one.bodies) == len(other.bodies) == 3
    for record in records(result):
        assert [answer.text for answer in record.answers] == ["A plain answer.", "no"] and record.ranks == [1, 2]
        assert record.answers[0].identity["endpoint"] != record.answers[1].identity["endpoint"]


def test_a_set_can_be_judged_again_and_is_named_as_data(pairs_file: Path) -> None:
    first = studio.make_feedback("rules", data=pairs_file, settings={"rule": "sentence", "limit": 6})
    again = studio.make_feedback("rules", data=first["run"], settings={"rule": "length:1-1"})
    both = again["report"]["agreement"]["file"]
    assert both["share"] == 0.0 and both["n"] == 6, "the second rule prefers what the first one does not"
    assert runs.needed_by(runs.find(first["run"]))[0][0].id == again["run"]


def test_a_prompt_too_long_for_who_answers_is_left_out_and_told(tmp_path: Path, tiny: Path) -> None:
    from studio.export import gguf
    from studio.render import encode

    who = gguf.write(tiny, None, tmp_path / "t.gguf", encode.load(tiny), name="t")
    rows: list[dict[str, object]] = [{"prompt": "cow " * (400 if i == 1 else 2)} for i in range(4)]
    data = write_jsonl(tmp_path / "p.jsonl", rows)
    given = {"answers_from": str(who), "n": 2, "rule": "length:1-50", "max_tokens": 4, "context": 256}
    result = studio.make_feedback("rules", data=data, settings=given)
    assert [record.about["line"] for record in records(result)] == [1, 3, 4]
    notes = [item["text"] for item in runs.find(result["run"]).events() if item.get("code") == "too_long"]
    assert notes == ["1 prompts leave no room for an answer and were left out (lines 2)."]


def test_a_rule_that_fails_says_on_which_row(tmp_path: Path, pairs_file: Path) -> None:
    with pytest.raises(ConfigError, match="No rule is named"):
        studio.make_feedback("rules", data=pairs_file)
    with pytest.raises(ConfigError, match="no source"):
        studio.make_feedback("oracle", data=pairs_file)
    with pytest.raises(DataError, match="stands in line 1"):
        studio.make_feedback("rules", data=pairs_file, settings={"rule": "exact"})


def test_wanted_from_decides_what_is_wanted(pairs_file: Path) -> None:
    given = {"rule": "length:4-9", "wanted_from": 0.2}
    result = studio.make_feedback("rules", data=pairs_file, settings={**given, "limit": 4})
    assert all(record.labels == [True, True] for record in records(result)), "one word of four is 0.25"
