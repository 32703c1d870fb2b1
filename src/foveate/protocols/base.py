"""What a protocol is: given the episode so far, what the model is shown next, or why it stops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar
from typing import Protocol as Interface

from PIL import Image

from foveate.context import Context, Sampled
from foveate.errors import FoveateError
from foveate.images import PixelBudget, View, crop_view, full_view
from foveate.questions.schema import Question
from foveate.regions import Box, Frame, Point


class UnshownPicturesError(FoveateError, ValueError):
    """A question with several pictures, asked by a protocol that shows one."""


class SharedContextError(FoveateError, ValueError):
    """A protocol with two models, though its answer turn is not a context of its own."""


class Problem(StrEnum):
    """What was wrong with a model's output."""

    NO_BOX = "no_box"
    """Nothing that could be read as a box."""
    NO_POINT = "no_point"
    """Nothing that could be read as a point, though objects were counted."""
    MALFORMED = "malformed"
    """A box or a point with the wrong number of coordinates, or with one that is not a finite number."""
    REVERSED = "reversed"
    """x1 >= x2 or y1 >= y2."""
    OUTSIDE = "outside"
    """A box or a point not wholly inside the image that the model saw."""
    TOO_MANY = "too_many"
    """More boxes than asked for; the first ones count."""
    OVER_LENGTH = "over_length"
    """The reply was cut off by the limit on new tokens."""
    NO_ANSWER = "no_answer"
    """Nothing that could be read as an answer to the question."""


class FinishReason(StrEnum):
    """Why a generator stopped writing."""

    END = "end"
    """The model ended its reply."""
    LENGTH = "length"
    """The limit on new tokens was reached."""
    FAILED = "failed"
    """There is no reply: an endpoint failed, however often it was asked."""


class StopReason(StrEnum):
    """Why an episode ended."""

    ANSWERED = "answered"
    """The answer turn was reached and an answer read from it."""
    UNPARSED = "unparsed"
    """The answer turn was reached, but holds no answer that could be read."""
    OUT_OF_CALLS = "out_of_calls"
    """The model called a tool when it had no call left, instead of answering."""
    NO_REGION = "no_region"
    """No valid box was located, and the protocol has nothing to fall back on."""
    FAILED = "failed"
    """A turn got no reply. That says nothing of the model: it is counted apart, never as wrong."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as an endpoint counts them, for one reply: what it was shown, pictures included, and what it wrote."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What a generator returns for one sample.

    Attributes:
        token_ids: as sampled, the end-of-reply token included; empty where the generator cannot tell.
        logprobs: of each token under the sampling temperature and the full vocabulary, or empty where the generator
            cannot tell.
        text: the reply; where `finish_reason` is `FAILED`, why there is none.
        usage: as an endpoint counts it; None where the token ids say it, or nothing does.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    usage: Usage | None = None

    @property
    def tokens(self) -> int:
        """How many tokens were written."""
        return self.usage.completion_tokens if self.usage else len(self.token_ids)

    @property
    def sampled(self) -> Sampled:
        """As a later turn's context holds it."""
        return Sampled(self.token_ids, self.text)


@dataclass(frozen=True, slots=True)
class Turn:
    """One generation within an episode, and what was read from it.

    Attributes:
        context: what the model was shown.
        boxes: valid boxes of a locating turn, in original pixels.
        located: whether this turn was asked for boxes.
        problem: what was wrong with the output, if anything.
        points: valid points of a turn that was asked to point, in original pixels.
    """

    context: Context
    completion: Completion
    boxes: tuple[Box, ...] = ()
    located: bool = False
    problem: Problem | None = None
    points: tuple[Point, ...] = ()


