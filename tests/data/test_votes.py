"""One store of votes: nothing is lost or half-written, the tally is Wilson's, and votes are ordinary training data."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import studio
from studio.cli.__main__ import run
from studio.data import dataset, ledger, report, votes
from studio.data.votes import Answer, Vote
from studio.errors import ConfigError, DataError

ROOT = Path(__file__).parent.parent.parent
ASKED = [{"role": "user", "content": "What is the capital of France?"}]


def vote(choice: str, a: str = "Paris.", b: str = "It is Paris, of course.", **more: Any) -> Vote:
    one, other = Answer(a, {"name": "tuned", "adapter_sha256": "ad"}), Answer(b, {"name": "base", "sha256": "fe"})
    return Vote(more.pop("prompt", ASKED), one, other, choice, **more)


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    capsys.readouterr()
    code = run([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


# --- the store -------------------------------------------------------------------------------------------------------


def test_a_vote_comes_back_as_it_was_given_with_an_id_and_a_time(home: Path) -> None:
    given = vote("a", "Paris 🗼\n", "Naïve\u2028?", edited="Paris it is.", by="judge-1", prompt=[*ASKED, *ASKED])
    assert votes.add(given) == home / "preferences" / "votes.jsonl"
    (kept,) = votes.all()
    assert dataclasses.replace(kept, id="", time="") == given
    assert len(kept.id) == 16 and kept.time.endswith("Z") and votes.unreadable() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such mode")
def test_only_the_owner_can_read_votes_and_what_is_made_of_them() -> None:
    for path in (votes.add(vote("a")), votes.snapshot()):
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    votes.add(vote("b"))
    votes.remove(votes.all()[0].id)
    assert votes.file().stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [1, 7, 60, -1])
def test_a_line_that_a_crash_tore_is_not_read_and_makes_way_for_the_next(left: int) -> None:
    """-1: all of the line but its end; it was never promised, but it is whole, and is kept."""
    votes.add(vote("a"))
    whole = votes.file().read_bytes()
    torn = whole[:left]
    votes.file().write_bytes(whole + torn)
    assert len(votes.all()) == (2 if left == -1 else 1) and votes.unreadable() == []
    votes.add(vote("b"))
    assert [v.choice for v in votes.all()] == (["a", "a", "b"] if left == -1 else ["a", "b"])
    assert votes.file().read_bytes().count(b"\n") == len(votes.all())


def test_a_vote_that_does_not_fit_on_the_disk_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    votes.add(vote("a"))
    before, real = votes.file().read_bytes(), os.write
    monkeypatch.setattr(ledger.os, "write", lambda handle, data: real(handle, data[:20]))
    with pytest.raises(DataError, match="disk is full") as caught:
        votes.add(vote("b"))
    assert votes.file().read_bytes() == before and "room" in caught.value.remedy


def test_many_writers_at_once_lose_nothing(home: Path) -> None:
    """Two processes and four threads, with lines larger than a pipe or a page."""
    code = (
        "from studio.data.votes import *\n"
        "for i in range(20):\n"
        "    add(Vote([{'role': 'user', 'content': 'x' * 9000}], Answer(str(i)), Answer('b'), 'a'))"
    )
    where = {**os.environ, "STUDIO_HOME": str(home)}
    others = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=where) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda: [votes.add(vote("b", a="y" * 9000)) for _ in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    found = votes.all()
    assert len(found) == 80 and votes.unreadable() == [] and len({v.id for v in found}) == 80
    assert [v.a.text for v in found if v.choice == "a" and v.a.text == "19"] == ["19", "19"]


def test_a_vote_is_taken_back_and_what_was_written_by_hand_stays() -> None:
    for choice in votes.CHOICES:
        votes.add(vote(choice))
    lines = votes.file().read_bytes().splitlines(keepends=True)
    votes.file().write_bytes(b"".join([*lines[:2], b"# mine\n", b"\n", *lines[2:]]))
    assert votes.unreadable() == [3]
    votes.remove(votes.all()[1].id)
    assert [v.choice for v in votes.all()] == ["a", "tie", "bad"]
    assert b"# mine\n" in votes.file().read_bytes()
    with pytest.raises(DataError, match="There is no vote 'nobody'"):
        votes.remove("nobody")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (vote("c"), "'c' is no choice"),
        (vote("a", prompt=[]), "turns up to the question"),
        (vote("a", prompt=[*ASKED, {"role": "assistant", "content": "x"}]), "turns up to the question"),
        (vote("a", a=None), "no text"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_vote_is_refused_and_nothing_written(bad: Vote, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        votes.add(bad)
    assert not votes.file().exists()


# --- who wins --------------------------------------------------------------------------------------------------------


def test_the_interval_is_the_one_of_the_published_example() -> None:
    """8 of 10: 0.4902 to 0.9433 (as statsmodels' proportion_confint(8, 10, method="wilson") prints it)."""
    found = votes.tally([vote("a")] * 8 + [vote("b")] * 2, "ad")
    assert (found.wins, found.losses, found.ties, found.bad, found.n) == (8, 2, 0, 0, 10)
    assert (found.low, found.high) == (pytest.approx(0.490162, abs=1e-5), pytest.approx(0.943318, abs=1e-5))


@pytest.mark.parametrize(("wins", "losses", "ties"), [(0, 5, 0), (5, 0, 0), (3, 2, 4), (0, 0, 7), (1, 0, 0)])
def test_the_ends_of_the_interval_solve_wilsons_equation(wins: int, losses: int, ties: int) -> None:
    """(p^ - p)^2 = z^2 p (1 - p) / n, a quadratic in p, with a tie counted half."""
    found = votes.tally([vote("a")] * wins + [vote("b")] * losses + [vote("tie")] * ties, "ad")
    n, z = wins + losses + ties, 1.959964
    rate = (wins + ties / 2) / n
    ends = sorted(np.roots([1 + z * z / n, -2 * rate - z * z / n, rate * rate]))
    assert found.rate == pytest.approx(rate)
    assert [found.low, found.high] == pytest.approx(ends, abs=1e-6)
    other = votes.tally([vote("a")] * wins + [vote("b")] * losses + [vote("tie")] * ties, "fe")
    assert (other.wins, other.losses) == (losses, wins) and other.low == pytest.approx(1 - found.high)


def test_both_bad_and_a_side_against_itself_do_not_count() -> None:
    itself = dataclasses.replace(vote("a"), b=Answer("x", {"name": "tuned", "adapter_sha256": "ad"}))
    found = votes.tally([vote("bad"), vote("bad"), itself], "ad")
    assert (found.n, found.bad, found.low, found.high) == (0, 2, 0.0, 1.0) and math.isnan(found.rate)


def test_base_and_adapter_on_one_file_and_two_strengths_of_it_are_told_apart() -> None:
    shared = {"sha256": "fe", "name": "x", "adapter": "a.gguf", "adapter_sha256": "ad"}
    base = {**shared, "adapter": "", "adapter_sha256": "", "strength": 0.0}
    keys = [votes.key(one) for one in (base, {**shared, "strength": 1.0}, {**shared, "strength": 0.5})]
    assert keys == ["fe", "ad", "ad@0.5"]


# --- as data ---------------------------------------------------------------------------------------------------------


def said(row: dict[str, Any], *sides: str) -> list[str]:
    return [row[side][0]["content"] for side in sides]


@pytest.mark.parametrize(
    ("choice", "edited", "pairs", "rated"),
    [
        ("a", "", ["A>B"], {"A": True, "B": False}),
        ("b", "", ["B>A"], {"A": False, "B": True}),
        ("tie", "", [], {}),
        ("bad", "", [], {"A": False, "B": False}),
        ("a", "E", ["A>B", "E>A"], {"A": True, "B": False, "E": True}),
        ("b", "E", ["B>A", "E>B"], {"A": False, "B": True, "E": True}),
        ("tie", "E", ["E>A", "E>B"], {"E": True}),
        ("bad", "E", ["E>A", "E>B"], {"A": False, "B": False, "E": True}),
        ("a", " A ", ["A>B"], {"A": True, "B": False}),  # the box was opened and nothing changed
    ],
)
def test_a_vote_becomes_the_pairs_of_its_ranking_and_rated_answers(
    choice: str, edited: str, pairs: list[str], rated: dict[str, bool]
) -> None:
    votes.add(vote(choice, "A", "B", edited=edited))
    assert [">".join(said(row, "chosen", "rejected")) for row in votes.pairs()] == pairs
    assert {said(row, "completion")[0]: row["label"] for row in votes.rated()} == rated
    assert all(row["prompt"] == ASKED for row in [*votes.pairs(), *votes.rated()])


def test_equal_and_empty_answers_make_no_pair_and_are_counted() -> None:
    for one in (vote("a", "Same.", " Same."), vote("b", "x", ""), vote("tie"), vote("bad"), vote("a")):
        votes.add(one)
    found = votes.all()
    assert len(votes.pairs()) == 1
    assert votes.unused("preference", found) == {
        "the same answer twice": 1, "empty answers": 1, "ties": 1, "both bad": 1,
    }  # fmt: skip
    assert votes.unused("kto", found) == {"the same answer twice": 1, "ties": 1}
    assert [said(row, "completion")[0] for row in votes.rated(found[1:2])] == ["x"]


def test_a_prompt_that_was_voted_on_both_ways_is_named() -> None:
    for one in (vote("a", "A", "B"), vote("a", "B", "A "), vote("a", "A", "C"), vote("tie", "A", "B")):
        votes.add(one)
    (group,) = votes.contradictory(votes.all())
    assert [v.id for v in group] == [v.id for v in votes.all()[:2]]
    document = report.check(votes.snapshot()).document
    assert "contradiction" in {one["code"] for one in document["warnings"]}, "the lint behind says it too"


@pytest.mark.parametrize(("kind", "rows"), [("preference", 3), ("kto", 5)])
def test_what_is_written_is_read_as_what_it_is(kind: str, rows: int, tmp_path: Path) -> None:
    system = [{"role": "system", "content": "Be brief."}, *ASKED]
    for one in (vote("a"), vote("b", edited="Paris!", prompt=system)):
        votes.add(one)
    for name in ("votes.jsonl", "votes.csv", "votes.parquet"):
        done = votes.export(kind, tmp_path / name)
        data = dataset.load(tmp_path / name)
        assert (data.kind, data.usable, done["rows"]) == (kind, rows, rows)
        assert {len(record.prompt) for record in data.records()} == {1, 2}  # type: ignore[union-attr]


def test_a_snapshot_stays_when_more_is_voted_and_is_made_once(home: Path) -> None:
    votes.add(vote("a"))
    first = votes.snapshot()
    before = first.read_bytes()
    votes.add(vote("tie"))
    assert votes.snapshot() == first
    votes.add(vote("b"))
    second = votes.snapshot()
    assert second != first and first.read_bytes() == before and "-2-pairs-" in second.name
    assert votes.snapshot("kto").name.startswith("votes-4-rated-")


def test_votes_is_a_name_of_data_unless_a_file_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, document = call(capsys, "data", "check", "votes")
    assert code == 2 and "No vote makes a preference pair yet" in str(document)
    votes.add(vote("a"))
    votes.add(vote("b", "x", "y"))
    code, document = call(capsys, "data", "check", "votes")
    assert (code, document["kind"], document["rows"]) == (0, "preference", 2)
    code, document = call(capsys, "data", "check", "votes:kto")
    assert (code, document["kind"], document["rows"]) == (0, "kto", 4)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "votes").write_text('{"text": "mine"}\n')
    assert dataset.check("votes").kind == "text"


