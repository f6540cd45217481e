"""People rank: who sees what in which order, what a ranking becomes, and what a kill leaves of the sampling."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio import runs, worker
from studio.data import dataset, preferences
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError
from studio.feedback import job, rank, ranked, samples
from studio.feedback.samples import Sample

TEXTS = ("cold", "warm", "hot")


def prompt(number: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Question {number}?"}]


def made(count: int = 4, texts: tuple[str, ...] = TEXTS, **options: Any) -> runs.Run:
    """Write a set as sampling leaves it."""
    run = runs.create(runs.RunConfig("feedback", "a set", options={"source": "rank", **options}))
    for number in range(count):
        answers = [Answer(f"{text} {number}", {"name": "m", "temperature": 0.5 + i}) for i, text in enumerate(texts)]
        samples.keep(run.dir, Sample(f"s{number}", prompt(number), answers, number + 1))
    return run


def in_order(shown: rank.Shown, *best_first: str) -> list[int]:
    """Give the ranks of what is shown, as they would be typed."""
    words = [text.split()[0] for text in shown.texts]
    return [1 + best_first.index(word) if word in best_first else 0 for word in words]


def take(run: runs.Run, by: str, *best_first: str, **more: Any) -> preferences.Record:
    shown = rank.next_prompt(run, by)
    assert shown is not None
    return rank.save(run, shown.id, in_order(shown, *best_first), by, **more)


# --- blind ------------------------------------------------------------------------------------------------------------


def test_the_order_is_drawn_for_each_prompt_and_person_and_stays() -> None:
    sample = Sample("s", prompt(1), [Answer(text) for text in TEXTS])
    orders = Counter(tuple(rank.order(sample, f"person {n}", 0)) for n in range(600))
    assert len(orders) == 6 and min(orders.values()) > 60, "each of the six about a hundred times"
    assert rank.order(sample, "Ann", 0) == rank.order(sample, "Ann", 0)
    many = [Sample(f"s{n}", prompt(n), sample.answers) for n in range(60)]
    assert len({tuple(rank.order(one, "Ann", 0)) for one in many}) == 6


def test_what_is_shown_tells_nothing_of_who_answered() -> None:
    shown = rank.next_prompt(made(), "Ann")
    assert shown is not None and sorted(text.split()[0] for text in shown.texts) == sorted(TEXTS)
    assert "temperature" not in repr(shown) and "'m'" not in repr(shown)


def test_ranks_of_what_was_shown_are_kept_in_the_order_of_the_sample() -> None:
    run = made()
    record = take(run, "Ann", "warm", "hot", "cold")
    assert record.ranks == [3, 1, 2] and [a.text.split()[0] for a in record.answers] == list(TEXTS)
    assert record.by == {"kind": "person", "name": "Ann"}
    assert sorted(record.about["order"]) == [0, 1, 2] and record.about["sample"] in {"s0", "s1", "s2", "s3"}
    assert [a.identity["temperature"] for a in record.answers] == [0.5, 1.5, 2.5]
    assert preferences.records(run.dir) == [record]


# --- what a ranking becomes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "kept"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([2, 2, 1], [2, 2, 1]),
        ([5, 9, 5], [1, 2, 1]),
        ([0, 1, 0], [2, 1, 2]),
        ([1, 2, 0], [1, 2, 3]),
    ],
)
def test_ties_are_ranks_that_are_equal_and_what_has_none_shares_the_last(ranks: list[int], kept: list[int]) -> None:
    run = made(1)
    shown = rank.next_prompt(run, "Ann")
    assert shown is not None
    record = rank.save(run, "s0", ranks, "Ann")
    assert [record.ranks[place] for place in shown.order] == kept


def test_all_bad_makes_no_pair_and_no_answer_to_imitate_but_unwanted_ones() -> None:
    record = take(made(), "Ann", bad=True)
    assert record.bad and record.ranks == []
    assert [preferences.counts([record])[kind] for kind in preferences.KINDS] == [0, 3, 0]
    assert not any(label for _, label in preferences.labelled(record))


def test_an_answer_that_was_written_stands_above_all_others() -> None:
    record = take(made(), "Ann", "hot", "cold", edited="  better  ")
    assert [a.text for a in record.answers][3:] == ["better"] and record.ranks == [3, 4, 2, 1]
    assert record.answers[3].identity == {"name": "Ann", "written": True}
    assert len(preferences.pairs(record)) == 6
    assert preferences.rows("sft", [record])[0]["messages"][-1]["content"] == "better"


def test_a_better_answer_to_bad_ones_makes_pairs_over_each() -> None:
    record = take(made(), "Ann", bad=True, edited="better")
    assert not record.bad and record.about["all_bad"]
    assert {better for better, _ in preferences.pairs(record)} == {"better"} and len(preferences.pairs(record)) == 3


def test_what_was_written_and_is_one_of_them_is_none() -> None:
    run = made(1)
    record = take(run, "Ann", "hot", edited="warm 0 ")
    assert len(record.answers) == 3


def test_pairing_decides_whether_all_pairs_or_the_ends_are_learned_from() -> None:
    for pairing, count in (("all", 3), ("ends", 1)):
        run = made(1, pairing=pairing)
        take(run, "Ann", "cold", "warm", "hot")
        assert dataset.check(preferences.named(run.id, "preference")).usable == count


@pytest.mark.parametrize(
    ("ranks", "more"),
    [([], {}), ([0, 0, 0], {}), ([1, 2], {}), ([1, 2, 3, 4], {}), ([1, -1, 2], {}), ([0, 0, 0], {"edited": " "})],
)
def test_what_is_no_ranking_is_refused_and_nothing_is_kept(ranks: list[int], more: dict[str, Any]) -> None:
    run = made()
    with pytest.raises(ConfigError):
        rank.save(run, "s0", ranks, "Ann", **more)
    with pytest.raises(ConfigError):
        rank.save(run, "../s0", [1, 2, 3], "Ann")
    assert preferences.records(run.dir) == []


# --- who ranks what ---------------------------------------------------------------------------------------------------


def walk(run: runs.Run, by: str, most: int = 999) -> list[str]:
    seen: list[str] = []
    while len(seen) < most and (shown := rank.next_prompt(run, by)) is not None:
        rank.save(run, shown.id, [1, 2, 3], by)
        seen.append(shown.id)
    return seen


def test_everybody_ranks_the_shared_ones_and_the_rest_is_ranked_once() -> None:
    run = made(200, overlap=0.25)
    ann, bo = walk(run, "Ann", 120), walk(run, "Bo")
    both = set(ann) & set(bo)
    assert 30 <= len(both) <= 70, "about a quarter of 200"
    assert set(ann) | set(bo) == {f"s{n}" for n in range(200)} and len(set(ann)) == 120
    assert set(ann[: len(both)]) == both == set(bo[: len(both)]), "the shared ones come first"
    assert rank.next_prompt(run, "Ann") is None and rank.next_prompt(run, "Cy") is not None


@pytest.mark.parametrize(("overlap", "second"), [(0.0, 0), (1.0, 4)])
def test_none_or_all_are_shared_at_the_ends_of_the_setting(overlap: float, second: int) -> None:
    run = made(4, overlap=overlap)
    assert len(walk(run, "Ann")) == 4 and len(walk(run, "Bo")) == second


def test_undo_brings_the_prompt_back_and_skipping_takes_it_away() -> None:
    run = made(2)
    first = rank.next_prompt(run, "Ann")
    assert first is not None and rank.undo(run, "Ann") is None
    record = rank.save(run, first.id, [1, 2, 3], "Ann")
    assert rank.undo(run, "Bo") is None, "nobody takes back what somebody else said"
    assert rank.undo(run, "Ann") == record and rank.next_prompt(run, "Ann") == first
    rank.save(run, first.id, [], "Ann", skip=True)
    assert [r.dropped for r in preferences.records(run.dir)] == ["skipped"]
    assert rank.progress(run, "Ann").done == 1


def test_a_name_is_the_same_with_other_spaces() -> None:
    run = made(1)
    rank.save(run, "s0", [1, 2, 3], " Ann  Other ")
    assert rank.next_prompt(run, "Ann Other") is None and rank.person("  ") == "person"


def test_progress_tells_the_time_left_at_the_median_pace_without_breaks() -> None:
    run = made(10)
    assert rank.progress(run, "Ann") == rank.Progress(0, 10, None)
    for second in (0, 20, 50, 60, 7000):  # 20, 30, 10, and a break
        record = take(run, "Ann", "cold")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_800_000_000 + second))
        preferences.add(run.dir, dataclasses.replace(record, time=stamp))
    assert rank.progress(run, "Ann") == rank.Progress(5, 10, 100.0)


# --- what came out ----------------------------------------------------------------------------------------------------


def test_wins_are_shares_of_the_others_beaten_and_ties_half() -> None:
    run = made(2)
    take(run, "Ann", "cold", "warm", "hot")
    shown = rank.next_prompt(run, "Ann")
    assert shown is not None
    tied = [{"cold": 1, "warm": 1, "hot": 2}[text.split()[0]] for text in shown.texts]
    rank.save(run, shown.id, tied, "Ann")
    found = {won.name: (won.share.rate, won.share.n) for won in ranked.wins(preferences.records(run.dir))}
    # cold: 1 and (1/2 + 1) / 2; warm: (0 + 1) / 2 and (1/2 + 1) / 2; hot: nothing
    assert found == {"temperature 0.5": (0.875, 2), "temperature 1.5": (0.625, 2), "temperature 2.5": (0.0, 2)}
    said = ranked.report(preferences.records(run.dir))
    assert said[0] == "2 rankings by Ann." and said[1].startswith("temperature 0.5: better than 88% of the others")


def test_several_runs_are_told_apart_by_what_they_are() -> None:
    run = runs.create(runs.RunConfig("feedback", "two", options={"source": "rank"}))
    answers = [Answer(name, {"name": name, "sha256": name, "temperature": 0.7}) for name in ("base", "tuned")]
    samples.keep(run.dir, Sample("s0", prompt(0), answers))
    shown = rank.next_prompt(run, "Ann")
    assert shown is not None
    rank.save(run, "s0", [1 if text == "tuned" else 2 for text in shown.texts], "Ann")
    assert [(won.name, won.share.rate) for won in ranked.wins(preferences.records(run.dir))] == [
        ("tuned", 1),
        ("base", 0),
    ]


# --- sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"answers_from": "starter", "temperature": "0"}, {"answers_from": "starter", "temperature": "warm"}],
)
def test_what_could_give_nothing_to_rank_is_refused_before_anything_is_written(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        job.asked("rank", "prompts.jsonl", settings)
    job.asked("rank", "prompts.jsonl", {"answers_from": "starter", "temperature": "0,1"})
    assert runs.all_runs() == []


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows: list[dict[str, object]] = [{"prompt": f"What is {n} + {n}?"} for n in range(6)]
    return write_jsonl(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", rows)


def config(model: Path, prompts: Path, **options: Any) -> runs.RunConfig:
    options = {"source": "rank", "answers_from": str(model), "max_tokens": 8, **options}
    return runs.RunConfig("feedback", "ranked", str(model), data=str(prompts), options=options)


def test_sampling_keeps_who_answered_how_and_a_kill_loses_and_repeats_nothing(tiny: Path, prompts: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    whole = runs.create(config(tiny, prompts, n=2, temperature="1.0,2.0"))
    result = worker.work(whole)
    found = samples.read(whole.dir)
    assert result["source"] == "rank" and result["samples"] == 6 and result["answers"] == 12
    assert result["next"] == f"studio feedback rank {whole.id}"
    assert all([a.identity["temperature"] for a in sample.answers] == [1.0, 2.0] for sample in found)
    assert all(a.identity["sha256"] for sample in found for a in sample.answers)
    killed = runs.create(config(tiny, prompts, n=2, temperature="1.0,2.0"))
    command = [sys.executable, "-m", "studio", "worker", str(killed.dir)]
    process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (killed.dir / "drafts.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (killed.dir / "drafts.jsonl").read_bytes()
    assert before and not (killed.dir / samples.FILE).exists()
    with (killed.dir / "drafts.jsonl").open("ab") as file:
        file.write(b'{"key": "torn')
    worker.work(killed)
    assert samples.read(killed.dir) == found, "the same answers as without the kill"
    assert len((killed.dir / samples.FILE).read_bytes().splitlines()) == 6
    assert not (killed.dir / "drafts.jsonl").exists()


def test_answers_that_are_all_the_same_are_counted_and_ranked_by_nobody(tiny: Path, prompts: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    run = runs.create(config(tiny, prompts, n=3, temperature="0", limit=2))
    with pytest.raises(DataError, match="two different answers"):
        worker.work(run)
    assert preferences.counts(preferences.records(run.dir))["dropped"] == {rank.SAME: 2}
    assert rank.next_prompt(run, "Ann") is None


def test_samples_that_somebody_broke_are_passed_over(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": [], "answers": [{"text": "x", "identity": {}}]}, {"id": "b"}, [], "x"]
    (tmp_path / samples.FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [sample.id for sample in samples.read(tmp_path)] == ["a"]