class FamilyTraits(Interface):
    """What a protocol needs to know of a model family (met by `families.Family`)."""

    @property
    def frame(self) -> Frame: ...  # noqa: D102

    @property
    def box_style(self) -> str: ...  # noqa: D102

    @property
    def multiple(self) -> int: ...  # noqa: D102

    @property
    def budget(self) -> PixelBudget: ...  # noqa: D102

    def feature_count(self, view: View) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Subject:
    """What an episode is about: the question, its original picture, and the family that is asked.

    Attributes:
        others: the question's further pictures, decoded.
    """

    question: Question
    image: Image.Image
    family: FamilyTraits
    others: tuple[Image.Image, ...] = ()
    _views: dict[tuple[Box | int, PixelBudget], View] = field(default_factory=dict, repr=False, compare=False)

    def told_to(self, family: FamilyTraits) -> Subject:
        """The same for a model of another family, with views of its own."""
        return Subject(self.question, self.image, family, self.others)

    def full_view(self, budget: PixelBudget | None = None) -> View:
        """The whole image under a budget, the family's own where None; made once for all episodes of the question.

        A question's own `view_pixels` lowers the budget, and never raises it. Crops are not concerned.
        """
        return self.full_views(budget)[0]

    def full_views(self, budget: PixelBudget | None = None) -> tuple[View, ...]:
        """The whole image and, after it, every further picture of the question, each under the budget as above."""
        budget = budget or self.family.budget
        if self.question.view_pixels is not None:
            budget = budget.at_most(self.question.view_pixels)
        for number, image in enumerate((self.image, *self.others)):
            if (number, budget) not in self._views:
                self._views[number, budget] = full_view(image, budget, self.family.multiple, number)
        return tuple(self._views[number, budget] for number in range(1 + len(self.others)))

    def crop_view(self, box: Box, budget: PixelBudget | None = None) -> View:
        """A crop of the original (`box` in its pixels), likewise made once."""
        key: tuple[Box | int, PixelBudget] = (box, budget or self.family.budget)
        if key not in self._views:
            self._views[key] = crop_view(self.image, box, key[1], self.family.multiple)
        return self._views[key]


@dataclass(frozen=True, slots=True)
class Ask:
    """Show the model this context next.

    Attributes:
        final: whatever the reply, it is read as the answer.
    """

    context: Context
    final: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """End the episode; `answer` is a letter for multiple choice, the answer's text otherwise."""

    reason: StopReason
    answer: str | None = None

    @classmethod
    def with_answer(cls, answer: str | None) -> Stop:
        """The end after an answer turn; None where no answer could be read from it."""
        return cls(StopReason.UNPARSED if answer is None else StopReason.ANSWERED, answer)


class Protocol(ABC):
    """How a question is asked. Stateless: everything is in the turns so far.

    Attributes:
        shows_others: whether it shows a question's further pictures too.
        answers_afresh: whether boxes come first and the answer turn after them is a context of its own, without a word
            that a model said: another model than the one that located may be asked it.
    """

    shows_others: ClassVar[bool] = False
    answers_afresh: ClassVar[bool] = False

    def refuse_unshown(self, question: Question) -> None:
        """Refuses a question of which the model would not see every picture.

        Raises:
            UnshownPicturesError: it is so.
        """
        if question.others and not self.shows_others:
            raise UnshownPicturesError(
                f"question {question.id} has {1 + len(question.others)} pictures, and {type(self).__name__} shows one: "
                "ask it by direct, locate or zoom"
            )

    def refuse_two_models(self) -> None:
        """Refuses to have one model locate and another one answer where the answer is not asked for afresh.

        Raises:
            SharedContextError: it is so.
        """
        if not self.answers_afresh:
            raise SharedContextError(
                f"{type(self).__name__} has no answer turn that begins anew after a locating one, and what one model "
                "said, in its own tokens and coordinates, is no context for another: have one model locate and another "
                "answer by the protocol locate"
            )

    @abstractmethod
    def next(self, subject: Subject, turns: Sequence[Turn]) -> Ask | Stop:
        """What the model is shown after `turns`, or why the episode ends."""

    @abstractmethod
    def read(self, subject: Subject, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        """What the model said in reply to `context`, which came after `turns`."""
