"""What the methods share that learn from what the policy itself writes: their settings, and what they are made of.

One step: answers are sampled to a few prompts, scored, and learned from. An example is a prompt with its answers, one
side each: "0", "1", ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from studio.config import setting
from studio.methods.base import Example, Figure, Method, Row, StepOutput, TrainConfig, own

if TYPE_CHECKING:
    from torch import Tensor

#: The figure that all of them are judged by: the mean score of sampled answers to held-out prompts.
SCORE = Figure("score", higher=True)
#: What an update is given and asks: a loss to go backwards from, at once.
Backward = Callable[["Tensor"], None]


@dataclasses.dataclass(frozen=True)
class OnlineConfig(TrainConfig):
    """The settings of methods that sample."""

    batch_size: int = own(
        "batch_size",
        32,
        "measured: with the methods' learning rates, on 112 prompts; 64 to 512 in published runs, of many thousand",
        "Answers that one step writes and learns from. More make the score less noisy.",
    )
    lora_dropout: float = setting(
        0.0,
        "None: what a dropout changes at random would be taken for what the policy learned.",
        low=0.0,
        high=0.0,
        source="Huang et al. 2024 (arXiv:2403.17031)",
    )
    max_new_tokens: int = setting(
        256,
        "Longest answer that is written. Together with its prompt it has to fit in max_length.",
        low=1,
        high=32768,
        unit="tokens",
        advanced=False,
    )
    temperature: float = setting(
        1.0,
        "How freely answers are sampled while learning. Log-probabilities are taken at the same.",
        low=0.05,
        high=10.0,
        source="TRL: what is sampled is the policy itself",
    )
    kl_coef: float = setting(
        0.05,
        "Price of a nat of distance from the parent: higher keeps closer to it.",
        low=0.0,
        high=100.0,
        unit="score per nat",
        source="Huang et al. 2024 (arXiv:2403.17031), TRL",
        advanced=False,
    )
    cliprange: float = setting(
        0.2,
        "How far one step may move the probability of what was written: by this share.",
        low=0.0,
        high=10.0,
        source="PPO paper, section 6.1",
    )
    missing_stop_penalty: float = setting(
        1.0,
        "Taken from the score of an answer that does not end by itself.",
        low=0.0,
        high=1000.0,
        source="Huang et al. 2024 (arXiv:2403.17031)",
    )
    update_epochs: int = setting(1, "How often the answers of a step are learned from.", low=1, high=100, unit="passes")
    minibatches: int = setting(1, "Parts of a step's answers, each with an update of its own.", low=1, high=1024)
    kl_limit: float = setting(
        10.0,
        "Distance from the parent past which an alarm is raised.",
        low=0.0,
        high=10000.0,
        unit="nats an answer",
    )
    max_grad_norm: float = own("max_grad_norm", 1.0, "TRL")
    lr_scheduler: str = own("lr_scheduler", "linear", "Huang et al. 2024 (arXiv:2403.17031)")
    warmup_ratio: float = own("warmup_ratio", 0.0, "Huang et al. 2024 (arXiv:2403.17031)")
    cut: str = own("cut", "none", "a shortened question is another one", "What goes from a prompt that is too long.")
    held_out: float = own("held_out", 0.1, "scores of few answers tell little")


def answers(examples: Sequence[Example]) -> list[Row]:
    """Give the sequences of all answers: the first of every prompt, then the second of every prompt, and so on."""
    sides = [name for name, side in examples[0].items() if isinstance(side, dict)]
    return [example[name] for name in sides for example in examples]


def _weightless(seen: dict[str, Any], config: Any) -> dict[str, Any]:
    raise NotImplementedError


def _one(config: Any) -> int:
    return 1


def _nothing(policy: Any, batch: Any, config: Any, backward: Backward) -> StepOutput:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Online(Method):
    """A method that learns from what the policy writes (train/online.py runs it).

    samples(config)           answers to each prompt
    critic                    whether it has a value head, on an adapter of its own
    weigh(seen, config)       what the update needs of each answer, without gradient. `seen` has, of B answers (those to
                              one prompt next to each other) and T tokens: scores (B,) with the price of not stopping,
                              logps, ref_logps, mask (B, T), and values (B, T) where there is a critic. Gives tensors of
                              B rows; "rewards" (B,), the answer's whole reward, is plotted
    update(policy, batch, config, backward)
                              goes backwards from the loss of a pass of answers, one adapter after the other. The batch
                              has their sequences, what was seen and weighed, and counts of the whole minibatch:
                              "answers" and "tokens"
    """

    sequences: Callable[[Sequence[Example]], list[Row]] = answers
    figure: Figure = SCORE
    update: Callable[[Any, Any, Any, Backward], StepOutput] = _nothing
    weigh: Callable[[dict[str, Any], Any], dict[str, Any]] = _weightless
    samples: Callable[[Any], int] = _one
    critic: bool = False
