"""The memory of a run, foreseen from its settings: by hand for a small shape, and what makes it more or less."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from studio import hardware
from studio.errors import ConfigError
from studio.hardware import Work
from studio.methods import METHODS, needs
from studio.models.shape import Shape

#: q = 8 x 8 = 64, k = 4 x 8 = 32
SMALL = Shape(layers=2, hidden=64, ffn=128, heads=8, kv_heads=4, head_dim=8, vocab=1000, tied=True)
LLAMA = Shape(32, 4096, 14336, 32, 8, 128, 128256, False)
CPU = hardware.Machine("", "", 2, 64.0, 100.0, "", 0.0, "cpu", "2", True, "", "", bf16=False)
CARD = dataclasses.replace(CPU, gpu="card", vram_gb=24.0, device="cuda", bf16=True)
N = 4 * 512


def small(**given: Any) -> hardware.Estimate:
    plain = {"quantize_base": "none", "max_length": 512, "dtype": "float32", "gradient_checkpointing": False}
    return hardware.estimate(SMALL, **{**plain, "lora_r": 4, "device": "cpu", **given})


def mib(value: float) -> float:
    return value * 1024


def test_what_a_layer_keeps_of_a_token_in_float32() -> None:
    # x, its norm, x + attention, its norm: 4 x 64; queries, result, result again: 3 x 64; keys, values: 2 x 32;
    # gate, its activation, up, their product: 4 x 128; all of 4 bytes, and rank 4 of seven maps of 4 bytes
    layer = 4 * (4 * 64 + 3 * 64 + 2 * 32 + 4 * 128) + 7 * 4 * 4
    # the backward of the feed-forward part, the hidden states, and the quarter of them that is learned
    rest = 4 * 4 * 128 + 4 * 64 + 8 * 64 / 4
    assert mib(small().activations) == pytest.approx(N * (2 * layer + rest) / 2**20)
    one = 2 * 4 * 64 + layer
    assert mib(small(gradient_checkpointing=True).activations) == pytest.approx(N * (one + rest) / 2**20)


def test_what_a_layer_keeps_of_a_token_in_bf16_with_peft_s_float32_copies() -> None:
    # norms' inputs, and what five maps of width 64, o's 64 and down's 128 read, in float32; the rest in bf16
    layer = 4 * (2 * 64 + 5 * 64 + 64 + 128) + 2 * (2 * 64 + 2 * 32 + 3 * 128) + 7 * 4 * 4
    rest = 2 * 4 * 128 + 4 * 64 + 8 * 64 / 4
    assert mib(small(dtype="bf16").activations) == pytest.approx(N * (2 * layer + rest) / 2**20)


def test_the_logits_are_those_of_a_chunk_beyond_what_the_backward_takes_after_them() -> None:
    chunk = 4 * 256 * 1000
    assert small(tokens=100).logits * 2**30 == pytest.approx(chunk - 100 * 4 * 4 * 128)
    assert small(tokens=1000).logits == 0
    large = dataclasses.replace(SMALL, vocab=128256)
    need = hardware.estimate(large, quantize_base="none", gradient_checkpointing=False, dtype="bf16", tokens=1)
    # 64 MB of float32 logits are 130 positions of 128256; bf16 beside them
    assert need.logits * 2**30 == pytest.approx(6 * 130 * 128256 - 4 * 2 * 128)


def test_the_adapter_takes_what_its_optimizer_asks_for() -> None:
    weights = 2 * 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))
    assert SMALL.lora(4) == weights
    sizes = {name: small(optimizer=name).adapter * 2**30 / weights for name in ("adamw", "adamw_8bit")}
    assert sizes == pytest.approx({"adamw": 16, "adamw_8bit": 10})
    assert small(optimizer="paged_adamw_8bit", device="cuda").adapter * 2**30 == pytest.approx(8 * weights)
    ppo = small(work=Work(asked=2, critic=True))
    assert ppo.adapter * 2**30 == pytest.approx((2 * 16 + 2 * 4) * weights)


def test_full_tuning_keeps_16_bytes_a_weight_and_10_with_8_bits() -> None:
    for optimizer, size in (("adamw", 16), ("adamw_8bit", 10)):
        need = small(tuning="full", optimizer=optimizer)
        assert (need.weights + need.adapter) * 2**30 == pytest.approx(size * SMALL.parameters)


def test_tokens_in_memory_are_the_room_no_more_than_the_batch_and_no_less_than_a_pair() -> None:
    each = small(tokens=1000).activations / 1000
    assert small().activations / each == pytest.approx(4 * 512)
    assert small(batch_size=2).activations / each == pytest.approx(2 * 512)
    # one row's room, but a pair of whole rows whose prompt, three quarters, is there once
    pair = small(micro_batch_size=1, work=Work(sides=2)).activations
    assert pair / each == pytest.approx(1.25 * 512)


def test_written_answers_count_where_they_take_more_than_learning() -> None:
    few, many = (small(max_length=64, work=Work(written=count)) for count in (1, 64))
    assert few.writing == 0
    cache = 64 * (64 * 2 * 3 * 32 * 4 + 16 * 1000)  # two layers' keys and values, a third while one is made longer
    assert many.writing * 2**30 == pytest.approx(cache - (many.activations + many.logits) * 2**30)
    assert many.total == pytest.approx(sum(many.parts().values()))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_run_is_estimated_with_what_the_machine_gets(name: str) -> None:
    given = {"max_length": "512", "batch_size": "", "learning_rate": "much"}
    on_card, on_cpu = (needs.estimate_run(LLAMA, name, given, on) for on in (CARD, CPU))
    assert on_card.weights < 6 < 2 * 14 < on_cpu.weights < 30, "4 bits on the card, float32 in half of 64 GB"
    assert needs.estimate_run(LLAMA, name, {"max_length": 256}, CARD).activations < on_card.activations
    assert needs.estimate_run(LLAMA, name, {**given, "gradient_checkpointing": "no"}, CARD).activations > (
        3 * on_card.activations
    )


def test_a_method_that_nobody_knows_is_said() -> None:
    with pytest.raises(ConfigError, match="no method"):
        needs.estimate_run(SMALL, "magic", {}, CPU)


def test_several_adapters_on_one_base_cost_little_beside_an_sft_run() -> None:
    given = {"max_length": 512, "batch_size": 16, "micro_batch_size": 4, "lora_r": 16}
    sft, ppo = (needs.estimate_run(LLAMA, name, given, CARD) for name in ("sft", "ppo"))
    assert ppo.total - ppo.writing < 1.15 * sft.total
