"""The stage `sft`: supervised fine-tuning on reference answers (HART, arXiv 2602.23615, stage 2).

The answer is read from what inference shows: the policy of the moment locates greedily, and the reference answer takes
the place of its own in the answer turn. Only that turn is trained on, and of it only the answer's tokens. An answer in
its context is an episode of one turn, so that answers are packed, checked and trained as sampled episodes are.

Left out: sampling answers to measure accuracy on the way, which costs more than the update (see `foveate eval`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from foveate.episodes import Episode, Group, run_episodes
from foveate.families.base import Family
from foveate.generators import Sampling
from foveate.objectives import nll_loss
from foveate.protocols import Completion, FinishReason, prompts
from foveate.questions.schema import Question
from foveate.recipes import Recipe
from foveate.traces import episode_record
from foveate.training.learner import Learner
from foveate.training.metrics import episode_metrics
from foveate.training.order import Share
from foveate.training.packing import PackedBatch, batch_logprobs, pack, sampled_count
from foveate.training.processes import in_order, without_pictures
from foveate.training.sampler import local_generator
from foveate.training.selfcheck import self_check
from foveate.training.stage import Outcome, Stage

_CHECKED = 4
"""Questions that the self-check compares: enough for several rows in a batch."""


def reference_reply(family: Family, question: Question) -> Completion:
    """The reference answer as a model of the family would have written it, the end of the reply included."""
    token_ids = family.reply(prompts.reference_answer(question, family.box_style))
    return Completion(token_ids, (), family.decode(token_ids), FinishReason.END)


def answer_alone(episode: Episode) -> Episode:
    """An episode's last turn as an episode of its own: all that is trained on."""
    return replace(episode, turns=episode.turns[-1:])


class SFT(Stage):
    """Negative log-likelihood of the reference answers, the mean over all tokens of an update.

    Args:
        recipe: the resolved recipe.
        learner: the policy.
    """

    def __init__(self, recipe: Recipe, learner: Learner) -> None:
        self.recipe, self.learner, self.family = recipe, learner, learner.vlm.family
        self.generator = local_generator(learner.vlm, recipe.setup.engine)
        self.protocol = recipe.as_tuned().build_protocol(self.family.budget)
        self.sampling = Sampling(0.0, recipe.rollout.max_new_tokens)

    def wake(self) -> None:
        """Nothing: the policy itself is asked."""

    def roll_out(self, questions: Sequence[Question], seed: int) -> list[Group]:
        """One episode a question: located by the policy, answered by the reference. Nothing is drawn at random."""
        return run_episodes(
            questions,
            self.protocol,
            self.generator,
            sampling=self.sampling,
            answered_by=lambda question: reference_reply(self.family, question),
        )

    def check(self, groups: Sequence[Group]) -> None:
        """On the answers of the first questions."""
        answers = [answer_alone(episode) for group in groups[:_CHECKED] for episode in group.episodes]
        if answers:
            self_check(self.learner.vlm, answers, scorer=self.learner.scorer)

    def update(self, groups: Sequence[Group], share: Share, step: int) -> Outcome:
        """One optimizer step on all answers."""
        self.learner.begin(step)
        accelerator = self.learner.accelerator
        everyones = in_order(accelerator, share, groups, without_pictures)
        episodes = [episode for group in everyones for episode in group.episodes]
        answers = [answer_alone(episode) for group in groups for episode in group.episodes]
        tokens = sum(sampled_count(answer_alone(episode)) for episode in episodes)
        processes = int(accelerator.num_processes)
        answer_E = torch.zeros(len(answers), device=self.learner.vlm.device)  # log-prob of each whole answer

        def loss_of(batch: PackedBatch) -> Tensor:
            logprobs_N = batch_logprobs(self.learner.scorer, self.family, batch)
            answer_E.index_add_(0, batch.episode_N.to(answer_E.device), logprobs_N.detach())
            return nll_loss(logprobs_N, tokens) * processes  # gradients are averaged over processes

        batches = pack(self.family, answers, max_tokens=self.recipe.sft.tokens_per_batch)
        grad_norm = self.learner.descend(batches, loss_of)
        said, probable = self.learner.summed(float(answer_E.sum()), float(answer_E.exp().sum()))
        metrics = episode_metrics(episodes)
        if grad_norm is not None:
            metrics |= {
                "loss": -said / tokens,
                "answer_probability": probable / len(episodes),
                "grad_norm": grad_norm,
            }
        if self.recipe.sft.context == "crops":
            metrics["without_crop"] = sum(not episode.boxes for episode in episodes)
        rows = [{"step": step, "answered_by": "reference", **episode_record(episode)} for episode in episodes]
        return Outcome(metrics, rows, everyones)
