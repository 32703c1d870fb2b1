"""One turn: the full image under the pixel budget, the question, the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from foveate.context import Context
from foveate.images import PixelBudget
from foveate.protocols import prompts
from foveate.protocols.answers import parse_answer
from foveate.protocols.base import Ask, Completion, FinishReason, Problem, Protocol, Stop, Subject, Turn


@dataclass(frozen=True, slots=True)
class Direct(Protocol):
    """The model answers from the small view alone: plain GRPO's and SFT's rollout.

    Attributes:
        view_budget: pixels of the full image; the family's own where None.
    """

    view_budget: PixelBudget | None = None
    shows_others: ClassVar[bool] = True

    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """The question at first, then the end."""
        if turns:
            return stop_with_answer(subject, turns[-1])
        asked = prompts.answer(subject.question, subject.family.box_style)
        return Ask(Context.user(*subject.full_views(self.view_budget), asked), final=True)

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """The reply as an answer turn."""
        return answer_turn(subject, context, completion)


def answer_turn(subject: Subject, context: Context, completion: Completion) -> Turn:
    """A reply that was asked for the answer, with what is wrong with it."""
    problem = None
    if completion.finish_reason is FinishReason.LENGTH:
        problem = Problem.OVER_LENGTH
    elif parse_answer(completion.text, subject.question.choices) is None:
        problem = Problem.NO_ANSWER
    return Turn(context, completion, problem=problem)


def stop_with_answer(subject: Subject, turn: Turn) -> Stop:
    """The end after an answer turn."""
    return Stop.with_answer(parse_answer(turn.completion.text, subject.question.choices))
