"""Two models in use: who answers whom, what thumbs become, and a comparison that may be looked at any time."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from studio import runs
from studio.data import dataset, preferences, trial
from studio.data.interval import always_valid, wilson
from studio.data.trial import Trial, compare, conversation_of
from studio.errors import ConfigError, DataError

WHO = [{"name": "a", "sha256": "aa"}, {"name": "b", "sha256": "bb"}]
ASKED = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trial:
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    return Trial.begin(["a", "b"], WHO, 0.5)


def test_the_interval_holds_at_every_look_and_is_wider_than_one_for_a_single_look() -> None:
    """By hand, 1 hit of 1: B(2, 1) = 1/2, so M = 1 / (2 p) and p is inside above alpha / 2."""
    assert always_valid(1, 1, 0.1) == pytest.approx((0.05, 1.0)) and always_valid(0, 0) == (0.0, 1.0)
    assert always_valid(0, 1, 0.1) == pytest.approx((0.0, 0.95))
    low, high = always_valid(30, 100)
    assert low < wilson(30, 100)[0] and high > wilson(30, 100)[1]
    for p in (low, high):  # where the mixture reaches 1 / alpha
        log_m = math.lgamma(31) + math.lgamma(71) - math.lgamma(102) - 30 * math.log(p) - 70 * math.log(1 - p)
        assert log_m == pytest.approx(math.log(20), abs=1e-9)


def test_looking_after_every_answer_errs_no_more_often_than_was_promised() -> None:
    """400 answers with one true share, 200 times: ever outside in at most 5 %; Wilson's is left more often."""
    outside = fixed = 0
    for seed in range(200):
        draw = random.Random(seed)
        hits, left, one = 0, False, False
        for n in range(1, 401):
            hits += draw.random() < 0.4
            if n % 10 == 0:
                low, high = always_valid(hits, n)
                left |= not low <= 0.4 <= high
                low, high = wilson(hits, n)
                one |= not low <= 0.4 <= high
        outside, fixed = outside + left, fixed + one
    assert outside <= 0.05 * 200 < fixed


def test_a_conversation_stays_with_its_arm_and_arms_get_their_share(made: Trial) -> None:
    drawn = [made.arm(f"talk {number}") for number in range(4000)]
    assert drawn == [made.arm(f"talk {number}") for number in range(4000)]
    assert abs(drawn.count(0) / 4000 - 0.5) < 0.04  # five standard deviations
    made.share = 0.1
    assert abs([made.arm(f"talk {number}") for number in range(4000)].count(0) / 4000 - 0.1) < 0.024
    other = Trial.begin(["a", "b"], WHO, 0.5)
    assert [other.arm(f"talk {number}") for number in range(4000)] != drawn, "another trial draws anew"


def test_a_conversation_is_named_by_the_client_or_by_its_beginning() -> None:
    later = [*ASKED, {"role": "assistant", "content": "Rayleigh."}, {"role": "user", "content": "Who?"}]
    assert conversation_of(ASKED) == conversation_of(later) != conversation_of([{"role": "user", "content": "Hi"}])
    assert conversation_of([{"role": "system", "content": "Be brief."}, *ASKED]) != conversation_of(ASKED)
    assert conversation_of(later, "mine") == "mine"


def test_thumbs_become_labels_and_can_be_taken_back(made: Trial) -> None:
    for number, rating in enumerate(("up", "down", "up", "none")):
        made.said(f"id{number}", number % 2, f"talk {number}", ASKED, f"answer {number}")
        made.rate(f"id{number}", rating)
    made.rate("id2", "none")
    rows = preferences.rows("kto", preferences.records(made.run.dir))
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [
        ("answer 0", True),
        ("answer 1", False),
    ]
    file = preferences.named(made.run.id, "kto")
    assert dataset.check(file).kind == "kto"
    with pytest.raises(DataError, match="was given here"):
        made.rate("nobody", "up")
    with pytest.raises(ConfigError, match="is no rating"):
        made.rate("id0", "great")


def test_an_answer_that_is_asked_for_again_is_counted_with_the_first(made: Trial) -> None:
    made.said("id1", 0, "talk", ASKED, "one")
    made.said("id2", 0, "talk", ASKED, "two")
    made.said("id3", 0, "other", ASKED, "three")
    told = made.comparison()["arms"][0]
    assert (told["answers"], told["conversations"], told["regenerated"]) == (3, 2, 1)


def test_what_was_kept_is_there_when_it_goes_on_and_other_models_are_refused(made: Trial) -> None:
    made.said("id1", 1, "talk", ASKED, "one")
    again = Trial.begin(["a", "b"], WHO, 0.5, made.run.id)
    again.rate("id1", "up")
    assert again.run == made.run and again.comparison()["arms"][1]["up"] == 1
    assert again.arm("talk 7") == made.arm("talk 7")
    renamed = Trial.begin(["A", "B"], WHO, None, made.run.id)  # the same models by other paths
    assert renamed.arms == ["a", "b"] and renamed.comparison()["arms"][1]["up"] == 1
    with pytest.raises(ConfigError, match="in the state they were in then"):
        Trial.begin(["a", "b"], [WHO[0], {"name": "b", "sha256": "cc"}], 0.5, made.run.id)
    other = runs.create(runs.RunConfig("feedback", "x", options={"source": "rules"}))
    with pytest.raises(ConfigError, match="no comparison"):
        Trial.begin(["a", "b"], WHO, 0.5, other.id)


def test_a_share_stays_when_it_goes_on_so_that_no_conversation_changes_its_model() -> None:
    begun = Trial.begin(["a", "b"], WHO, 0.3)
    drawn = [begun.arm(f"talk {number}") for number in range(2000)]
    assert abs(drawn.count(0) / 2000 - 0.3) < 0.052  # five standard deviations
    again = Trial.begin(["a", "b"], WHO, None, begun.run.id)
    assert again.share == 0.3 and [again.arm(f"talk {number}") for number in range(2000)] == drawn
    with pytest.raises(ConfigError, match="30% of the conversations to a"):
        Trial.begin(["a", "b"], WHO, 0.5, begun.run.id)


def test_the_verdict_waits_until_a_difference_is_clear(made: Trial) -> None:
    assert made.comparison()["difference"] is None and "before both were rated" in made.comparison()["verdict"]
    draw = random.Random(1)
    for number in range(400):
        arm = number % 2
        made._records[str(number)] = preferences.Record(
            ASKED, [], labels=[draw.random() < (0.8, 0.4)[arm]], about={"arm": "ab"[arm], "conversation": str(number)}
        )
        if number == 20:
            assert made.comparison()["verdict"].startswith("No difference is shown yet")
    told = made.comparison()
    assert told["verdict"].startswith("a is liked better") and told["difference"]["low"] > 0
    assert trial.lines(told)[-1] == told["verdict"] and "200 of 200 answers rated" in trial.lines(told)[0]


def test_the_same_model_twice_is_hardly_ever_called_different() -> None:
    wrong = 0
    for seed in range(100):
        draw = random.Random(seed)
        found = [
            preferences.Record(
                ASKED, [], labels=[draw.random() < 0.6], about={"arm": "ab"[n % 2], "conversation": str(n)}
            )
            for n in range(200)
        ]
        wrong += any(not compare(found[:n], "ab")["verdict"].startswith("No") for n in range(20, 201, 20))
    assert wrong <= 5
