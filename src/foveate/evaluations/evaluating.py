"""A model's evaluation, as `foveate eval` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.evaluation.marking import Marker
from foveate.evaluation.official import Official
from foveate.evaluation.probes import PAPERS
from foveate.evaluation.runner import Evaluation, evaluate
from foveate.evaluations.asking import (
    VERDICTS,
    Counting,
    Models,
    NamedModel,
    asked_questions,
    finish,
    official_json,
    official_of,
    recorded,
)
from foveate.generators import Endpoint, Sampling
from foveate.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Judge:
    """A model at an endpoint that says whether open answers mean what was expected."""

    model: str
    endpoint: Endpoint

    @property
    def identity(self) -> str:
        """What its verdicts depend on."""
        return f"{self.model} {dict(self.endpoint.extra)}" if self.endpoint.extra else self.model


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model's evaluation, and what is said of it.

    Attributes:
        evaluation: with every question.
        record: what a score file holds: the same one in its folder and wherever else it is written.
        reported: a benchmark's name and its official figures; None where the data is no benchmark.
    """

    evaluation: Evaluation
    record: Mapping[str, Any]
    reported: tuple[str, Official] | None


def evaluate_model(
    recipe: Recipe,
    model: str,
    data: str,
    *,
    endpoint: Endpoint | None = None,
    answering: NamedModel | None = None,
    out: Path | None = None,
    limit: int | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    probed: bool = False,
    tolerance: float = 0.0,
    judge: Judge | None = None,
    quarantine: bool = False,
    counting: Counting | None = None,
) -> Evaluated:
    """Asks a model by a recipe's protocol and pixel budgets, as `foveate eval` does; no episode is kept.

    Args:
        model: as `NamedModel` has it.
        data: as `load_data` takes it; scenes are others than those that training on scenes uses.
        endpoint: where the model answers; in this process where None.
        answering: another model that is asked the answer turns: then `model` only locates.
        out: a folder that holds the evaluation, which the same call goes on with whenever it was ended; the scores
            stand in it at the end.
        limit: only the first questions.
        temperature: 0 is greedy.
        probed: whether the answer turns are asked again under the papers' probes (`probes.PAPERS`).
        tolerance: by how much a number may differ from the expected one, as a share of it.
        judge: asked about open answers that do not match.
        quarantine: whether bad rows of the data are left out, counted and kept in `out`, instead of an error.
        counting: given what is asked and the number of questions, a context whose value is called with those finished
            since.

    Raises:
        SharedContextError: two models are named, and the recipe's protocol is of one.
    """
    models = Models.of(recipe, NamedModel(model, endpoint), answering)
    questions, bad = asked_questions(data, limit, seed, quarantine=quarantine)
    sampling = Sampling(temperature, recipe.rollout.max_new_tokens)
    asking = {"samples": samples, "probed": probed, "tolerance": tolerance, "judge": judge and judge.identity}
    inputs = models.inputs("eval", sampling, seed=seed) | asking
    with (
        models.writing_down(out, inputs) as (generator, answerer, folder),
        recorded(judge.endpoint.generator(judge.model), out and out / VERDICTS) if judge else nullcontext() as verdicts,
    ):
        with counting("asking", len(questions)) if counting else nullcontext() as progress:
            result = evaluate(
                questions,
                models.locator.protocol,
                generator,
                answerer=answerer,
                samples=samples,
                sampling=sampling,
                seed=seed,
                at_once=models.at_once,
                keep=0,
                probes=PAPERS if probed else None,
                marker=Marker(tolerance, verdicts),
                folder=folder,
                on_progress=progress,
            )
        reported = official_of(data, result)
        record = models.record(result, recipe, data, bad, official_json(reported))
        finish(folder, record, result, bad)
    return Evaluated(result, record, reported)
