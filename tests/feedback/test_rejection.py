"""Rejection sampling: the whole scored list, the best of n, the bound on its distance, and who scores."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from scripted import Reply, Scripted

import studio
from studio import runs, worker
from studio.data import preferences, rules
from studio.data.votes import Answer
from studio.errors import ConfigError
from studio.feedback import rejection, scorers
from studio.feedback.given import Task, ranks_of

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "max_length": 96, "lora_r": 4}


@pytest.fixture(scope="module")
def starter_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The starter as a GGUF file, which is quick to ask."""
    from studio import paths
    from studio.export import gguf
    from studio.render import encode

    base = paths.models() / "starter"
    folder = tmp_path_factory.mktemp("gguf")
    return str(gguf.write(base, None, folder / "starter.gguf", encode.load(base), name="starter"))


def prompts(path: Path, count: int = 5) -> Path:
    return write_jsonl(path, [{"prompt": f"What is {i} plus {i + 1}?"} for i in range(1, count + 1)])


def records(result: dict[str, Any]) -> list[preferences.Record]:
    return preferences.records(Path(result["dir"]))


# --- the mathematics --------------------------------------------------------------------------------------------------


def test_the_distance_of_the_best_of_n_is_bounded_as_known() -> None:
    assert rejection.kl_bound(1) == 0.0
    for n, bound in ((2, 0.193147), (4, 0.636294), (16, 1.835089)):
        assert rejection.kl_bound(n) == pytest.approx(bound, abs=1e-6)


@pytest.mark.parametrize("scores", [[3.0, 1.0, 2.0], [0.5, 0.5, -1.0, 4.0, 4.0], [7.0]])
def test_the_best_of_k_is_the_mean_over_all_ways_to_draw_k(scores: list[float]) -> None:
    for k in range(1, len(scores) + 1):
        every = [max(some) for some in itertools.combinations(scores, k)]
        assert rejection.best_of(scores, k) == pytest.approx(statistics.fmean(every))


def test_the_curve_is_a_mean_over_prompts_with_an_interval_and_ends_at_the_mean_of_the_best() -> None:
    found = rejection.curve([[0.0, 1.0], [2.0, 2.0], [1.0, 5.0, 3.0]])
    assert [point["n"] for point in found] == [1, 2, 3] and [point["prompts"] for point in found] == [3, 3, 1]
    assert found[0]["score"] == pytest.approx((0.5 + 2 + 3) / 3)
    # best of two: 1, 2, and of the three (5 + 5 + 3) / 3
    best = [1.0, 2.0, 13 / 3]
    assert found[1]["score"] == pytest.approx(statistics.fmean(best))
    half = 1.959964 * statistics.stdev(best) / math.sqrt(3)
    assert found[1]["high"] - found[1]["score"] == pytest.approx(half) and found[2]["score"] == 5.0
    assert rejection.curve([]) == []


def test_ranks_of_scores_leave_room_for_ties() -> None:
    assert ranks_of([0.5, 2.0, 0.5, -1.0]) == [2, 1, 2, 4]


# --- who scores -------------------------------------------------------------------------------------------------------


def task(*texts: str, reference: str = "") -> Task:
    return Task([{"role": "user", "content": "What is 2 + 2?"}], reference, 3, "k", [Answer(text) for text in texts])


def test_a_list_without_a_good_answer_gives_none_to_imitate() -> None:
    """A built-in rule gives 1 to what is right."""
    scorer = scorers.by_rule(rules.rule("exact"))
    good, bad = scorers.records(scorer, [task("4", "five", reference="4"), task("3", "5", reference="4")], 1.0, 0)
    assert good.labels == [True, False] and good.ranks == [1, 2] and not good.bad
    assert bad.labels == [False, False] and bad.ranks == [1, 1] and bad.bad
    assert len(preferences.rows("sft", [good])) == 1 and preferences.rows("sft", [bad]) == []
    assert len(preferences.rows("kto", [good, bad])) == 4 and len(preferences.rows("preference", [good, bad])) == 1
    (plainly,) = scorers.records(scorers.by_rule(rules.rule("length:2-9")), [task("one", "one two three")], None, 0)
    assert plainly.labels == [] and plainly.scores == [0.5, 1.0]


def test_a_judge_grades_by_the_mean_of_the_digits_and_what_it_does_not_grade_is_left_out() -> None:
    def answer(turns: list[dict[str, Any]]) -> Reply:
        if "five" in turns[-1]["content"]:
            return Reply("Well", probs={"Well": 1.0})
        return Reply("8", probs={"8": 0.6, "3": 0.2, "What": 0.2})

    with Scripted(answer) as server:
        from studio.feedback.speakers import Speakers

        with Speakers([server.name]) as (judge,):
            scorer = scorers.by_judge(judge, "{question} {answer}", 8, 0)
            assert scorer.score(task("4", "five")) == [pytest.approx((8 * 0.6 + 3 * 0.2) / 0.8), None]
            (made,) = scorers.records(scorer, [task("4", "five")], None, 0)
    assert [one.text for one in made.answers] == ["4"] and made.about["unscored"] == 1 and made.scores == [6.75]


