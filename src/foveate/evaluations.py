"""Evaluations as a command line starts them: who answers what, and where it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate.evaluation.folder import SCORES, EvaluationFolder
from foveate.evaluation.gains import Checkpoint, Progress, account
from foveate.evaluation.marking import Marker
from foveate.evaluation.official import Official, official
from foveate.evaluation.probes import EVERY, PAPERS, ProbeSet
from foveate.evaluation.probing import ModelLook, answers_of, directly, model_look
from foveate.evaluation.runner import Evaluation, evaluate
from foveate.evaluation.scores import score_record
from foveate.evaluation.setup import family_of, fields_of
from foveate.families import checkpoint_digest
from foveate.generators import (
    Endpoint,
    EndpointGenerator,
    Generator,
    LocalGenerator,
    RecordedGenerator,
    Sampling,
)
from foveate.jsonl import replace_json
from foveate.protocols import Protocol
from foveate.questions.benchmarks import benchmark_named, load_named
from foveate.questions.readers import Questions
from foveate.questions.schema import Question
from foveate.recipes import Recipe
from foveate.runs import HELD_OUT_SEED, SCENES, Moment, load_data, load_policy, moments

Progressing = Callable[[int], None]
"""Called with the number that is finished since the last call."""
Counting = Callable[[str, int], AbstractContextManager[Progressing]]
"""Given what is done and how much of it there is, a context whose value is called with what is finished since."""


Written = tuple[Generator, EvaluationFolder | None]
"""Who answers, with the replies recorded, and the folder in which that is; None where nothing is written down."""


def answerer(model: str, endpoint: Endpoint | None = None) -> Generator:
    """Who answers: a model at an endpoint, by its name there, or one in this process, as `load_policy` takes it."""
    if endpoint:
        return endpoint.generator(model)
    vlm = load_policy(model)
    return LocalGenerator(vlm, identity=checkpoint_digest(vlm))


@contextmanager
def writing_down(generator: Generator, out: Path | None, inputs: Mapping[str, Any]) -> Iterator[Written]:
    """An evaluation's folder, and the generator with its replies recorded there; without a folder, as it is.

    Raises:
        EvaluationFolderError: the folder is another evaluation's.
        RecordError: another process is writing to it.
    """
    if out is None:
        yield generator, None
        return
    folder = EvaluationFolder(out, inputs)  # looks, and touches nothing before the lock is held
    with RecordedGenerator(generator, out / "replies.jsonl") as recorded:
        yield recorded, folder


@dataclass(frozen=True, slots=True)
class Judge:
    """A model at an endpoint that says whether open answers mean what was expected."""

    model: str
    endpoint: Endpoint

    @property
    def identity(self) -> str:
        """What its verdicts depend on."""
        return f"{self.model} {dict(self.endpoint.extra)}" if self.endpoint.extra else self.model


@contextmanager
def judging(judge: Judge | None, out: Path | None) -> Iterator[Generator | None]:
    """Who judges, with the verdicts recorded in an evaluation's folder where there is one."""
    if judge is None:
        yield None
    elif out is None:
        yield judge.endpoint.generator(judge.model)
    else:
        with RecordedGenerator(judge.endpoint.generator(judge.model), out / "verdicts.jsonl") as recorded:
            yield recorded


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
        model: as `answerer` takes it.
        data: as `load_data` takes it; scenes are others than those that training on scenes uses.
        endpoint: where the model answers; in this process where None.
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
    """
    generator = answerer(model, endpoint)
    questions, bad = asked_questions(data, limit, seed, quarantine=quarantine)
    protocol = recipe.build_protocol(generator.family.budget)
    sampling = Sampling(temperature, recipe.rollout.max_new_tokens)
    at_once = _at_once(endpoint)
    asking = {"samples": samples, "probed": probed, "tolerance": tolerance, "judge": judge and judge.identity}
    inputs = inputs_of("eval", generator, protocol, sampling, model=model, seed=seed) | asking
    with writing_down(generator, out, inputs) as (asked, folder), judging(judge, out) as verdicts:
        with counting("asking", len(questions)) if counting else nullcontext() as progress:
            result = evaluate(
                questions,
                protocol,
                asked,
                samples=samples,
                sampling=sampling,
                seed=seed,
                at_once=at_once,
                keep=0,
                probes=PAPERS if probed else None,
                marker=Marker(tolerance, verdicts),
                folder=folder,
                on_progress=progress,
            )
        reported = official_of(data, result)
        more = {**facts(recipe, generator, data, bad), **official_json(reported)}
        more |= costs(result, generator, endpoint)
        record = score_record(result, model=model, more=more)
        finish(folder, record, result, bad)
    return Evaluated(result, record, reported)


def asked_questions(
    data: str, limit: int | None, seed: int, *, quarantine: bool = False
) -> tuple[Sequence[Question], Questions | None]:
    """What is asked; and the file's own questions where rows of it were left out, which it knows.

    Raises:
        QuestionFileError: rows are bad, and they are not to be left out.
    """
    if data == SCENES or not quarantine:
        return load_data(data, seed=HELD_OUT_SEED + seed, length=limit or 300)[:limit], None
    loaded = load_named(data, on_bad="quarantine")
    return loaded[:limit], loaded if loaded.bad_rows else None


def facts(recipe: Recipe, generator: Generator, data: str, bad: Questions | None) -> dict[str, Any]:
    """What a score file says besides the evaluation."""
    said = {"recipe": recipe.name, "identity": generator.identity, "data": data}
    return said | ({"rows_left_out": len(bad.bad_rows)} if bad else {})


def finish(
    folder: EvaluationFolder | None, record: Mapping[str, Any], result: Evaluation, bad: Questions | None
) -> None:
    """Writes what an evaluation came to, and the rows of its data that were left out, where there is a folder."""
    if folder:
        if bad:
            bad.write_quarantine(folder.path / "quarantine.jsonl")
        folder.finish(record, result.failed)


def inputs_of(
    command: str, generator: Generator, protocol: Protocol, sampling: Sampling, *, model: str, seed: int
) -> dict[str, Any]:
    """What decides the answers of an evaluation, so that its folder is not gone on with by another."""
    return {
        "command": command,
        "model": model,
        "url": generator.url if isinstance(generator, EndpointGenerator) else None,
        "family": family_of(generator),
        "identity": generator.identity,
        "protocol": fields_of(protocol),
        "sampling": fields_of(sampling),
        "seed": seed,
    }


def _at_once(endpoint: Endpoint | None) -> int:
    """Enough questions that an endpoint is kept busy."""
    return max(64, 4 * endpoint.concurrency) if endpoint else 64


def probe_at_moments(
    recipe: Recipe,
    model: str,
    data: str,
    *,
    endpoint: Endpoint | None = None,
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
        model: as `answerer` takes it; with `every_checkpoint` the folder of a run.
        data: as `load_data` takes it; scenes are others than those that training on scenes uses.
        endpoint: where the model answers; in this process where None.
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
    """
    questions, bad = asked_questions(data, limit, seed, quarantine=quarantine)
    *earlier, last = moments(model) if every_checkpoint else [Moment("", model)]
    probing = _Probing(recipe, data, questions, seed, counting)
    # The last one first: its folder has to be begun before others lie in it.
    look, record = probing.look(last.model, out, endpoint, bad)
    there = out and out / "earlier"
    before = [probing.checkpoint(one, there and there / one.name.replace(" ", "-")) for one in earlier]
    course = account([*before, Checkpoint(last.name, look.direct, look.zoomed)], seed=seed) if every_checkpoint else ()
    if out and course:
        replace_json(out / SCORES, {**record, "checkpoints": [one.to_json() for one in course]})
    return look, course


