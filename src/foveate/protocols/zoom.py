"""The crop tool: the model decides whether, where and how often it looks closer (LFPC)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from foveate.context import Context
from foveate.images import PixelBudget
from foveate.protocols import prompts
from foveate.protocols.base import Ask, Completion, FinishReason, Problem, Protocol, Stop, StopReason, Subject, Turn
from foveate.protocols.direct import answer_turn, stop_with_answer
from foveate.protocols.parsing import parse_boxes

_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ZoomTool(Protocol):
    """LFPC's rollout (arXiv 2603.27494): a growing history in which the model may call `crop` before it answers.

    Boxes are written about the global image shown first; crops always come from the original. A call that cannot be
    carried out is answered with what was wrong with it, and counts against the budget of calls. A reply without a call
    is the answer. Further pictures of a question follow the global image, and are not cropped.

    Attributes:
        max_calls: crops (and failed calls) per episode.
        view_budget: pixels of the global image; the family's own where None.
        crop_budget: pixels of each crop; the view's where None.

    Raises:
        ValueError: fewer than one call.
    """

    max_calls: int = 3
    view_budget: PixelBudget | None = None
    crop_budget: PixelBudget | None = None
    shows_others: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_calls < 1:
            raise ValueError(f"max_calls is {self.max_calls}: use the protocol `direct` for no crop at all")

    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """The question, then a crop or an error for each call, until there is an answer or no call left."""
        question, family = subject.question, subject.family
        if not turns:
            view, *others = subject.full_views(self.view_budget)
            system = prompts.zoom_system(question, family.frame, view.size, family.box_style, self.max_calls)
            asked = prompts.zoom_question(question, family.box_style)
            return Ask(Context.user(view, *others, asked, system=system))
        last = turns[-1]
        if not last.located:
            return stop_with_answer(subject, last)
        left = self.max_calls - len(turns)
        if left < 0:
            return Stop(StopReason.OUT_OF_CALLS)
        said = last.completion.sampled
        if last.boxes:
            crop = subject.crop_view(last.boxes[0], self.crop_budget or self.view_budget)
            return Ask(last.context.replied(said, crop, prompts.zoom_result(question, family.box_style, left)))
        wrong = prompts.zoom_error(question, last.problem or Problem.NO_BOX, family.box_style, left)
        return Ask(last.context.replied(said, wrong))

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """A call, with its box in original pixels or what was wrong with it; or the answer."""
        call = _called(completion.text, subject.family.box_style)
        if call is None:
            return answer_turn(subject, context, completion)
        view = context.views[0]
        boxes, problem = parse_boxes(call, subject.family.frame, view.size, view.original_size, max_boxes=1)
        if completion.finish_reason is FinishReason.LENGTH and not boxes:
            problem = Problem.OVER_LENGTH
        return Turn(context, completion, boxes, located=True, problem=problem)


def _called(text: str, box_style: str) -> str | None:
    """What is inside the first call of a reply, or None. In the short style a reply of several numbers is one."""
    if box_style == "short":
        return text if len(re.findall(r"\d+", text)) > 1 else None
    match = _CALL.search(text)
    return match[1] if match else None
