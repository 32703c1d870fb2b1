"""The training loop: roll out, reward, update, log. One step reads from top to bottom in `Trainer.run`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from accelerate import Accelerator

from foveate.episodes import Group, run_episodes
from foveate.errors import FoveateError
from foveate.families.base import VLM
from foveate.generators import LocalGenerator, Sampling
from foveate.questions.schema import Question
from foveate.recipes import Recipe, dump_recipe
from foveate.rewards import reward_terms, total_reward
from foveate.traces import append_rows, drop_rows_from
from foveate.training.attention import enable_packed_attention
from foveate.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from foveate.training.metrics import Clock, rollout_metrics, rollout_rows
from foveate.training.packing import base_model
from foveate.training.selfcheck import self_check
from foveate.training.update import Scored, Updater


class TrainingError(FoveateError, RuntimeError):
    """A run that must not go on; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did.

    Attributes:
        metrics: what is logged; observers add to it by what they return.
        groups: as the loop saw them, without true boxes.
        indices: where in the data the groups' questions stand, so that an observer who has the boxes can measure.
    """

    step: int
    steps: int
    metrics: dict[str, float]
    groups: Sequence[Group] = field(repr=False)
    indices: Sequence[int] = field(repr=False)


Observer = Callable[[StepReport], Mapping[str, float] | None]
"""Called after each step; what it returns is logged beside the step's own metrics."""


