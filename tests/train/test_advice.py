"""What a run says in plain words, and what it does not say when nothing is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from studio import events
from studio.methods import METHODS
from studio.train import advice

FIRST = {
    "loss": 0.69,
    "rewards/accuracies": 0.0,
    "logps/chosen": -20.0,
    "logps/rejected": -10.0,
    "length/chosen": 9.0,
    "length/rejected": 3.0,
}
DPO, IPO = METHODS["dpo"].Config(nll_coef=0.0), METHODS["ipo"].Config()


def changed(**values: float) -> dict[str, Any]:
    """What a sound run did."""
    sound = {"n": 20, "changed": 0.8, "stops_before": 1.0, "stops_after": 1.0, "length_before": 6, "length_after": 7}
    return {**sound, **values}


@pytest.mark.parametrize(
    ("now", "share", "codes"),
    [
        ({"rewards/accuracies": 0.9, "logps/rejected": -15.0}, 1.0, set()),
        ({"rewards/accuracies": 0.9, "logps/chosen": -24.0, "logps/rejected": -30.0}, 1.0, {"both_fall"}),
        ({"rewards/accuracies": 0.9, "logps/chosen": -20.9, "logps/rejected": -30.0}, 1.0, set()),  # 0.9 nats
        ({"rewards/accuracies": 1.0, "loss": 0.05}, 0.4, {"saturated"}),
        ({"rewards/accuracies": 1.0, "loss": 0.05}, 0.9, set()),
        ({"rewards/accuracies": 1.0, "loss": 0.3}, 0.4, set()),
        ({"rewards/accuracies": 0.4}, 1.0, {"below_half"}),
        ({"rewards/accuracies": 0.4}, 0.2, set()),
    ],
)
def test_held_out_figures_are_put_into_words(now: dict[str, float], share: float, codes: set[str]) -> None:
    assert advice.remarks(DPO, FIRST, {**FIRST, **now}, share).keys() == codes


def test_a_lead_of_fixed_size_is_no_early_end() -> None:
    done = {**FIRST, "rewards/accuracies": 1.0, "loss": 0.01}
    assert advice.remarks(IPO, FIRST, done, 0.3) == {}


def test_a_run_without_pairs_says_nothing_of_them() -> None:
    assert advice.remarks(METHODS["sft"].Config(), {"loss": 2.0}, {"loss": 1.0}, 1.0) == {}


def test_a_fall_of_both_names_the_numbers_and_the_way_out() -> None:
    now = {**FIRST, "logps/chosen": -24.0, "logps/rejected": -30.0}
    text = advice.remarks(DPO, FIRST, now, 0.5)["both_fall"]
    assert "by 4.0 nats" in text and "20.0" in text and "set nll_coef to 1" in text
    assert "set nll_coef to 1" in advice.remarks(IPO, FIRST, now, 0.5)["both_fall"]
    assert "method dpo" in advice.remarks(METHODS["kto"].Config(), FIRST, now, 0.5)["both_fall"]
    assert "raise nll_coef" in advice.remarks(METHODS["dpo"].Config(), FIRST, now, 0.5)["both_fall"]


@pytest.mark.parametrize(("weights", "word"), [((12.0, 1.0), "Wanted"), ((1.0, 9.0), "Unwanted"), ((2.0, 1.0), "")])
def test_a_rare_kind_of_rated_answers_is_told(weights: tuple[float, float], word: str) -> None:
    config = METHODS["kto"].Config(desirable_weight=weights[0], undesirable_weight=weights[1])
    found = advice.remarks(config, FIRST, {**FIRST, "rewards/accuracies": 0.8}, 1.0)
    assert found.get("rare_class", "").startswith(word) and bool(found) == bool(word)


def test_each_thing_is_noted_once_and_an_early_end_is_kept_for_the_last_word() -> None:
    seen: list[dict[str, Any]] = []
    watch = advice.Watch(seen.append, DPO)
    done = {**FIRST, "rewards/accuracies": 1.0, "loss": 0.01}
    for step, figures in enumerate((FIRST, done, done, done)):
        watch(events.event("step", step=step, total=10))
        watch(events.event("evaluated", step=step, **figures))
    assert [item["code"] for item in seen if item["type"] == "note"] == ["saturated"]
    assert [text for text in watch.last(done) if "told apart after 10%" in text]
    assert advice.Watch(seen.append, DPO, said=["saturated"]).said == {"saturated"}


def test_a_sound_run_gets_no_advice() -> None:
    assert advice.closing(changed(), FIRST, pairs=True) == []
    assert advice.closing(changed(n=0), {}, pairs=True) == []


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"changed": 0.05}, "Only 1 of 20 answers changed"),
        ({"stops_after": 0.5}, "do not stop"),
        ({"length_after": 18}, "much longer: 6 to 18 tokens. The chosen answers of the data are longer too"),
        ({"length_after": 2}, "much shorter: 6 to 2 tokens. The data does not ask for that"),
    ],
)
def test_what_answers_became_is_put_into_words(values: dict[str, float], part: str) -> None:
    (text,) = advice.closing(changed(**values), FIRST, pairs=True)
    assert part in text


@pytest.mark.parametrize(
    ("found", "part"),
    [
        ({"accuracy": 0.9, "low": 0.8, "high": 0.95, "n": 40, "longer_wins": 0.6}, ""),
        ({"accuracy": 0.7, "low": 0.55, "high": 0.82, "n": 40, "longer_wins": 0.6}, "always taking the longer"),
        ({"accuracy": 0.7, "low": 0.55, "high": 0.82, "n": 40, "longer_wins": 0.3}, "always taking the shorter"),
        ({"scores": {}}, "No pairs were held out"),
    ],
)
def test_a_judge_is_compared_with_length(found: dict[str, Any], part: str) -> None:
    text = advice.judge(found)
    assert part in text and bool(text) == bool(part)


@pytest.mark.parametrize(
    ("before", "after", "better", "error", "worse"),
    [
        (4.15, 6.86, "lower", 0.0, True),
        (0.200, 0.201, "lower", 0.0, False),  # half a per cent
        (1.0, 0.0, "higher", 0.1, True),
        (0.60, 0.55, "higher", 0.1, False),  # within its standard error
        (0.5, 0.9, "higher", 0.0, False),
        (None, None, "lower", 0.0, False),
    ],
)
def test_a_figure_that_got_worse_is_said(
    before: float | None, after: float | None, better: str, error: float, worse: bool
) -> None:
    figure = {"name": "loss", "before": before, "after": after, "better": better, "standard_error": error}
    assert advice.worse(figure).startswith("The held-out loss got worse: ") == worse
