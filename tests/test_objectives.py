"""Advantages, weights and losses against their definitions, a naive reference, and TRL's GRPO loss."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foveate.objectives import (
    GroupWeights,
    KLEstimator,
    LossType,
    ap_grpo_weights,
    group_advantages,
    importance_weights,
    kl_estimate,
    length_weights,
    policy_loss,
    token_loss,
)

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
rewards_lists = st.lists(finite, min_size=1, max_size=32)
binary_lists = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=32)
strengths = st.floats(0, 0.99)


def double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.double)


@given(rewards_lists, strengths, strengths)
def test_weights_are_finite_and_shaped_like_the_rewards(rewards: list[float], k: float, beta: float) -> None:
    for tensor in ap_grpo_weights(double(rewards), k, beta):
        assert tensor.shape == (len(rewards),)
        assert bool(tensor.isfinite().all())


@given(rewards_lists)
def test_advantages_are_standardised(rewards: list[float]) -> None:
    advantages = group_advantages(double(rewards))
    spread = statistics.pstdev(rewards)
    if not bool(advantages.any()):
        assert max(rewards) - min(rewards) <= 4e-6 * max(1.0, *(abs(r) for r in rewards))
        return
    assert float(advantages.mean()) == pytest.approx(0, abs=1e-6)
    assert float(advantages.square().mean()) == pytest.approx(1, rel=1e-6)
    expected = [(reward - statistics.fmean(rewards)) / spread for reward in rewards]
    assert advantages.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(binary_lists, st.floats(-100, 100), st.floats(0.01, 100))
def test_advantages_know_nothing_of_the_scale_of_rewards(rewards: list[float], shift: float, scale: float) -> None:
    moved = group_advantages(double(rewards) * scale + shift)
    torch.testing.assert_close(moved, group_advantages(double(rewards)), rtol=1e-6, atol=1e-6)


@given(finite, st.integers(1, 32), st.sampled_from([torch.float, torch.double]))
def test_equal_rewards_have_no_advantage(reward: float, count: int, dtype: torch.dtype) -> None:
    """Also where their mean is rounded, as that of 0.1 three times is."""
    weights = ap_grpo_weights(torch.full((count,), reward, dtype=dtype), 0.6, 0.01)
    assert weights.advantages.tolist() == [0.0] * count


@pytest.mark.parametrize("rewards", [[1e15, 0.0], [1e-4, 0.0, 0.0], [1.0, 1.0, 1.0 - 1e-3], [-3e8, 3e8]])
def test_huge_and_small_differences_count_alike(rewards: list[float]) -> None:
    advantages = group_advantages(torch.tensor(rewards))
    assert bool(advantages.isfinite().all())
    assert float(advantages.square().mean()) == pytest.approx(1, rel=1e-3)


@given(rewards_lists, strengths)
def test_without_k_it_is_grpo(rewards: list[float], beta: float) -> None:
    weights = ap_grpo_weights(double(rewards), 0.0, beta)
    assert weights.policy_weights.tolist() == [1.0] * len(rewards)
    assert weights.kl_weights.tolist() == [beta] * len(rewards)
    assert torch.equal(weights.advantages, group_advantages(double(rewards)))


@given(binary_lists, strengths, st.floats(0, 1))
def test_right_answers_pull_harder_and_are_held_back_less(rewards: list[float], k: float, beta: float) -> None:
    """HART's equation 6, for rewards of 0 and 1: weights positive, their means those of GRPO."""
    weights = ap_grpo_weights(double(rewards), k, beta)
    rate = statistics.fmean(rewards)
    for reward, policy, kl in zip(rewards, weights.policy_weights.tolist(), weights.kl_weights.tolist(), strict=True):
        assert policy == pytest.approx(1 + k * (reward - rate))
        assert kl == pytest.approx(beta * (1 - k * (reward - rate)))
        assert policy > 0
        assert kl >= 0
    assert float(weights.policy_weights.mean()) == pytest.approx(1)
    assert float(weights.kl_weights.mean()) == pytest.approx(beta)


