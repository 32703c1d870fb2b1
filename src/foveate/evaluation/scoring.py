"""What an episode, a question and a set of questions are worth: plain values, which can be written and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter

from foveate.evaluation.grounding import Grounding, measured
from foveate.evaluation.probes import Probed
from foveate.evaluation.statistics import Interval, bootstrap_interval
from foveate.images import View
from foveate.protocols.base import StopReason, Turn
from foveate.questions.schema import Question
from foveate.regions import Corners

if TYPE_CHECKING:
    from foveate.episodes import Episode
    from foveate.evaluation.marking import Mark

FIGURES = ("accuracy", "iog30", "mean_iou", "box_area", "boxes", "valid_boxes")
"""The figures of a summary, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model was shown and wrote.

    Attributes:
        tokens: that it wrote.
        visual_tokens: that it was shown, each view once for every context that begins anew with it.
        prompt_tokens: as an endpoint counted what it was shown; None where nobody did.
    """

    tokens: int
    visual_tokens: int
    prompt_tokens: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One scored episode, without its pictures.

    Attributes:
        boxes: every valid box of its locating turns, in original pixels.
        texts: the reply of each turn.
        tokens: that it wrote.
        visual_tokens: that it was shown, as `Cost` counts them.
        prompt_tokens: as an endpoint counted what it was shown, over all turns that one did; None where nobody did.
        judged: whether a judge said if it is right.
        by_model: what the locating and what the answering model was shown and wrote, where they are two.
    """

    right: bool
    answer: str | None
    stop: str
    grounding: Grounding
    boxes: tuple[Corners, ...]
    texts: tuple[str, ...]
    problems: tuple[str, ...]
    tokens: int
    visual_tokens: int = 0
    prompt_tokens: int | None = None
    judged: bool = False
    by_model: tuple[Cost, Cost] | None = None

    def figure(self, name: str) -> float | None:
        """A figure of `FIGURES`, or `unparsed`: whether no answer could be read; None where it is undefined."""
        value: float | None
        match name:
            case "accuracy":
                value = self.right
            case "unparsed":
                value = self.stop == StopReason.UNPARSED
            case _:
                value = getattr(self.grounding, name)
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Scored:
    """One question's scored attempts, with what of the question a reader of the scores wants to see.

    Attributes:
        regions: the true regions, as `Question.regions`, in original pixels.
        image_size: width and height of the original; None when no attempt was shown a view.
        tags: further groupings that the data set publishes.
        data: the question's fingerprint, in hexadecimal.
        seconds: its share of the time that generation took; None where replies were recorded before.
        probed: its first attempt under every probe; None where it was not probed.
    """

    id: str
    category: str | None
    expected: str
    attempts: Annotated[tuple[Attempt, ...], Field(min_length=1)]
    text: str = ""
    choices: Mapping[str, str] | None = None
    regions: tuple[tuple[Corners, ...], ...] = ()
    image_size: tuple[int, int] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    seconds: float | None = field(default=None, compare=False)
    probed: Probed | None = None

    def figure(self, name: str) -> float | None:
        """The mean of a figure over the attempts for which it is defined; None when there are none."""
        values = [value for attempt in self.attempts if (value := attempt.figure(name)) is not None]
        return fmean(values) if values else None

    def to_json(self) -> dict[str, Any]:
        """As a row of a JSONL file; `SCORED` reads it."""
        return asdict(self)


SCORED = TypeAdapter(Scored)
"""Reads the rows that `Scored.to_json` gave. Unknown keys are passed over: a later version may write more."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a set of questions: each the mean over the questions for which it is defined.

    Attributes:
        accuracy: share of right answers.
        iog30: share of true regions of which a box covers more than 0.3; None without true regions or boxes asked for.
        mean_iou: best IoU with the true regions; None as above.
        box_area: of the valid boxes, as a share of the image; None when there was no valid box.
        boxes: valid boxes of an episode; None when none were asked for.
        valid_boxes: share of episodes with at least one valid box; None as above.
        questions: how many there were.
        intervals: 95 % bootstrap interval over questions of each figure that is not None.
    """

    accuracy: float
    iog30: float | None
    mean_iou: float | None
    box_area: float | None
    boxes: float | None
    valid_boxes: float | None
    questions: int
    intervals: Mapping[str, Interval]

    def figure(self, name: str) -> float | None:
        """A figure of `FIGURES`."""
        value: float | None = getattr(self, name)
        return value

    def to_json(self) -> dict[str, Any]:
        """As JSON writes it: figures, `questions`, and `intervals` as pairs."""
        return {
            **{name: self.figure(name) for name in FIGURES},
            "questions": self.questions,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
        }


