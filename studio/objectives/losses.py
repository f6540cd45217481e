"""The objectives: tensors and floats in, losses out. No model, no global, nothing changed in place.

Notation used for tensor shapes: B rows (pairs for preference losses), T positions. s is the summed log-probability of
a response in nats, s̄ = s / tokens its mean, r = s - s_ref, σ the logistic function. Losses are computed in float32,
or in float64 when given float64. What stands for a fixed number (reference, old policy, advantages, returns, KL
estimate) passes no gradient; neither do rewards and shares, which are there to be plotted. Masks are bool or 0 and 1;
what lies outside of them has no influence. Every function raises ValueError when the shapes of its tensors differ:
broadcasting (B,) with (B, 1) would silently pair each row with every other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from studio.objectives.logps import exact, log1mexp, masked, masked_mean

# exp(20) = 4.9e8: beyond it a ratio would only overflow, and its gradient turn the clipped branch to 0 * inf = nan.
MAX_LOG_RATIO = 20.0


def sft_loss(token_logps: Tensor, mask: Tensor, num_items: Tensor | int | None = None) -> Tensor:
    r"""Negative log-likelihood of the response tokens.

    .. math:: -\sum_{t \in mask} \log \pi(y_t | x, y_{<t}) / N

    Args:
        token_logps: (B, T) log-probabilities of the labels.
        mask: (B, T), 1 where a token is learned.
        num_items: N, the learned tokens of the whole accumulated batch; by default the mask's own count (1 if it is
            empty). A mean of per-row or per-microbatch means would weigh short answers more.

    Returns: a scalar.
    """
    _same_shape(token_logps, mask)
    count = mask.bool().sum().clamp(min=1) if num_items is None else num_items
    return -masked(exact(token_logps), mask).sum() / count


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Direct preference optimisation.

    .. math:: -(1-\epsilon) \log\sigma(\beta h) - \epsilon \log\sigma(-\beta h), \quad h = r_w - r_l

    Args:
        policy_chosen_logps, policy_rejected_logps: (B,) summed response log-probabilities under the policy.
        ref_chosen_logps, ref_rejected_logps: (B,) the same under the frozen reference.
        beta: strength of the tie to the reference, usually 0.01 to 0.5.
        label_smoothing: the share of pairs believed to be labelled the wrong way round, 0 to 0.5 (conservative DPO).

    Returns: losses, chosen rewards, rejected rewards, each (B,); rewards are beta * r. Policy = reference gives ln 2.

    Source: Rafailov et al. 2023 (arXiv:2305.18290), equation 7; label smoothing from the authors' note on cDPO.
    """
    _same_shape(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    chosen = exact(policy_chosen_logps) - _fixed(ref_chosen_logps)
    rejected = exact(policy_rejected_logps) - _fixed(ref_rejected_logps)
    margin = beta * (chosen - rejected)
    losses = -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)
    return losses, (beta * chosen).detach(), (beta * rejected).detach()


def ipo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    tau: float,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Identity preference optimisation: a margin of 1 / (2 tau) is wanted, neither less nor more.

    .. math:: (h - \frac{1}{2\tau})^2, \quad h = r_w - r_l

    The log-probabilities are summed, as in the paper; TRL divides them by the length, whose tau is another scale.

    Args:
        policy_chosen_logps, policy_rejected_logps: (B,) summed response log-probabilities under the policy.
        ref_chosen_logps, ref_rejected_logps: (B,) the same under the frozen reference.
        tau: strength of the tie to the reference, above 0, usually 0.01 to 0.5.

    Returns: losses (in nats squared), chosen rewards, rejected rewards, each (B,); rewards are tau * r. Policy =
        reference gives 1 / (4 tau²).

    Source: Azar et al. 2023 (arXiv:2310.12036), equation 17.
    """
    _same_shape(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    chosen = exact(policy_chosen_logps) - _fixed(ref_chosen_logps)
    rejected = exact(policy_rejected_logps) - _fixed(ref_rejected_logps)
    losses = (chosen - rejected - 1 / (2 * tau)).square()
    return losses, (tau * chosen).detach(), (tau * rejected).detach()


def kto_loss(
    policy_logps: Tensor,
    ref_logps: Tensor,
    kl: Tensor,
    desirable: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Kahneman-Tversky optimisation: answers that are good or bad, no pairs.

    .. math:: \lambda_D (1 - \sigma(\beta (r - z))) \text{ if desirable, else } \lambda_U (1 - \sigma(\beta (z - r)))

    Args:
        policy_logps, ref_logps: (B,) summed response log-probabilities under policy and reference.
        kl: z, a scalar in nats: how far the policy is from the reference, estimated on mismatched pairs as the mean of
            their r, clamped at 0 from below by the caller. Not multiplied by beta.
        desirable: (B,) bool. All true or all false is fine.
        beta: strength of the tie to the reference, usually 0.01 to 0.5.
        desirable_weight, undesirable_weight: λ_D and λ_U. The paper advises λ_D n_D : λ_U n_U between 1:1 and 4:3.

    Returns: losses and rewards (beta * r), each (B,). Policy = reference and z = 0 gives half the weight.

    Raises: ValueError when `desirable` is not bool: 0 and 1 or -1 and 1 would be two meanings of a number.

    Source: Ethayarajh et al. 2024 (arXiv:2402.01306), equation 7.
    """
    _same_shape(policy_logps, ref_logps, desirable)
    if desirable.dtype != torch.bool:
        raise ValueError(f"desirable has to be a bool tensor, not {desirable.dtype}")
    ratio = exact(policy_logps) - _fixed(ref_logps)
    gain = beta * (ratio - _fixed(kl))
    # 1 - σ(x) written as σ(-x), which keeps its digits where σ(x) rounds to 1.
    losses = torch.where(desirable, desirable_weight * (-gain).sigmoid(), undesirable_weight * gain.sigmoid())
    return losses, (beta * ratio).detach()


