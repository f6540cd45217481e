"""What the scores of pairs tell, by hand; and a reward model through a short real run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from making import write_jsonl

from studio import runs, worker
from studio.data.interval import wilson
from studio.errors import ConfigError, ExportError
from studio.train import scoring

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128, "held_out": 0.2}


def start(model: Path, data: Path, method: str, parent: str = "", **settings: Any) -> runs.Run:
    values = {**FAST, **settings}
    run = runs.create(runs.RunConfig("train", "t", str(model), method, str(data), parent, settings=values))
    worker.work(run)
    return run


@pytest.fixture
def ranked(tmp_path: Path) -> Path:
    """Pairs in which a closing word tells, and length does not."""
    rows: list[dict[str, object]] = [
        {"prompt": f"Ask {i}", "chosen": "It is warm, dear." + " Yes." * (i % 2), "rejected": "It is warm, pal, now."}
        for i in range(60)
    ]
    return write_jsonl(tmp_path / "ranked.jsonl", rows)


def test_accuracy_counts_a_tie_as_half() -> None:
    found = scoring.measured([1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0])
    assert (found["n"], found["accuracy"], found["margin"]) == (4, 0.625, 0.0)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2)) + math.log(2) + math.log1p(math.exp(3))) / 4
    assert found["log_loss"] == pytest.approx(expected)


def test_a_calibration_compares_what_was_said_with_what_was_right() -> None:
    """Ten pairs said at σ(ln 3) = 0.75, of which nine are right; two at σ(ln 19) = 0.95, both right."""
    near, far = math.log(3), math.log(19)
    found = scoring.measured([near] * 9 + [0.0] + [far] * 2, [0.0] * 9 + [near] + [0.0] * 2)
    (first, second) = found["calibration"]
    assert first == pytest.approx({"said": 0.75, "right": 0.9, "n": 10})
    assert second == pytest.approx({"said": 0.95, "right": 1.0, "n": 2})
    assert found["calibration_error"] == pytest.approx((10 * 0.15 + 2 * 0.05) / 12)


def test_scores_without_end_break_nothing() -> None:
    found = scoring.measured([1e6], [-1e6])
    assert found["accuracy"] == 1.0 and found["log_loss"] == 0.0 and found["calibration"][-1]["said"] == 1.0


def test_the_interval_is_wilsons() -> None:
    """Textbook value for 15 of 20: 0.531 to 0.888; a share of 1 keeps room below."""
    assert wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)
    low, high = wilson(20, 20)
    assert low == pytest.approx(0.8389, abs=1e-4) and high == pytest.approx(1.0)


def test_the_scale_is_of_the_chosen_mean_and_of_the_spread_of_all() -> None:
    """1, 3 and -1, -3: mean 2 of the chosen; squares 1 + 9 + 1 + 9 = 20 about 0, over 3."""
    assert scoring.scale([1.0, 3.0], [-1.0, -3.0]) == pytest.approx({"mean": 2.0, "std": math.sqrt(20 / 3), "n": 2})


def test_longer_wins() -> None:
    assert scoring.longer_wins([(3, 2), (2, 2), (1, 5), (9, 1)]) == 0.625


def test_a_judge_beats_length_and_says_how_it_scores(tiny: Path, ranked: Path) -> None:
    run = start(tiny, ranked, "reward", learning_rate=5e-3, epochs=3)
    result = run.result()
    assert result is not None
    held, found = result["heldout"], result["reward"]
    assert held["name"] == "rewards/accuracies" and held["better"] == "higher"
    assert held["before"] == found["longer_wins"] < 0.7
    assert held["after"] == found["accuracy"] == 1.0 and found["margin"] > 0
    assert result["behaviour"]["n"] == 0
    about = json.loads((run.adapter / "studio.json").read_text())
    assert about["scores"] == found["scores"] and about["scores"]["std"] > 0
    assert (run.adapter / "head-reward.safetensors").is_file()


def test_a_judge_writes_no_answers(tiny: Path, ranked: Path) -> None:
    run = start(tiny, ranked, "reward", max_steps=1)
    with pytest.raises(ConfigError, match="is a reward model"):
        start(tiny, ranked, "dpo", str(run.dir))
    export = runs.create(runs.RunConfig("export", "e", str(tiny), parent=str(run.dir), options={"quants": ["F16"]}))
    with pytest.raises(ExportError, match="scores answers and writes none"):
        worker.work(export)


def test_a_judge_goes_on_where_its_parent_ended(tiny: Path, ranked: Path) -> None:
    from safetensors.torch import load_file

    first = start(tiny, ranked, "reward", max_steps=4, learning_rate=5e-3)
    second = start(tiny, ranked, "reward", str(first.dir), max_steps=1, learning_rate=1e-8)
    old, new = (load_file(run.adapter / "head-reward.safetensors")["weight"] for run in (first, second))
    assert old.abs().sum() > 0 and torch.allclose(old, new, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_a_score_is_read_at_the_last_token_whatever_lies_around(tiny: Path, packed: bool) -> None:
    """Alone, and beside a longer neighbour (padded, or in one row), an answer scores the same; another end does not."""
    from transformers import AutoModelForCausalLM

    from studio.train import layout
    from studio.train.policy import Policy

    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32, trust_remote_code=False)

        def get_base_model(self) -> Any:
            return self.base

    policy = Policy(Bare(), torch.device("cpu"), [])
    policy.add_head("reward")
    assert policy.heads["reward"].weight.dtype == torch.float32 and not policy.heads["reward"].weight.any()
    torch.nn.init.normal_(policy.heads["reward"].weight)

    def row(*ids: int) -> dict[str, list[int]]:
        return {"ids": list(ids), "labels": list(ids)}

    def scores(*rows: dict[str, list[int]]) -> list[float]:
        with torch.no_grad():
            found: list[float] = policy.scores(layout.lay(rows, 1, packed)).tolist()
        return found

    mine, other = row(7, 8, 9), row(20, 21, 22, 23, 24, 25)
    (alone,), (neighbour,) = scores(mine), scores(other)
    assert scores(mine, other) == pytest.approx([alone, neighbour], abs=1e-4)
    assert scores(other, mine) == pytest.approx([neighbour, alone], abs=1e-4)
    states = policy.model.base.model(torch.tensor([[7, 8, 9]])).last_hidden_state[0, -1]
    assert alone == pytest.approx(float(policy.heads["reward"](states).detach()), abs=1e-4)
    assert scores(row(7, 8, 10)) != pytest.approx([alone], abs=1e-3)
