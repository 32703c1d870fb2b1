"""Counting with points: point at each object, then say how many there are (MGPO's appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foveate.context import Context
from foveate.images import PixelBudget
from foveate.protocols import prompts
from foveate.protocols.answers import parse_answer
from foveate.protocols.base import Ask, Completion, FinishReason, Problem, Protocol, Stop, Subject, Turn
from foveate.protocols.matching import is_right
from foveate.protocols.notation import Corners, written_points
from foveate.protocols.one_reply import beside_coordinates
from foveate.protocols.parsing import valid_points
from foveate.protocols.tree import number_in


@dataclass(frozen=True, slots=True)
class PointThenCount(Protocol):
    """One turn: the full image, a point on each object that counts, and the count (arXiv 2507.05920, appendix).

    Attributes:
        view_budget: pixels of the full image; the family's own where None.
    """

    view_budget: PixelBudget | None = None

    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """The question at first, then the end."""
        question, family = subject.question, subject.family
        if turns:
            answer = parse_answer(_parts(turns[-1].completion, family.box_style)[1], question.choices)
            return Stop.with_answer(answer)
        view = subject.full_view(self.view_budget)
        asked = prompts.count(question, family.frame, view.size, family.box_style)
        return Ask(Context.user(view, asked), final=True)

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """The points, in original pixels, and what is wrong with them or with the count."""
        view, family, choices = context.views[0], subject.family, subject.question.choices
        written, said = _parts(completion, family.box_style)
        points, problem = valid_points(written, family.frame, view.size, view.size)
        answer = parse_answer(said, choices)
        if completion.finish_reason is FinishReason.LENGTH:
            problem = Problem.OVER_LENGTH
        elif problem is None and answer is None:
            problem = Problem.NO_ANSWER
        elif problem is None and not points and not is_right(choices[answer] if choices and answer else answer, "0"):
            problem = Problem.NO_POINT
        return Turn(context, completion, problem=problem, points=tuple(map(view.point_to_original, points)))


def _parts(completion: Completion, box_style: str) -> tuple[list[Corners], str]:
    """What a reply gives as points, and where its count is to be read: no coordinate is taken for it.

    The short style is x1 y1 x2 y2 ... count: an even number of words has no count, nor has a reply that was cut off.
    """
    text = completion.text
    if box_style == "short":
        words = text.split()
        counted = len(words) % 2 == 1 and completion.finish_reason is not FinishReason.LENGTH
        said = words.pop() if counted else ""
        return [_pair(words[i : i + 2]) for i in range(0, len(words), 2)], said
    return written_points(text), beside_coordinates(text)


def _pair(words: Sequence[str]) -> Corners:
    """Two words as a point; fewer coordinates where a word is no number."""
    return tuple(number for word in words if (number := number_in(word)) is not None)