@given(binary_lists, strengths, st.floats(0, 1), st.floats(0, 1))
def test_difficulty_weighs_the_policy_terms_of_a_whole_group_alike(
    rewards: list[float], k: float, beta: float, difficulty: float
) -> None:
    plain = ap_grpo_weights(double(rewards), k, beta)
    weighed = ap_grpo_weights(double(rewards), k, beta, difficulty=difficulty)
    factor = 1 + difficulty * (0.5 - statistics.fmean(rewards))
    torch.testing.assert_close(weighed.policy_weights, plain.policy_weights * factor)
    assert torch.equal(weighed.advantages, plain.advantages)
    assert torch.equal(weighed.kl_weights, plain.kl_weights)
    if not k:
        assert weighed.policy_weights.tolist() == pytest.approx([factor] * len(rewards))
    assert bool((weighed.policy_weights > 0).all())


@given(rewards_lists, strengths, strengths)
def test_without_difficulty_it_is_as_before(rewards: list[float], k: float, beta: float) -> None:
    plain, weighed = (ap_grpo_weights(double(rewards), k, beta, **more) for more in ({}, {"difficulty": 0.0}))
    for one, other in zip(plain, weighed, strict=True):
        assert torch.equal(one, other)


def test_difficulty_by_hand() -> None:
    hard = ap_grpo_weights([1.0, 0.0, 0.0, 0.0], k=0.0, beta=0.1, difficulty=1.0)
    assert hard.policy_weights.tolist() == pytest.approx([1.25] * 4)
    assert hard.kl_weights.tolist() == pytest.approx([0.1] * 4)
    both = ap_grpo_weights([1.0, 0.0, 0.0, 0.0], k=0.6, beta=0.1, difficulty=1.0)
    assert both.policy_weights.tolist() == pytest.approx([1.25 * 1.45, *[1.25 * 0.85] * 3])
    assert both.kl_weights.tolist() == pytest.approx([0.055, *[0.115] * 3])


def test_unscaled_advantages_are_the_distance_from_the_mean() -> None:
    weights = ap_grpo_weights([1.0, 0.0, 0.0, 0.0], 0.0, 0.0, scale_rewards="none")
    torch.testing.assert_close(weights.advantages, torch.tensor([0.75, -0.25, -0.25, -0.25]))


def test_a_group_by_hand() -> None:
    weights = ap_grpo_weights(torch.tensor([1, 0, 0, 0]), k=0.6, beta=0.04)
    root = math.sqrt(3)
    assert weights.advantages.tolist() == pytest.approx([root, -1 / root, -1 / root, -1 / root])
    assert weights.policy_weights.tolist() == pytest.approx([1.45, 0.85, 0.85, 0.85])
    assert weights.kl_weights.tolist() == pytest.approx([0.022, 0.046, 0.046, 0.046])


@pytest.mark.parametrize(
    ("rewards", "k", "beta", "message"),
    [
        ([], 0.0, 0.0, "vector"),
        ([[1.0, 0.0]], 0.0, 0.0, "vector"),
        ([1.0, math.nan], 0.0, 0.0, "finite"),
        ([1.0, math.inf], 0.0, 0.0, "finite"),
        ([1.0, 0.0], -0.1, 0.0, "negative"),
        ([1.0, 0.0], 0.0, -0.1, "negative"),
    ],
)
def test_what_cannot_be_weighed_is_refused(rewards: list[Any], k: float, beta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ap_grpo_weights(torch.tensor(rewards), k, beta)


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1, max_size=16))
def test_kl_estimate_is_never_negative_and_zero_for_equals(pairs: list[tuple[float, float]]) -> None:
    policy, reference = double([p for p, _ in pairs]), double([r for _, r in pairs])
    assert bool((kl_estimate(policy, reference) >= 0).all())
    assert kl_estimate(policy, policy).tolist() == [0.0] * len(pairs)


def test_the_three_estimates_agree_near_the_reference_and_in_the_mean() -> None:
    policy, reference = double([0.5, 0.3, 0.2]).log(), double([0.45, 0.35, 0.2]).log()
    true = float((policy.exp() * (policy - reference)).sum())
    for estimator in get_args(KLEstimator):
        mean = float((policy.exp() * kl_estimate(policy, reference, estimator)).sum())
        assert mean == pytest.approx(true, rel=0.1)
    for unbiased in ("k1", "k3"):
        assert float((policy.exp() * kl_estimate(policy, reference, unbiased)).sum()) == pytest.approx(true)


