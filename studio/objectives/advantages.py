"""From scores to advantages, for the methods that sample: PPO and RLOO.

Notation used for tensor shapes: B sampled answers, T positions. Rewards and values share one unit, the score's. All
results are float32 (float64 when given float64) and carry no gradient. Masks are bool or 0 and 1; what lies outside of
them has no influence, and results are 0 there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from studio.objectives.logps import exact, kl_k1, masked


def kl_rewards(scores: Tensor, logps: Tensor, ref_logps: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    r"""Give the reward of every token: a price for leaving the reference, and the answer's score on its last token.

    .. math:: r_t = -\beta (\log\pi_{old}(y_t) - \log\pi_{ref}(y_t)) + [t = last] \, score

    Args:
        scores: (B,) of the whole answers.
        logps, ref_logps: (B, T) token log-probabilities under the policy that sampled and under the reference.
        mask: (B, T), 1 on sampled tokens, the end of sequence included.
        kl_coef: β, the price of a nat, usually 0.01 to 0.2.

    Returns: (B, T). Their sum over a row is score - β k1 of the sequence, which is RLOO's reward. A row with an empty
        mask gives 0 everywhere.

    Source: Ziegler et al. 2019 (arXiv:1909.08593), Ouyang et al. 2022 (arXiv:2203.02155).
    """
    kept = mask.bool()
    last = kept & (kept.flip(-1).cumsum(-1).flip(-1) == 1)  # kept, and none kept to its right
    price = masked(-kl_coef * kl_k1(logps, ref_logps), kept)
    return (price + masked(exact(scores).unsqueeze(-1), last)).detach()


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    r"""Give generalised advantage estimates, not whitened, and the returns that the value head learns.

    .. math:: A_t = \delta_t + \gamma\lambda A_{t+1}, \quad \delta_t = r_t + \gamma V_{t+1} - V_t, \quad G_t = A_t + V_t

    The answer ends after its last masked token: value and advantage beyond it are 0. A gap in the mask is skipped: the
    tokens on both sides are neighbours.

    Args:
        rewards, values: (B, T), the value at the position that predicts the token.
        mask: (B, T), 1 on sampled tokens.
        gamma: discount, 0 to 1; 1 for answers of language models.
        lam: λ, 0 (one step, trusts the values) to 1 (whole answer, trusts the rewards), usually 0.95.

    Returns: advantages and returns, each (B, T).

    Source: Schulman et al. 2015 (arXiv:1506.02438).
    """
    kept, rewards, values = mask.bool(), exact(rewards).detach(), exact(values).detach()
    ahead = following = torch.zeros_like(values[:, 0])
    advantages = torch.zeros_like(values)
    for t in range(values.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * following - values[:, t]
        ahead = torch.where(kept[:, t], delta + gamma * lam * ahead, ahead)
        following = torch.where(kept[:, t], values[:, t], following)
        advantages[:, t] = ahead
    return masked(advantages, kept), masked(advantages + values, kept)


def rloo_advantages(rewards: Tensor) -> Tensor:
    r"""Compare each answer with the mean of the others to the same prompt, an unbiased baseline that needs no network.

    .. math:: A_i = R_i - \frac{1}{k-1} \sum_{j \neq i} R_j = \frac{k}{k-1} (R_i - \bar R)

    Args:
        rewards: (prompts, k), k answers a prompt, the KL penalty included.

    Returns: (prompts, k); every row sums to 0.

    Raises: ValueError for k below 2, which leaves nothing to compare with.

    Source: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. 2024
    (arXiv:2402.14740).
    """
    k = rewards.shape[-1]
    if k < 2:
        raise ValueError(f"leave-one-out needs at least 2 answers a prompt, got {k}")
    rewards = exact(rewards).detach()
    return (rewards - rewards.mean(-1, keepdim=True)) * (k / (k - 1))
