"""Goodhart: where the proxy rises and the gold falls is found, along best-of-n and along a run's checkpoints."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from asking import Plain, Scripted

from studio.errors import ConfigError
from studio.evals import goodhart, road
from studio.evals.goodhart import SUITE, Config
from studio.export.speaking import Stage
from studio.runs import Run


def rambling(seed: int = 0) -> Scripted:
    """Give answers that are the likelier wrong the longer they are."""
    rng = random.Random(seed)

    def reply(turns: Sequence[dict[str, str]]) -> str:
        words = rng.choice([1, 5, 12, 20])
        right = rng.random() < 1 - words / 25
        return " ".join(["12" if right else "13", *["so"] * (words - 1)])

    return Scripted(reply)


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    file = tmp_path / "sums.jsonl"
    file.write_text(
        "".join(f'{{"question": "What is {a} plus {12 - a}?", "answers": ["12"], "wrong": "13"}}\n' for a in range(12)),
        "utf-8",
    )
    return file


def test_a_proxy_that_likes_length_turns_against_right_answers(sums: Path) -> None:
    plain = Plain(Config(), {"after": rambling()}, file=sums)
    outcome = SUITE.run(plain)
    points = outcome.plots["bon"]
    assert [point["n"] for point in points] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    assert points[1]["kl"] == pytest.approx(math.log(2) - 0.5) and points[1]["d"] ** 2 == pytest.approx(points[1]["kl"])
    proxies, golds = ([point[name] for point in points] for name in ("proxy", "gold"))
    assert proxies == pytest.approx(sorted(proxies)) and golds[0] > 0.5 > golds[-1]
    assert outcome.plots["bon_turn"]["n"] == 1 and outcome.plots["bon_turn"]["sure"]
    assert outcome.plots["bon_fit_gold"]["alpha"] < 0 < outcome.plots["bon_fit_proxy"]["alpha"]
    assert all(mark < 0 for mark in outcome.marks["gold_change"]["after"].values())
    assert any("proxy rises and the gold falls" in note for note in plain.notes)
    assert all(one["gold_low"] <= one["gold"] <= one["gold_high"] for one in points)
    assert outcome.plots["names"] == {"proxy": "length:20-80", "gold": "the known answer"}


def test_of_one_prompt_there_is_no_interval_and_the_plots_are_json(sums: Path) -> None:
    sums.write_text(sums.read_text("utf-8").splitlines()[3] + "\n", "utf-8")
    plain = Plain(Config(samples=64), {"after": rambling()}, file=sums)
    plots = SUITE.run(plain).plots
    assert plots["bon_turn"]["low"] is None and not plots["bon_turn"]["sure"]
    assert json.dumps(plots, allow_nan=False)
    assert any("(too few for an interval); that may be chance" in note for note in plain.notes)


def test_a_prompt_whose_answers_cannot_be_scored_at_a_checkpoint_is_left_out_there_and_everywhere(
    sums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, last = Stage("begun", Run(tmp_path)), Stage("step-1", Run(tmp_path))
    monkeypatch.setattr(road, "stages", lambda run, most: [begun, last])
    monkeypatch.setattr(road, "distance", lambda *about: 0.5)

    def scorer(asking: object, spec: str, stack: object) -> object:  # cannot read empty answers
        return lambda one, said: [3.0 if answer.text else None for answer in said]

    monkeypatch.setattr(road, "scorer", scorer)
    empty = Scripted(lambda turns: "" if "What is 3" in turns[-1]["content"] else "12")
    sides = {"after": Scripted(lambda turns: "12"), "begun": Scripted(lambda turns: "12"), "step-1": empty}
    plain = Plain(Config(proxy="words", samples=2, each=2), {"after": sides["after"]}, file=sums, run=Run(tmp_path))
    plain._speakers = sides
    outcome = SUITE.run(plain)
    assert len(outcome.marks["rl_proxy_change"]["after"]) == 10  # of 11; as a 0 it would have fallen by 3
    assert [point["proxy"] for point in outcome.plots["rl"]] == [3.0, 3.0]
    assert any(note.startswith("1 prompts got no answer") for note in plain.notes)


def test_a_proxy_that_is_the_gold_never_turns(sums: Path) -> None:
    cfg = Config(proxy="regex:^12", gold="regex:^12", n=5, samples=16)
    outcome = SUITE.run(Plain(cfg, {"after": rambling(1)}, file=sums))
    assert outcome.plots["bon_turn"] is None and len(outcome.plots["bon"]) == 8
    assert outcome.marks["gold_change"] == outcome.marks["proxy_change"]


def test_a_judge_as_gold_must_be_named(sums: Path) -> None:
    with pytest.raises(ConfigError, match="none is named"):
        SUITE.run(Plain(Config(gold="judge"), {"after": rambling()}, file=sums))

    def grades(text: str, words: Sequence[str]) -> list[float]:  # a judge that gives 9 to short answers
        high = "so so" not in text
        return [float(word.strip() == ("9" if high else "1")) for word in words]

    cfg = Config(gold="judge", n=3, samples=8)
    outcome = SUITE.run(Plain(cfg, {"after": rambling()}, judge=Scripted(weights=grades), file=sums))
    golds = [point["gold"] for point in outcome.plots["bon"]]
    assert golds[0] > golds[-1] >= 1


def test_the_distance_is_zero_of_equals_and_counts_the_end() -> None:
    scores = {"tokens": [{"p": 0.5}, {"p": 0.25}], "end_p": 0.8}
    assert road.probabilities(scores, True) == [0.5, 0.25, 0.8] and road.probabilities(scores, False) == [0.5, 0.25]
    assert road.k3([0.5, 0.25], [0.5, 0.25]) == 0
    assert road.k3([0.5], [0.25]) == pytest.approx(0.5 - 1 - math.log(0.5))


def test_the_estimator_of_the_distance_is_the_divergence_in_the_mean() -> None:
    own, other = [0.7, 0.2, 0.1], [0.3, 0.3, 0.4]
    exact = sum(p * math.log(p / q) for p, q in zip(own, other, strict=True))
    mean = sum(p * road.k3([p], [q]) for p, q in zip(own, other, strict=True))
    assert mean == pytest.approx(exact)


def test_only_a_run_that_learned_from_a_reward_has_that_road(sums: Path) -> None:
    assert road.reward_of(None) == "" and not road.online(None)
    plain = Plain(Config(samples=2, n=2), {"after": rambling()}, file=sums)
    assert "rl" not in SUITE.run(plain).plots
    assert any("only best-of-n" in note for note in plain.notes)
    assert goodhart.PROXY in Config.__dataclass_fields__["proxy"].metadata["help"]
