"""The stage `rl`: sample groups, reward them, update the policy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from foveate.episodes import Group, run_episodes
from foveate.generators import Sampling
from foveate.questions.schema import Question
from foveate.recipes import Recipe
from foveate.rewards import reward_terms, total_reward
from foveate.training.learner import Learner
from foveate.training.metrics import rollout_metrics, rollout_rows
from foveate.training.order import Share
from foveate.training.processes import failing_together, in_order
from foveate.training.sampler import Sampler, refuse_uncounted
from foveate.training.selfcheck import self_check
from foveate.training.stage import Outcome, Stage
from foveate.training.update import Scored, Updater


class RL(Stage):
    """Reinforcement learning by the recipe's protocol, rewards and objective.

    Args:
        recipe: the resolved recipe.
        learner: the policy.
        reference: called as the learner's scorer is, without gradient; None when beta is 0.
    """

    def __init__(self, recipe: Recipe, learner: Learner, reference: nn.Module | None) -> None:
        self.recipe, self.learner = recipe, learner
        self.updater = Updater(recipe, learner, reference)
        self.sampler = Sampler(recipe, learner.vlm, learner.accelerator)
        self.protocol = recipe.build_protocol(learner.vlm.family.budget)
        self.sampling = Sampling(recipe.rollout.temperature, recipe.rollout.max_new_tokens)

    def wake(self) -> None:
        """Sees to it that the engine samples from the policy as it is now."""
        self.sampler.wake(self.updater.updates)

    def roll_out(self, questions: Sequence[Question], seed: int) -> list[Group]:
        """A group of episodes for each question."""
        n = self.recipe.rollout.group_size
        generator = self.sampler.generator
        groups = run_episodes(questions, self.protocol, generator, n=n, sampling=self.sampling, seed=seed)
        self.sampler.sleep()
        return groups

    def check(self, groups: Sequence[Group]) -> None:
        """On the first group."""
        learner, temperature = self.learner, self.sampling.temperature
        if groups:
            self_check(learner.vlm, groups[0].episodes, scorer=learner.scorer, temperature=temperature)

    def update(self, groups: Sequence[Group], share: Share, step: int) -> Outcome:
        """Rewards, then one or several optimizer steps."""
        accelerator = self.learner.accelerator
        with failing_together(accelerator):
            refuse_uncounted([episode for group in groups for episode in group.episodes])
            scored = [self._score(group) for group in groups]
        everyones = in_order(accelerator, share, scored, Scored.without_pictures)
        metrics = self.updater.update(share.updates(scored, everyones), step)
        if "sampler_difference" in metrics:  # not where every update was skipped
            self.sampler.refuse_difference(metrics["sampler_difference"], metrics["sampler_difference_max"])
        return Outcome(
            rollout_metrics(everyones) | metrics, rollout_rows(step, everyones), [one.group for one in everyones]
        )

    def _score(self, group: Group) -> Scored:
        terms = tuple(reward_terms(episode, self.recipe.reward_names) for episode in group.episodes)
        return Scored(group, terms, tuple(total_reward(values, self.recipe.rewards) for values in terms))
