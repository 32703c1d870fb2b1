"""One update: groups and their rewards to an optimizer step, over packed rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

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
from foveate.training.processes import without_pictures


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

    def without_pictures(self) -> Scored:
        """As it is sent to other processes."""
        return replace(self, group=without_pictures(self.group))


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


_OF_ONE = ("updates", "grad_norm", "sampler_difference_max")
"""Of these, processes do not add theirs up."""


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

    def update(self, updates: Sequence[tuple[Sequence[Scored], Sequence[Scored]]], step: int) -> dict[str, float]:
        """One optimizer step per update. Groups that cannot move the weights are not run.

        A group of equal rewards has no advantage: it is left out when beta is 0, and only pulls towards the reference
        otherwise. Returns what is logged of the updates that were made; where all were skipped because they were not
        finite, that is only how many groups had equal rewards.

        Args:
            updates: for each, the groups of this process and those of all processes.
            step: for the learning rate.
        """
        self._learner.begin(step)
        flat = sum(one.is_flat for _, everyones in updates for one in everyones)
        old = self._logprobs_before([one for own, _ in updates for one in own]) if len(updates) > 1 else None
        sums = _Sums()
        for own, everyones in updates:
            if any(map(self._moves, everyones)):
                sums.add(self._update_once(list(filter(self._moves, own)), everyones, old))
        sums = self._over_processes(sums)
        self.updates += sums.updates
        groups: dict[str, float] = {"groups_equal": flat, "groups_skipped": 0 if self._reference else flat}
        if self._learner.skips.in_step and not sums.updates:
            return groups
        tokens, made = max(sums.tokens, 1), max(sums.updates, 1)
        importance = {
            "importance_weight": sums.importance / tokens,
            "importance_capped": sums.importance_capped / tokens,
        }
        return {
            "loss": sums.loss / made,
            "kl": sums.kl / tokens,
            "clip_fraction": sums.clipped / tokens,
            "sampler_difference": sums.sampler_difference / tokens,
            "sampler_difference_max": sums.sampler_difference_max,
            **(importance if self._recipe.importance_cap else {}),
            "grad_norm": sums.grad_norm / made,
            **groups,
        }

    def _moves(self, one: Scored) -> bool:
        """Whether a group can move the weights."""
        return self._reference is not None or not one.is_flat

    def _over_processes(self, own: _Sums) -> _Sums:
        """What is added up over tokens is so over processes too; updates and their norms are the same on all."""
        names = [entry.name for entry in fields(_Sums) if entry.name not in _OF_ONE]
        sums = _Sums(updates=own.updates, grad_norm=own.grad_norm)
        for name, value in zip(names, self._learner.summed(*(getattr(own, name) for name in names)), strict=True):
            setattr(sums, name, value)
        accelerator = self._learner.accelerator
        largest = torch.tensor([own.sampler_difference_max], device=accelerator.device)
        sums.sampler_difference_max = accelerator.gather(largest).max().item()
        return sums

    def _update_once(
        self, scored: Sequence[Scored], everyones: Sequence[Scored], old: Mapping[int, Tensor] | None
    ) -> _Sums:
        """One optimizer step on `scored`, this process's that can move the weights; the mean is over `everyones`."""
        objective, device = self._recipe.objective, self._learner.vlm.device
        processes = int(self._learner.accelerator.num_processes)
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
        said = _joined([_sampler_logprobs(episode) for episode in episodes])
        before = None if old is None else _joined([old[id(episode)] for episode in episodes])
        in_update = [episode for one in everyones for episode in one.group.episodes]
        share_E = length_weights(
            torch.tensor(lengths),
            objective.loss_type,
            episodes=len(in_update),
            tokens=sum(map(sampled_count, in_update)),
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
            return loss * processes  # gradients are averaged over processes

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
        with self._learner.gathered():  # the processes have different numbers of batches
            values = [self._logprobs(self._learner.scorer, batch) for batch in batches]
        by_episode = unpack(values, batches, [sampled_count(episode) for episode in episodes])
        return {id(episode): logprobs for episode, logprobs in zip(episodes, by_episode, strict=True)}


def _concatenated(weights: Sequence[GroupWeights]) -> GroupWeights:
    if not weights:
        return GroupWeights(*[torch.zeros(0)] * 3)
    return GroupWeights(*(torch.cat(tensors) for tensors in zip(*weights, strict=True)))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if tensors else torch.zeros(0)


def _sampler_logprobs(episode: Episode) -> Tensor:
    """What the generator said of each token; NaN where it could not tell."""
    said: list[float] = []
    for turn in episode.turns:
        said += turn.completion.logprobs or (math.nan,) * len(turn.completion.token_ids)
    return torch.tensor(said)
