"""How sequences lie in memory changes nothing but float error: packed, padded, one by one, in any number of passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from little import furthest, make, pairs, rows, scored

from studio.methods import METHODS
from studio.methods.base import Example, first_side
from studio.train import attention, layout
from studio.train.policy import Policy

SFT, DPO = METHODS["sft"], METHODS["dpo"]


@pytest.fixture(scope="module")
def policy() -> Policy:
    made = make("llama")
    made.model.get_base_model().set_attn_implementation(attention.NAME)
    made.segmented = True
    return made


def _pairs(*sizes: tuple[int, int, int]) -> list[Example]:
    found, count = pairs(*sizes), len(sizes)
    return [{"chosen": found[at], "rejected": found[at + count], "ref": [-3.0 - at, -4.0 + at]} for at in range(count)]


def test_a_packed_row_by_hand() -> None:
    """Two sequences of 3 and 2 tokens: what is learned is predicted from the place before it."""
    made = layout.lay(
        [{"ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"ids": [8, 9], "labels": [-100, 9]}], 0, packed=True
    )
    assert made["input_ids"].tolist() == [[5, 6, 7, 8, 9]] and made["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert made["predict"].tolist() == [0, 1, 3] and made["targets"].tolist() == [6, 7, 9]
    assert made["place"].tolist() == [0, 1, 2] and made["shape"] == (2, 2) and made["last"].tolist() == [2, 4]
    assert made["segments"] == attention.Segments((3, 2), (None, None)) and not made["segments"].shared


def test_a_padded_batch_by_hand() -> None:
    made = layout.lay(
        [{"ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"ids": [8, 9], "labels": [-100, 9]}], 1, packed=False
    )
    assert made["input_ids"].tolist() == [[5, 6, 7], [8, 9, 1]]
    assert made["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert made["predict"].tolist() == [0, 1, 3] and made["last"].tolist() == [2, 4]


def test_a_shared_prompt_by_hand() -> None:
    """Prompt 5 6 with answers 7 and 8 9: both are predicted from the prompt's end, the second goes on from it."""
    some = [
        {"ids": [5, 6, 7], "labels": [-100, -100, 7]},
        {"ids": [5, 6, 8, 9], "labels": [-100, -100, 8, 9]},
    ]
    made = layout.lay(some, 0, packed=True, sides=2)
    assert made["input_ids"].tolist() == [[5, 6, 7, 8, 9]] and made["position_ids"].tolist() == [[0, 1, 2, 2, 3]]
    assert made["predict"].tolist() == [1, 1, 3] and made["targets"].tolist() == [7, 8, 9]
    assert made["place"].tolist() == [0, 2, 3] and made["last"].tolist() == [2, 4]
    assert made["segments"] == attention.Segments((3, 2), (None, (0, 2)))


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (([1, 2, 3, 4], 2), ([1, 2, 5, 6], 2), 2),
        (([1, 2, 3, 4], 2), ([1, 2, 3, 6], 2), 2),  # the third token is alike, but learned
        (([1, 2, 3, 4], 3), ([1, 2, 3, 4], 3), 3),  # each keeps a token of its own
        (([1, 2, 3], 3), ([1, 2, 3, 4], 3), 2),
        (([1, 2, 3], 2), ([9, 2, 3], 2), 0),
        (([1], 1), ([1, 2], 1), 0),
    ],
)
def test_what_two_sequences_share(one: tuple[list[int], int], other: tuple[list[int], int], shared: int) -> None:
    def arrays(ids: list[int], prompt: int) -> tuple[Any, Any]:
        return layout.np.array(ids), layout.np.array([-100] * prompt + ids[prompt:])

    (a, la), (b, lb) = arrays(*one), arrays(*other)
    assert layout.common([a, b], [la, lb]) == layout.common([b, a], [lb, la]) == shared


