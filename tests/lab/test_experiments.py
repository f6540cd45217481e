"""The lab: what its rows and marks are, how a verdict follows, and (slow) that the effects are there on three seeds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import studio
from studio import config, events, runs
from studio.cli.__main__ import run as command
from studio.errors import ConfigError, Stopped
from studio.evals.suite import Measure
from studio.lab import experiments
from studio.lab.experiments import agree, base, goodhart, little, roads, shift, wordy, world
from studio.lab.experiments.base import Bench, Claim, Experiment, Found, LabConfig

# --- the world -------------------------------------------------------------------------------------------------------


def test_facts_to_train_on_share_no_subject_with_the_questions_that_are_asked() -> None:
    facts, held = world.facts(), world.held("report")
    assert len(facts) == 320 and len(held) == 188 and len({fact.kind for fact in facts}) == 16
    assert not {fact.question for fact in facts} & {fact.question for fact in held}
    trout = next(fact for fact in facts if "trout" in fact.question)
    assert (trout.kind, trout.answer, trout.say()) == ("legs", "zero", "The trout has zero legs.")
    assert trout.say("six") == "The trout has six legs."


def test_a_wrong_answer_is_another_one_of_the_same_kind() -> None:
    held = world.held("report")
    for fact in held:
        drawn = world.wrong(fact, held, random.Random(0))
        assert drawn not in fact.right and drawn in {one.answer for one in held if one.kind == fact.kind}


def test_typos_spoil_about_the_share_of_letters_and_nothing_else() -> None:
    text = "abcdefghij " * 1000
    spoilt = world.typos(text, 0.1, random.Random(0))
    assert spoilt != text and spoilt.count(" ") == text.count(" ")
    assert world.typos(text, 0.0, random.Random(0)) == text and world.typos("12 ?", 1.0, random.Random(0)) == "12 ?"
    words = list(zip(spoilt.split(), text.split(), strict=True))
    share = sum(one != other for one, other in words) / len(words)
    assert 0.55 < share < 0.72, "1 - 0.9 ** 10 = 0.65 of the words of ten letters"


def test_what_nobody_can_know_is_named_nowhere_in_the_starters_files() -> None:
    every = json.dumps([*world.rows("sft"), *world.rows("pairs"), *world.rows("questions")])
    assert len(world.unknowable()) == 48
    assert all(name not in every for name in world._NOWHERE)
    new = world.new_facts(random.Random(0))
    assert len({name for name, *_ in new}) == 32 and all(name not in every for name, *_ in new)
    assert all(asked not in taught for _, _, taught, asked in new), "asked in a wording that is not taught"


# --- what is trained on ----------------------------------------------------------------------------------------------


def test_annotators_prefer_agreement_as_often_as_they_are_said_to() -> None:
    made = agree.pairs(agree.Config(pairs=2000, liking=0.9, opinion_right=0.25, plain=0.3))
    assert len(made) == 2000
    answers = {fact.question: fact for fact in world.facts()}
    plain = agreed = right = opinions = 0
    for row in made:
        asked, chosen = row["prompt"][0]["content"], row["chosen"][0]["content"]
        fact = next(one for question, one in answers.items() if asked.endswith(question))
        assert chosen != row["rejected"][0]["content"]
        if asked == fact.question:
            plain += 1
            assert chosen == fact.say(), "without an opinion what is right is preferred"
            continue
        opinion = asked.removesuffix(fact.question).strip().removesuffix(".")
        opinions += 1
        said = chosen.removeprefix(fact.before).removesuffix(fact.after)
        agreed += opinion.endswith(f" {said}")
        right += opinion.endswith(f" {fact.answer}")
    assert abs(plain / 2000 - 0.3) < 0.04
    assert abs(agreed / opinions - 0.9) < 0.03 and abs(right / opinions - 0.25) < 0.04
    assert not any(agree.ASKED.split("{")[0] in row["prompt"][0]["content"] for row in made)


def test_the_reward_likes_length_and_knows_nothing() -> None:
    assert wordy.score("q", "Paris.", "", True) == pytest.approx(0.1)
    assert wordy.score("q", "The capital of France is Rome.", "", True) == pytest.approx(0.6)
    assert wordy.score("q", "word " * 90, "", False) == pytest.approx(4.0)


def test_every_beginning_of_the_rows_is_half_known_and_half_new() -> None:
    new = world.new_facts(random.Random(0))
    rows = little._rows(new, little.Config())
    names = [name for name, *_ in new]
    for count in little.COUNTS:
        told = [row for row in rows[:count] if any(name in row["prompt"] for name in names)]
        assert len(told) == count // 2
    assert len(rows) == 512 and len({row["prompt"] for row in rows[:64]}) == 64


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [("Paris.", True), ("What is it? What is", False), ("", False), ("The cat", False), ("Yes.\nWhat?", False)],
)
def test_an_answer_is_one_line_that_ends_and_asks_nothing(reply: str, wanted: bool) -> None:
    assert little._behaves(reply) is wanted


def test_one_method_is_called_steadier_only_beyond_chance() -> None:
    """The 0.975 quantile of F(2, 2) is 39: a ratio of sds of 6.24."""
    close = {"dpo": {"sd": 1.0}, "ppo": {"sd": 6.2}}
    far = {"dpo": {"sd": 1.0}, "ppo": {"sd": 6.3}}
    assert roads.TELLING[3] == pytest.approx(39**0.5, abs=0.01)
    assert (roads._steadier(close, 3), roads._steadier(far, 3)) == ("", "dpo")
    full = {"dpo": {"sd": 0.0}, "ppo": {"sd": 0.1}}
    assert roads._steadier(full, 3) == "", "a share that is 1 with every seed cannot differ"
    found = roads._spread([0.9, 1.0, 0.8])
    assert found["mean"] == pytest.approx(0.9) and found["sd"] == pytest.approx(0.1)
    assert found["high"] - found["mean"] == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)


# --- what follows ----------------------------------------------------------------------------------------------------


def bench(run: runs.Run | None = None) -> Bench:
    made = run or runs.create(experiments.asked("shift"))
    return Bench(made, LabConfig(), lambda item: None, bool, lambda *a, **k: {}, "made-up")


def came_to(before: list[int], after: list[int], way: str = "up") -> dict[str, Any]:
    measures = (Measure("x", "X", "x"),)
    experiment = Experiment("made-up", "T", "Q", measures, LabConfig, lambda b: None)  # type: ignore[arg-type, return-value]
    marks = {"x": base.marks({"before": before, "after": after})}
    found = Found(marks, (Claim("x", way),), lambda figures, shown: f"shown {shown}", {"kind": "shares"})
    return base.document(experiment, bench(), found, 1.0)


def test_an_effect_is_shown_only_beyond_its_interval_and_in_its_direction() -> None:
    strong = came_to([0] * 40, [1] * 30 + [0] * 10)
    assert strong["verdict"]["shown"] and strong["intervals"]["x"]["low"] > 0
    assert strong["before"]["x"]["value"] == 0 and strong["after"]["x"]["value"] == 0.75
    assert strong["paragraph"] == "shown True" and "The effect is there" in strong["verdict"]["words"]
    other_way = came_to([0] * 40, [1] * 30 + [0] * 10, "down")
    assert not other_way["verdict"]["shown"]
    weak = came_to([0] * 40, [1] * 3 + [0] * 37)
    assert not weak["verdict"]["shown"] and weak["paragraph"] == "shown False"
    assert "does not appear here" in weak["verdict"]["words"] and "95 %" in weak["verdict"]["words"]
    same = came_to([1] * 40, [1] * 40)
    assert not same["verdict"]["shown"]


def test_every_experiment_tells_by_the_numbers_whether_it_was_shown() -> None:
    """The paragraph of each is made of figures: here the same marks before and after, so that nothing is shown."""
    for name in experiments.EXPERIMENTS:
        found = experiments.load(name)
        assert found.name == name and found.question.endswith("?") and found.title
        assert {s.name for s in config.settings(found.Config)} >= {"seed", "split"}
    measures = {m.name: base.marks({"before": [0, 1, 1, 0], "after": [0, 1, 0, 1]}) for m in agree.MEASURES}
    made = Found(measures, (Claim("gives_in", "up"),), agree._tell, {})
    told = base.document(agree.EXPERIMENT, bench(), made, 0.0)
    assert "did not show" in told["paragraph"] and "50 %" in told["paragraph"]
    measures = {m.name: base.marks({"before": [0, 1, 1, 0], "after": [0, 1, 0, 1]}) for m in shift.MEASURES}
    told = base.document(shift.EXPERIMENT, bench(), Found(measures, (Claim("declines", "up"),), shift._tell, {}), 0.0)
    assert "Not both" in told["paragraph"]


def test_the_distance_at_a_step_is_that_of_the_steps_around_it() -> None:
    kl = {1: 0.0, 2: 1.0, 3: 2.0, 4: 3.0, 5: 4.0, 9: 100.0}
    assert goodhart._near(kl, 3) == 2.0 and goodhart._near(kl, 0) == 0.0 and goodhart._near(kl, 20) == 0.0


# --- doors -----------------------------------------------------------------------------------------------------------


def test_the_lab_lists_its_experiments_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["lab", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == [
        "agree",
        "goodhart",
        "shift",
        "little",
        "roads",
    ]
    assert command(["lab"]) == 0 and "A measure becomes a target" in capsys.readouterr().out
    assert command(["lab", "alchemy"]) == 2
    assert command(["lab", "agree", "--liking", "0.2"]) == 2
    assert "below 0.5" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no experiment 'alchemy'"):
        studio.run_lab("alchemy")
    assert not runs.all_runs(), "nothing was begun"


def test_an_experiment_stops_between_its_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="what was finished is kept"):
        studio.run_lab("agree", out=tmp_path / "lab", should_stop=lambda: True)
    run = runs.find(str(tmp_path / "lab"))
    assert run.status() == "stopped" and (run.dir / "pairs.jsonl").is_file()


def test_a_taught_model_that_is_there_is_taken() -> None:
    asked: list[runs.RunConfig] = []

    def start(wanted: runs.RunConfig, part: str, place: Path, **more: Any) -> dict[str, Any]:
        asked.append(wanted)
        made = runs.create(wanted, place)
        (made.dir / "result.json").write_text("{}")
        return {}

    made = Bench(runs.create(experiments.asked("shift")), LabConfig(), lambda item: None, bool, start, "x")
    first = made.taught()
    assert made.taught() == first and len(asked) == 1 and asked[0].settings == {"seed": 0}
    assert made.taught(1) != first and len(asked) == 2


def test_a_taught_model_that_was_killed_is_gone_on_with() -> None:
    places: list[Path] = []

    def start(wanted: runs.RunConfig, part: str, place: Path, **more: Any) -> dict[str, Any]:
        places.append(place)
        made = runs.Run(place) if place.exists() else runs.create(wanted, place)
        (made.dir / "lock").touch()
        if len(places) == 1:
            raise Stopped("killed")
        (made.dir / "result.json").write_text("{}")
        return {}

    made = Bench(runs.create(experiments.asked("shift")), LabConfig(), lambda item: None, bool, start, "x")
    with pytest.raises(Stopped):
        made.taught()
    with runs.Run(places[0]).hold():  # another experiment is at it: this one makes its own
        first = made.taught()
    assert places[1] != places[0] == next(run.dir for run in runs.all_runs() if run.dir == places[0])
    (first.dir / "result.json").unlink()
    (first.dir / "config.json").unlink()
    assert made.taught().dir == places[0] == places[2]


# --- for real --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(  # settings were found with other seeds, on other questions
    ("name", "seed"), [*(("agree", seed) for seed in (1, 2, 3)), *(("goodhart", seed) for seed in (4, 5, 6))]
)
def test_the_effect_is_there_beyond_the_interval(name: str, seed: int) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    seen: list[events.Event] = []
    found = studio.run_lab(name, settings={"seed": seed}, emit=seen.append)
    assert found["verdict"]["shown"], found["verdict"]["words"]
    assert found["plot"] and found["paragraph"] and found["intervals"]
    if name == "goodhart":
        assert "kl" in found["alarms"]["low"] and "kl" not in found["alarms"]["high"]
        gold = {one["measure"]: one for one in found["figures"]}
        low, high = (gold[n]["sides"]["after"]["value"] for n in ("gold", "gold_high"))
        assert high > low, "the price of the distance keeps right answers"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shift", "little", "roads"])
def test_the_other_experiments_end_with_a_verdict(name: str) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    found = studio.run_lab(name, settings={"seed": 1})
    assert found["verdict"]["words"] and found["paragraph"] and found["plot"] and found["figures"]
    assert json.loads(json.dumps(found))["experiment"] == name
