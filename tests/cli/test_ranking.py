"""Ranking in a terminal: what is typed, and what is told where nobody sits at one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio import runs
from studio.cli import ranking
from studio.cli.__main__ import run as studio
from studio.data import preferences
from studio.data.votes import Answer
from studio.errors import ConfigError
from studio.feedback import rank, samples


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ("2 1 3", [2, 1, 3]),
        ("213", [2, 1, 3]),
        ("2=1 3", [1, 1, 2]),
        ("3, 1 = 2", [2, 2, 1]),
        ("2", [0, 1, 0]),
        ("12=3", [1, 2, 2]),
    ],
)
def test_numbers_in_the_order_of_liking_are_ranks(text: str, ranks: list[int]) -> None:
    assert ranking.ranks_of(text, 3) == ranks


@pytest.mark.parametrize("text", ["4", "0", "1 1", "x", "1 = = 2", "²"])
def test_what_names_no_answer_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        ranking.ranks_of(text, 3)


@pytest.fixture
def made(home: Path) -> runs.Run:
    run = runs.create(runs.RunConfig("feedback", "a set", options={"source": "rank"}))
    for n in range(3):
        answers = [Answer(f"answer {k}", {"name": "m", "temperature": float(k)}) for k in range(3)]
        samples.keep(run.dir, samples.Sample(f"s{n}", [{"role": "user", "content": f"Question {n}?"}], answers))
    (run.dir / "result.json").write_text(json.dumps({"run": run.id, "dir": str(run.dir), "source": "rank"}))
    return run


def test_what_is_typed_is_kept_until_somebody_leaves(
    made: runs.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = iter(["9", "2 1 3", "u", "b", "e 1", "A better one.", "", "q"])
    monkeypatch.setattr("builtins.input", lambda *args: next(words))
    ranking.ask(made, "Ann")
    found = preferences.records(made.dir)
    assert [record.bad for record in found] == [True, False]
    assert found[1].answers[-1].text == "A better one." and found[1].ranks == [2, 2, 2, 1]
    said = capsys.readouterr().out
    assert "'9' is none of the answers" in said and "temperature" not in said and "--- 1 of 3 ---" in said


def test_what_a_model_wrote_gives_the_terminal_no_orders(
    made: runs.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [{"role": "user", "content": "Clear\x1b[2J it?"}]
    answers = [Answer(text, {"name": "m"}) for text in ("\x1b]0;owned\x07one\n\ttwo", "schön 👩‍👧")]
    samples.keep(made.dir, samples.Sample("s0", asked, answers))
    words = iter(["e 1", "", "e 2", "", "q"])
    monkeypatch.setattr("builtins.input", lambda *args: next(words))
    monkeypatch.setattr(rank, "_mine", lambda run, by: ([samples.read(run.dir)[0]], []))
    ranking.ask(made, "Ann")
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x07" not in said and "\\x1b[2J" in said
    assert "one\n\ttwo" in said and "schön 👩‍👧" in said


def test_json_tells_how_far_it_is_and_how_to_go_on(made: runs.Run, capsys: pytest.CaptureFixture[str]) -> None:
    rank.save(made, "s0", [1, 2, 3], "Ann")
    assert studio(["feedback", "rank", made.id, "--by", "Ann", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ranked"] == {"by": "Ann", "done": 1, "of": 3} and document["preference"] == 3
    assert {won["n"] for won in document["wins"]} == {1} and document["agreement"] == []


def test_without_prompts_or_a_set_it_is_said_what_to_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert studio(["feedback", "rank", "starter"]) == 2
    assert "--data" in capsys.readouterr().err