@pytest.mark.parametrize("how", [{"packed": True}, {"packed": False}])
def test_together_is_as_one_by_one(policy: Policy, how: dict[str, bool]) -> None:
    some = rows((9, 4), (3, 7), (5, 1), (1, 12))
    logps, gradients = scored(policy, some, **how)
    made, total = torch.zeros_like(logps), {name: torch.zeros_like(grad) for name, grad in gradients.items()}
    for number, (row, weight) in enumerate(zip(some, torch.linspace(0.5, 1.5, 4), strict=True)):
        found, grads = scored(policy, [row], **how)  # alone, its weight is 0.5
        made[number, : found.shape[1]] = found
        for name, grad in grads.items():
            total[name] += grad * weight / 0.5
    assert (made - logps).abs().max() <= 2e-6 * logps.abs().max()
    assert furthest(total, gradients) <= 2e-5


def _learned(policy: Policy, method: Any, examples: list[Example], room: int, how: tuple[bool, bool]) -> Any:
    policy.model.zero_grad()
    config, count, loss, passes = method.Config(), method.count(examples), 0.0, 0
    for group in layout.passes(method, examples, room, *how):
        out = method.step(policy, layout.batch(method, [examples[at] for at in group], 0, *how), config, count)
        out.loss.backward()
        loss, passes = loss + float(out.loss.detach()), passes + 1
    return loss, {name: p.grad.clone() for name, p in policy.trainable().items()}, passes


@pytest.mark.parametrize("how", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_passes_and_layout_change_neither_loss_nor_gradient(policy: Policy, name: str, how: tuple[bool, bool]) -> None:
    examples: list[Example] = (
        [{"text": row} for row in rows((9, 4), (3, 7), (5, 1), (2, 12))]
        if name == "sft"
        else _pairs((9, 4, 6), (12, 1, 3), (2, 7, 5), (6, 6, 2))
    )
    whole = _learned(policy, METHODS[name], examples, 10**6, (True, False))
    parts = _learned(policy, METHODS[name], examples, 30, how)
    assert whole[2] == 1 and parts[2] > 1
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert furthest(parts[1], whole[1]) <= 1e-4


def test_passes_fill_their_room_and_take_each_example_once() -> None:
    """Of 40, 30, 20 and 10 tokens in rooms of 50: 40 with 10, 30 with 20; 60 goes alone, over the room."""
    examples: list[Example] = [{"text": row} for row in rows((5, 25), (5, 35), (5, 5), (5, 55), (5, 15))]
    assert layout.passes(SFT, examples, 50, True) == [[3], [1, 2], [0, 4]]
    padded = layout.passes(SFT, examples, 60, False)
    assert sorted(at for group in padded for at in group) == [0, 1, 2, 3, 4]
    sizes = [[len(examples[at]["text"]["ids"]) for at in group] for group in padded]
    assert all(max(found) * len(found) <= 60 for found in sizes)


def test_a_shared_prompt_leaves_room_for_more_pairs() -> None:
    """Three pairs of 10 + 2 + 2 tokens: 24 each apart, 14 each behind one prompt."""
    examples = _pairs((10, 2, 2), (10, 2, 2), (10, 2, 2))
    assert len(layout.passes(DPO, examples, 48, True)) == 2
    assert len(layout.passes(DPO, examples, 48, True, shared=True)) == 1
    made = layout.batch(DPO, examples, 0, packed=True, shared=True)
    assert made["input_ids"].shape == (1, 42) and made["shape"] == (6, 2)


def test_the_score_is_that_of_the_last_token_however_it_lies(policy: Policy) -> None:
    some = pairs((9, 4, 6), (12, 1, 3))
    policy.add_head("reward")
    torch.nn.init.normal_(policy.heads["reward"].weight)
    with torch.no_grad():
        alone = torch.cat([policy.scores(layout.lay([row], 0, packed=False)) for row in some])
        for how in ({"packed": False}, {"packed": True}, {"packed": True, "sides": 2}):
            made = policy.scores(layout.lay(some, 0, **how))  # type: ignore[arg-type]
            assert (made - alone).abs().max() <= 2e-6 * alone.abs().max()
    policy.heads.clear()


def test_sequences_without_a_common_beginning_stay_whole() -> None:
    examples: list[Example] = [{"text": row} for row in rows((3, 2), (3, 2))]
    assert first_side(examples) == SFT.sequences(examples)
    assert layout.batch(SFT, examples, 0, True, True)["segments"].prefixes == (None, None)
