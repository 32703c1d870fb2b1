"""One update: groups and their rewards to an optimizer step, over packed rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from foveate.episodes import Episode, Group
from foveate.objectives import (
    GroupWeights,
    ap_grpo_weights,
    importance_weights,
    kl_estimate,
    length_weights,
    token_loss,
)
from foveate.recipes import Recipe
from foveate.training.learner import Learner
from foveate.training.limits import enough_memory
from foveate.training.packing import PackedBatch, batch_logprobs, pack, sampled_count, token_places, unpack


@dataclass(frozen=True, slots=True)
class Scored:
    """A group with its rewards: terms by name per episode, and their weighted sums."""

    group: Group
    terms: tuple[dict[str, float], ...]
    rewards: tuple[float, ...]

    @property
    def is_flat(self) -> bool:
        """All rewards equal: no episode has an advantage."""
        if not all(map(math.isfinite, self.rewards)):
            return False
        return max(self.rewards) - min(self.rewards) <= 1e-6 * max(1.0, *(abs(r) for r in self.rewards))


@dataclass(slots=True)
class _Sums:
    """Over all tokens of a step."""

    updates: int = 0
    tokens: int = 0
    loss: float = 0.0
    kl: float = 0.0
    clipped: float = 0.0
    sampler_difference: float = 0.0
    sampler_difference_max: float = 0.0
    importance: float = 0.0
    importance_capped: float = 0.0
    grad_norm: float = 0.0

    def add(self, other: _Sums) -> None:
        largest = max(self.sampler_difference_max, other.sampler_difference_max)
        for entry in fields(self):
            setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))
        self.sampler_difference_max = largest

    def add_sampler(self, old_N: Tensor, sampler_N: Tensor, cap: float | None) -> None:
        """How far the sampler's log-probs are from the trainer's, before any update since."""
        difference_N = (old_N - sampler_N).abs()
        told_N = difference_N[~sampler_N.isnan()]
        self.sampler_difference += told_N.sum().item()
        if told_N.numel():
            self.sampler_difference_max = max(self.sampler_difference_max, told_N.max().item())
        if cap:
            weight_N = importance_weights(old_N, sampler_N, cap)
            self.importance += weight_N.sum().item()
            self.importance_capped += (weight_N >= cap).sum().item()


class Updater:
    """Updates a policy on scored groups.

    Args:
        recipe: objective and optimisation settings.
        learner: the policy.
        reference: called as the learner's scorer is, without gradient; None when beta is 0.

    Attributes:
        updates: optimizer steps so far: who copied the weights sees by it whether they have moved.
    """

    def __init__(self, recipe: Recipe, learner: Learner, reference: nn.Module | None) -> None:
        self._recipe, self._learner, self._reference = recipe, learner, reference
        self._family = learner.vlm.family
        self.updates = 0

    def update(self, scored: Sequence[Scored], step: int) -> dict[str, float]:
        """One optimizer step per `questions_per_update` groups. Groups that cannot move the weights are not run.

        A group of equal rewards has no advantage: it is left out when beta is 0, and only pulls towards the reference
        otherwise. Returns what is logged of the updates that were made; where all were skipped because they were not
        finite, that is only how many groups had equal rewards.
        """
        self._learner.begin(step)
        flat = sum(one.is_flat for one in scored)
        size = self._recipe.optimisation.questions_per_update or len(scored)
        parts = [scored[i : i + size] for i in range(0, len(scored), size)]
        old = self._logprobs_before(scored) if len(parts) > 1 else None
        sums = _Sums()
        for part in parts:
            kept = [one for one in part if self._reference or not one.is_flat]
            if kept:
                sums.add(self._update_once(kept, part, old))
        self.updates += sums.updates
        groups: dict[str, float] = {"groups_equal": flat, "groups_skipped": 0 if self._reference else flat}
        if self._learner.skips.in_step and not sums.updates:
            return groups
        tokens, updates = max(sums.tokens, 1), max(sums.updates, 1)
        importance = {
            "importance_weight": sums.importance / tokens,
            "importance_capped": sums.importance_capped / tokens,
        }
        return {
            "loss": sums.loss / updates,
            "kl": sums.kl / tokens,
            "clip_fraction": sums.clipped / tokens,
            "sampler_difference": sums.sampler_difference / tokens,
            "sampler_difference_max": sums.sampler_difference_max,
            **(importance if self._recipe.importance_cap else {}),
            "grad_norm": sums.grad_norm / updates,
            **groups,
        }

    def _update_once(self, scored: Sequence[Scored], part: Sequence[Scored], old: Mapping[int, Tensor] | None) -> _Sums:
        """One optimizer step on `scored`, those of `part` that can move the weights; the mean is over all of `part`."""
        objective, device = self._recipe.objective, self._learner.vlm.device
        episodes = [episode for one in scored for episode in one.group.episodes]
        weights = _concatenated(
            [
                ap_grpo_weights(
                    torch.tensor(one.rewards),
                    objective.k,
                    objective.beta,
                    scale_rewards=objective.scale_rewards,
                    difficulty=objective.difficulty,
                )
                for one in scored
            ]
        )
        lengths = [sampled_count(episode) for episode in episodes]
        said = torch.cat([_sampler_logprobs(episode) for episode in episodes])
        before = None if old is None else torch.cat([old[id(episode)] for episode in episodes])
        in_part = [episode for one in part for episode in one.group.episodes]
        share_E = length_weights(
            torch.tensor(lengths),
            objective.loss_type,
            episodes=len(in_part),
            tokens=sum(map(sampled_count, in_part)),
            longest=self._recipe.rollout.max_new_tokens,
        )
        sums = _Sums(updates=1, tokens=sum(lengths))
        batches = pack(self._family, episodes, max_tokens=self._recipe.optimisation.tokens_per_batch)

        def loss_of(batch: PackedBatch) -> Tensor:
            new_N = self._logprobs(self._learner.scorer, batch)
            place_N = token_places(batch, lengths)
            old_N = new_N.detach() if before is None else before[place_N.to(before.device)]
            ref_N = None
            if self._reference is not None:
                with torch.no_grad(), enough_memory("reference", "rl"):
                    ref_N = self._logprobs(self._reference, batch)
            own = GroupWeights(*(tensor[batch.episode_N].to(device) for tensor in weights))
            sampler_N = said[place_N].to(device)
            cap = self._recipe.importance_cap
            loss_N = token_loss(
                new_N,
                old_N,
                ref_N,
                own,
                objective.clip_low,
                objective.clip_high,
                kl_estimator=objective.kl_estimator,
                importance=importance_weights(old_N, sampler_N, cap) if cap else 1.0,
            )
            loss = (loss_N * share_E[batch.episode_N].to(loss_N)).sum()
            with torch.no_grad():
                ratio_N = (new_N - old_N).exp()
                clipped_N = (ratio_N < 1 - objective.clip_low) | (ratio_N > 1 + objective.clip_high)
                sums.loss += loss.item()
                sums.clipped += clipped_N.sum().item()
                sums.kl += kl_estimate(new_N, ref_N).sum().item() if ref_N is not None else 0.0
                sums.add_sampler(old_N, sampler_N, cap)
            return loss

        norm = self._learner.descend(batches, loss_of)
        if norm is None:
            return _Sums()
        sums.grad_norm = norm
        return sums

    def _logprobs(self, scorer: nn.Module, batch: PackedBatch) -> Tensor:
        return batch_logprobs(scorer, self._family, batch, temperature=self._recipe.rollout.temperature)

    @torch.no_grad()
    def _logprobs_before(self, scored: Sequence[Scored]) -> dict[int, Tensor]:
        """The sampling policy's log-probs, by the identity of the episode, in the trainer's own layout."""
        episodes = [episode for one in scored for episode in one.group.episodes]
        batches = pack(self._family, episodes, max_tokens=self._recipe.optimisation.tokens_per_batch)
        values = [self._logprobs(self._learner.scorer, batch) for batch in batches]
        by_episode = unpack(values, batches, [sampled_count(episode) for episode in episodes])
        return {id(episode): logprobs for episode, logprobs in zip(episodes, by_episode, strict=True)}


def _concatenated(weights: Sequence[GroupWeights]) -> GroupWeights:
    return GroupWeights(*(torch.cat(tensors) for tensors in zip(*weights, strict=True)))


def _sampler_logprobs(episode: Episode) -> Tensor:
    """What the generator said of each token; NaN where it could not tell."""
    said: list[float] = []
    for turn in episode.turns:
        said += turn.completion.logprobs or (math.nan,) * len(turn.completion.token_ids)
    return torch.tensor(said)
