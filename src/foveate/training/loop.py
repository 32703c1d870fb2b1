"""The training loop: roll out, update, log. One step of any stage reads from top to bottom in `Trainer.run`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from foveate.episodes import Group
from foveate.errors import FoveateError
from foveate.families.base import VLM
from foveate.jsonl import append_rows, drop_rows_from
from foveate.questions.lazy import LazyQuestions
from foveate.questions.schema import Question
from foveate.recipes import Recipe, StageName, dump_recipe, load_recipe
from foveate.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint
from foveate.training.learner import Learner
from foveate.training.metrics import Clock
from foveate.training.order import order_of
from foveate.training.policy import Reference, WithoutAdapters, prepare
from foveate.training.rl import RL
from foveate.training.sft import SFT
from foveate.training.stage import Stage


class TrainingError(FoveateError, RuntimeError):
    """A run that must not go on; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did.

    Attributes:
        steps: of the stage.
        metrics: what is logged; observers add to it by what they return.
        groups: as the loop saw them, without true boxes or points.
        indices: where in the data the groups' questions stand, so that an observer who has the boxes can measure.
    """

    stage: StageName
    step: int
    steps: int
    metrics: dict[str, float]
    groups: Sequence[Group] = field(repr=False)
    indices: Sequence[int] = field(repr=False)


Observer = Callable[[StepReport], Mapping[str, float] | None]
"""Called after each step; what it returns is logged beside the step's own metrics."""


_SETTINGS: Mapping[StageName, str] = {"rl": "optimisation", "sft": "sft"}
_MIXED = {"float32": "no", "bfloat16": "bf16"}


class _Annotated(LazyQuestions):
    """A data set as a run may see it: true boxes and true points only where its rewards look at them."""

    def __init__(self, questions: Sequence[Question], *, regions: bool, points: bool) -> None:
        self._questions, self._regions, self._points = questions, regions, points

    def __len__(self) -> int:
        return len(self._questions)

    def question(self, place: int) -> Question:
        whole = self._questions[place]
        bare = whole.without_annotations()
        return replace(
            bare,
            regions=whole.regions if self._regions else bare.regions,
            points=whole.points if self._points else bare.points,
        )


