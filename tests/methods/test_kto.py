"""KTO: weights from counts, mismatched partners, z over a whole batch, a batch of one class."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from making import write_jsonl
from test_offline import train
from test_steps import Fixed, mean, sigma

from studio.errors import DataError
from studio.methods import METHODS, kto


def rated(asked: str, answer: str, label: bool = True) -> dict[str, Any]:
    """An example with a token a letter, of which the answer's are learned."""
    ids, start = [*map(ord, asked + answer)], len(asked)
    return {"completion": {"ids": ids, "labels": [-100] * start + ids[start:]}, "label": label}


def text(row: dict[str, Any]) -> str:
    return "".join(map(chr, row["ids"]))


def step(wanted: list[bool], z: float, **settings: Any) -> Any:
    """Rows of one token: log-probabilities -1 and -2, under the reference -2 and -1.5: r = 1 and -0.5."""
    policy = Fixed(torch.tensor([[-1.0], [-2.0]]), torch.ones(2, 1))
    batch = {
        "ref_logps": torch.tensor([-2.0, -1.5]),
        "desirable": torch.tensor(wanted),
        "kl": torch.tensor(z),
    }
    out = kto.step(policy, batch, kto.Config(**settings))
    out.loss.backward()
    return out, policy.logps.grad


def test_a_step_of_both_kinds_is_what_the_formula_gives() -> None:
    out, gradient = step([True, False], 0.25, beta=0.4, desirable_weight=2.0, undesirable_weight=3.0)
    expected = (2 * (1 - sigma(0.4 * (1 - 0.25))) + 3 * (1 - sigma(0.4 * (0.25 + 0.5)))) / 2
    assert float(out.loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert mean(out, "rewards/chosen") == pytest.approx(0.4) and mean(out, "rewards/rejected") == pytest.approx(-0.2)
    assert mean(out, "rewards/accuracies") == 1.0 and mean(out, "kl") == pytest.approx(0.25)
    assert gradient[0] < 0 < gradient[1]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_pass_of_one_class_learns_and_plots_that_class_alone(wanted: bool) -> None:
    out, gradient = step([wanted, wanted], 0.0)
    assert math.isfinite(float(out.loss.detach()))
    assert (gradient < 0).all() if wanted else (gradient > 0).all()
    here, missing = ("chosen", "rejected") if wanted else ("rejected", "chosen")
    assert f"rewards/{here}" in out.metrics and f"rewards/{missing}" not in out.metrics


@pytest.mark.parametrize(("raised", "z"), [(0.0, 0.25), (-2.0, 0.0)])
def test_z_is_the_mean_over_all_passes_and_never_below_zero(raised: float, z: float) -> None:
    """Ratios 1, 0 and -0.25: the mean is 0.25 over the three, whatever pass they lie in (0.5 and -0.25 apart)."""
    first, second = torch.tensor([[-1.0], [-2.0]]), torch.tensor([[-2.0]])
    batches = [
        {"at": first + raised, "ref_mismatched": torch.tensor([-2.0, -2.0])},
        {"at": second + raised, "ref_mismatched": torch.tensor([-1.75])},
    ]

    class Policy:
        def token_logps(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return batch["at"].clone().requires_grad_(), torch.ones_like(batch["at"])

    found = kto.before(Policy(), batches, kto.Config())["kl"]
    assert float(found) == pytest.approx(z) and not found.requires_grad


def test_each_answer_is_put_behind_another_prompt() -> None:
    """Twelve rows, two answers a prompt as a file of pairs gives them."""
    examples = [rated(f"ask{number // 2}: ", f"answer{number}.") for number in range(12)]
    made = kto.Mismatched(examples)
    assert len(made) == 12 and [text(row["mismatched"]) for row in made] == [
        text(made[at]["mismatched"]) for at in range(12)
    ]
    for number, row in enumerate(made):
        asked, _, answer = text(row["mismatched"]).partition(": ")
        assert asked == f"ask{number // 2}" and int(answer[6:-1]) // 2 != number // 2
        learned = "".join(chr(label) for label in row["mismatched"]["labels"] if label != -100)
        assert learned == answer
    assert {text(row["mismatched"]).partition(": ")[2] for row in made} == {f"answer{number}." for number in range(12)}


def test_rows_that_all_ask_the_same_still_have_a_partner() -> None:
    made = kto.Mismatched([rated("ask: ", f"a{number}") for number in range(3)])
    assert all(text(row["mismatched"]) != text(row["completion"]) for row in made)
    assert text(kto.Mismatched([rated("ask: ", "a")])[0]["mismatched"]) == "ask: a"


def test_a_mismatched_row_is_no_longer_than_the_two_it_is_made_of() -> None:
    long_ask, long_answer = rated("a long question: ", "yes"), rated("why: ", "because of the weather")
    made = kto.mismatch(long_ask["completion"], long_answer["completion"])
    assert text(made) == "a long question: because of"
    assert len(made["ids"]) == len(made["labels"]) == len(long_answer["completion"]["ids"])


@pytest.mark.parametrize(
    ("wanted", "unwanted", "given", "expected"),
    [
        (100, 100, (None, None), (1, 1)),
        (120, 100, (None, None), (1, 1)),  # 6:5 is between 1:1 and 4:3
        (50, 100, (None, None), (2, 1)),  # 2 * 50 : 100 = 1:1
        (400, 100, (None, None), (1, 3)),  # 400 : 3 * 100 = 4:3
        (400, 100, (0.5, None), (0.5, 1.5)),  # 200 : 150 = 4:3
        (400, 100, (None, 2.0), (2 / 3, 2)),  # 267 : 200 = 4:3
        (400, 100, (5.0, 7.0), (5, 7)),
    ],
)
def test_weights_bring_both_kinds_to_like_weight(
    wanted: int, unwanted: int, given: tuple[float | None, float | None], expected: tuple[float, float]
) -> None:
    assert kto.weights(wanted, unwanted, *given) == pytest.approx(expected)


@pytest.mark.parametrize(("label", "word"), [(True, "wanted"), (False, "unwanted")])
def test_rows_of_one_kind_only_are_refused_with_a_way_out(label: bool, word: str) -> None:
    with pytest.raises(DataError, match=f"All 3 answers are {word}"):
        kto.fit(kto.Config(), [rated("a", "b", label)] * 3)


def test_a_run_says_the_weights_that_it_took_from_the_data(tiny: Path, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"What is {i} + {i}?", "completion": f"The sum is {2 * i}.", "label": i % 4 == 0} for i in range(32)
    ]
    run, seen = train(tiny, write_jsonl(tmp_path / "rated.jsonl", rows), "kto", max_steps=1, held_out=0.0)
    note = next(item["text"] for item in seen if item.get("code") == "from_data")
    assert note == "Chosen from the data: desirable_weight 3, undesirable_weight 1."
    assert run.status() == "finished"


def test_the_first_held_out_loss_is_half_a_weight() -> None:
    """Policy = reference: r = z = 0, so that each answer costs half of its weight."""
    assert METHODS["kto"].reference
    policy = Fixed(torch.tensor([[-1.0], [-2.0]]), torch.ones(2, 1))
    batch = {"ref_logps": torch.tensor([-1.0, -2.0]), "desirable": torch.tensor([True, False]), "kl": torch.tensor(0.0)}
    assert float(kto.step(policy, batch, kto.Config()).loss.detach()) == pytest.approx(0.5)
