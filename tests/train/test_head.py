"""The output layer in chunks is the model's own, whatever scale, cap, bias or trained rows it has, and never whole."""

from __future__ import annotations

from typing import Any

import little
import peft
import pytest
import torch
from little import make, rows
from torch.utils._python_dispatch import TorchDispatchMode

from studio import hardware
from studio.errors import ModelError
from studio.methods.base import TrainConfig
from studio.objectives.logps import token_logps
from studio.train import head, layout, proof
from studio.train.policy import Policy

SOME = rows((9, 14), (3, 27), (5, 16))


class Largest(TorchDispatchMode):
    """Records the most rows that any tensor with a vocabulary's width has, the transposed weight aside."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        base = policy.model.get_base_model()
        self.width, self.rows = base.config.vocab_size, 0
        self.weight = head.trained_rows(base.get_output_embeddings())[0].weight.untyped_storage().data_ptr()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for found in made if isinstance(made, (tuple, list)) else [made]:
            if not isinstance(found, torch.Tensor) or not found.ndim or found.shape[-1] != self.width:
                continue
            if found.untyped_storage().data_ptr() != self.weight:
                self.rows = max(self.rows, found.numel() // self.width)
        return made


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(hardware, "_CHUNK_MOST", 7)
    return 7


def _learn(policy: Policy, temperature: float = 1.0, whole: bool = False) -> tuple[torch.Tensor, dict[str, Any]]:
    made = layout.lay(SOME, 0, packed=False)
    policy.model.zero_grad()
    if whole:
        base = policy.model.get_base_model()
        logits = base(input_ids=made["input_ids"], attention_mask=made["attention_mask"], use_cache=False).logits
        logps = token_logps(logits.flatten(0, 1)[made["predict"]] / temperature, made["targets"])
    else:
        spread, _ = policy.token_logps(made, temperature)
        logps = spread.flatten()[made["place"]]
    (logps * torch.linspace(0.5, 1.5, len(logps))).sum().backward()
    return logps.detach(), {name: p.grad.clone() for name, p in policy.trainable().items() if p.grad is not None}


def _same(policy: Policy, temperature: float = 1.0) -> None:
    wanted, gradients = _learn(policy, temperature, whole=True)
    logps, found = _learn(policy, temperature)
    assert (logps - wanted).abs().max() <= 2e-6 * wanted.abs().max()
    assert little.furthest(found, gradients) <= 2e-5


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", ["llama", "gemma", "gemma2", "granite", "cohere"])
def test_chunks_are_the_whole_output_layer(small_chunks: int, family: str, temperature: float) -> None:
    _same(make(family, tie_word_embeddings=family != "granite"), temperature)


def test_an_output_layer_with_a_bias(small_chunks: int) -> None:
    policy = make("phi", partial_rotary_factor=0.5)
    torch.nn.init.normal_(policy.model.get_base_model().get_output_embeddings().bias)
    _same(policy)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_trained_rows_of_a_frozen_layer(small_chunks: int, family: str, tied: bool) -> None:
    """New control tokens: their rows get what the dense layer's would, in the input and in the output."""
    policy = _with_rows(family, tied)
    ids = [token for row in SOME for token in row["ids"]]
    assert {5, 17, 60} & set(ids)
    _same(policy)
    with policy.using(""):
        made = layout.lay(SOME, 0, packed=False)
        base = policy.model.get_base_model()
        hidden = policy.hidden(made)[made["predict"]]
        wanted = token_logps(base.get_output_embeddings()(hidden), made["targets"])
        assert torch.allclose(head.logps(base, hidden, made["targets"]), wanted, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_trained_rows_of_the_embedding_learn_without_a_gradient_for_all_rows(family: str) -> None:
    """Gemma scales what it looks up. No tensor but the frozen weight is as large as the vocabulary."""
    policy, made = _with_rows(family, True), layout.lay(SOME, 0, packed=False)

    def learn() -> tuple[torch.Tensor, dict[str, Any]]:
        policy.model.zero_grad()
        found = policy.model.get_input_embeddings()(made["input_ids"])
        (found * torch.linspace(-1, 1, found.numel()).view(found.shape)).sum().backward()
        return found.detach(), {n: p.grad.clone() for n, p in policy.trainable().items() if p.grad is not None}

    wanted, gradients = learn()
    with Rows(96) as seen:
        learn()
    assert seen.most  # as peft does it
    head.lean(policy.model)
    found, lean = learn()
    assert torch.equal(found, wanted) and little.furthest(lean, gradients) <= 1e-6
    with Rows(96) as seen:
        learn()
    assert seen.most == 0
    with policy.using(""):
        base = head.trained_rows(policy.model.get_input_embeddings())[0]
        assert torch.equal(policy.model.get_input_embeddings()(made["input_ids"]), base(made["input_ids"]))


class Rows(TorchDispatchMode):
    """Counts the tensors that have as many rows as the vocabulary."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows, self.most = rows, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.most += isinstance(made, torch.Tensor) and made.ndim == 2 and made.shape[0] == self.rows
        return made


def _with_rows(family: str, tied: bool, wide: int = 96) -> Policy:
    base = make(family, tie_word_embeddings=tied, intermediate_size=wide).model.unload()
    names = ["embed_tokens"] + ([] if tied else ["lm_head"])
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        target_modules="all-linear",
        trainable_token_indices={name: [60, 5, 17] for name in names},
    )
    model = peft.get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "trainable_tokens" in name or "lora_B" in name:
            parameter.data += torch.randn_like(parameter) * 0.05
    return Policy(model, torch.device("cpu"), [60, 5, 17])


@pytest.mark.parametrize("layer", ["lm_head", "rows"])
def test_an_output_layer_that_learns_itself(small_chunks: int, layer: str) -> None:
    """An adapter on it, or the weights themselves."""
    policy = make("llama", tie_word_embeddings=False)
    base = policy.model.unload()
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        target_modules=["q_proj", "lm_head"] if layer == "lm_head" else ["q_proj"],
        modules_to_save=None,
    )
    model = peft.get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
        if layer == "rows" and "lm_head" in name:
            parameter.requires_grad_(True)
    _same(Policy(model, torch.device("cpu"), []))


@pytest.mark.parametrize("kind", ["frozen", "rows"])
def test_no_more_logits_than_a_chunk_ever_exist(small_chunks: int, kind: str) -> None:
    """Neither in the forward nor in the backward; the whole layer would make 54 rows of them."""
    policy = make("llama", intermediate_size=128) if kind == "frozen" else _with_rows("llama", True, 128)
    made = layout.lay(SOME, 0, packed=True)
    with Largest(policy) as seen:
        logps, _ = policy.token_logps(made)
        logps.sum().backward()
    assert 0 < seen.rows <= small_chunks


def test_the_whole_layer_would_be_seen() -> None:
    policy = make("llama", intermediate_size=128)
    with Largest(policy) as seen:
        _learn(policy, whole=True)
    assert seen.rows == 3 * 30


def test_a_chunk_takes_64_megabytes_at_most() -> None:
    assert [head.chunk_of(size) for size in (96, 49152, 131072, 10**8)] == [256, 256, 128, 1]


def test_an_output_layer_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make("granite")
    monkeypatch.setattr(head, "_SCALES", ())
    with pytest.raises(ModelError, match="GraniteForCausalLM"):
        proof.settle(policy, TrainConfig(), lambda *_: None)