def orpo_loss(chosen_mean_logps: Tensor, rejected_mean_logps: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    r"""Odds-ratio preference optimisation, its preference term; the NLL of the chosen answer is added by the method.

    .. math:: -\lambda \log\sigma(\log odds_w - \log odds_l), \quad \log odds = \bar s - \log(1 - e^{\bar s})

    Args:
        chosen_mean_logps, rejected_mean_logps: (B,) mean response log-probabilities under the policy, at most 0. A mean
            nearer to 0 than the type's precision counts as that: its odds are infinite.
        lam: weight of the term beside the NLL, usually 0.05 to 0.5.

    Returns: losses and the log odds ratio (in nats, above 0 where the chosen answer leads), each (B,). Equal means
        give lam * ln 2.

    Source: Hong et al. 2024 (arXiv:2403.07691), equations 4, 6 and 7.
    """
    _same_shape(chosen_mean_logps, rejected_mean_logps)
    log_odds = _log_odds(chosen_mean_logps) - _log_odds(rejected_mean_logps)
    return -lam * F.logsigmoid(log_odds), log_odds.detach()


def simpo_loss(
    chosen_mean_logps: Tensor, rejected_mean_logps: Tensor, beta: float, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Simple preference optimisation: no reference, the mean log-probability is the reward.

    .. math:: -\log\sigma(\beta (\bar s_w - \bar s_l) - \gamma)

    Args:
        chosen_mean_logps, rejected_mean_logps: (B,) mean response log-probabilities under the policy.
        beta: scale of the rewards, usually 2 to 10 (means are small: a beta of DPO does nothing here).
        gamma: the margin wanted between the rewards, in their unit (after beta); usually 0.3 to 0.8 times beta.

    Returns: losses, chosen rewards, rejected rewards, each (B,); rewards are beta * s̄. Equal means give
        log(1 + e^gamma).

    Source: Meng et al. 2024 (arXiv:2405.14734).
    """
    _same_shape(chosen_mean_logps, rejected_mean_logps)
    chosen, rejected = beta * exact(chosen_mean_logps), beta * exact(rejected_mean_logps)
    return -F.logsigmoid(chosen - rejected - gamma), chosen.detach(), rejected.detach()


def reward_loss(
    chosen_scores: Tensor, rejected_scores: Tensor, margin: Tensor | None = None, center_coef: float = 0.0
) -> Tensor:
    r"""Bradley-Terry loss of a reward model.

    .. math:: -\log\sigma(R_w - R_l - m) + c (R_w + R_l)^2

    Args:
        chosen_scores, rejected_scores: (B,) scores in nats of preference: a lead of 1 means odds of e to 1.
        margin: m, (B,) by how much the chosen answer should lead, where people gave degrees; None is 0.
        center_coef: c, pulls the scores of a pair towards mean 0, which the loss itself leaves free; 0.01 is customary.

    Returns: losses (B,). Equal scores without a margin give ln 2 (plus the pull).

    Source: Ouyang et al. 2022 (arXiv:2203.02155); margin from Touvron et al. 2023 (arXiv:2307.09288); the pull towards
    0 from Eisenstein et al. 2023 (arXiv:2312.09244).
    """
    _same_shape(chosen_scores, rejected_scores, *([] if margin is None else [margin]))
    chosen, rejected = exact(chosen_scores), exact(rejected_scores)
    lead = chosen - rejected if margin is None else chosen - rejected - _fixed(margin)
    return -F.logsigmoid(lead) + center_coef * (chosen + rejected).square()


def ppo_policy_loss(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, cliprange: float
) -> tuple[Tensor, Tensor]:
    r"""Clipped surrogate of proximal policy optimisation, the mean over all masked tokens of the batch.

    .. math:: -\min(\rho A, clip(\rho, 1-\epsilon, 1+\epsilon) A), \quad \rho = \pi(y_t) / \pi_{old}(y_t)

    Args:
        logps, old_logps: (B, T) token log-probabilities of the sampled answer under the policy and under the policy
            that sampled it, both from the training forward and at the same temperature.
        advantages: (B, T), usually whitened over the mask.
        mask: (B, T), 1 on sampled tokens, the end of sequence included.
        cliprange: ε, usually 0.1 to 0.3.

    Returns: the loss, and the share (0 to 1) of tokens at which clipping holds the gradient back, both scalars. The
        log of the ratio is held within ±20.

    Source: Schulman et al. 2017 (arXiv:1707.06347).
    """
    _same_shape(logps, old_logps, advantages, mask)
    losses, clipped = _clipped_surrogate(
        masked(exact(logps), mask), masked(_fixed(old_logps), mask), masked(_fixed(advantages), mask), cliprange
    )
    return masked_mean(losses, mask), masked_mean(clipped, mask)


def ppo_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, cliprange_value: float
) -> tuple[Tensor, Tensor]:
    r"""Clipped squared error of the value head, half the mean over all masked tokens of the batch.

    .. math:: \tfrac12 \max((V - G)^2, (clip(V, V_{old} - \epsilon, V_{old} + \epsilon) - G)^2)

    Args:
        values, old_values: (B, T) values now and at sampling time, each at the position that predicts the token.
        returns: G, (B, T) unwhitened advantages plus old values.
        mask: (B, T), 1 on sampled tokens.
        cliprange_value: ε in the unit of the reward, usually 0.2.

    Returns: the loss, and the share (0 to 1) of tokens at which the clipped error is the larger, both scalars.

    Source: the authors' implementation of PPO, as Huang et al. 2024 (arXiv:2403.17031) describe it.
    """
    _same_shape(values, old_values, returns, mask)
    now, before, target = masked(exact(values), mask), masked(_fixed(old_values), mask), masked(_fixed(returns), mask)
    near = before + (now - before).clamp(-cliprange_value, cliprange_value)
    free, held = (now - target).square(), (near - target).square()
    return 0.5 * masked_mean(torch.maximum(free, held), mask), masked_mean((held > free).to(free.dtype), mask)


def rloo_loss(
    sequence_logps: Tensor, old_sequence_logps: Tensor, advantages: Tensor, cliprange: float
) -> tuple[Tensor, Tensor]:
    r"""Clipped surrogate of REINFORCE leave-one-out: as PPO's, with the whole answer as one action.

    .. math:: -\min(\rho A, clip(\rho, 1-\epsilon, 1+\epsilon) A), \quad \rho = \pi(y) / \pi_{old}(y)

    Args:
        sequence_logps, old_sequence_logps: (B,) summed log-probabilities of the sampled answers under the policy and
            under the policy that sampled them.
        advantages: (B,), from `rloo_advantages` of rewards that carry the KL penalty.
        cliprange: ε, usually 0.2. At the first update (ratio 1) the gradient is REINFORCE's, whatever it is.

    Returns: losses (B,), and the share (0 to 1) of answers at which clipping holds the gradient back, a scalar. The
        log of the ratio is held within ±20.

    Source: Ahmadian et al. 2024 (arXiv:2402.14740); the ratio and its clipping from TRL.
    """
    _same_shape(sequence_logps, old_sequence_logps, advantages)
    losses, clipped = _clipped_surrogate(
        exact(sequence_logps), _fixed(old_sequence_logps), _fixed(advantages), cliprange
    )
    return losses, clipped.mean()


def _clipped_surrogate(logps: Tensor, old: Tensor, advantages: Tensor, cliprange: float) -> tuple[Tensor, Tensor]:
    ratio = (logps - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    free, held = -advantages * ratio, -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(free, held), (held > free).to(free.dtype)


def _log_odds(mean_logps: Tensor) -> Tensor:
    values = exact(mean_logps)
    values = values.clamp(max=-torch.finfo(values.dtype).eps)
    return values - log1mexp(values)


def _fixed(values: Tensor) -> Tensor:
    return exact(values).detach()


def _same_shape(*tensors: Tensor) -> None:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(set(shapes)) > 1:
        raise ValueError(f"shapes differ: {shapes}")
