"""The engine that samples for a trainer: made as the recipe says, kept at its weights, held to their log-probs.

An engine computes with other kernels than the trainer, so its log-probs differ by rounding. What goes wrong silently
(weights or cached vision features of an update ago, other pixels, another precision) differs by more: the run stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from foveate.episodes import Episode
from foveate.errors import FoveateError
from foveate.families.base import VLM
from foveate.generators import LocalGenerator
from foveate.generators.base import Generator
from foveate.generators.rollout import RolloutError, RolloutGenerator
from foveate.generators.weights import policy_tensors
from foveate.recipes import Engine, Recipe
from foveate.training.processes import failing_together
from foveate.training.selfcheck import MEAN_SHARE, ROUNDINGS, epsilon_of
from foveate.training.sharding import is_sharded

FLOAT32_BOUND = 1.25e-4
"""Allowed of the mean difference per token in float32. Seen on the embedded model: 1e-6."""
LARGEST = 32
"""The largest difference may be this many times the mean's bound: rounding errors have long tails, in which a token of
a long reply stands alone, while what is stale moves nearly every token."""


class SamplerMismatch(FoveateError, RuntimeError):  # noqa: N818 (what it is, not that it is an error)
    """The engine's log-probs are not those of the weights in training."""


class Sampler:
    """The generator of a run's rollouts.

    Args:
        recipe: with `setup.engine` and the budgets of what is shown.
        vlm: the policy in training, without wrappers.

    Attributes:
        generator: who is asked.

    Raises:
        RolloutError: the engine cannot be had.
    """

    def __init__(self, recipe: Recipe, vlm: VLM, accelerator: Accelerator) -> None:
        self._vlm, self._accelerator, self._engine = vlm, accelerator, recipe.setup.engine
        self._dtype: torch.dtype = getattr(torch, recipe.setup.precision)
        self._given: int | None = None
        self.generator = self._build(recipe)

    def _build(self, recipe: Recipe) -> Generator:
        engine = self._engine
        if engine.name == "local":
            return local_generator(self._vlm, engine)
        if any(map(is_sharded, self._vlm.model.modules())):
            raise RolloutError(
                f"setup.engine.name={engine.name} cannot be given weights that are sharded over processes: train with "
                "whole weights on each (DDP), or set setup.engine.name=local"
            )
        if engine.name == "vllm_server":
            from foveate.generators.vllm_server import VLLMServerGenerator

            assert engine.url is not None
            assert engine.shared_folder is not None
            return VLLMServerGenerator(self._vlm.family, engine.url, Path(engine.shared_folder))
        from foveate.generators.vllm import VLLMGenerator

        if self._accelerator.num_processes > 1:
            raise RolloutError(
                "setup.engine.name=vllm is for one process, whose device the engine shares. With several, give vLLM a "
                "GPU of its own: foveate serve-rollouts, and setup.engine.name=vllm_server"
            )
        return VLLMGenerator(
            self._vlm,
            max_pixels=recipe.images.largest(self._vlm.family.budget),
            max_images=engine.max_images,
            max_length=engine.max_length,
            gpu_memory=engine.gpu_memory,
            dtype=self._dtype,
            sleeps=engine.sleep,
        )

    def wake(self, updates: int) -> None:
        """Gives the engine the policy's weights, which were updated so many times, when that is news.

        All processes must call it.

        Raises:
            RolloutError: the engine did not take them.
            ProcessError: another process could not give them.
        """
        generator = self.generator
        if not isinstance(generator, RolloutGenerator) or (generator.loaded and updates == self._given):
            return
        with failing_together(self._accelerator):  # and nobody asks before they are there
            if self._accelerator.is_main_process:
                generator.update_weights(policy_tensors(self._vlm.model))
        generator.loaded, self._given = True, updates

    def sleep(self) -> None:
        """After the rollouts of a step: an engine on the trainer's device gives its memory back."""
        if isinstance(self.generator, RolloutGenerator):
            self.generator.sleep()

    @property
    def bound(self) -> float:
        """Allowed of the mean absolute difference of log-probs per token."""
        if self._engine.difference_bound is not None:
            return self._engine.difference_bound
        return max(FLOAT32_BOUND, MEAN_SHARE * ROUNDINGS * epsilon_of(self._dtype, self._vlm.device))

    def refuse_difference(self, mean: float, largest: float) -> None:
        """Stops a run whose engine does not sample from the weights in training.

        Args:
            mean: absolute difference per token of a step.
            largest: of one token.

        Raises:
            SamplerMismatch: either is over its bound.
        """
        # Not "if it is larger": nan must fail too.
        if self._engine.name == "local" or (mean <= self.bound and largest <= LARGEST * self.bound):
            return
        raise SamplerMismatch(
            f"the log-probs of the engine {self._engine.name} and of the trainer differ by {mean:.3g} per token and by "
            f"{largest:.3g} at most; {str(self._dtype).removeprefix('torch.')} explains {self.bound:.3g} and "
            f"{LARGEST * self.bound:.3g}. Likely: the engine samples from the weights of an earlier update, or from "
            "attention prefixes or vision features cached before it; it runs in another precision; it reads the "
            "pictures otherwise. The checkpoints from before are sound. If the engine is right and only coarser, raise "
            "setup.engine.difference_bound."
        )


def local_generator(vlm: VLM, engine: Engine) -> LocalGenerator:
    """The policy itself as a generator, within what a recipe lets it read and write together."""
    return LocalGenerator(vlm, max_prefill_tokens=engine.prefill_tokens, max_samples=engine.samples)


def refuse_uncounted(episodes: Sequence[Episode]) -> None:
    """Every token that was sampled has a log-prob, or none of its turn has.

    Raises:
        SamplerMismatch: a generator gave another number of them.
    """
    for episode in episodes:
        for number, turn in enumerate(episode.turns):
            tokens, logprobs = len(turn.completion.token_ids), len(turn.completion.logprobs)
            if logprobs not in (0, tokens):
                raise SamplerMismatch(
                    f"question {episode.question.id}, turn {number + 1}: {tokens} sampled tokens came with {logprobs} "
                    "log-probs. Which token each belongs to cannot be told; the generator is at fault."
                )
