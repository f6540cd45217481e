"""The invariant of every run: what is trained changes, nothing else does, and every number is finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from studio import runs, worker
from studio.errors import TrainingError
from studio.train import guard, moved

FAST = {"quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 128, "lora_r": 4}


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(4, 4, bias=False)
        self.learns = nn.Linear(4, 4, bias=False)
        self.base.weight.requires_grad_(False)


def watched() -> tuple[Model, guard.Guard]:
    model = Model()
    return model, guard.Guard(model, {"learns.weight": model.learns.weight})


def test_a_step_that_moves_what_learns_alone_passes() -> None:
    model, found = watched()
    model.learns(model.base(torch.ones(1, 4))).sum().backward()
    found.gradients()
    torch.optim.SGD([model.learns.weight], lr=0.1).step()
    assert found.step(0.1)


def test_one_changed_number_of_the_base_is_seen() -> None:
    model, found = watched()
    with torch.no_grad():
        model.learns.weight += 1
        model.base.weight[2, 3] += 1e-6
    with pytest.raises(TrainingError, match=r"base\.weight changed"):
        found.step(0.1)


def test_an_optimizer_that_moves_nothing_is_seen_unless_its_rate_is_zero() -> None:
    _, found = watched()
    assert not found.step(0.0)
    with pytest.raises(TrainingError, match="Nothing changed"):
        found.step(0.1)


@pytest.mark.parametrize(
    ("slope", "said"), [(None, "no gradient"), (math.nan, "not finite"), (0.0, "is 0, so it does not learn")]
)
def test_a_first_gradient_that_teaches_nothing_is_refused(slope: float | None, said: str) -> None:
    model, found = watched()
    if slope is not None:
        model.learns.weight.grad = torch.full((4, 4), slope)
    with pytest.raises(TrainingError, match=said):
        found.gradients()


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(TrainingError, match="Nothing is trained"):
        guard.Guard(Model(), {})


def test_a_number_that_is_not_finite_names_the_lines_of_its_batch() -> None:
    guard.finite(1.5, "loss", 3, [{"line": 7}])
    with pytest.raises(TrainingError, match=r"The loss is inf at step 3\. Its rows are of lines 4, 7\."):
        guard.finite(math.inf, "loss", 3, [{"line": 7}, {"line": 4}])


def test_a_gradient_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(
    tiny: Path, sft_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth step's gradient is made infinite by a hook on the adapter, as an overflow would."""
    from studio.train import policy

    count = 0
    real = policy.Policy.token_logps

    def spoiled(self: Any, batch: Any, temperature: float = 1.0) -> Any:
        nonlocal count
        logps, mask = real(self, batch, temperature)
        if logps.requires_grad:
            count += 1
            if count == 4:
                logps.register_hook(lambda slope: slope * math.inf)
        return logps, mask

    monkeypatch.setattr(policy.Policy, "token_logps", spoiled)
    given = {**FAST, "save_every": 2, "learning_rate": 1e-3}
    run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=given))
    with pytest.raises(TrainingError, match=r"gradient is (nan|inf) at step 4.*lines"):
        worker.work(run)
    assert [path.name for path in run.checkpoints()] == ["step-000002"] and run.status() == "failed"


def lora(scale: float) -> Any:
    import peft
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    base = LlamaForCausalLM(
        LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"]))
    for name, p in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=scale)
    return model


def test_how_far_the_weights_moved_is_the_norm_of_the_change_over_the_norm_of_the_weights() -> None:
    model = lora(0.0)
    began = moved.start(model)
    assert moved.moved(model, began) == pytest.approx(0)
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A") and "default" in layer.lora_A]
    change = size = 0.0
    for layer in layers:
        b, a = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        nn.init.normal_(b, std=0.1)
        change += float((2.0 * b @ a).detach().square().sum())  # alpha / r = 2
        size += float(layer.get_base_layer().weight.detach().square().sum())
    assert moved.moved(model, began) == pytest.approx(100 * math.sqrt(change / size), rel=1e-5)


def test_a_child_is_measured_from_its_parent() -> None:
    model = lora(0.1)
    began = moved.start(model)
    assert moved.moved(model, began) == pytest.approx(0, abs=1e-4)
    layers = [layer for layer in model.modules() if hasattr(layer, "lora_A") and "default" in layer.lora_A]
    change = size = 0.0
    for layer in layers:
        b, a = layer.lora_B["default"].weight.detach().clone(), layer.lora_A["default"].weight.detach()
        with torch.no_grad():
            layer.lora_B["default"].weight.mul_(1.5)
        change += float((2.0 * (0.5 * b) @ a).square().sum())
        size += float((layer.get_base_layer().weight + 2.0 * b @ a).detach().square().sum())
    assert moved.moved(model, began) == pytest.approx(100 * math.sqrt(change / size), rel=1e-4)


def test_a_run_tells_how_far_it_moved(tiny: Path, sft_file: Path) -> None:
    shares = []
    for rate, tuning in ((1e-4, "lora"), (2e-3, "lora"), (1e-4, "full")):
        given = {**FAST, "learning_rate": rate, "tuning": tuning}
        run = runs.create(runs.RunConfig("train", "t", str(tiny), "sft", str(sft_file), settings=given))
        shares.append(worker.work(run)["moved"])
    assert 0 < shares[0] < shares[1] < 100 and 0 < shares[2] < 100