class Trainer:
    """Trains a model by one stage of a recipe and writes everything to a run folder.

    `run_dir` gets recipe.yaml, metrics.jsonl (a row per step), rollouts.jsonl (a row per episode) and checkpoints/.
    True boxes and true points are taken out of the questions before anything else, so that neither rewards nor prompts
    can see them, unless the stage is `rl` and the recipe names a reward term that needs the ones or the others.

    Args:
        recipe: the resolved recipe.
        vlm: the policy; changed in place. Its weights as given are the reference of `rl`.
        questions: at least one; each is taken once before any comes again.
        run_dir: created; must not hold another run unless resumed.
        stage: the recipe's first where None.
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
        stage: StageName | None = None,
        seed: int = 0,
        save_every: int = 20,
        observers: Sequence[Observer] = (),
        accelerator: Accelerator | None = None,
    ) -> None:
        if not len(questions):
            raise TrainingError("there are no questions to train on")
        self.recipe, self.run_dir, self.stage_name = recipe, run_dir, stage or recipe.stages[0]
        self._sees_regions = self.stage_name == "rl" and recipe.needs_regions
        self._sees_points = self.stage_name == "rl" and recipe.needs_points
        self.questions = _Annotated(questions, regions=self._sees_regions, points=self._sees_points)
        self.seed, self.save_every, self.observers = seed, save_every, observers
        self.accelerator = accelerator or Accelerator(mixed_precision=_MIXED[recipe.setup.precision])
        self.order = order_of(recipe, self.stage_name, len(questions), seed)
        if self.order.drawn // self.order.steps < self.accelerator.num_processes:
            raise TrainingError("a step has fewer questions than there are processes: take more questions per step")
        self.learner, self.stage = self._begin(vlm)
        self.stop_requested = False

    def _begin(self, vlm: VLM) -> tuple[Learner, Stage]:
        recipe, accelerator = self.recipe, self.accelerator
        reference: nn.Module | None = None
        policy = prepare(vlm, recipe.setup, seed=self.seed, device=accelerator.device)
        if self.stage_name == "sft":
            learner = Learner(policy, recipe.sft, self.order.steps, accelerator)
            return learner, SFT(recipe, learner)
        if recipe.objective.beta and not recipe.setup.lora:
            reference = Reference(policy.model, recipe.setup, accelerator.autocast)  # before it is wrapped
        learner = Learner(policy, recipe.optimisation, self.order.steps, accelerator)
        if recipe.objective.beta and recipe.setup.lora:
            reference = WithoutAdapters(learner.scorer, policy.model)
        return learner, RL(recipe, learner, reference)

    def run(self, *, resume: bool = False) -> list[dict[str, float]]:
        """Runs all steps that are left and returns their metrics, a row per step.

        Raises:
            TrainingError: the folder holds another run, or the loss is not finite.
            PackingMismatch: packed and separate rows differ by more than the precision allows.
            CheckpointError: the checkpoint to resume cannot be read.
        """
        steps, first = self.order.steps, self._prepare_folder(resume)
        history: list[dict[str, float]] = []
        for step in range(first, steps):
            clock = Clock()
            indices = self._indices_of(step)
            questions = [self._question(index) for index in indices]
            with self.accelerator.autocast():
                groups = self.stage.roll_out(questions, self.seed * 1_000_003 + step)
                clock.lap("rollout")
                if step == first:
                    self.stage.check(groups)
            metrics, rows = self.stage.update(groups, step)
            clock.lap("update")
            self._refuse_nonsense(step, metrics)
            report = StepReport(self.stage_name, step, steps, metrics | clock.metrics(), groups, indices)
            history.append(self._log(report, rows))
            if step + 1 == steps or self.stop_requested or (step + 1) % self.save_every == 0:
                self.save(step + 1)
            if self.stop_requested:
                break
        return history

    def save(self, step: int) -> None:
        """Writes a checkpoint after `step` steps."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            optimizer = self.learner.optimizer.optimizer
            save_checkpoint(self.run_dir / "checkpoints", step, self.learner.vlm, optimizer)

    def _indices_of(self, step: int) -> list[int]:
        """This process's questions of a step."""
        return self.order.of(step)[self.accelerator.process_index :: self.accelerator.num_processes]

    def _question(self, index: int) -> Question:
        question = self.questions[index]
        if self._sees_regions and not question.regions:
            raise TrainingError(
                f"question {question.id!r} has no true box, which the recipe {self.recipe.name!r} rewards: give every "
                "question `regions`, or choose a recipe that needs none"
            )
        if self._sees_points and question.points is None:
            raise TrainingError(
                f"question {question.id!r} has no true points, which the recipe {self.recipe.name!r} rewards: give "
                "every question `points`, [] where there is nothing to count, or choose a recipe that needs none"
            )
        return question

    def _refuse_nonsense(self, step: int, metrics: Mapping[str, float]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(metrics[name]):
                raise TrainingError(
                    f"step {step}: {name} is {metrics[name]}. Lower {_SETTINGS[self.stage_name]}.learning_rate; the "
                    f"checkpoints in {self.run_dir / 'checkpoints'} are from before and sound."
                )

    def _prepare_folder(self, resume: bool) -> int:
        """Makes or continues the run folder; returns the step to start with."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if resume:
            refuse_other_recipe(self.run_dir, self.recipe)
        else:
            refuse_used(self.run_dir)
        found, step = checkpoints(self.run_dir / "checkpoints"), 0
        if found:
            step = load_checkpoint(found[-1], self.learner.vlm.model, self.learner.optimizer.optimizer)
        if self.accelerator.is_main_process:
            (self.run_dir / "recipe.yaml").write_text(dump_recipe(self.recipe), encoding="utf-8")
            for name in ("metrics.jsonl", "rollouts.jsonl"):
                drop_rows_from(self.run_dir / name, step)
        return step

    def _log(self, report: StepReport, rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        for observer in self.observers:
            report.metrics.update(observer(report) or {})
        row = {"step": report.step, **report.metrics}
        if self.accelerator.is_main_process:
            append_rows(self.run_dir / "rollouts.jsonl", rows)
            append_rows(self.run_dir / "metrics.jsonl", [row])
        return row


def refuse_used(folder: Path) -> None:
    """A new run must not be mixed with one that is there.

    Raises:
        TrainingError: the folder holds a run.
    """
    if checkpoints(folder / "checkpoints") or (folder / "metrics.jsonl").exists():
        raise TrainingError(f"{folder} holds a run already: resume it (--resume), or choose another folder")


def refuse_other_recipe(folder: Path, recipe: Recipe) -> None:
    """A run resumes with the settings that it began with; what a recipe says about them may have changed since.

    Raises:
        TrainingError: the run in the folder began with others.
    """
    file = folder / "recipe.yaml"
    if not file.exists():
        return
    before = load_recipe(file)
    began, given = (one.settings() | one.setup.trajectory() for one in (before, recipe))
    if changed := [name for name in began | given if began.get(name) != given.get(name)]:
        raise TrainingError(
            f"{file} differs from the recipe given in {', '.join(changed)}: a run resumes with the settings that it "
            "began with"
        )
