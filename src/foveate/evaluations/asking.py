"""What every evaluation begins and ends with: who is asked, about what, and where it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from foveate.episodes import Answerer
from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.official import Official, official
from foveate.evaluation.probing import directly
from foveate.evaluation.runner import Evaluation
from foveate.evaluation.scores import score_record
from foveate.evaluation.scoring import Attempt, Cost
from foveate.evaluation.setup import family_of, fields_of
from foveate.generators import Endpoint, EndpointGenerator, Generator, RecordedGenerator, Sampling
from foveate.images import PixelBudget
from foveate.protocols import Protocol
from foveate.questions.benchmarks import benchmark_named, load_named
from foveate.questions.data import HELD_OUT_SEED, SCENES, load_data
from foveate.questions.readers import Questions
from foveate.questions.schema import Question
from foveate.recipes import Recipe

Progressing = Callable[[int], None]
"""Called with the number that is finished since the last call."""
Counting = Callable[[str, int], AbstractContextManager[Progressing]]
"""Given what is done and how much of it there is, a context whose value is called with what is finished since."""

REPLIES, ANSWERS, VERDICTS = "replies.jsonl", "answers.jsonl", "verdicts.jsonl"
"""Where replies are recorded: of the model, or the one that locates; of another one that answers; of a judge."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model as a user names it.

    Attributes:
        name: at an endpoint its name there, in this process as `load_policy` takes it.
        endpoint: where it answers; in this process where None.
    """

    name: str
    endpoint: Endpoint | None = None

    def generator(self) -> Generator:
        """Who answers under that name."""
        if self.endpoint:
            return self.endpoint.generator(self.name)
        # Only here: they bring torch, which a model elsewhere does not need.
        from foveate.families import checkpoint_digest
        from foveate.generators import LocalGenerator
        from foveate.runs import load_policy

        vlm = load_policy(self.name)
        return LocalGenerator(vlm, identity=checkpoint_digest(vlm))


@dataclass(frozen=True, slots=True)
class Speaker:
    """A model, and how it is asked: the protocol has the pixel budgets of its own family."""

    model: NamedModel
    generator: Generator
    protocol: Protocol

    @classmethod
    def of(cls, model: NamedModel, recipe: Recipe) -> Speaker:
        """As a recipe has it asked."""
        generator = model.generator()
        return cls(model, generator, recipe.build_protocol(generator.family.budget))

    def directly(self) -> Speaker:
        """The same model, asked about the small view alone."""
        return replace(self, protocol=directly(self.protocol))

    def inputs(self) -> dict[str, Any]:
        """What decides its replies, but for what is shared with others."""
        return {
            "model": self.model.name,
            "url": self.generator.url if isinstance(self.generator, EndpointGenerator) else None,
            "family": family_of(self.generator),
            "identity": self.generator.identity,
            "protocol": fields_of(self.protocol),
        }

    def costs(self, costs: Iterable[Cost | Attempt]) -> dict[str, Any]:
        """What a score file says of an endpoint: where it is, what it would not take, and what the replies cost.

        The cost is of the questions' own turns, whenever they were asked, at the prices that were given; tries that
        failed and probes are not in it.
        """
        endpoint, generator = self.model.endpoint, self.generator
        if endpoint is None or not isinstance(generator, EndpointGenerator):
            return {}
        own = list(costs)
        shown, written = sum(one.prompt_tokens or 0 for one in own), sum(one.tokens for one in own)
        said: dict[str, Any] = {
            "url": generator.url,
            "refused_parameters": generator.refused,
            "prompt_tokens": shown,
            "completion_tokens": written,
        }
        if endpoint.prices:
            said["cost"] = endpoint.prices.of(shown, written)
        return {"endpoint": said}


class Written(NamedTuple):
    """Who is asked, with the replies recorded, and the folder in which that is; None where nothing is written down."""

    generator: Generator
    answerer: Answerer | None
    folder: EvaluationFolder | None


@dataclass(frozen=True, slots=True)
class Models:
    """Who is asked: one model for all turns, or one that locates and another that answers.

    Attributes:
        locator: who is asked every turn, or those before the answer turn.
        answerer: who is asked the answer turn, where that is another model.
    """

    locator: Speaker
    answerer: Speaker | None = None

    @classmethod
    def of(cls, recipe: Recipe, model: NamedModel, answering: NamedModel | None = None) -> Models:
        """The models, loaded.

        Raises:
            SharedContextError: two models are named, and the recipe's protocol is of one.
        """
        if answering is None:
            return cls(Speaker.of(model, recipe))
        # Before minutes of loading; no budget matters to it.
        recipe.build_protocol(PixelBudget(1, 1)).refuse_two_models()
        return cls(Speaker.of(model, recipe), Speaker.of(answering, recipe))

    def directly(self) -> Models:
        """Who answers, asked alone about the small view."""
        return Models((self.answerer or self.locator).directly())

    @property
    def at_once(self) -> int:
        """Enough questions that endpoints are kept busy."""
        models = (speaker.model for speaker in (self.locator, self.answerer) if speaker)
        return max([64, *(4 * model.endpoint.concurrency for model in models if model.endpoint)])

    def inputs(self, command: str, sampling: Sampling, *, seed: int) -> dict[str, Any]:
        """What decides the answers of an evaluation, so that its folder is not gone on with by another."""
        other = {"answerer": self.answerer.inputs()} if self.answerer else {}
        return {"command": command, **self.locator.inputs(), **other, "sampling": fields_of(sampling), "seed": seed}

    @contextmanager
    def writing_down(self, out: Path | None, inputs: Mapping[str, Any]) -> Iterator[Written]:
        """As the function of this name, for each of the models."""
        with writing_down(self.locator.generator, out, inputs) as (generator, folder):
            if self.answerer is None:
                yield Written(generator, None, folder)
                return
            with recorded(self.answerer.generator, out and out / ANSWERS) as answers:
                yield Written(generator, Answerer(self.answerer.protocol, answers), folder)

    def record(
        self, result: Evaluation, recipe: Recipe, data: str, bad: Questions | None, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What a score file holds.

        Args:
            result: any.
            recipe: by which they were asked.
            data: as the user named it.
            bad: the data's questions where rows of it were left out, as `asked_questions` gives them.
            more: further facts.
        """
        name, identity = self.locator.model.name, self.locator.generator.identity
        said = {"recipe": recipe.name, "identity": identity, "data": data}
        left_out = {"rows_left_out": len(bad.bad_rows)} if bad else {}
        return score_record(result, model=name, more={**said, **left_out, **self._costs(result), **more})

    def _costs(self, result: Evaluation) -> dict[str, Any]:
        attempts = [attempt for scored in result.scored for attempt in scored.attempts]
        if self.answerer is None:
            return self.locator.costs(attempts)
        parts = [attempt.by_model for attempt in attempts if attempt.by_model]
        answered = self.answerer.costs(answering for _, answering in parts)
        other = {"model": self.answerer.model.name, "identity": self.answerer.generator.identity, **answered}
        return {**self.locator.costs(locating for locating, _ in parts), "answerer": other}


