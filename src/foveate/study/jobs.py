"""A job of a study: a method trained with a seed and measured, in its own folder, which makes one cell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from foveate.evaluation.scores import source_commit
from foveate.jsonl import read_rows
from foveate.questions.readers import load_questions
from foveate.questions.scenes import Scenes
from foveate.questions.schema import Question
from foveate.recipes import Recipe, StageName
from foveate.runs import load_policy, stage_folders
from foveate.study.bases import checkpoint_of
from foveate.study.design import Base, Method
from foveate.study.measures import drawn, measures, recipe_of
from foveate.study.results import Cell, write_cell
from foveate.training import Trainer
from foveate.training.checkpoints import checkpoints, forget_optimizer, steps_done
from foveate.training.order import order_of
from foveate.training.split import Part

HELD_OUT_SEED = 31_013
"""Of the scenes that every trained model is measured on."""
TRAINING_SEED = 1_000
"""Of the scenes that seed 0 trains on; seed 1 has the next, and so on. The laboratory's bases have others again."""
SCENES = 960
"""For each stage of a training: as many as its updates take, each once."""
_DESIGN = "design"
"""Holds the digests of the training in a run folder and of the cell made from it."""


class Job(NamedTuple):
    """What is run: a method from its base with a seed, measured on so many held-out questions.

    Attributes:
        start: the job whose result it starts from instead of the base.
    """

    method: Method
    base: Base
    seed: int
    held_out: int
    start: Job | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.method.name}, seed {self.seed}"

    @property
    def recipe(self) -> Recipe | None:
        """With the method's settings; None for a base that is measured as it is."""
        return recipe_of(self.method.recipe, self.method.settings) if self.method.recipe else None

    @property
    def training(self) -> str:
        """A digest that differs where anything does that the training depends on: also of the base, and of `start`."""
        return _digest(
            base=[Path(checkpoint_of(self.base.name)).name, repr(self.base.scenes)],
            start=self.start and self.start.training,
            recipe=self.recipe and self.recipe.settings(),
            selected=self.method.selected,
            questions=[self.seed, TRAINING_SEED, SCENES],
        )

    @property
    def digest(self) -> str:
        """A digest that differs where anything does that the cell depends on: also of the ways of asking."""
        ways = {
            name: [recipe_of(way.recipe, way.settings).settings(), way.probed] for name, way in self.method.ways.items()
        }
        return _digest(training=self.training, ways=ways, questions=[self.seed, self.held_out, HELD_OUT_SEED])


def _digest(**told: object) -> str:
    return blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


class Places(NamedTuple):
    """Where a job finds what it starts from and puts what it makes.

    Attributes:
        study: the study's folder.
        base: the checkpoint of the job's base.
        selected: questions with the resolutions that the base chose; None where the method takes none.
    """

    study: Path
    base: str
    selected: Path | None = None

    def run_of(self, job: Job) -> Path:
        """The run folder of a job's training."""
        return self.study / "runs" / job.method.name / f"seed-{job.seed}"

    def cell_of(self, job: Job) -> Path:
        """The file of a job's cell."""
        return self.study / "cells" / f"{job.method.name}-seed-{job.seed}.json"


def is_done(job: Job, places: Places) -> bool:
    """Whether the job's cell is there, and of the same design."""
    return places.cell_of(job).is_file() and _designs(places.run_of(job)) == [job.training, job.digest]


def _designs(folder: Path) -> list[str]:
    """The digests of the training that a run folder holds, and of the cell that was made from it."""
    note = folder / _DESIGN
    return note.read_text(encoding="utf-8").splitlines() if note.is_file() else []


