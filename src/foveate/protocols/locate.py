"""Two turns: locate on the small view, then answer from crops of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from foveate.context import Context
from foveate.images import PixelBudget
from foveate.protocols import prompts
from foveate.protocols.base import Ask, Completion, FinishReason, Problem, Protocol, Stop, StopReason, Subject, Turn
from foveate.protocols.direct import answer_turn, stop_with_answer
from foveate.protocols.parsing import parse_boxes

WithoutRegion = Literal["stop", "full_image"]


@dataclass(frozen=True, slots=True)
class LocateThenAnswer(Protocol):
    """HART's closed loop (arXiv 2602.23615) and its variants with the full image kept.

    The answer turn is a fresh context: the model's own words of the locating turn are not in it. Further pictures of a
    question are shown whole in both turns, after the first or what stands for it: regions are located in the first.

    Attributes:
        withhold_full_image: the answer turn sees the crops only (HART), or the full image and the crops.
        max_boxes: regions that may be located; further ones are left out and noted as a problem.
        without_region: what follows when no valid box was written: the episode ends unanswered (the closed loop: the
            paper is silent, so this is an assumption), or the answer turn gets the full image instead.
        view_budget: pixels of the full image; the family's own where None.
        crop_budget: pixels of each crop; the view's where None.
        answer_view_budget: pixels of the full image where the answer turn shows it; the view's where None. Sharper than
            the view that was pointed at, it lets the answer come from elsewhere than the crop.

    Raises:
        ValueError: `max_boxes` is under 1, or `without_region` is none of the two.
    """

    withhold_full_image: bool = True
    max_boxes: int = 4
    without_region: WithoutRegion = "stop"
    view_budget: PixelBudget | None = None
    crop_budget: PixelBudget | None = None
    answer_view_budget: PixelBudget | None = None
    shows_others: ClassVar[bool] = True
    answers_afresh: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_boxes < 1:
            raise ValueError(f"max_boxes is {self.max_boxes}: a region has to be located")
        if self.without_region not in get_args(WithoutRegion):
            raise ValueError(f"without_region is {self.without_region!r}, not one of {get_args(WithoutRegion)}")

    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """Locate, answer, end."""
        question, family = subject.question, subject.family
        if len(turns) == 2:
            return stop_with_answer(subject, turns[-1])
        if not turns:
            view, *others = subject.full_views(self.view_budget)
            asked = prompts.locate(question, family.frame, view.size, family.box_style, self.max_boxes)
            return Ask(Context.user(view, *others, asked))
        located = turns[0]
        if not located.boxes and self.without_region == "stop":
            return Stop(StopReason.NO_REGION)
        views = (subject.crop_view(box, self.crop_budget or self.view_budget) for box in located.boxes)
        crops = tuple({view.key: view for view in views}.values())  # boxes within one pixel give the same crop
        withheld = crops and self.withhold_full_image
        whole, *others = subject.full_views(self.answer_view_budget or self.view_budget)
        full = () if withheld else (whole,)
        asked = prompts.answer(question, family.box_style, crops=len(crops), withheld=not full)
        return Ask(Context.user(*full, *crops, *others, asked), final=True)

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """Boxes from the first reply, the answer from the second."""
        if turns:
            return answer_turn(subject, context, completion)
        return located_turn(subject, context, completion, max_boxes=self.max_boxes)


def located_turn(subject: Subject, context: Context, completion: Completion, *, max_boxes: int) -> Turn:
    """A reply that was asked for boxes of the first picture's view shown last, with what is wrong with it."""
    view = [view for view in context.views if view.picture == 0][-1]
    boxes, problem = parse_boxes(completion.text, subject.family.frame, view.size, view.size, max_boxes=max_boxes)
    if completion.finish_reason is FinishReason.LENGTH:
        problem = Problem.OVER_LENGTH
    return Turn(context, completion, tuple(map(view.to_original, boxes)), located=True, problem=problem)
