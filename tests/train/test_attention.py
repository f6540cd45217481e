"""Sequences behind each other, and pairs behind one prompt, are what they are alone: values and gradients."""

from __future__ import annotations

import little
import pytest
import torch
from little import apart, furthest, make, pairs, rows, scored

from studio.methods.base import TrainConfig
from studio.train import attention, layout, proof
from studio.train.attention import Segments
from studio.train.policy import Policy

EXACT, GRADIENT = 2e-6, 2e-5


def settled(family: str, way: str) -> Policy:
    """A policy whose attention is ours, or transformers' own with a mask."""
    policy = make(family, None if way == attention.NAME else way)
    if way == attention.NAME:
        policy.model.get_base_model().set_attn_implementation(way)
        policy.segmented = True
    return policy


WAYS = [
    *((family, attention.NAME) for family in little.FAMILIES),
    *((family, way) for family in ("llama", "qwen3", "gemma") for way in ("sdpa", "eager")),
    ("gemma2", "eager"),
]


@pytest.mark.parametrize(("family", "way"), WAYS)
def test_packed_sequences_are_what_they_are_alone(family: str, way: str) -> None:
    policy, some = settled(family, way), rows((9, 4), (3, 7), (5, 1), (1, 12))
    wanted, gradients = apart(policy, some)
    logps, found = scored(policy, some, packed=True)
    assert (logps - wanted).abs().max() <= EXACT * wanted.abs().max()
    assert furthest(found, gradients) <= GRADIENT


@pytest.mark.parametrize(
    ("family", "way"), [(family, way) for family, way in WAYS if family != "gemma2" or way != "eager"]
)
def test_pairs_behind_one_prompt_are_what_they_are_alone(family: str, way: str) -> None:
    some = pairs((9, 4, 6), (12, 1, 3), (2, 7, 5))
    if way == "sdpa" or way == "eager":
        some = pairs((5, 2, 3), (4, 1, 3))  # below any window: the dense mask knows none
    policy = settled(family, way)
    wanted, gradients = apart(policy, some)
    logps, found = scored(policy, some, packed=True, sides=2)
    assert (logps - wanted).abs().max() <= EXACT * wanted.abs().max()
    assert furthest(found, gradients) <= GRADIENT


@pytest.mark.parametrize(("family", "way"), WAYS)
def test_a_neighbour_changes_nothing(family: str, way: str) -> None:
    policy, some = settled(family, way), rows((9, 4), (3, 7), (5, 6))
    other = [*rows((9, 4), (3, 7), seed=7), some[-1]]
    (one, _), (two, _) = scored(policy, some, packed=True), scored(policy, other, packed=True)
    assert not torch.equal(one[:2], two[:2]) and (one[2] - two[2]).abs().max() == 0


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_neighbour_gets_no_gradient(family: str) -> None:
    policy, some = settled(family, attention.NAME), pairs((9, 4, 6), (12, 3, 3))
    made = layout.lay(some, 0, packed=True, sides=2)
    seen: list[torch.Tensor] = []
    policy.model.get_input_embeddings().register_forward_hook(
        lambda _, __, found: seen.append(found.requires_grad_()) or seen[0]
    )
    logps, _ = policy.token_logps(made)
    (gradient,) = torch.autograd.grad(logps[2].sum(), seen)  # the first pair's rejected answer: 9 + 4 tokens, then 6
    moved = gradient[0].abs().sum(-1) > 0
    assert moved[:9].all() and not moved[9:13].any() and moved[13:18].all() and not moved[18:].any()


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_checkpointed_layers_are_computed_again_with_the_same_segments(family: str) -> None:
    policy, some = settled(family, attention.NAME), pairs((9, 4, 6), (12, 1, 3))
    plain = scored(policy, some, packed=True, sides=2)
    policy.model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    policy.model.train()
    again = scored(policy, some, packed=True, sides=2)
    assert torch.equal(plain[0], again[0]) and furthest(again[1], plain[1]) <= 1e-6


def test_our_attention_answers_as_sdpa_does_with_a_cache() -> None:
    ids = torch.tensor([[1, 1, 5, 9, 33], [4, 8, 7, 60, 2]])
    asked = {"input_ids": ids, "attention_mask": (ids != 1).long(), "max_new_tokens": 8, "do_sample": False}
    policy = make("llama", "sdpa")
    wanted = policy.model.generate(**asked)
    policy.model.get_base_model().set_attn_implementation(attention.NAME)
    assert torch.equal(policy.model.generate(**asked), wanted)


def test_the_mask_shows_each_token_what_its_segment_sees() -> None:
    """A prompt of 2 with answers of 1 and 2, then a sequence of 2: columns are keys."""
    seen = Segments((3, 2, 2), (None, (0, 2), None)).mask(torch.float32, "cpu")[0, 0] == 0
    assert seen.int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]


def test_what_one_kernel_is_given_for_all_segments() -> None:
    places, ends, key_ends, longest, longest_keys = Segments((3, 2, 2), (None, (0, 2), None)).flat("cpu")
    assert places.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6]
    assert (ends.tolist(), key_ends.tolist(), longest, longest_keys) == ([0, 3, 5, 7], [0, 3, 7, 9], 3, 4)


@pytest.mark.parametrize("family", little.FAMILIES)
def test_a_model_is_seen_to_keep_rows_apart(family: str) -> None:
    policy, notes = make(family), []
    proof.settle(policy, TrainConfig(), lambda *note: notes.append(note))
    assert (policy.packed, policy.shared, policy.segmented, notes) == (True, True, True, [])


def test_a_state_space_model_keeps_its_rows_padded_and_says_so() -> None:
    shape = {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "num_attention_heads": None, "head_dim": None}
    policy, notes = make("mamba", targets=["in_proj"], **shape), []
    proof.settle(policy, TrainConfig(), lambda *note: notes.append(note))
    assert (policy.packed, policy.shared, policy.segmented) == (False, False, False)
    assert [code for code, _ in notes] == ["packing"]


def test_a_leak_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attention that forgets the segments: the proof falls back to the model's own, with a mask."""
    policy = make("llama")
    whole = attention.sdpa_attention_forward
    monkeypatch.setitem(
        transformers_attention(),
        attention.NAME,
        lambda m, q, k, v, a, segments=None, **rest: whole(m, q, k, v, None, **rest),
    )
    proof.settle(policy, TrainConfig(), lambda *_: None)
    assert (policy.packed, policy.shared, policy.segmented) == (True, True, False)


def transformers_attention() -> dict[str, object]:
    from transformers import AttentionInterface

    return AttentionInterface._global_mapping


def test_packing_switched_off_stays_off() -> None:
    policy = make("llama")
    proof.settle(policy, TrainConfig(packing=False), lambda *_: None)
    assert (policy.packed, policy.shared, policy.segmented) == (False, False, False)


def test_transformers_takes_both_attentions_for_ours_and_looks_for_no_package() -> None:
    """A name with "flash" in it made every training on a GPU end before its first step."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    ids = torch.arange(8)[None]
    plain = model(ids).logits
    for name in (attention.NAME, attention.FLASH):
        model.set_attn_implementation(name)
        assert torch.allclose(model(ids).logits, plain, atol=1e-5)
