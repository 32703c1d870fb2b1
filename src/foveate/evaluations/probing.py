"""Whether a model looks, and what it learned over its run, as `foveate probe` asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.evaluation.folder import SCORES
from foveate.evaluation.gains import Checkpoint, Progress, account
from foveate.evaluation.probes import EVERY, ProbeSet
from foveate.evaluation.probing import ModelLook, answers_of, model_look
from foveate.evaluation.runner import Evaluation, evaluate
from foveate.evaluations.asking import (
    Counting,
    Models,
    NamedModel,
    Progressing,
    Written,
    asked_questions,
    finish,
    official_json,
    official_of,
)
from foveate.generators import Endpoint, Sampling
from foveate.jsonl import replace_json
from foveate.questions.readers import Questions
from foveate.questions.schema import Question
from foveate.recipes import Recipe


def probe_at_moments(
    recipe: Recipe,
    model: str,
    data: str,
    *,
    endpoint: Endpoint | None = None,
    answering: NamedModel | None = None,
    out: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    every_checkpoint: bool = False,
    quarantine: bool = False,
    counting: Counting | None = None,
) -> tuple[ModelLook, tuple[Progress, ...]]:
    """Whether a model looks, and over the course of its run what it learned by itself and what from its crops.

    Args:
        recipe: by whose protocol and pixel budgets every moment is asked.
        model: as `NamedModel` has it; with `every_checkpoint` the folder of a run.
        data: as `load_data` takes it; scenes are others than those that training on scenes uses.
        endpoint: where the model answers; in this process where None.
        answering: another model that is asked the answer turns, those of the probes and, alone, without crops.
        out: a folder for everything, which the same call goes on with: the model's evaluation with its probes, in
            `direct` the one without crops, and in `earlier` those of the moments before the last.
        limit: only the first questions.
        every_checkpoint: whether the account of gains goes over all `moments` of the run.
        quarantine: as for `evaluate_model`.
        counting: as for `evaluate_model`.

    Returns:
        What the probes say of the model, and the account: empty without `every_checkpoint`.

    Raises:
        TrainingError: as `moments`.
        SharedContextError: two models are named, and the recipe's protocol is of one.
        ValueError: two models are named with `every_checkpoint`: what one learned shows in its own answers.
    """
    if every_checkpoint and answering:
        raise ValueError("checkpoints are of one model, which locates and answers")
    questions, bad = asked_questions(data, limit, seed, quarantine=quarantine)
    *earlier, (name, newest) = _moments(model) if every_checkpoint else [("", model)]
    probing = _Probing(recipe, data, questions, seed, counting)
    # The last one first: its folder has to be begun before others lie in it.
    look, record = probing.look(Models.of(recipe, NamedModel(newest, endpoint), answering), out, bad)
    there = out and out / "earlier"
    before = [probing.checkpoint(*one, there and there / one[0].replace(" ", "-")) for one in earlier]
    course = account([*before, Checkpoint(name, look.direct, look.zoomed)], seed=seed) if every_checkpoint else ()
    if out and course:
        replace_json(out / SCORES, {**record, "checkpoints": [one.to_json() for one in course]})
    return look, course


def _moments(model: str) -> list[tuple[str, str]]:
    from foveate.runs import moments  # it brings torch, which a model at an endpoint does not need

    return [(moment.name, moment.model) for moment in moments(model)]


@dataclass(frozen=True, slots=True)
class _Probing:
    """The same questions asked of one model after the other, each in its own way and directly, greedily."""

    recipe: Recipe
    data: str
    questions: Sequence[Question]
    seed: int
    counting: Counting | None

    def look(self, models: Models, out: Path | None, bad: Questions | None) -> tuple[ModelLook, dict[str, Any]]:
        """What the probes say of a model, and the record of its scores."""
        with self._count("probing") as progress, self._writing(models, out) as written:
            own = self._evaluation(models, written, progress, probes=EVERY)
            plain = self._finished(models.directly(), out and out / "direct", progress)
            look = model_look(self.questions, own, plain, seed=self.seed)
            found = {"gain_harm": look.gains.to_json(), **official_json(official_of(self.data, own))}
            record = self._finish(models, own, written, bad, found)
        return look, record

    def checkpoint(self, name: str, model: str, out: Path | None) -> Checkpoint:
        """A moment's answers in both ways; its model goes with the call."""
        models = Models.of(self.recipe, NamedModel(model))
        ways = {"own": models, "direct": models.directly()}
        with self._count(name) as progress:
            own, plain = (self._finished(way, out and out / called, progress) for called, way in ways.items())
        return Checkpoint(name, answers_of(self.questions, plain), answers_of(self.questions, own))

    def _count(self, what: str) -> AbstractContextManager[Progressing | None]:
        return self.counting(what, 2 * len(self.questions)) if self.counting else nullcontext()

    @property
    def _sampling(self) -> Sampling:
        return Sampling(0.0, self.recipe.rollout.max_new_tokens)

    def _writing(self, models: Models, out: Path | None) -> AbstractContextManager[Written]:
        return models.writing_down(out, models.inputs("probe", self._sampling, seed=self.seed))

    def _evaluation(
        self, models: Models, written: Written, progress: Progressing | None, *, probes: ProbeSet | None = None
    ) -> Evaluation:
        """The questions asked in one way."""
        return evaluate(
            self.questions,
            models.locator.protocol,
            written.generator,
            answerer=written.answerer,
            sampling=self._sampling,
            seed=self.seed,
            at_once=models.at_once,
            keep=0,
            probes=probes,
            folder=written.folder,
            on_progress=progress,
        )

    def _finish(
        self, models: Models, result: Evaluation, written: Written, bad: Questions | None, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The record of an evaluation's scores, written where it has a folder."""
        record = models.record(result, self.recipe, self.data, bad, more)
        finish(written.folder, record, result, bad)
        return record

    def _finished(self, models: Models, out: Path | None, progress: Progressing | None) -> Evaluation:
        """An evaluation in one way, without probes, from its beginning to its scores."""
        with self._writing(models, out) as written:
            result = self._evaluation(models, written, progress)
            self._finish(models, result, written, None, {})
        return result
