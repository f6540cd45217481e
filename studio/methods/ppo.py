"""Proximal policy optimisation from scores (Schulman et al. 2017, arXiv:1707.06347).

As Ouyang et al. 2022 (arXiv:2203.02155) use it, with the details that Huang et al. 2024 (arXiv:2403.17031) list.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import setting
from studio.methods.base import Batch, StepOutput, own
from studio.methods.online import Backward, Online, OnlineConfig

#: The adapter and the head that expect a score.
VALUE = "value"


@dataclasses.dataclass(frozen=True)
class Config(OnlineConfig):
    """PPO's settings, for a few hundred prompts; published runs have many thousand, and one pass."""

    learning_rate: float = own(
        "learning_rate",
        1e-4,
        "measured: on a 135M model and 112 prompts, with the settings below, the score of held-out answers rose by 6.4 "
        "standard errors at 1.7 nats. Huang et al. 2024 have 3e-6 for full fine-tuning",
        "How far one step moves the adapter. Of many thousand prompts, a tenth is enough.",
    )
    epochs: float = own(
        "epochs", 2.0, "measured: with learning_rate; Huang et al. 2024 have 1", "How often every prompt is answered."
    )
    value_learning_rate: float = setting(
        1e-4,
        "How far one step moves what is expected of an answer. It begins from nothing, so it learns faster.",
        low=1e-8,
        high=1.0,
        source="a reward model's own",
    )
    temperature: float = setting(
        0.7,
        "How freely answers are sampled while learning. Log-probabilities are taken at the same.",
        low=0.05,
        high=10.0,
        source="Huang et al. 2024 (arXiv:2403.17031)",
    )
    gamma: float = setting(
        1.0, "Discount of what comes later in an answer.", low=0.0, high=1.0, source="Huang et al. 2024"
    )
    lam: float = setting(
        0.95,
        "Trust in the score (1) or in what was expected (0).",
        low=0.0,
        high=1.0,
        source="Huang et al. 2024",
    )
    cliprange_value: float = setting(
        0.2,
        "How far one step may move what is expected of an answer.",
        low=0.0,
        high=1000.0,
        unit="score",
        source="Huang et al. 2024",
    )
    vf_coef: float = setting(
        0.1, "Weight of the expectation's loss, before its gradient is shortened.", low=0.0, high=100.0,
        source="Huang et al. 2024",
    )  # fmt: skip
    update_epochs: int = setting(
        4,
        "How often the answers of a step are learned from.",
        low=1,
        high=100,
        unit="passes",
        source="Huang et al. 2024",
    )


def weigh(seen: dict[str, Any], config: Config) -> dict[str, Any]:
    """Turn scores into advantages, whitened over all tokens of the step, and into the returns that are expected next.

    The KL is paid token by token, the score comes with the last one. Returns are made of advantages not whitened.
    """
    from studio.objectives.advantages import gae, kl_rewards
    from studio.objectives.logps import masked_whiten

    mask = seen["mask"]
    rewards = kl_rewards(seen["scores"], seen["logps"], seen["ref_logps"], mask, config.kl_coef)
    advantages, returns = gae(rewards, seen["values"], mask, config.gamma, config.lam)
    return {"advantages": masked_whiten(advantages, mask), "returns": returns, "rewards": rewards.sum(-1)}


def update(policy: Any, batch: Batch, config: Config, backward: Backward) -> StepOutput:
    """Learn from a pass of answers: first what was to be expected of them, then how to write."""
    from studio.objectives.losses import ppo_policy_loss, ppo_value_loss

    with policy.using(VALUE):
        values, mask = policy.values(batch, VALUE)
        expectation, value_clipped = ppo_value_loss(
            values, batch["values"], batch["returns"], mask, config.cliprange_value
        )
        count = float(mask.sum())
        share = count / batch["tokens"]
        backward(config.vf_coef * share * expectation)
    logps, mask = policy.token_logps(batch, config.temperature)
    loss, clipped = ppo_policy_loss(logps, batch["logps"], batch["advantages"], mask, config.cliprange)
    backward(share * loss)
    seen = {
        "loss/policy": loss,
        "loss/value": expectation,
        "clip_fraction": clipped,
        "clip_fraction/value": value_clipped,
    }
    whole = share * (loss + config.vf_coef * expectation)
    return StepOutput(whole.detach(), {name: (float(found.detach()) * count, count) for name, found in seen.items()})


METHOD = Online(
    name="ppo",
    kind="online",
    kinds=("prompt",),
    title="Learn from scores (PPO)",
    paper="arXiv:1707.06347",
    Config=Config,
    about="Writes answers, has them scored by a reward model or a rule, and learns what scores better than expected.",
    weigh=weigh,
    update=update,
    critic=True,
)
