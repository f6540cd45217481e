"""A whole run's seconds from a short one's, by hand; and which rows stand for all."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from studio.lab import few, forecast
from studio.lab.forecast import Plan, Size
from studio.methods import METHODS


def step(time: float, number: int, total: int, learned: float, began: float) -> dict[str, Any]:
    elapsed = time - began
    left = elapsed / number * (total - number)
    return {
        "type": "step",
        "time": time,
        "step": number,
        "total": total,
        "tokens_per_s": learned / elapsed,
        "seconds_left": left,
    }


#: Loading 4 s, the reference 6 s, measuring 1 s and an answer 0.5 s, questions 3 s, steps 5, 2 and 4 s, a checkpoint.
SEEN: list[dict[str, Any]] = [
    {"type": "started", "time": 100.0},
    {"type": "note", "time": 103.0},
    {"type": "progress", "phase": "Scoring the reference", "done": 0, "time": 104.0},
    {"type": "progress", "phase": "Scoring the reference", "done": 28, "time": 110.0},
    {"type": "evaluated", "time": 111.0},
    {"type": "sample", "time": 111.5},
    {"type": "progress", "phase": "Asking held-out prompts", "done": 0, "time": 111.5},
    {"type": "progress", "phase": "Asking held-out prompts", "done": 4, "time": 114.5},
    step(119.5, 1, 3, 100, began=114.5),
    step(121.5, 2, 3, 150, began=114.5),
    step(125.5, 3, 3, 250, began=114.5),
    {"type": "evaluated", "time": 126.5},
    {"type": "sample", "time": 127.0},
    {"type": "checkpoint", "time": 127.25},
    {"type": "progress", "phase": "Asking held-out prompts", "done": 0, "time": 127.25},
    {"type": "progress", "phase": "Asking held-out prompts", "done": 4, "time": 130.25},
    {"type": "finished", "time": 131.0},
]


def test_the_gaps_of_a_run_are_shared_out_among_its_parts() -> None:
    took = forecast.took(SEEN)
    assert took.steps == (2.0, 4.0) and took.learned == pytest.approx(150)
    assert (took.measuring, took.samples, took.checkpoint) == (1.0, 0.5, 0.25)
    assert (took.reference, took.answers, took.ending, took.rest) == (6.0, 6.0, 0.75, 4.0)


def test_the_whole_run_takes_as_much_more_as_it_has_more_to_do() -> None:
    took = forecast.took(SEEN)
    small = Size(rows=20, tokens=500, learned=250, held_rows=4, held_tokens=100, prompts=4, room=64)
    large = Size(rows=1000, tokens=25_000, learned=0, held_rows=40, held_tokens=1000, prompts=20, room=32)
    config = METHODS["dpo"].Config(epochs=2.0, batch_size=16)
    plan = Plan.of(config, 1000, 16, held=True)
    assert plan == Plan(steps=125, epochs=2.0, measurements=11, checkpoints=5)
    seconds = forecast.whole(took, small, large, plan, online=False, judges=False)
    token = 6.0 / 150 * 250 / 500  # a learned token takes 0.04 s, and half of the tokens are learned
    assert seconds["learning"] == pytest.approx(token * 25_000 * 2)
    assert seconds["reference"] == pytest.approx(6.0 / 600 * 26_000)
    assert seconds["measuring"] == pytest.approx(11 * (1.0 * 10 + 0.5))
    assert seconds["answers"] == pytest.approx(6.0 * (20 * 32) / (4 * 64))
    assert seconds["checkpoints"] == pytest.approx(5 * 0.25)
    assert seconds["rest"] == pytest.approx(4.75)
    online = forecast.whole(took, small, large, plan, online=True, judges=False)
    assert online["learning"] == pytest.approx(3.0 * 125)
    again = forecast.unasked(took, small)
    assert again.reference == pytest.approx(token * 600 / 3)


def test_what_a_run_does_is_counted_as_the_run_counts() -> None:
    config = METHODS["sft"].Config(epochs=3.0, max_steps=10, eval_every=4, save_every=3)
    assert Plan.of(config, 1000, 16, held=False) == Plan(steps=10, epochs=0.16, measurements=0, checkpoints=4)
    assert Plan.of(config, 1000, 16, held=True).measurements == 1 + 3


def test_the_longest_rows_are_among_the_few_and_the_others_are_spread() -> None:
    lengths = [10] * 1000
    lengths[17] = lengths[500] = lengths[900] = 300
    chosen = few.choose(lengths, room=800)
    assert len(chosen) == 20 and {17, 500, 900} <= set(chosen), "three fill the room"
    others = [at for at in chosen if lengths[at] == 10]
    assert len(others) == 17 and others[0] < 60 and others[-1] > 940
    assert max(after - before for before, after in itertools.pairwise(others)) < 80
    assert sum(lengths[at] == 10 for at in few.choose(lengths, room=10**6)) == 17, "half are the longest at most"
    assert few.choose([5, 6, 7], room=100) == [0, 1, 2]


def test_whole_batches_are_learned_where_rows_can_be_held_out_of_what_is_left() -> None:
    assert [few.count(size, held=50) for size in (1, 8, 16, 20, 64)] == [20, 16, 16, 20, 20]
    assert few.count(16, held=4) == 16 and few.count(16, held=3) == 20