@contextmanager
def writing_down(
    generator: Generator, out: Path | None, inputs: Mapping[str, Any]
) -> Iterator[tuple[Generator, EvaluationFolder | None]]:
    """An evaluation's folder, and the generator with its replies recorded there; without a folder, as it is.

    Raises:
        EvaluationFolderError: the folder is another evaluation's.
        RecordError: another process is writing to it.
    """
    # It looks, and touches nothing before the lock is held.
    folder = EvaluationFolder(out, inputs) if out else None
    with recorded(generator, out and out / REPLIES) as asked:
        yield asked, folder


@contextmanager
def recorded(generator: Generator, file: Path | None) -> Iterator[Generator]:
    """A generator with its replies recorded; without a file, as it is."""
    if file is None:
        yield generator
        return
    with RecordedGenerator(generator, file) as recording:
        yield recording


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


def finish(
    folder: EvaluationFolder | None, record: Mapping[str, Any], result: Evaluation, bad: Questions | None
) -> None:
    """Writes what an evaluation came to, and the rows of its data that were left out, where there is a folder."""
    if folder:
        if bad:
            bad.write_quarantine(folder.path / "quarantine.jsonl")
        folder.finish(record, result.failed)


def official_of(data: str, result: Evaluation) -> tuple[str, Official] | None:
    """A benchmark's name and its official figures; None where the data is no benchmark."""
    named = benchmark_named(data)
    return (named.benchmark.name, official(named.benchmark.name, result.scored)) if named else None


def official_json(reported: tuple[str, Official] | None) -> dict[str, Any]:
    """As a score file has them, under `official`; empty without."""
    return {"official": {"benchmark": reported[0], **reported[1].to_json()}} if reported else {}
