"""Whether a model looks, as `foveate probe` asks it: its answers under every probe, and what crops give and cost it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.evaluation.gains import Gains, gains
from foveate.evaluation.looking import Looking, looking
from foveate.evaluation.probes import EVERY, Probed
from foveate.evaluation.runner import Evaluation, evaluate
from foveate.generators.base import Generator, Sampling
from foveate.protocols.base import Protocol
from foveate.protocols.direct import Direct
from foveate.questions.schema import Question


@dataclass(frozen=True, slots=True)
class ModelLook:
    """What was found, question by question and in all. Every sequence is in the order of the questions.

    Attributes:
        own: the evaluation by the model's protocol, with the probes.
        zoomed: whether that came to the right answer: 1, 0, or None where the question failed.
        direct: likewise, asked directly about the small view.
        looking: what the probes say together.
        gains: what crops give and cost.
    """

    own: Evaluation
    zoomed: tuple[float | None, ...]
    direct: tuple[float | None, ...]
    looking: Looking
    gains: Gains

    @property
    def probed(self) -> tuple[Probed, ...]:
        """Each question that did not fail under every probe."""
        return self.own.probed

    def to_json(self) -> dict[str, Any]:
        """The figures, without the single questions."""
        return {**self.looking.to_json(), "gain_harm": self.gains.to_json()}


def probe_model(
    questions: Sequence[Question],
    protocol: Protocol,
    generator: Generator,
    *,
    max_new_tokens: int = 256,
    seed: int = 0,
    at_once: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> ModelLook:
    """Asks each question by the protocol, asks its answer turn again under every probe, and asks it directly. Greedy.

    Args:
        questions: with their true regions, where there are any; episodes do not see them.
        protocol: by which the model is asked.
        generator: who answers.
        max_new_tokens: per turn.
        seed: of what probes draw, and of the bootstrap.
        at_once: questions whose originals are held in memory at the same time.
        on_progress: reports each question twice, since it is asked in two ways.

    Raises:
        EvaluationError: as `evaluate`.
    """
    own, direct = (
        evaluate(
            questions,
            way,
            generator,
            sampling=Sampling(0.0, max_new_tokens),
            seed=seed,
            at_once=at_once,
            keep=0,
            probes=probes,
            on_progress=on_progress,
        )
        for way, probes in ((protocol, EVERY), (directly(protocol), None))
    )
    return model_look(questions, own, direct, seed=seed)


def model_look(questions: Sequence[Question], own: Evaluation, direct: Evaluation, *, seed: int = 0) -> ModelLook:
    """What two evaluations say of a model.

    Args:
        questions: that both asked, in order.
        own: by the model's protocol, with every probe.
        direct: by `directly` of it.
        seed: of the bootstrap.
    """
    zoomed, plain = answers_of(questions, own), answers_of(questions, direct)
    return ModelLook(own, zoomed, plain, looking(own.probed, seed=seed), gains(plain, zoomed, seed=seed))


def answers_of(questions: Sequence[Question], evaluation: Evaluation) -> tuple[float | None, ...]:
    """Whether each question's first attempt is right: 1, 0, or None where the question failed."""
    right = {scored.id: float(scored.attempts[0].right) for scored in evaluation.scored}
    return tuple(right.get(question.id) for question in questions)


def directly(protocol: Protocol) -> Direct:
    """One turn about the full image under the pixel budget that the protocol first shows it under."""
    return Direct(view_budget=getattr(protocol, "view_budget", None))
