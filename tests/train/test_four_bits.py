"""A base in 4 bits: what it computes has a gradient, before and after an evaluation."""

from __future__ import annotations

from pathlib import Path

import torch

from studio.train import model


def test_an_evaluation_leaves_the_gradients_of_four_bits_as_they_were(tiny: Path) -> None:
    """With AVX512-BF16 bitsandbytes would pack the weights at the first evaluation, for a kernel without a gradient."""
    base = model.load_base(tiny, "nf4", torch.device("cpu"))
    ids = torch.arange(4, 14)[None]

    def gradient() -> torch.Tensor:
        states = base.get_input_embeddings()(ids).detach().requires_grad_()
        base.train()
        base(inputs_embeds=states, use_cache=False).logits.square().sum().backward()
        assert states.grad is not None
        return states.grad

    before = gradient()
    with torch.no_grad():
        base.eval()(input_ids=ids)
    after = gradient()
    assert before.any() and torch.equal(before, after)