def test_importance_weights_are_truncated_and_absent_where_the_sampler_was_silent() -> None:
    weights = importance_weights(double([-1.0, -1.0, -3.0, -1.0]), double([-1.0, -3.0, -1.0, math.nan]), cap=2.0)
    torch.testing.assert_close(weights, double([1.0, 2.0, math.exp(-2), 1.0]))
    plain = GroupWeights(double([1.0]), double([1.0]), double([0.0]))
    loss = token_loss(double([0.0]), double([0.0]), None, plain, importance=double([0.5]))
    assert loss.tolist() == [-0.5]


class Batch(NamedTuple):
    """Episodes of different lengths: per token in one row, with the number of its episode."""

    logprobs: Tensor
    old: Tensor
    ref: Tensor
    episode: Tensor
    rewards: list[list[float]]
    lengths: list[int]


def random_batch(seed: int, drift: float, rewards: list[list[float]]) -> Batch:
    """`drift`: how far the policy has moved since it sampled; 0.5 clips about two tokens in three."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(map(len, rewards))
    lengths = torch.randint(1, 9, (count,), generator=generator)
    old = -3 * torch.rand(int(lengths.sum()), generator=generator, dtype=torch.double)
    new, ref = (old + s * torch.randn(len(old), generator=generator, dtype=torch.double) for s in (drift, 0.3))
    episode = torch.arange(count).repeat_interleave(lengths)
    return Batch(new.requires_grad_(), old, ref, episode, rewards, lengths.tolist())


LONGEST = 12


def our_loss(batch: Batch, k: float, beta: float, low: float, high: float, loss_type: LossType = "grpo") -> Tensor:
    """As the update computes it."""
    groups = [ap_grpo_weights(double(rewards), k, beta) for rewards in batch.rewards]
    weights = GroupWeights(*(torch.cat(parts)[batch.episode] for parts in zip(*groups, strict=True)))
    loss_N = token_loss(batch.logprobs, batch.old, batch.ref if beta else None, weights, low, high)
    lengths, count = torch.tensor(batch.lengths), len(batch.lengths)
    share = length_weights(lengths, loss_type, episodes=count, tokens=sum(batch.lengths), longest=LONGEST)
    return (loss_N * share[batch.episode]).sum()


def naive_loss(batch: Batch, k: float, beta: float, low: float, high: float) -> float:
    """HART's equation 6 with plain numbers, one sequence after the other."""
    new, old, ref = (
        [part.tolist() for part in tensor.detach().split(batch.lengths)]
        for tensor in (batch.logprobs, batch.old, batch.ref)
    )
    objective, number, episodes = 0.0, 0, len(batch.lengths)
    for rewards in batch.rewards:
        mean, spread = statistics.fmean(rewards), statistics.pstdev(rewards)
        for reward in rewards:
            advantage = (reward - mean) / spread if spread else 0.0
            summed = 0.0
            for p, q, r in zip(new[number], old[number], ref[number], strict=True):
                ratio = math.exp(p - q)
                policy = min(ratio * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)
                kl = math.exp(r - p) - (r - p) - 1
                summed += (1 + k * (reward - mean)) * policy - beta * (1 - k * (reward - mean)) * kl
            objective += summed / len(new[number]) / episodes
            number += 1
    return -objective


REWARDS = [[1.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0], [0.3, 1.7, -2.0, 0.3]]
SETTINGS = [(beta, drift) for beta in (0.0, 0.04) for drift in (0.0, 0.05, 0.5)]


@pytest.mark.parametrize("k", [0.0, 0.3, 0.6])
@pytest.mark.parametrize(("beta", "drift"), SETTINGS)
def test_loss_equals_a_naive_reference(k: float, beta: float, drift: float) -> None:
    batch = random_batch(1, drift, REWARDS)
    assert float(our_loss(batch, k, beta, 0.2, 0.28).detach()) == pytest.approx(
        naive_loss(batch, k, beta, 0.2, 0.28), abs=1e-12
    )