@dataclass(frozen=True, slots=True)
class _Probing:
    """The same questions asked of one model after the other, each in its own way and directly, greedily."""

    recipe: Recipe
    data: str
    questions: Sequence[Question]
    seed: int
    counting: Counting | None

    def look(
        self, model: str, out: Path | None, endpoint: Endpoint | None, bad: Questions | None
    ) -> tuple[ModelLook, dict[str, Any]]:
        """What the probes say of a model, and the record of its scores."""
        asked = _Model(self, model, endpoint)
        with self._count("probing") as progress, asked.writing(asked.own_way, out) as written:
            own = asked.evaluation(asked.own_way, written, progress, probes=EVERY)
            plain = asked.finished(directly(asked.own_way), out and out / "direct", progress)
            look = model_look(self.questions, own, plain, seed=self.seed)
            found = {"gain_harm": look.gains.to_json(), **official_json(official_of(self.data, own))}
            record = asked.finish(own, written, bad, found)
        return look, record

    def checkpoint(self, moment: Moment, out: Path | None) -> Checkpoint:
        """A moment's answers in both ways; its model goes with the call."""
        asked = _Model(self, moment.model)
        ways = {"own": asked.own_way, "direct": directly(asked.own_way)}
        with self._count(moment.name) as progress:
            own, plain = (asked.finished(way, out and out / name, progress) for name, way in ways.items())
        return Checkpoint(moment.name, answers_of(self.questions, plain), answers_of(self.questions, own))

    def _count(self, what: str) -> AbstractContextManager[Progressing | None]:
        return self.counting(what, 2 * len(self.questions)) if self.counting else nullcontext()