def score(
    question: Question,
    episodes: Sequence[Episode],
    marks: Sequence[Mark],
    *,
    tokens_of: Callable[[View], int],
    answering: Callable[[View], int] | None = None,
    data: str = "",
    seconds: float | None = None,
) -> Scored:
    """The episodes of one question, scored against its answer and its true regions.

    Args:
        question: with its annotations.
        episodes: none of which failed.
        marks: one for each, with a verdict.
        tokens_of: how many visual tokens a view costs the model (`FamilyTraits.feature_count`).
        answering: likewise of the model that answers, where it is another than the one that locates.
        data: the question's fingerprint.
        seconds: that they took.
    """
    return Scored(
        question.id,
        question.category,
        question.answer,
        tuple(
            _attempt(question, episode, mark, tokens_of, answering)
            for episode, mark in zip(episodes, marks, strict=True)
        ),
        text=question.text,
        choices=dict(question.choices) if question.choices is not None else None,
        regions=tuple(tuple(box.corners for box in levels) for levels in question.regions),
        tags=dict(question.tags),
        image_size=next((episode.image_size for episode in episodes), None),
        data=data,
        seconds=seconds,
    )


def _attempt(
    question: Question,
    episode: Episode,
    mark: Mark,
    tokens_of: Callable[[View], int],
    answering: Callable[[View], int] | None,
) -> Attempt:
    if answering is None:
        parts = [_cost(episode.turns, tokens_of)]
    else:
        located = [turn for turn in episode.turns if turn.located]
        parts = [_cost(located, tokens_of), _cost(episode.turns[len(located) :], answering)]
    counted = [part.prompt_tokens for part in parts if part.prompt_tokens is not None]
    return Attempt(
        right=bool(mark.right),
        answer=episode.answer,
        stop=episode.stop.value,
        grounding=measured(episode, question.regions),
        boxes=tuple(box.corners for box in episode.boxes),
        texts=tuple(turn.completion.text for turn in episode.turns),
        problems=tuple(turn.problem.value for turn in episode.turns if turn.problem),
        tokens=sum(part.tokens for part in parts),
        visual_tokens=sum(part.visual_tokens for part in parts),
        prompt_tokens=sum(counted) if counted else None,
        judged=mark.judged,
        by_model=None if answering is None else (parts[0], parts[1]),
    )


def _cost(turns: Sequence[Turn], tokens_of: Callable[[View], int]) -> Cost:
    usages = [turn.completion.usage for turn in turns]
    counted = [usage.prompt_tokens for usage in usages if usage is not None]
    written = sum(turn.completion.tokens for turn in turns)
    return Cost(written, visual_tokens(turns, tokens_of), sum(counted) if counted else None)


def visual_tokens(turns: Sequence[Turn], tokens_of: Callable[[View], int]) -> int:
    """Visual tokens that turns of an episode showed: a view counts again only where a context begins anew with it.

    Args:
        turns: any, in order.
        tokens_of: how many a view costs.
    """
    total, before = 0, None
    for turn in turns:
        shown = turn.context.messages
        if before is not None and shown[: len(before)] == before:
            shown = shown[len(before) :]
        total += sum(tokens_of(view) for message in shown for view in message.views)
        before = turn.context.messages
    return total


def summarise(scored: Sequence[Scored], *, seed: int = 0) -> Summary:
    """The figures of these questions, each question counting once however often it was asked.

    Raises:
        ValueError: there are no questions.
    """
    if not scored:
        raise ValueError("there are no questions to summarise")
    columns = {name: [v for one in scored if (v := one.figure(name)) is not None] for name in FIGURES}
    means = {name: fmean(values) if values else None for name, values in columns.items()}
    return Summary(
        accuracy=means.pop("accuracy") or 0.0,
        **means,
        questions=len(scored),
        intervals={name: bootstrap_interval(values, seed=seed) for name, values in columns.items() if values},
    )
