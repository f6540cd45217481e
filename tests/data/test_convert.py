"""Converting loses nothing that the target can hold, and says what it dropped."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cases import CHAT, SHARE
from hypothesis import given, settings
from hypothesis import strategies as st
from making import write_jsonl
from reading import Row, a, call, msg, s, u

from studio.cli import __main__ as cli
from studio.data import dataset
from studio.data.convert import TARGETS, convert
from studio.data.detect import detect
from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Reading, Record
from studio.data.targets import Dropped, is_flat
from studio.errors import ConfigError, DataError
from studio.events import Event

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
RICH: Row = {
    "messages": [
        msg("system", "Be kind."),
        msg("user", "Rome?"),
        msg("assistant", "", tool_calls=[call("weather", "abcdefghi", city="Rome")]),
        msg("tool", "21 C", name="weather", tool_call_id="abcdefghi"),
        msg("assistant", "Warm.", reasoning_content="21 is warm."),
        msg("user", "Oslo?"),
        msg("assistant", "No idea.", weight=0),
    ],
    "tools": [WEATHER],
}


def load(folder: Path, *rows: Row, **reading: Any) -> dataset.Dataset:
    return dataset.load(write_jsonl(folder / "in.jsonl", list(rows)), Reading(**reading))


def back(path: Path) -> list[Record]:
    return list(dataset.load(path).records())


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_tools_thoughts_and_weights_survive_in_messages(tmp_path: Path, suffix: str) -> None:
    data = load(tmp_path, RICH)
    done = convert(data, "messages", tmp_path / f"out{suffix}")
    assert done == {"rows": 1, "dropped": {}, "left_out": {}, "guarded": 0}
    (made,) = back(tmp_path / f"out{suffix}")
    assert made == dataclasses.replace(next(data.records()), line=made.line)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_last_answer_that_is_learned_becomes_the_completion(tmp_path: Path, suffix: str) -> None:
    data = load(tmp_path, RICH)
    done = convert(data, "prompt_completion", tmp_path / f"out{suffix}")
    assert done["dropped"] == {"the learning of answers before the last": 1, "turns after the last answer": 1}
    (made,) = back(tmp_path / f"out{suffix}")
    turns = next(data.records()).messages[:5]  # type: ignore[union-attr]
    masked = dataclasses.replace(turns[2], train=False)
    assert made == Conversation((*turns[:2], masked, *turns[3:]), made.line, (WEATHER,))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_sharegpt_says_that_it_cannot_hold_thoughts_and_the_names_and_ids_of_tools(tmp_path: Path, suffix: str) -> None:
    done = convert(load(tmp_path, RICH), "sharegpt", tmp_path / f"out{suffix}")
    assert done["dropped"] == {
        "what was thought before the answer": 1,
        "the names of tools that answer": 1,
        "the ids of tool calls": 1,
    }
    (made,) = back(tmp_path / f"out{suffix}")
    assert made == Conversation(
        (
            s("Be kind."),
            u("Rome?"),
            a("", tool_calls=(call("weather", city="Rome"),)),
            Message("tool", "21 C"),
            a("Warm."),
            u("Oslo?"),
            a("No idea.", train=False),
        ),
        made.line,
        (WEATHER,),
    )


def test_alpaca_keeps_earlier_turns_as_history_and_leaves_out_what_is_not_in_turn(tmp_path: Path) -> None:
    longer = {"messages": [msg("system", "Be kind."), msg("user", "A"), msg("assistant", "B"), *CHAT]}
    done = convert(load(tmp_path, RICH, longer), "alpaca", tmp_path / "out.jsonl")
    assert done["rows"] == 1
    assert done["dropped"] == {"whole rows that are not question and answer in turn": 1}
    assert lines(tmp_path / "out.jsonl") == [
        {"instruction": "Hi", "input": "", "output": "Hello.", "system": "Be kind.", "history": [["A", "B"]]}
    ]


def test_prompts_and_completions_are_texts_when_that_holds_every_row(tmp_path: Path) -> None:
    first, second = {"messages": CHAT}, {"messages": [msg("system", "Be kind."), *CHAT]}
    convert(load(tmp_path, first, second), "prompt_completion", tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == [
        {"prompt": "Hi", "completion": "Hello."},
        {"system": "Be kind.", "prompt": "Hi", "completion": "Hello."},
    ]
    convert(load(tmp_path, first, RICH), "prompt_completion", tmp_path / "more.jsonl")
    assert lines(tmp_path / "more.jsonl")[0] == {"prompt": CHAT[:1], "completion": CHAT[1:]}


def test_what_stands_after_the_last_answer_is_dropped_and_counted(tmp_path: Path) -> None:
    data = load(tmp_path, {"messages": [*CHAT, msg("user", "Bye")]})
    assert convert(data, "prompt_completion", tmp_path / "out.jsonl")["dropped"] == {"turns after the last answer": 1}
    assert lines(tmp_path / "out.jsonl") == [{"prompt": CHAT[:1], "completion": CHAT[1:]}]


def test_a_blank_system_text_is_kept_as_a_message() -> None:
    assert not is_flat(Conversation((s(" "), u("Hi"), a("Hello."))))
    assert is_flat(Conversation((s("S"), u("Hi"), a("Hello."))))


PAIR = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."}


def test_a_pair_becomes_two_ratings_the_chosen_answer_or_the_prompt(tmp_path: Path) -> None:
    data, out = load(tmp_path, PAIR), tmp_path / "out.jsonl"
    assert convert(data, "kto", out)["dropped"] == {}
    assert lines(out) == [
        {"prompt": "Hi", "completion": "Hello.", "label": True},
        {"prompt": "Hi", "completion": "Go.", "label": False},
    ]
    assert convert(data, "messages", out, force=True)["dropped"] == {"the rejected answers": 1}
    assert lines(out) == [{"messages": CHAT}]
    assert convert(data, "prompt", out, force=True)["dropped"] == {"the answers": 1}
    assert lines(out) == [{"prompt": "Hi"}]


def test_of_ratings_the_wanted_answers_are_imitated(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": "Hello.", "label": 1}, {"prompt": "Hi", "completion": "Go.", "label": 0}]
    done = convert(load(tmp_path, *rows), "sharegpt", tmp_path / "out.jsonl")
    assert done["rows"] == 1 and done["dropped"] == {"the labels, and the answers that were not wanted": 2}
    assert lines(tmp_path / "out.jsonl") == [{"conversations": SHARE}]


@pytest.mark.parametrize(("row", "to"), [({"text": "A b."}, "messages"), ({"messages": CHAT}, "kto"), (PAIR, "text")])
def test_a_format_that_cannot_hold_the_rows_is_refused_before_anything_is_written(
    tmp_path: Path, row: Row, to: str
) -> None:
    with pytest.raises(ConfigError, match="cannot hold") as caught:
        convert(load(tmp_path, row), to, tmp_path / "out.jsonl")
    assert "Choose one of" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_the_input_is_never_overwritten_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    data = load(tmp_path, RICH)
    with pytest.raises(ConfigError, match="the file that is read"):
        convert(data, "messages", tmp_path / "in.jsonl")
    with pytest.raises(ConfigError, match="no name to write"):
        convert(data, "messages", tmp_path / "out.xlsx")
    with pytest.raises(ConfigError, match="no format 'csv'"):
        convert(data, "csv", tmp_path / "out.csv")
    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(DataError, match="alpaca cannot hold whole rows that are not question and answer in turn"):
        convert(data, "alpaca", tmp_path / "out.jsonl", force=True)
    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_csv_runs_nothing_in_a_spreadsheet_and_keeps_every_text(tmp_path: Path) -> None:
    texts = ['=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "\tx", 'a "b"\r\nc, d', "\u2028é"]
    rows = [{"prompt": f"Q{number}", "completion": text} for number, text in enumerate(texts)]
    done = convert(load(tmp_path, *rows), "prompt_completion", tmp_path / "out.csv")
    assert done["guarded"] == 5
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        cells = [row["completion"] for row in csv.DictReader(file)]
    assert cells == [f"'{text}" for text in texts[:5]] + texts[5:]


def test_rows_left_out_are_counted(tmp_path: Path) -> None:
    data = load(tmp_path, {"messages": CHAT}, {"messages": CHAT[:1]}, {"messages": CHAT}, drop=("bad",))
    assert convert(data, "messages", tmp_path / "out.jsonl")["left_out"] == {"bad": 1}


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).map(
    lambda text: f"w{text}"
)
USER, SAID, SYSTEM = WORDS.map(u), WORDS.map(a), WORDS.map(s)
ANSWER = st.builds(
    lambda text, train, thought, calls: a(text, train=train, reasoning=thought, tool_calls=calls),
    WORDS,
    st.booleans(),
    st.one_of(st.just(""), WORDS),
    st.lists(
        st.builds(lambda name, id, value: call(name, id, x=value), WORDS, st.just("") | WORDS, st.integers() | WORDS),
        max_size=2,
    ).map(tuple),
)
EARLIER = st.lists(st.tuples(USER, ANSWER | SAID), max_size=2).map(lambda pairs: tuple(m for p in pairs for m in p))
ASKED = st.builds(
    lambda system, earlier, last: (*system, *earlier, last),
    st.lists(SYSTEM, max_size=1).map(tuple),
    st.just(()) | EARLIER,
    USER,
)
TOOLS = st.just(()) | st.just((WEATHER,))
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(lambda ask, said, tools: Conversation((*ask, said), 1, tools), ASKED, SAID | ANSWER, TOOLS).filter(
        lambda talk: any(turn.role == "assistant" and turn.train for turn in talk.messages)
    ),
    st.builds(
        lambda ask, said, tools: Preference(ask, (said,), (a(said.content + " no"),), 1, tools), ASKED, SAID, TOOLS
    ),
    st.builds(lambda ask, said, label, tools: Rated(ask, (said,), label, 1, tools), ASKED, SAID, st.booleans(), TOOLS),
    st.builds(lambda ask, known: Prompt(ask, 1, known), ASKED, st.just("") | WORDS),
)


@settings(max_examples=300, deadline=None)
@given(RECORDS, st.sampled_from(sorted(TARGETS)))
def test_what_is_written_without_a_loss_is_read_again_as_it_was(record: Record, to: str) -> None:
    target = TARGETS[to]
    kind = {Conversation: "sft", Preference: "preference", Rated: "kto", Prompt: "prompt"}[type(record)]  # type: ignore[index]
    if target.kind != kind:
        return
    dropped: Dropped = Dropped()
    row = target.write(record, is_flat(record), dropped)
    if row is None or +dropped:
        return
    row = json.loads(json.dumps(row))
    form = detect([row], Reading()).format
    assert form is not None
    assert form.read(row, 1) == [record]


def test_the_command_line_converts_and_says_what_it_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [RICH])
    words = ["data", "convert", str(source), "--to", "sharegpt", "--out", str(tmp_path / "o.jsonl")]
    assert cli.run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1
    assert cli.run([*words, "--force"]) == 0
    assert "not in it: what was thought" in capsys.readouterr().out
    assert cli.run([*words[:4], "kto", *words[5:], "--force", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["field"] == "to"


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    data = load(tmp_path, RICH)
    (tmp_path / "folder.csv").mkdir()
    for out, error in (
        (tmp_path / "in.jsonl" / "out.jsonl", ConfigError),
        (tmp_path / "missing" / "out.jsonl", ConfigError),
        (tmp_path / "folder.csv", ConfigError),
        (tmp_path / f"{'n' * 300}.csv", DataError),
    ):
        with pytest.raises(error) as caught:
            convert(data, "messages", out, force=True)
        assert caught.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "in.jsonl"]


def test_a_file_that_came_to_stand_there_in_the_meantime_is_kept(tmp_path: Path) -> None:
    data, out = load(tmp_path, RICH), tmp_path / "out.jsonl"

    def get_in_the_way(item: Event) -> None:
        out.write_text("theirs")

    with pytest.raises(ConfigError, match="there already"):
        convert(data, "messages", out, emit=get_in_the_way)
    assert out.read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_progress_counts_every_row_of_each_pass(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    data = load(tmp_path, RICH, RICH, RICH)
    convert(
        data,
        "prompt_completion",
        tmp_path / "out.jsonl",
        emit=lambda item: told.append((item["phase"], item["done"], item["total"])),
    )
    phases = list(dict.fromkeys(phase for phase, _, _ in told))
    assert len(phases) == 2 and told[-1] == ("Writing", 3, 3)
    assert all((phase, 0, 3) in told for phase in phases)