def test_the_command_line_lists_tallies_exports_and_takes_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(capsys, "votes", "tally") == (0, [])
    for one in (vote("a", "A", "B"), vote("a", "A", "C"), vote("b", "A", "B"), vote("tie", by="judge")):
        votes.add(one)
    _, listed = call(capsys, "votes", "list")
    assert [v["choice"] for v in listed["votes"]] == ["a", "a", "b", "tie"] and listed["pairs"] == 3
    assert listed["contradictory"] == [[listed["votes"][0]["id"], listed["votes"][2]["id"]]]
    _, sides = call(capsys, "votes", "tally")
    assert [(s["name"], s["wins"], s["losses"], s["ties"], s["n"]) for s in sides] == [
        ("tuned", 2, 1, 1, 4), ("base", 1, 2, 1, 4),
    ]  # fmt: skip
    assert sides[0]["low"] < sides[0]["rate"] == 0.625 < sides[0]["high"]
    _, sides = call(capsys, "votes", "tally", "--by", "person")
    assert sides[0]["n"] == 3
    out = tmp_path / "pairs.jsonl"
    code, done = call(capsys, "votes", "export", "--to", "preference", "--out", out)
    assert code == 0 and done["rows"] == 3 and done["unused"] == {"ties": 1} and dataset.load(out).usable == 3
    assert call(capsys, "votes", "export", "--to", "preference", "--out", out)[0] == 2
    assert call(capsys, "votes", "export", "--to", "sft", "--out", tmp_path / "x.jsonl")[0] == 2
    assert call(capsys, "votes", "remove", listed["votes"][2]["id"])[0] == 0
    assert call(capsys, "votes", "remove", listed["votes"][2]["id"])[0] == 2
    assert run(["votes", "list"]) == 0
    text = capsys.readouterr().out
    assert "What is the capital of France?" in text and "3 votes: 2 pairs, 4 rated answers" in text
    assert run(["votes", "tally"]) == 0 and "WIN RATE (95 %)" in capsys.readouterr().out