@pytest.mark.parametrize(
    ("reply", "grade"), [("7", 7.0), ("I give it 9.", 9.0), ("10", None), ("7.5 of 9", 7.5), ("From 1 to 9: 4", 4.0)]
)
def test_a_grade_that_is_written_is_read(reply: str, grade: float | None) -> None:
    from studio.feedback.speakers import Speakers

    with Scripted(lambda turns: reply, tells=False) as server, Speakers([server.name]) as (judge,):
        assert scorers.graded(judge, "{question} {answer}", task("4"), Answer("4"), 8, 0) == grade


def test_a_judge_that_gives_every_answer_the_same_grade_has_chosen_nothing(tmp_path: Path) -> None:
    said = itertools.count()
    with Scripted(
        lambda turns: "5" if "grade" in turns[-1]["content"] else f"Answer {next(said)}.", tells=False
    ) as one:
        given = {"answers_from": one.name, "judge": one.name, "n": 4}
        result = studio.make_feedback("rejection", data=prompts(tmp_path / "p.jsonl", 3), settings=given)
    assert result["usable"] is False and "nothing to choose" in result["report"]["warnings"][0]
    assert "nothing to choose" in preferences.doubt(preferences.named(result["run"], "sft"))


def test_a_reward_run_scores_outside_of_training_as_it_does_inside(tiny: Path, pairs_file: Path) -> None:
    """Its own training pairs have the mean and the spread that the run itself tells, and so are normalised."""
    config = runs.RunConfig("train", "t", str(tiny), "reward", str(pairs_file), settings={**FAST, "max_steps": 4})
    run = runs.create(config)
    worker.work(run)
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    scorer = scorers.by_reward(run, lambda item: None, lambda: False)
    chosen, rejected = [], []
    for row in rows:
        asked = [{"role": "user", "content": row["prompt"]}]
        both = scorer.score(Task(asked, "", 1, "k", [Answer(row["chosen"]), Answer(row["rejected"])]))
        assert None not in both
        chosen.append(both[0])
        rejected.append(both[1])
    about = json.loads((run.adapter / "studio.json").read_text())["scores"]
    assert about["n"] < len(rows), "some are held out, so the means are near and not equal"
    assert statistics.fmean(chosen) == pytest.approx(0.0, abs=0.1)  # type: ignore[type-var]
    assert statistics.stdev([*chosen, *rejected]) == pytest.approx(1.0, abs=0.1)  # type: ignore[type-var]
    long = Answer("word " * 300)
    assert scorer.score(Task(asked, "", 1, "k", [long]))[0] is None, "more than the model reads"
    cut = scorer.score(Task(asked, "", 1, "k", [Answer("4"), Answer("4", {"stopped": False})]))
    assert cut[0] != cut[1], "an answer that was cut off has no end"


def test_what_cannot_score_is_refused_before_anything_is_written(tmp_path: Path, starter_file: str) -> None:
    data = prompts(tmp_path / "p.jsonl")
    for given, said in (
        ({}, "Nothing says which answer is the best"),
        ({"reward": "json", "judge": starter_file}, "Both"),
        ({"reward": "nonsense"}, "is no rule"),
        ({"reward": "json", "answers_from": ""}, "Nobody is named who answers"),
        ({"reward": "json", "temperature": "0"}, "all the same"),
        ({"reward": "json", "temperature": "warm"}, "is no temperature"),
        ({"reward": "json", "n": 2}, "below 4"),
    ):
        with pytest.raises(ConfigError, match=said):
            studio.make_feedback("rejection", data=data, settings={"answers_from": starter_file, **given})
    assert runs.all_runs() == []


# --- a set ------------------------------------------------------------------------------------------------------------


def test_a_set_keeps_the_whole_list_and_trains_by_its_name(tmp_path: Path, starter_file: str) -> None:
    rule = tmp_path / "mine.py"
    rule.write_text("def score(prompt, answer, reference, stopped):\n    return len(set(answer))\n")
    given = {"answers_from": starter_file, "n": 6, "temperature": "0.7,1.3", "max_tokens": 12}
    result = studio.make_feedback(
        "rejection", data=prompts(tmp_path / "p.jsonl"), settings={**given, "reward": f"{rule}:score"}
    )
    for record in records(result):
        texts = [answer.text for answer in record.answers]
        assert len(texts) == 6 and record.scores == [float(len(set(text))) for text in texts]
        assert [answer.identity["temperature"] for answer in record.answers] == [0.7, 1.3] * 3
        assert record.answers[0].identity["sha256"] and record.ranks[record.scores.index(max(record.scores))] == 1
    run = runs.find(result["run"])
    assert run.config.options["pairing"] == "ends" and not (run.dir / "drafts.jsonl").exists()
    assert result["preference"] == result["sft"] == 5, "the best over the worst, one pair a prompt"
    means = [point["score"] for point in result["curve"]]
    assert len(means) == 6 and means == sorted(means)
    assert means[-1] == pytest.approx(statistics.fmean(max(record.scores) for record in records(result)))
    trained = studio.train_model(
        "dpo", data=result["run"], model="starter", settings={"max_steps": 2, "held_out": 0.0, "max_length": 96}
    )
    assert trained["rows"]["trained"] == 5
    assert runs.needed_by(run)[0][0].id == trained["run"]
