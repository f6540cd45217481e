"""A file as records: one pass, streamed, any record found again, rows left out and counted, placeholders filled."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write_jsonl

from studio.data import dataset, onepass
from studio.data.records import Conversation, Message, Preference, Reading, Record
from studio.errors import ConfigError, DataError, Stopped


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def conversation(question: str, answer: str, line: int) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer)), line)


def mixed(count: int, seed: int = 3) -> tuple[list[str], list[Conversation], list[int]]:
    """Lines of which some are blank, broken, or repeat an earlier row; the good ones, and the lines of the bad ones."""
    chosen, lines, good, bad = random.Random(seed), [], [], []
    for line in range(1, count + 1):
        what = chosen.random()
        if what < 0.1:
            lines.append("")
        elif what < 0.2:
            lines.append(json.dumps(chat(f"Q{line}", ""))[: chosen.choice([20, 500])])
            bad.append(line)
        else:
            number = chosen.randint(1, 300)
            lines.append(json.dumps(chat(f"Q{number}", "A" * number)))
            good.append(conversation(f"Q{number}", "A" * number, line))
    return lines, good, bad


def test_any_record_is_found_again_whatever_lies_between(tmp_path: Path) -> None:
    lines, good, bad = mixed(2000)
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    data = dataset.load(tmp_path / "x.jsonl", Reading(drop=("bad",)))
    assert (data.rows, data.usable, data.left_out) == (len(good) + len(bad), len(good), {"bad": len(bad)})
    assert list(data.records()) == good
    assert [data.record(index) for index in range(0, len(good), 7)] == good[::7]
    assert data.record(len(good) - 1) == good[-1]
    for index in (-1, len(good)):
        with pytest.raises(IndexError):
            data.record(index)


def test_rows_that_are_left_out_by_a_code_stay_out_wherever_reading_begins(tmp_path: Path) -> None:
    lines, good, bad = mixed(2000)
    first: dict[tuple[Message, ...], Record] = {}
    for record in good:
        first.setdefault(record.messages, record)
    kept = list(first.values())
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    data = dataset.check(tmp_path / "x.jsonl", Reading(drop=("bad", "duplicate")))
    assert data.left_out == {"bad": len(bad), "duplicate": len(good) - len(kept)}
    assert list(data.records()) == kept
    assert [data.record(index) for index in range(len(kept))] == kept
    with pytest.raises(ConfigError, match="left out by 'nothing'"):
        dataset.check(tmp_path / "x.jsonl", Reading(drop=("nothing",)))


def test_rows_are_shown_as_they_stand_in_the_file(tmp_path: Path) -> None:
    lines, good, _ = mixed(600)
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    data = dataset.check(tmp_path / "x.jsonl")
    wanted = [record.line for record in good][::50]
    blank = lines.index("") + 1
    found = data.rows_at([*wanted, blank, 0, 99_999])
    assert found == {line: json.loads(lines[line - 1]) for line in wanted}


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.json"])
def test_other_files_find_their_records_too(tmp_path: Path, name: str) -> None:
    rows = [{"prompt": f"Q{i}\n{'?' * (i % 40)}", "completion": f"A{i}"} for i in range(700)]
    if name == "x.parquet":
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name, row_group_size=64)
    elif name == "x.csv":
        body = "".join(f'"{row["prompt"]}",{row["completion"]}\n' for row in rows)
        (tmp_path / name).write_text("prompt,completion\n" + body)
    else:
        (tmp_path / name).write_text(json.dumps(rows))
    data = dataset.load(tmp_path / name)
    assert data.usable == 700
    for index in (0, 1, 127, 128, 129, 500, 699):
        asked, answer = data.record(index).messages  # type: ignore[union-attr]
        assert (asked.content, answer.content) == (rows[index]["prompt"], rows[index]["completion"])
        assert data.record(index).line == (2 * index + 2 if name == "x.csv" else index + 1)


def test_flat_messages_are_gathered_by_their_tree_and_found_again(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for tree in range(300):
        root = {"message_id": f"{tree}a", "parent_id": None, "message_tree_id": f"t{tree}", "role": "prompter"}
        answer = {"message_id": f"{tree}b", "parent_id": f"{tree}a", "message_tree_id": f"t{tree}", "role": "assistant"}
        rows += [{**root, "text": f"Q{tree}"}, {**answer, "text": f"A{tree}"}]
    random.Random(1).shuffle(rows)
    data = dataset.load(write_jsonl(tmp_path / "x.jsonl", rows))
    assert (data.format, data.rows, data.usable) == ("oasst", 600, 300)
    records = list(data.records())
    assert {r.messages[0].content[1:] for r in records} == {str(i) for i in range(300)}  # type: ignore[union-attr]
    assert all(r.messages[0].content[1:] == r.messages[1].content[1:] for r in records)  # type: ignore[union-attr]
    assert [data.record(index) for index in (0, 150, 299)] == [records[index] for index in (0, 150, 299)]


def test_placeholders_are_filled_and_those_left_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        chat("Who are you?", "I am {{name}}, made by {{ author }} in {{year}}."),
        chat("{{name}}?", "Yes."),
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{name} {{}}"}]},
    ]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    data = dataset.check(path, Reading(fill={"name": "Ada", "author": "us"}))
    assert [record.messages[1].content for record in data.records()] == [  # type: ignore[union-attr]
        "I am Ada, made by us in {{year}}.",
        "Yes.",
        "{name} {{}}",
    ]
    (warning,) = data.warnings.to_list()
    assert (warning["lines"], warning["names"]) == ([1], ["year"]) and "{{year}}" in warning["remedy"]
    (before,) = dataset.check(path).warnings.to_list()
    assert (before["rows"], before["names"]) == (2, ["name", "author", "year"])


def test_every_side_of_a_pair_is_filled(tmp_path: Path) -> None:
    row: dict[str, object] = {"prompt": "{{a}}?", "chosen": "{{a}}!", "rejected": "no {{a}}"}
    data = dataset.load(write_jsonl(tmp_path / "x.jsonl", [row]), Reading(fill={"a": "{{a}}x\\1"}))
    (record,) = data.records()
    assert isinstance(record, Preference)
    assert [m.content for m in record.prompt + record.chosen + record.rejected] == [
        "{{a}}x\\1?", "{{a}}x\\1!", "no {{a}}x\\1"
    ]  # fmt: skip


def test_problems_say_the_place_and_show_it(tmp_path: Path) -> None:
    row = chat("Hi", "Hello.")
    row["messages"][1]["role"] = "asis\x1btant"
    long = json.dumps(chat("a" * 500, "b"))[:-3] + ",, " + "c" * 500
    (tmp_path / "x.jsonl").write_text(
        "\n".join([json.dumps(chat("Hi", "x")), json.dumps(row), long, '{"messages": 3}'])
    )
    role, comma, other = dataset.check(tmp_path / "x.jsonl").errors.first
    assert (role.line, role.field, role.excerpt) == (2, "messages[1].role", "asis\\x1btant")
    assert comma.line == 3 and ",, ccc" in comma.excerpt and comma.excerpt.startswith("…") and len(comma.excerpt) <= 82
    assert (other.line, other.field, other.excerpt) == (4, "messages", "3")
    assert all(problem.remedy for problem in (role, comma, other))


def test_all_problems_are_counted_and_twenty_listed(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(chat("Hi", "x")) + "\n{\n" * 1 + "oops\n" * 3000)
    data = dataset.check(tmp_path / "x.jsonl")
    assert (data.errors.count, [p.line for p in data.errors.first]) == (3001, list(range(2, 22)))
    assert data.rows == 3002 and not data.ok
    with pytest.raises(DataError, match="3000 more like it"):
        dataset.load(tmp_path / "x.jsonl")


def test_the_pass_tells_how_far_it_is_and_stops_when_asked(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [chat("Hi " * 1000, str(i)) for i in range(2000)])
    events: list[dict[str, Any]] = []
    dataset.check(path, emit=events.append)
    done = [event["done"] for event in events]
    assert {(e["type"], e["phase"], e["unit"], e["total"]) for e in events} == {("progress", "Reading", "MB", 6)}
    assert done[0] == 0 and done == sorted(done) and done[-1] == 6
    asked = []
    with pytest.raises(Stopped):
        dataset.check(path, should_stop=lambda: asked.append(1) is None and len(asked) > 3)
    assert len(asked) == 4


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = json.dumps(chat("Hi " * 300, "Hello. " * 100)) + "\n"
    peaks = []
    for count in (1500, 9000):
        (tmp_path / "x.jsonl").write_text(line * count)
        tracemalloc.start()
        data = dataset.check(tmp_path / "x.jsonl")
        assert sum(1 for _ in data.records()) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 2_000_000, "13 MB more in, 2 MB more held at most"


def test_the_sample_for_detection_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onepass, "SAMPLE_BYTES", 3_000_000)
    rows = [chat("Hi " * 100_000, "x") for _ in range(30)]
    seen: list[int] = []
    real = onepass.detect.detect
    monkeypatch.setattr(onepass.detect, "detect", lambda rows, reading: seen.append(len(rows)) or real(rows, reading))
    assert dataset.check(write_jsonl(tmp_path / "x.jsonl", rows)).usable == 30
    assert 6 <= seen[0] <= 11