def run_job(job: Job, places: Places) -> None:
    """Trains and measures, unless that is done already.

    What a job that was stopped had done is not done again, unless its design has changed; where only the ways of asking
    have, it is measured again and not trained.
    """
    if is_done(job, places):
        return
    folder, cell = places.run_of(job), places.cell_of(job)
    cell.unlink(missing_ok=True)
    if _designs(folder)[:1] != [job.training]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _DESIGN).write_text(f"{job.training}\n", encoding="utf-8")
    model = _train(job, places, folder) if job.recipe else places.base
    held_out = _held_out(job)
    measured = measures(load_policy(model), job.method.ways, held_out, job.seed)
    write_cell(
        cell,
        Cell(
            method=job.method.name,
            base=job.base.name,
            seed=job.seed,
            questions=tuple(question.id for question in held_out),
            measures={name: tuple(values) for name, values in measured.items()},
            training=_spent(job, folder),
            commit=source_commit(),
        ),
    )
    (folder / _DESIGN).write_text(f"{job.training}\n{job.digest}\n", encoding="utf-8")
    _tidy(job, folder)


def _tidy(job: Job, folder: Path) -> None:
    """Throws away what nothing needs beside the cell: optimizers and rollouts, four fifths of a run folder.

    The weights stay: others start from them, and people may want to look at them.
    """
    if job.recipe is None:
        return
    for own in stage_folders(job.recipe, folder).values():
        forget_optimizer(own / "checkpoints")
        (own / "rollouts.jsonl").unlink(missing_ok=True)


def _train(job: Job, places: Places, folder: Path) -> str:
    """Every stage in turn; returns where the last one's weights are."""
    recipe, model = job.recipe, _start_of(job, places)
    assert recipe is not None
    questions = _questions(job, recipe, places)
    for stage, own in stage_folders(recipe, folder).items():
        steps = order_of(recipe, stage, len(questions[stage]), job.seed).steps
        if steps_done(own / "checkpoints") < steps:
            trainer = Trainer(
                recipe,
                load_policy(model),
                questions[stage],
                own,
                stage=stage,
                seed=job.seed,
                save_every=max(1, steps // 2),
            )
            trainer.run(resume=True)
        for older in checkpoints(own / "checkpoints")[:-1]:
            shutil.rmtree(older)
        model = str(own)
    return model


def _start_of(job: Job, places: Places) -> str:
    """The base, or what another method made of it with the same seed."""
    return str(places.run_of(job.start)) if job.start else places.base


def _questions(job: Job, recipe: Recipe, places: Places) -> Mapping[StageName, Sequence[Question]]:
    """The questions of each stage, the same for all methods of a base and seed, and none in both stages.

    Not for those with selected resolutions, whose questions are the same for all seeds.
    """
    if job.method.selected:
        assert places.selected is not None
        selected: Sequence[Question] = load_questions(places.selected)
        if job.method.selected == "no gap":
            selected = [replace(question, view_pixels=None) for question in selected]
        return {recipe.stages[0]: selected}
    scenes = Scenes(job.base.scenes, seed=TRAINING_SEED + job.seed, length=2 * SCENES)
    parts: dict[StageName, Sequence[Question]] = {
        "rl": Part(scenes, range(SCENES)),
        "sft": Part(scenes, range(SCENES, 2 * SCENES)),
    }
    return {stage: parts[stage] for stage in recipe.stages}


def _held_out(job: Job) -> list[Question]:
    return drawn(Scenes(job.base.scenes, seed=HELD_OUT_SEED, length=job.held_out))


def _spent(job: Job, folder: Path) -> dict[str, float]:
    """Steps, updates, rollouts and seconds of the training, all stages together."""
    recipe, spent = job.recipe, {"steps": 0, "updates": 0, "rollouts": 0, "seconds": 0.0}
    if recipe is None:
        return spent
    for stage, own in stage_folders(recipe, folder).items():
        rows = read_rows(own / "metrics.jsonl")
        spent["steps"] += len(rows)
        if stage == "rl":
            questions = recipe.optimisation.questions_per_step
            spent["updates"] += len(rows) * (questions // (recipe.optimisation.questions_per_update or questions))
            spent["rollouts"] += len(rows) * questions * recipe.rollout.group_size
        else:
            spent["updates"] += len(rows)
        spent["seconds"] += sum(row["seconds"] for row in rows)
    return spent
