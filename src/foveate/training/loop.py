"""The training loop: roll out, update, log. One step of any stage reads from top to bottom in `Trainer.run`."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foveate.episodes import Group
from foveate.errors import FoveateError
from foveate.families.base import VLM
from foveate.jsonl import append_rows, drop_rows_from
from foveate.questions.lazy import LazyQuestions
from foveate.questions.schema import Question
from foveate.recipes import Recipe, StageName, dump_recipe, load_recipe
from foveate.training.checkpoints import (
    CheckpointError,
    Resumed,
    checkpoints,
    expected_bytes,
    load_checkpoint,
    resumable,
    save_checkpoint,
)
from foveate.training.learner import Learner
from foveate.training.limits import (
    SETTINGS_OF,
    disk_warning,
    enough_disk,
    enough_memory,
    memory_metrics,
    refuse_full_disk,
)
from foveate.training.metrics import Clock
from foveate.training.order import Share, order_of, share_of
from foveate.training.policy import prepare, with_reference
from foveate.training.processes import begin, by_deepspeed, failing_together, on_any
from foveate.training.rl import RL
from foveate.training.sft import SFT
from foveate.training.sharding import asked_for_sharding
from foveate.training.stage import Stage
from foveate.training.tracking import Tracking, refuse_missing

logger = logging.getLogger(__name__)


class TrainingError(FoveateError, RuntimeError):
    """A run that must not go on; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did.

    Attributes:
        steps: of the stage.
        metrics: what is logged, where it is finite; observers add to it by what they return.
        groups: as the loop saw them, without true boxes or points; of all processes, those of others without pictures.
        indices: where in the data the groups' questions stand, so that an observer who has the boxes can measure.
    """

    stage: StageName
    step: int
    steps: int
    metrics: dict[str, float]
    groups: Sequence[Group] = field(repr=False)
    indices: Sequence[int] = field(repr=False)


Observer = Callable[[StepReport], Mapping[str, float] | None]
"""Called after each step, by the main process; what it returns is logged beside the step's own metrics."""


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

    Processes that were launched together (docs/distributed.md) share the questions of each update out among them and
    do, together, what one alone does. The main one writes; `run_dir` must be in reach of all.

    Args:
        recipe: the resolved recipe.
        vlm: the policy; changed in place. Its weights as given are the reference of `rl`.
        questions: at least one; each is taken once before any comes again.
        run_dir: created; must not hold another run unless resumed.
        stage: the recipe's first where None.
        seed: decides the order of questions and every sample.
        save_every: steps between checkpoints; the last step is always saved.
        observers: called after every step, by the main process.
        warn: told, in one line, by the main process, what a person had better know.

    Attributes:
        stop_requested: set it, on any process, to end the run, with a checkpoint, after the step under way.
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
        warn: Callable[[str], None] = logger.warning,
    ) -> None:
        if not len(questions):
            raise TrainingError("there are no questions to train on")
        self.recipe, self.run_dir, self.stage_name = recipe, run_dir, stage or recipe.stages[0]
        self._sees_regions = self.stage_name == "rl" and recipe.needs_regions
        self._sees_points = self.stage_name == "rl" and recipe.needs_points
        self.questions = _Annotated(questions, regions=self._sees_regions, points=self._sees_points)
        refuse_missing(recipe.setup.trackers)
        self.accelerator = begin(recipe.setup.precision)
        self.seed, self.save_every, self.observers = seed, save_every, observers
        self.warn = warn if self.accelerator.is_main_process else lambda _: None
        self._refuse_what_cannot_be_shared_out()
        self.sharded = self._shares_out and self.accelerator.num_processes > 1
        if self._shares_out and not self.sharded:
            self.warn("setup.shard=full has no other process to share weights with, and changes nothing")
        self.order = order_of(recipe, self.stage_name, len(questions), seed)
        with enough_memory("setting up", self.stage_name):
            self.learner, self.stage = self._begin(vlm)
        self.stop_requested = False

    def _begin(self, vlm: VLM) -> tuple[Learner, Stage]:
        recipe, accelerator, steps = self.recipe, self.accelerator, self.order.steps
        policy = prepare(vlm, recipe.setup, seed=self.seed, device=accelerator.device)
        if self.stage_name == "sft":
            learner = Learner(policy, recipe.sft, steps, accelerator, shard=self.sharded)
            return learner, SFT(recipe, learner)
        learner, reference = with_reference(policy, recipe, steps, accelerator, sharded=self.sharded)
        return learner, RL(recipe, learner, reference)

    @property
    def _shares_out(self) -> bool:
        return self.recipe.setup.shard == "full" or asked_for_sharding()

    def _refuse_what_cannot_be_shared_out(self) -> None:
        setup, plugin = self.recipe.setup, self.accelerator.state.deepspeed_plugin
        if plugin and (self._shares_out or plugin.zero_stage > 2):
            raise TrainingError(
                "DeepSpeed shares weights out in a way that rollouts cannot undo: take its stage 1 or 2 with "
                "setup.shard=none, or launch without it and set setup.shard=full (FSDP2)"
            )
        if self._shares_out and (setup.lora or not setup.trains_tower):
            raise TrainingError(
                "FSDP2 (setup.shard=full) is for training all weights: processes that keep features of a frozen tower "
                "run it at different times. With setup.lora or setup.vision_tower=freeze take DDP: setup.shard=none"
            )

    def run(self, *, resume: bool = False) -> list[dict[str, float]]:
        """Runs all steps that are left and returns their metrics, a row per step.

        Raises:
            TrainingError: the folder holds another run, or too many updates in a row were not finite.
            PackingMismatch: packed and separate rows differ by more than the precision allows.
            ProcessError: another process has failed.
            SpoiltWeightsError: DeepSpeed has made an update that is not finite.
            SamplerMismatch: the engine of the rollouts does not sample from the weights in training.
            CheckpointError: the checkpoint to resume cannot be read.
            OutOfMemoryError: memory does not suffice for a phase of a step.
            DiskFullError: there is no room for the next checkpoint, or for a step's rows.
        """
        with enough_disk(self.run_dir):
            first = self._prepare_folder(resume)
            with failing_together(self.accelerator):
                self._look_at_the_disk()
            tracking = self._tracking(first)
            try:
                return self._run(first, tracking)
            finally:
                tracking.finish()

    def _run(self, first: int, tracking: Tracking) -> list[dict[str, float]]:
        steps, name = self.order.steps, self.stage_name
        history: list[dict[str, float]] = []
        for step in range(first, steps):
            clock = Clock()
            share = self._share_of(step)
            with enough_memory("rollout", name):
                self.stage.wake()
            with failing_together(self.accelerator), self.learner.gathered(), self.accelerator.autocast():
                questions = [self._question(share.indices[number]) for number in share.numbers]
                with enough_memory("rollout", name):
                    groups = self.stage.roll_out(questions, self.seed * 1_000_003 + step)
                clock.lap("rollout")
                if step == first:
                    with enough_memory("update", name):
                        self.stage.check(groups)
            with enough_memory("update", name):
                outcome = self.stage.update(groups, share, step)
            clock.lap("update")
            done = {"skipped_updates": self.learner.skips.in_step} | clock.metrics() | memory_metrics()
            report = StepReport(name, step, steps, outcome.metrics | done, outcome.groups, share.indices)
            history.append(self._log(report, outcome.rows))
            tracking.log(history[-1], step)
            if self.learner.skips.in_step:
                self.warn(f"step {step}: {self.learner.skips.in_step} update(s) skipped, {self.learner.skips.last}")
            hopeless = self.learner.skips.in_a_row >= self.recipe.setup.max_skipped_updates
            self.stop_requested = on_any(self.accelerator, self.stop_requested)
            if hopeless or self.stop_requested or self._saves_after(step + 1):
                self.save(step + 1)
            if hopeless:
                raise self._hopeless(step)
            if self.stop_requested:
                break
        return history

    def save(self, step: int) -> None:
        """Writes a checkpoint after `step` steps. All processes must call it.

        Raises:
            DiskFullError: there is no room for it; those before it stand.
            ProcessError: so it was on the main process, and this is another.
        """
        weights, optimizer = self.learner.full_state()
        with failing_together(self.accelerator):  # and nobody goes on before it stands
            if self.accelerator.is_main_process:
                setup = self.recipe.setup
                save_checkpoint(
                    self.run_dir / "checkpoints",
                    step,
                    self.learner.vlm,
                    optimizer,
                    weights=weights,
                    keep=setup.keep_checkpoints,
                    keep_every=setup.keep_every,
                    skipped_in_a_row=self.learner.skips.in_a_row,
                )

    def _saves_after(self, done: int) -> bool:
        often = (self.save_every, self.recipe.setup.keep_every)
        return done == self.order.steps or any(every and done % every == 0 for every in often)

    def _look_at_the_disk(self) -> None:
        """Before the first step: what would be lost if the first checkpoint did not fit, and what comes later."""
        setup, folder = self.recipe.setup, self.run_dir / "checkpoints"
        size = expected_bytes(folder, self.learner.vlm)
        refuse_full_disk(folder, size)
        standing = len(resumable(folder))
        kept = self.order.steps // setup.keep_every if setup.keep_every else 0
        more, for_good = setup.keep_checkpoints + 1 - standing, kept - len(checkpoints(folder)) + standing
        if said := disk_warning(folder, size, more=max(more, 1), for_good=max(for_good, 0)):
            self.warn(said)

    def _tracking(self, first: int) -> Tracking:
        recipe = self.recipe
        about = {"recipe": recipe.name, "paper": recipe.paper, "stage": self.stage_name, "seed": self.seed}
        config = about | recipe.settings() | recipe.setup.settings()
        return Tracking(
            self.accelerator, recipe.setup.trackers, self.run_dir, step=first, config=config, warn=self.warn
        )

    def _share_of(self, step: int) -> Share:
        """This process's questions of a step."""
        per_update = self.recipe.optimisation.questions_per_update if self.stage_name == "rl" else None
        number, processes = self.accelerator.process_index, self.accelerator.num_processes
        return share_of(self.order.of(step), per_update, number, processes)

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

    def _hopeless(self, step: int) -> TrainingError:
        skips, newest = self.learner.skips, checkpoints(self.run_dir / "checkpoints")[-1]
        return TrainingError(
            f"step {step}: {skips.in_a_row} updates in a row were skipped because they were not finite (the last: "
            f"{skips.last}). {newest} has the weights from before the first of them. Start anew from it (--model "
            f"{newest}) with a lower {SETTINGS_OF[self.stage_name]}.learning_rate or setup.precision=float32; or "
            "resume with a higher setup.max_skipped_updates"
        )

    def _prepare_folder(self, resume: bool) -> int:
        """Makes or continues the run folder; returns the step to start with."""
        with failing_together(self.accelerator):  # and nobody writes before everybody has looked
            self.run_dir.mkdir(parents=True, exist_ok=True)
            if resume:
                refuse_other_recipe(self.run_dir, self.recipe)
            else:
                refuse_used(self.run_dir)
            step, self.learner.skips.in_a_row = self._resumed()
        if self.accelerator.is_main_process:
            (self.run_dir / "recipe.yaml").write_text(dump_recipe(self.recipe), encoding="utf-8")
            for name in ("metrics.jsonl", "rollouts.jsonl"):
                drop_rows_from(self.run_dir / name, step)
        return step

    def _resumed(self) -> Resumed:
        folder = self.run_dir / "checkpoints"
        if found := resumable(folder):
            if by_deepspeed():
                raise TrainingError("a run cannot be resumed with DeepSpeed, only with DDP and FSDP2")
            return load_checkpoint(found[-1], self.learner.vlm.model, self.learner.plain_optimizer)
        if kept := checkpoints(folder):
            raise CheckpointError(
                f"{kept[-1]} cannot be resumed: its optimizer was thrown away, or kept by DeepSpeed. Start anew from "
                f"it (--model {kept[-1]})"
            )
        return Resumed(0, 0)

    def _log(self, report: StepReport, rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        for observer in self.observers if self.accelerator.is_main_process else ():
            report.metrics.update(observer(report) or {})
        finite = {name: value for name, value in report.metrics.items() if math.isfinite(value)}
        row = {"step": report.step, **finite}  # JSON has no other numbers
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