class _WithoutRegions(Sequence[Question]):
    """A data set as an annotation-free run sees it: no question has a true box."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions

    def __len__(self) -> int:
        return len(self._questions)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> list[Question]: ...
    def __getitem__(self, index: int | slice) -> Question | list[Question]:
        if isinstance(index, slice):
            return [question.without_regions() for question in self._questions[index]]
        return self._questions[index].without_regions()


class Trainer:
    """Trains a model by a recipe and writes everything to a run folder.

    `run_dir` gets recipe.yaml, metrics.jsonl (a row per step), rollouts.jsonl (a row per episode) and checkpoints/.
    True boxes are taken out of the questions before anything else, so that neither rewards nor prompts can see them,
    unless the recipe names a reward term that needs them.

    Args:
        recipe: the resolved recipe.
        vlm: the policy; changed in place. Its weights as given are the reference.
        questions: at least one; a step takes `questions_per_step` of them, each once before any comes again.
        run_dir: created; must not hold another run unless resumed.
        seed: decides the order of questions and every sample.
        save_every: steps between checkpoints; the last step is always saved.
        observers: called after every step.

    Attributes:
        stop_requested: set it to end the run, with a checkpoint, after the step under way.
    """

    def __init__(
        self,
        recipe: Recipe,
        vlm: VLM,
        questions: Sequence[Question],
        run_dir: Path,
        *,
        seed: int = 0,
        save_every: int = 20,
        observers: Sequence[Observer] = (),
        accelerator: Accelerator | None = None,
    ) -> None:
        if not len(questions):
            raise TrainingError("there are no questions to train on")
        self.recipe, self.run_dir = recipe, run_dir
        self.questions = questions if recipe.needs_regions else _WithoutRegions(questions)
        self.seed, self.save_every, self.observers = seed, save_every, observers
        self.accelerator = accelerator or Accelerator()
        enable_packed_attention(base_model(vlm.model))
        reference = _frozen_copy(vlm, self.accelerator.device) if recipe.objective.beta else None
        optimizer = torch.optim.AdamW(
            [parameter for parameter in vlm.model.parameters() if parameter.requires_grad],
            lr=recipe.optimisation.learning_rate,
            weight_decay=recipe.optimisation.weight_decay,
        )
        self.model, self.optimizer = self.accelerator.prepare(vlm.model, optimizer)
        self.vlm = VLM(self.accelerator.unwrap_model(self.model), vlm.family)
        self.updater = Updater(recipe, self.accelerator, self.model, self.optimizer, vlm.family, reference)
        self.generator = LocalGenerator(self.vlm)
        self.protocol = recipe.build_protocol(vlm.family.budget)
        self.sampling = Sampling(recipe.rollout.temperature, recipe.rollout.max_new_tokens)
        self.stop_requested = False

    def run(self, *, resume: bool = False) -> list[dict[str, float]]:
        """Runs all steps that are left and returns their metrics, a row per step.

        Raises:
            TrainingError: the folder holds another run, or the loss is not finite.
            PackingMismatch: packed and separate rows differ by more than the precision allows.
            CheckpointError: the checkpoint to resume cannot be read.
        """
        steps, first = self.recipe.optimisation.steps, self._prepare_folder(resume)
        history: list[dict[str, float]] = []
        for step in range(first, steps):
            clock = Clock()
            indices = self._indices_of(step)
            groups = run_episodes(
                [self._question(index) for index in indices],
                self.protocol,
                self.generator,
                n=self.recipe.rollout.group_size,
                sampling=self.sampling,
                seed=self.seed * 1_000_003 + step,
            )
            clock.lap("rollout")
            if step == first:
                self_check(self.vlm, groups[0].episodes, model=self.model, temperature=self.sampling.temperature)
            scored = [self._score(group) for group in groups]
            metrics = rollout_metrics(scored) | self.updater.update(scored, step)
            clock.lap("update")
            self._refuse_nonsense(step, metrics)
            report = StepReport(step, steps, metrics | clock.metrics(), groups, indices)
            history.append(self._log(report, scored))
            if step + 1 == steps or self.stop_requested or (step + 1) % self.save_every == 0:
                self.save(step + 1)
            if self.stop_requested:
                break
        return history

    def save(self, step: int) -> None:
        """Writes a checkpoint after `step` steps."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            save_checkpoint(self.run_dir / "checkpoints", step, self.vlm, self.optimizer.optimizer)

    def _indices_of(self, step: int) -> list[int]:
        """This process's questions of a step; each comes once per epoch, in an order of that epoch's own."""
        per_step, total = self.recipe.optimisation.questions_per_step, len(self.questions)
        places = range(step * per_step, (step + 1) * per_step)
        chosen = [int(_shuffled(total, self.seed, place // total)[place % total]) for place in places]
        return chosen[self.accelerator.process_index :: self.accelerator.num_processes]

    def _question(self, index: int) -> Question:
        question = self.questions[index]
        if self.recipe.needs_regions and not question.regions:
            raise TrainingError(
                f"question {question.id!r} has no true box, which the recipe {self.recipe.name!r} rewards: give every "
                "question `regions`, or choose a recipe that needs none"
            )
        return question

    def _score(self, group: Group) -> Scored:
        terms = tuple(reward_terms(episode, self.recipe.rewards) for episode in group.episodes)
        return Scored(group, terms, tuple(total_reward(values, self.recipe.rewards) for values in terms))

    def _refuse_nonsense(self, step: int, metrics: Mapping[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                raise TrainingError(
                    f"step {step}: {name} is {metrics[name]}. Lower optimisation.learning_rate; the checkpoints in "
                    f"{self.run_dir / 'checkpoints'} are from before and sound."
                )

    def _prepare_folder(self, resume: bool) -> int:
        """Makes or continues the run folder; returns the step to start with."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        recipe_file, text = self.run_dir / "recipe.yaml", dump_recipe(self.recipe)
        found = checkpoints(self.run_dir / "checkpoints")
        step = 0
        if not resume and (found or (self.run_dir / "metrics.jsonl").exists()):
            raise TrainingError(f"{self.run_dir} holds a run already: resume it (--resume), or choose another folder")
        if resume and recipe_file.exists() and recipe_file.read_text(encoding="utf-8") != text:
            raise TrainingError(
                f"{recipe_file} differs from the recipe given: a run resumes with the settings that it began with"
            )
        if found:
            step = load_checkpoint(found[-1], self.vlm.model, self.optimizer.optimizer)
        if self.accelerator.is_main_process:
            recipe_file.write_text(text, encoding="utf-8")
            for name in ("metrics.jsonl", "rollouts.jsonl"):
                drop_rows_from(self.run_dir / name, step)
        return step

    def _log(self, report: StepReport, scored: Sequence[Scored]) -> dict[str, float]:
        for observer in self.observers:
            report.metrics.update(observer(report) or {})
        row = {"step": report.step, **report.metrics}
        if self.accelerator.is_main_process:
            append_rows(self.run_dir / "rollouts.jsonl", rollout_rows(report.step, scored))
            append_rows(self.run_dir / "metrics.jsonl", [row])
        return row


@lru_cache(maxsize=2)
def _shuffled(total: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng((seed, epoch)).permutation(total)


def _frozen_copy(vlm: VLM, device: torch.device) -> VLM:
    model = copy.deepcopy(vlm.model).requires_grad_(False)
    torch.nn.Module.to(model, device)
    return VLM(model, vlm.family)