# --- end to end ------------------------------------------------------------------------------------------------------


def test_votes_on_the_starters_answers_train_it_end_to_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The base answers at two temperatures, a person prefers what is shorter, DPO on those votes learns that."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from studio.chat.session import Pane, Session
    from studio.export import chatfiles
    from studio.models import hub

    file = str(chatfiles.of_base(hub.resolve("starter")))
    session = Session([Pane("cold", file, raw=True), Pane("warm", file, raw=True)])
    lands = ("France", "Japan", "Italy", "Spain", "Peru", "Egypt", "Kenya", "Chile", "Norway", "Cuba", "India", "Iran")
    try:
        for asked in (f"What is the {what} of {land}?" for what in ("capital", "currency") for land in lands):
            turns = [{"role": "user", "content": asked}]
            a = session.answer(0, turns, max_tokens=24)
            b = session.answer(1, turns, max_tokens=6, temperature=1.2, seed=1)
            sides = [Answer(said["text"], {"name": said["who"], "sha256": "s"}) for said in (a, b)]
            votes.add(Vote(turns, *sides, "b"))
    finally:
        session.close()
    assert len(votes.pairs()) >= 20, "the two temperatures answer alike"
    settings = [w for s in ("max_steps=12", "held_out=0.25", "batch_size=4") for w in ("--set", s)]
    code, done = call(
        capsys, "train", "dpo", "--model", "starter", "--data", "votes", "--out", tmp_path / "run", *settings
    )
    assert code == 0 and done["seconds"] > 0
    held = done["heldout"]
    assert held["before"] == pytest.approx(math.log(2)), "before, neither answer is preferred"
    assert held["n"] and held["after"] < held["before"]
    margins = [done["metrics"][name] for name in ("rewards/margins", "eval_rewards/margins")]
    assert min(margins) > 0, f"what was voted for is not preferred: {margins}"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert Path(config["data"]).name.startswith("votes-") and Path(config["data"]).is_file()


def test_kto_takes_the_votes_as_rated_answers(tiny: Path) -> None:
    for i in range(12):
        votes.add(vote("ab"[i % 2], f"The sum is {2 * i}.", str(2 * i), prompt=[{"role": "user", "content": f"{i}?"}]))
    given = {"quantize_base": "none", "gradient_checkpointing": False, "max_steps": 2, "max_length": 128}
    done = studio.train_model("kto", model=str(tiny), data="votes", settings=given)
    assert done["rows"]["trained"] + done["rows"]["held_out"] == 24
