"""Rows are held out by their prompt: the same ones for a seed, and equal prompts on one side."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import write_jsonl
from reading import Row, a, msg, u

from studio.cli import __main__ as cli
from studio.data import dataset
from studio.data.records import Conversation, Reading, Record, prompt_of
from studio.data.split import held_out, split
from studio.errors import ConfigError, DataError
from studio.events import Event


def asks(count: int, different: int) -> list[Record]:
    return [Conversation((u(f"Q{i % different}"), a(str(i))), i) for i in range(count)]


def by_whole_digests(records: list[Record], share: float, seed: int, at_most: int) -> set[int]:
    """Hold out by the whole SHA-256 of each prompt, lowest first, as the rule says."""
    keys = []
    for record in records:
        text = "\x1e".join(f"{turn.role}\x1f{turn.content}" for turn in prompt_of(record) if turn.role != "system")
        keys.append(hashlib.sha256(f"{seed}\x1d{text}".encode()).digest())
    wanted = min(max(1, round(len(keys) * share)), at_most)
    held: set[bytes] = set()
    count = 0
    for key, size in sorted(Counter(keys).items()):
        if count and count + size > wanted:
            break
        held.add(key)
        count += size
    return {number for number, key in enumerate(keys) if key in held}


@pytest.mark.parametrize(
    ("count", "different", "share", "at_most"), [(200, 40, 0.1, 500), (999, 999, 0.3, 50), (60, 3, 0.05, 9)]
)
@pytest.mark.parametrize("seed", [0, 7])
def test_the_rows_with_the_lowest_digests_are_held_out(
    count: int, different: int, share: float, at_most: int, seed: int
) -> None:
    records = asks(count, different)
    held = held_out(records, share, seed, at_most)
    assert held == by_whole_digests(records, share, seed, at_most)
    questions = [prompt_of(record) for record in records]
    assert not {questions[i] for i in held} & {questions[i] for i in range(count) if i not in held}


def test_too_few_rows_or_one_prompt_give_none_away() -> None:
    assert held_out(asks(19, 19), 0.5, 0) == set()
    assert held_out(asks(200, 1), 0.5, 0) == set()
    assert held_out(asks(200, 200), 0.0, 0) == held_out(asks(200, 200), 1.0, 0) == set()


def test_memory_stays_at_a_few_bytes_a_row() -> None:
    def many() -> Iterator[Record]:
        for i in range(30_000):
            yield Conversation((u(f"Q{i}"), a("A")), i)

    held_out(asks(30, 30), 0.1, 0)  # what is loaded once is not counted
    tracemalloc.start()
    held = held_out(many(), 0.05, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(held) == 500
    assert peak < 30_000 * 60


def rows(count: int = 60, different: int = 30) -> list[Row]:
    return [
        {"messages": [msg("user", f"Q{i % different}"), msg("assistant", f"A{i} é")], "id": i} for i in range(count)
    ]


def test_json_lines_are_split_byte_for_byte(tmp_path: Path) -> None:
    parts = [json.dumps(row, ensure_ascii=bool(i % 2), indent=None).encode() for i, row in enumerate(rows())]
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(parts[:30]) + b"\n\n" + b"\n".join(parts[30:]))
    done = split(dataset.load(source), tmp_path / "out", share=0.1, seed=3)
    made = {side: (tmp_path / "out" / f"{side}.jsonl").read_bytes().splitlines() for side in ("train", "heldout")}
    assert sorted(made["train"] + made["heldout"]) == sorted(parts)
    assert [done[side]["rows"] for side in made] == [len(lines) for lines in made.values()] == [54, 6]
    questions = {side: {json.loads(line)["messages"][0]["content"] for line in lines} for side, lines in made.items()}
    assert not questions["train"] & questions["heldout"]


def test_a_row_goes_with_every_row_that_shares_a_prompt_with_it(tmp_path: Path) -> None:
    chain = [
        {
            "instruction": "Add",
            "instances": [{"input": f"{i}", "output": "x"}, {"input": f"{i + i % 2}", "output": "y"}],
        }
        for i in range(40)
    ]
    split(dataset.load(write_jsonl(tmp_path / "in.jsonl", list(chain))), tmp_path / "out", share=0.2)
    asked = {}
    for side in ("train", "heldout"):
        lines = (tmp_path / "out" / f"{side}.jsonl").read_text().splitlines()
        asked[side] = {instance["input"] for line in lines for instance in json.loads(line)["instances"]}
    assert asked["heldout"] and not asked["train"] & asked["heldout"]


def test_rows_that_all_hang_together_cannot_be_split(tmp_path: Path) -> None:
    chain = [
        {"instruction": "Add", "instances": [{"input": f"{i}", "output": "x"}, {"input": f"{i + 1}", "output": "y"}]}
        for i in range(40)
    ]
    with pytest.raises(DataError, match="No row can be held out"):
        split(dataset.load(write_jsonl(tmp_path / "in.jsonl", list(chain))), tmp_path / "out")


def test_rows_that_belong_together_stay_together(tmp_path: Path) -> None:
    flat = [
        {"conversation_id": i % 30, "role": role, "content": f"{role} {i % 30}"}
        for role in ("user", "assistant")
        for i in range(30)
    ]
    split(dataset.load(write_jsonl(tmp_path / "in.jsonl", list(flat))), tmp_path / "out", share=0.1)
    made = [(tmp_path / "out" / f"{side}.jsonl").read_text().splitlines() for side in ("train", "heldout")]
    ids = [Counter(json.loads(line)["conversation_id"] for line in lines) for lines in made]
    assert len(ids[1]) == 3 and not ids[0].keys() & ids[1].keys()
    assert set((ids[0] + ids[1]).values()) == {2}


def test_bad_rows_are_on_no_side_and_tables_become_json_lines(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("question,answer\n" + "".join(f"Q{i},{'A' if i else ''}\n" for i in range(41)))
    done = split(dataset.load(source, Reading(drop=("bad",))), tmp_path / "out", share=0.1)
    assert (done["train"]["rows"], done["heldout"]["rows"], done["left_out"]) == (36, 4, 1)
    assert set(json.loads((tmp_path / "out" / "heldout.jsonl").read_text().splitlines()[0])) == {"question", "answer"}


def test_what_cannot_be_split_leaves_nothing_behind(tmp_path: Path) -> None:
    few = dataset.load(write_jsonl(tmp_path / "in.jsonl", rows(10)))
    with pytest.raises(DataError, match="No row can be held out"):
        split(few, tmp_path / "out")
    with pytest.raises(ConfigError, match="share"):
        split(few, tmp_path / "out", share=1.0)
    own = dataset.load(write_jsonl(tmp_path / "train.jsonl", rows()))
    with pytest.raises(ConfigError, match="the file that is read"):
        split(own, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "train.jsonl"]


def test_a_split_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    data = dataset.load(write_jsonl(tmp_path / "in.jsonl", rows()))

    def stop(item: Event) -> None:
        if item["phase"] == "Writing" and item["done"]:
            assert (tmp_path / "out").is_dir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(data, tmp_path / "out", emit=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_one_file_that_cannot_land_takes_the_other_with_it(tmp_path: Path) -> None:
    data, out = dataset.load(write_jsonl(tmp_path / "in.jsonl", rows())), tmp_path / "out"

    def get_in_the_way(item: Event) -> None:
        if item["phase"] == "Writing" and item["done"]:
            (out / "heldout.jsonl").write_text("theirs")

    with pytest.raises(ConfigError, match="there already"):
        split(data, out, emit=get_in_the_way)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"heldout.jsonl": "theirs"}


def test_progress_counts_the_rows_twice(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    data = dataset.load(write_jsonl(tmp_path / "in.jsonl", rows()))
    split(data, tmp_path / "out", emit=lambda item: told.append((item["phase"], item["done"], item["total"])))
    assert ("Holding rows out", 60, 60) in told and told[-1] == ("Writing", 60, 60)


def test_the_command_line_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", rows())
    assert cli.run(["data", "split", str(source), "--out", str(tmp_path / "out"), "--share", "0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["heldout"]["rows"] == 12
