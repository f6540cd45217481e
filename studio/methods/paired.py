"""What the methods that learn from pairs share: the two sides' log-probabilities, and what is worth plotting of them.

No method itself: SFT and KTO know no pairs, a reward model has scores in their place.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from studio.config import setting
from studio.methods.base import Batch, StepOutput, sums

if TYPE_CHECKING:
    from torch import Tensor


def anchor(default: float, published: str, source: str) -> Any:
    """Declare `nll_coef`, the weight of the chosen answer's own loss; `published` names the method without it."""
    return setting(
        default,
        f"Weight of the chosen answer's own loss: keeps it likely while the pair moves apart. 0 is {published}.",
        low=0.0,
        high=10.0,
        source=source,
    )


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

    def output(
        self, losses: Tensor, chosen_rewards: Tensor, rejected_rewards: Tensor, num_items: Any, nll_coef: float = 0.0
    ) -> StepOutput:
        """Give the step that goes down (B,) losses and `nll_coef` times the chosen answers' mean -log p a token.

        `loss` is plotted without the latter, which stands beside it as `nll`.
        """
        nll = -self.means()[0]
        objective = losses + nll_coef * nll if nll_coef else losses
        count = len(losses) if num_items is None else num_items
        return StepOutput(
            objective.sum() / count, self.seen(losses, chosen_rewards, rejected_rewards) | sums({"nll": nll})
        )

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