class _Model:
    """One model of a `_Probing`."""

    def __init__(self, probing: _Probing, model: str, endpoint: Endpoint | None = None) -> None:
        self._probing, self._model, self._endpoint = probing, model, endpoint
        self._generator = answerer(model, endpoint)
        self._sampling = Sampling(0.0, probing.recipe.rollout.max_new_tokens)
        self.own_way = probing.recipe.build_protocol(self._generator.family.budget)

    def writing(self, way: Protocol, out: Path | None) -> AbstractContextManager[Written]:
        """As `writing_down`."""
        generator, seed = self._generator, self._probing.seed
        return writing_down(
            generator, out, inputs_of("probe", generator, way, self._sampling, model=self._model, seed=seed)
        )

    def evaluation(
        self, way: Protocol, written: Written, progress: Progressing | None, *, probes: ProbeSet | None = None
    ) -> Evaluation:
        """The questions asked in one way."""
        generator, folder = written
        return evaluate(
            self._probing.questions,
            way,
            generator,
            sampling=self._sampling,
            seed=self._probing.seed,
            at_once=_at_once(self._endpoint),
            keep=0,
            probes=probes,
            folder=folder,
            on_progress=progress,
        )

    def finish(
        self, result: Evaluation, written: Written, bad: Questions | None, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The record of an evaluation's scores, written where it has a folder."""
        generator, (_, folder) = self._generator, written
        said = facts(self._probing.recipe, generator, self._probing.data, bad)
        record = score_record(
            result, model=self._model, more={**said, **costs(result, generator, self._endpoint), **more}
        )
        finish(folder, record, result, bad)
        return record

    def finished(self, way: Protocol, out: Path | None, progress: Progressing | None) -> Evaluation:
        """An evaluation in one way, without probes, from its beginning to its scores."""
        with self.writing(way, out) as written:
            result = self.evaluation(way, written, progress)
            self.finish(result, written, None, {})
        return result


def official_of(data: str, result: Evaluation) -> tuple[str, Official] | None:
    """A benchmark's name and its official figures; None where the data is no benchmark."""
    named = benchmark_named(data)
    return (named.benchmark.name, official(named.benchmark.name, result.scored)) if named else None


def official_json(reported: tuple[str, Official] | None) -> dict[str, Any]:
    """As a score file has them, under `official`; empty without."""
    return {"official": {"benchmark": reported[0], **reported[1].to_json()}} if reported else {}


def costs(result: Evaluation, generator: Generator, endpoint: Endpoint | None) -> dict[str, Any]:
    """What a score file says of an endpoint: where it is, what it would not take, and what the answers cost.

    The cost is of the questions' own turns, whenever they were asked, at the prices that were given; tries that failed
    and probes are not in it.
    """
    if endpoint is None or not isinstance(generator, EndpointGenerator):
        return {}
    attempts = [attempt for scored in result.scored for attempt in scored.attempts]
    shown, written = sum(a.prompt_tokens or 0 for a in attempts), sum(a.tokens for a in attempts)
    said: dict[str, Any] = {
        "url": generator.url,
        "refused_parameters": generator.refused,
        "prompt_tokens": shown,
        "completion_tokens": written,
    }
    if endpoint.prices:
        said["cost"] = endpoint.prices.of(shown, written)
    return {"endpoint": said}
