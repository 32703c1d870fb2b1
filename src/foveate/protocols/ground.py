"""MGPO: ground, look closer, answer over a growing history; and its baseline, which does both in one reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from foveate.context import Context
from foveate.images import PixelBudget, View
from foveate.protocols import prompts
from foveate.protocols.answers import parse_answer
from foveate.protocols.base import Ask, Completion, FinishReason, Problem, Protocol, Stop, Subject, Turn
from foveate.protocols.direct import answer_turn, stop_with_answer
from foveate.protocols.locate import located_turn
from foveate.protocols.notation import written_boxes
from foveate.protocols.one_reply import divided, said_explicitly


@dataclass(frozen=True, slots=True)
class GroundThenAnswer(Protocol):
    """MGPO's multi-turn grounding (arXiv 2507.05920): every turn goes on in the context of the one before.

    With two turns this is the fixed template of its training, which needs no cold start: the first turn asks for
    coordinates and does not show the choices, the second brings the crop and asks for the answer. With more turns each
    one between locates anew within the newest crop. Where no valid box was written the original image comes back in
    place of a crop. The full image stays in the context throughout.

    Attributes:
        turns: generations per episode; more at inference than in training is allowed.
        view_budget: pixels of the full image; the family's own where None.
        crop_budget: pixels of each crop; the view's where None.

    Raises:
        ValueError: fewer than two turns.
    """

    turns: int = 2
    view_budget: PixelBudget | None = None
    crop_budget: PixelBudget | None = None

    def __post_init__(self) -> None:
        if self.turns < 2:
            raise ValueError(f"turns is {self.turns}: grounding takes one, the answer another")

    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """Coordinates, turn by turn, then the answer."""
        question, family = subject.question, subject.family
        if len(turns) == self.turns:
            return stop_with_answer(subject, turns[-1])
        if not turns:
            view = subject.full_view(self.view_budget)
            asked = prompts.ground(question, family.frame, view.size, family.box_style)
            return Ask(Context.user(view, asked, system=prompts.ground_system(question, family.box_style)))
        last = turns[-1]
        shown = _brought(subject, last, self.view_budget, self.crop_budget)
        final = len(turns) == self.turns - 1
        if final:
            asked = prompts.answer_grounded(question, family.box_style, cropped=bool(last.boxes))
        else:
            asked = prompts.ground_again(question, family.frame, shown.size, family.box_style)
        return Ask(last.context.replied(last.completion.sampled, shown, asked), final)

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """A box of the image shown last, or the answer in the last turn."""
        if len(turns) == self.turns - 1:
            return answer_turn(subject, context, completion)
        return located_turn(subject, context, completion, max_boxes=1)


@dataclass(frozen=True, slots=True)
class GroundUntilAnswered(Protocol):
    r"""MGPO's general form (arXiv 2507.05920): the model itself decides when it has seen enough.

    Every turn but the last may answer or locate: a final answer ends the episode, coordinates bring a crop of the image
    shown last, and where neither can be read the original image comes back. In the last turn whatever is said is read
    as the answer. Since any turn may answer, all show the choices.

    Before the last turn an answer is final where it stands in `\boxed{}`, in `<answer>` or under the key "answer",
    even beside coordinates; of a reply without coordinates, also where it is the letter of a choice, or the question is
    verbatim and asks for no such mark. In the short style several numbers are a box, and anything else is the answer.

    Attributes:
        turns: generations per episode, at most.
        view_budget: pixels of the full image; the family's own where None.
        crop_budget: pixels of each crop; the view's where None.

    Raises:
        ValueError: fewer than two turns.
    """

    turns: int = 3
    view_budget: PixelBudget | None = None
    crop_budget: PixelBudget | None = None

    def __post_init__(self) -> None:
        if self.turns < 2:
            raise ValueError(f"turns is {self.turns}: use the protocol `direct` for an answer without a crop")

    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """The question, then a crop or the original image again for each turn that did not answer."""
        question, family = subject.question, subject.family
        if not turns:
            view = subject.full_view(self.view_budget)
            asked = prompts.ground_freely(question, family.frame, view.size, family.box_style, brought="first")
            system = prompts.ground_freely_system(question, family.box_style, self.turns - 1)
            return Ask(Context.user(view, asked, system=system))
        last = turns[-1]
        if not last.located:
            answer = self._answer(subject, last.completion, last=len(turns) == self.turns)
            return Stop.with_answer(answer)
        shown = _brought(subject, last, self.view_budget, self.crop_budget)
        final = len(turns) == self.turns - 1
        if final:
            asked = prompts.answer_grounded(question, family.box_style, cropped=bool(last.boxes))
        else:
            brought: Literal["crop", "original"] = "crop" if last.boxes else "original"
            asked = prompts.ground_freely(question, family.frame, shown.size, family.box_style, brought=brought)
        return Ask(last.context.replied(last.completion.sampled, shown, asked), final)

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """The answer, or else a box of the image shown last; the last turn is always read as an answer."""
        last = len(turns) == self.turns - 1
        answer = self._answer(subject, completion, last=last)
        if answer is None and not last:
            return located_turn(subject, context, completion, max_boxes=1)
        problem = Problem.NO_ANSWER if answer is None else None
        if completion.finish_reason is FinishReason.LENGTH:
            problem = Problem.OVER_LENGTH
        return Turn(context, completion, problem=problem)

    def _answer(self, subject: Subject, completion: Completion, *, last: bool) -> str | None:
        """The answer that ends the episode here, or None."""
        text, choices = completion.text, subject.question.choices
        if subject.family.box_style == "short":
            pointed = len(re.findall(r"\d+(?:\.\d+)?", text)) > 1
            return parse_answer(text, choices) if last or not pointed else None
        if (said := said_explicitly(text)) is not None:
            return parse_answer(said, choices)
        unmarked = choices is not None or subject.question.verbatim
        if last or (unmarked and not written_boxes(text)):
            return parse_answer(text, choices)
        return None


@dataclass(frozen=True, slots=True)
class GroundAndAnswer(Protocol):
    """One turn: coordinates and the answer in the same reply, without a crop.

    MGPO (arXiv 2507.05920) trains its GRPO baseline so: the model says where it looks, and answers from the small view
    all the same. Evaluation therefore knows its boxes, as it does those of the methods that look closer.

    Attributes:
        view_budget: pixels of the full image; the family's own where None.
    """

    view_budget: PixelBudget | None = None

    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """The question with its choices at first, then the end, with what the reply gave as the answer."""
        question, family = subject.question, subject.family
        if turns:
            answer = _answer_beside(subject, turns[-1].completion)
            return Stop.with_answer(answer)
        view = subject.full_view(self.view_budget)
        asked = prompts.ground_and_answer(question, family.frame, view.size, family.box_style)
        return Ask(Context.user(view, asked), final=True)

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """The box of a reply; the problem is that of the box, or else that there is no answer."""
        pointed, _ = divided(completion.text, subject.family.box_style)
        located = located_turn(subject, context, replace(completion, text=pointed), max_boxes=1)
        problem = located.problem
        if problem is None and _answer_beside(subject, completion) is None:
            problem = Problem.NO_ANSWER
        return replace(located, completion=completion, problem=problem)


def _brought(subject: Subject, last: Turn, view_budget: PixelBudget | None, crop_budget: PixelBudget | None) -> View:
    """What a locating turn brings: the crop that it asked for, or the original image once more."""
    if last.boxes:
        return subject.crop_view(last.boxes[0], crop_budget or view_budget)
    return subject.full_view(view_budget)


def _answer_beside(subject: Subject, completion: Completion) -> str | None:
    _, said = divided(completion.text, subject.family.box_style)
    return parse_answer(said, subject.question.choices) if said else None
