"""Objectives as pure functions of tensors: advantages, AP-GRPO's weights, the clipped policy loss, KL, NLL.

Axes: G episodes of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

ScaleRewards = Literal["group", "none"]
KLEstimator = Literal["k1", "k2", "k3"]
LossType = Literal["grpo", "dapo", "dr_grpo"]


class GroupWeights(NamedTuple):
    """What each episode of a group counts for; all of shape (G,)."""

    advantages: Tensor
    policy_weights: Tensor
    kl_weights: Tensor


def group_advantages(rewards_G: Tensor, scale_rewards: ScaleRewards = "group") -> Tensor:
    """(r_i - mean(r)) / std(r) over the group, with the population's standard deviation; or r_i - mean(r) alone.

    Equal rewards, and a group of one, give zeros. TRL divides by the sample's standard deviation instead: its
    advantages are smaller by sqrt((G - 1) / G).

    Args:
        scale_rewards: `"group"` divides (GRPO, HART), `"none"` does not (MGPO); names as in TRL.
    """
    centred_G = rewards_G - rewards_G.mean()
    # Compared to the size of the rewards: 0.1 three times has a mean that is not exactly 0.1.
    if float(centred_G.abs().max()) <= 1e-6 * max(1.0, float(rewards_G.abs().max())):
        return torch.zeros_like(centred_G)
    if scale_rewards == "none":
        return centred_G
    centred_G = centred_G / centred_G.abs().max()  # so that squares of huge or tiny rewards stay in range
    return centred_G / centred_G.square().mean().sqrt()


def ap_grpo_weights(
    rewards_G: Tensor | Sequence[float],
    k: float,
    beta: float,
    *,
    scale_rewards: ScaleRewards = "group",
    difficulty: float = 0.0,
) -> GroupWeights:
    """AP-GRPO's advantages and weights (HART, arXiv 2602.23615, eq. 6).

        A_i   = (r_i - mean(r)) / std(r)
        mu1_i = 1 + k (r_i - mean(r))          weight of the policy term of response i
        mu2_i = beta (1 - k (r_i - mean(r)))   weight of the KL term of response i

    k = 0 is GRPO: all policy weights 1, all KL weights beta.

    Args:
        rewards_G: one reward per episode of one group, shape (G,), G >= 1; the paper's are 0 or 1.
        k: preference for right answers, 0.6 in the paper. Weights stay positive for k < 1 and rewards in [0, 1].
        beta: strength of the KL term.
        scale_rewards: as in `group_advantages`.
        difficulty: weighs the policy terms of the whole group by 1 + difficulty (0.5 - mean(r)), for rewards in
            [0, 1]: a rival explanation of what k does, since k's mean weight over right answers falls with mean(r).

    Raises:
        ValueError: the rewards are not a vector, empty, or not finite, or k or beta is negative.
    """
    rewards_G = torch.as_tensor(rewards_G)
    if not rewards_G.is_floating_point():
        rewards_G = rewards_G.float()
    if rewards_G.ndim != 1 or not len(rewards_G):
        raise ValueError(f"rewards must be a vector with one entry per episode, not of shape {tuple(rewards_G.shape)}")
    if not bool(rewards_G.isfinite().all()):
        raise ValueError(f"rewards must be finite, not {rewards_G.tolist()}")
    if k < 0 or beta < 0:
        raise ValueError(f"k and beta must not be negative, not k={k}, beta={beta}")
    centred_G = rewards_G - rewards_G.mean()
    policy_weights_G = (1 + k * centred_G) * (1 + difficulty * (0.5 - rewards_G.mean()))
    return GroupWeights(group_advantages(rewards_G, scale_rewards), policy_weights_G, beta * (1 - k * centred_G))


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """The clipped surrogate of PPO per token, to be minimised: -min(ratio A, clip(ratio, 1 - low, 1 + high) A).

    All tensors broadcast to one entry per token. With one update per batch the old log-probs are the new ones,
    detached: the value is then -A and the gradient -A times that of the log-prob.
    """
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def nll_loss(logprobs_N: Tensor, tokens: int) -> Tensor:
    """Token-level negative log-likelihood, the loss of supervised fine-tuning: -sum_t log p(t) / tokens.

    Args:
        logprobs_N: with gradient, one per token of the reference answers in this part of an update.
        tokens: of all reference answers of the update, so that the losses of its parts add up to the mean over tokens.
    """
    return -logprobs_N.sum() / tokens


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: KLEstimator = "k3") -> Tensor:
    """Schulman's estimates of KL(policy || reference) per sampled token, with d = ref - policy.

    k1 is -d, unbiased but of either sign; k2 is d^2 / 2; k3 is exp(d) - d - 1, unbiased and never negative (GRPO's).
    """
    difference = ref_logprobs - logprobs
    if estimator == "k1":
        return -difference
    return difference.square() / 2 if estimator == "k2" else difference.exp() - difference - 1


def token_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    ref_logprobs: Tensor | None,
    weights: GroupWeights,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    *,
    kl_estimator: KLEstimator = "k3",
    importance: Tensor | float = 1.0,
) -> Tensor:
    """Minus the summand of AP-GRPO's J per token: mu1 * clipped policy term + mu2 * KL (HART, eq. 6).

    A batch's loss is their sum, each times its episode's `length_weights`.

    Args:
        logprobs: with gradient, one per sampled token.
        old_logprobs: of the policy that sampled, computed in the same layout.
        ref_logprobs: of the reference; None when beta is 0.
        weights: those of each token's episode, broadcasting against the tokens.
        clip_low, clip_high: how far the ratio may go below and above 1.
        kl_estimator: as in `kl_estimate`.
        importance: truncated importance weights of the policy term, where another engine sampled.
    """
    policy = importance * policy_loss(logprobs, old_logprobs, weights.advantages, clip_low, clip_high)
    loss = weights.policy_weights * policy
    if ref_logprobs is None:
        return loss
    return loss + weights.kl_weights * kl_estimate(logprobs, ref_logprobs, kl_estimator)


def importance_weights(old_logprobs: Tensor, sampler_logprobs: Tensor, cap: float) -> Tensor:
    """min(pi_trainer / pi_sampler, cap) per token: 1 where the sampler could not tell its log-prob (NaN)."""
    return (old_logprobs - sampler_logprobs).nan_to_num(nan=0.0).exp().clamp(max=cap)


def length_weights(lengths_E: Tensor, loss_type: LossType, *, episodes: int, tokens: int, longest: int) -> Tensor:
    """What one token of each episode counts for in the loss of an update, shape (E,). Names as in TRL.

    `"grpo"`: the mean over episodes of the mean over each one's tokens, 1 / (episodes * length). `"dapo"`: the mean
    over all tokens, 1 / tokens. `"dr_grpo"`: a constant, 1 / (episodes * longest), so that length is neither
    punished nor favoured.

    Args:
        lengths_E: sampled tokens of each episode that is run.
        loss_type: which of the three.
        episodes: of the update, those included that need not be run.
        tokens: of all these.
        longest: the limit on new tokens of an episode.
    """
    if loss_type == "grpo":
        return 1 / (episodes * lengths_E.clamp(min=1).double())
    share = 1 / max(tokens if loss_type == "dapo" else episodes * longest, 1)
    return torch.full(lengths_E.shape, share, dtype=torch.double)
