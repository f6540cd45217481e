"""What the methods that learn from pairs share: the two sides' log-probabilities, and what is worth plotting of them.

No method itself: SFT and KTO know no pairs, a reward model has scores in their place.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from studio.methods.base import Batch, sums

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The learned tokens of B pairs: log-probabilities and mask, (2B, L) each, the chosen answers first."""

    logps: Tensor
    mask: Tensor

    @classmethod
    def of(cls, policy: Any, batch: Batch) -> Pairs:
        """Score a batch of pairs."""
        return cls(*policy.token_logps(batch))

    def sums(self) -> tuple[Tensor, Tensor]:
        """Give the summed log-probabilities of the chosen and of the rejected answers, (B,) each."""
        return self._sides(average=False)

    def means(self) -> tuple[Tensor, Tensor]:
        """Give the mean log-probabilities a token, (B,) each."""
        return self._sides(average=True)

    def seen(self, losses: Tensor, chosen_rewards: Tensor, rejected_rewards: Tensor) -> dict[str, tuple[float, float]]:
        """Give what every method of pairs plots, by TRL's names; logps are sums, lengths are tokens."""
        chosen, rejected = self.sums()
        long, short = self.mask.sum(-1).chunk(2)
        return {
            **compared(losses, chosen_rewards, rejected_rewards),
            **sums(
                {"logps/chosen": chosen, "logps/rejected": rejected, "length/chosen": long, "length/rejected": short}
            ),
        }

    def _sides(self, average: bool) -> tuple[Tensor, Tensor]:
        from studio.objectives.logps import sequence_logps

        chosen, rejected = sequence_logps(self.logps, self.mask, average).chunk(2)
        return chosen, rejected


def compared(losses: Tensor, chosen_rewards: Tensor, rejected_rewards: Tensor) -> dict[str, tuple[float, float]]:
    """Give the loss and how far the chosen answers lead, from (B,) each; a tie is no lead."""
    margins = chosen_rewards - rejected_rewards
    return sums(
        {
            "loss": losses,
            "rewards/chosen": chosen_rewards,
            "rewards/rejected": rejected_rewards,
            "rewards/margins": margins,
            "rewards/accuracies": (margins > 0).float(),
        }
    )