def test_on_policy_the_gradient_is_that_of_the_weighted_log_probs() -> None:
    """With the old log-probs the new ones, detached, the value is -A and the gradient -A times the log-prob's."""
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss = policy_loss(logprobs, logprobs.detach(), torch.tensor([1.5, -0.5]), 0.2, 0.2)
    assert loss.tolist() == [-1.5, 0.5]
    assert torch.autograd.grad(loss.sum(), logprobs)[0].tolist() == [-1.5, 0.5]


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"), [(1, 1.5, False), (1, 0.5, True), (-1, 1.5, True), (-1, 0.5, False)]
)
def test_clipping_stops_only_steps_that_go_further(advantage: float, ratio: float, moves: bool) -> None:
    logprobs = torch.tensor([math.log(ratio)], requires_grad=True)
    loss = policy_loss(logprobs, torch.zeros(1), torch.tensor([advantage]), 0.2, 0.2)
    assert bool(torch.autograd.grad(loss.sum(), logprobs)[0].any()) is moves


def trl_loss(batch: Batch, beta: float, low: float, high: float, loss_type: LossType) -> Tensor:
    """TRL's own loss code on our tokens, log-probs and advantages; only the model's forward is replaced."""
    from trl.trainer import grpo_trainer as grpo  # the oracle of this test; slow to import

    width, lengths = max(batch.lengths), batch.lengths

    def padded(values_N: Tensor) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(values_N.split(lengths)), batch_first=True)

    mask = padded(torch.ones(sum(lengths)))
    metrics: dict[str, Any] = {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer = SimpleNamespace(
        loss_type=loss_type,
        max_completion_length=LONGEST,
        beta=beta,
        epsilon_low=low,
        epsilon_high=high,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(steps_per_generation=1, delta=None, use_bias_correction_kl=False),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        _metrics=metrics,
        _get_per_token_logps_and_entropies=lambda *_, **__: (padded(batch.logprobs), torch.zeros_like(mask), None),
    )
    inputs = {
        "num_items_in_batch": torch.tensor(sum(lengths)),
        "prompt_ids": torch.zeros(len(lengths), 3, dtype=torch.long),
        "prompt_mask": torch.ones(len(lengths), 3, dtype=torch.long),
        "completion_ids": torch.zeros(len(lengths), width, dtype=torch.long),
        "completion_mask": mask,
        "advantages": torch.cat([group_advantages(double(rewards)) for rewards in batch.rewards]),
        "old_per_token_logps": padded(batch.old),
        "ref_per_token_logps": padded(batch.ref),
    }
    try:
        loss: Tensor = grpo.GRPOTrainer._compute_loss(trainer, None, inputs)
    except (AttributeError, KeyError, TypeError) as error:
        pytest.fail(f"TRL's internals have moved, this test must follow them: {error!r}")
    if beta:
        assert metrics["train"]["kl"], "TRL did not compute a KL term"
    assert metrics["train"]["clip_ratio/region_mean"], "TRL did not go through its clipped loss"
    return loss


@pytest.mark.parametrize(("beta", "drift"), SETTINGS)
@pytest.mark.parametrize(("low", "high"), [(0.2, 0.2), (0.2, 0.28)])
@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_without_k_the_loss_is_that_of_trl(
    beta: float, drift: float, low: float, high: float, loss_type: LossType
) -> None:
    batch = random_batch(2, drift, REWARDS)
    ours, theirs = our_loss(batch, 0.0, beta, low, high, loss_type), trl_loss(batch, beta, low, high, loss_type)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)
    gradients = [torch.autograd.grad(loss, batch.logprobs)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)
    if drift == 0.5 and not beta:
        assert int((gradients[0] == 0).sum()) > 0  # some tokens were clipped


def test_our_advantages_are_trl_s_but_for_the_kind_of_standard_deviation() -> None:
    rewards = double([1.0, 0.0, 0.0, 1.0, 0.0])
    trl = (rewards - rewards.mean()) / rewards.std()
    torch.testing.assert_close(group_advantages(rewards) * math.sqrt(4 / 5), trl)
