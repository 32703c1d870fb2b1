"""Several turns over a growing history: ground, look closer, answer (MGPO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foveate.context import Context, Message, Sampled
from foveate.images import PixelBudget, View
from foveate.protocols import prompts
from foveate.protocols.base import Ask, Completion, Protocol, Stop, Subject, Turn
from foveate.protocols.direct import answer_turn, stop_with_answer
from foveate.protocols.locate import located_turn


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
            system = prompts.ground_system(family.box_style)
            first = Context((Message("system", (system,)),)) if system else Context(())
            return Ask(first.then(Message("user", (view, asked))))
        last = turns[-1]
        shown: View = (
            subject.crop_view(last.boxes[0], self.crop_budget or self.view_budget)
            if last.boxes
            else subject.full_view(self.view_budget)
        )
        final = len(turns) == self.turns - 1
        if final:
            asked = prompts.answer_grounded(question, family.box_style, cropped=bool(last.boxes))
        else:
            asked = prompts.ground_again(question, family.frame, shown.size, family.box_style)
        said = Message("assistant", (Sampled(last.completion.token_ids),))
        return Ask(last.context.then(said, Message("user", (shown, asked))), final)

    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """A box of the image shown last, or the answer in the last turn."""
        if len(turns) == self.turns - 1:
            return answer_turn(subject, context, completion)
        return located_turn(subject, context, completion, max_boxes=1)
