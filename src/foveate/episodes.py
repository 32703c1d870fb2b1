"""Episodes: questions put to a model by a protocol. The same thing in training and evaluation, whoever answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from foveate.context import Context
from foveate.generators.base import Generator, Request, Sampling
from foveate.images import ImageError, open_image
from foveate.protocols.base import Completion, FinishReason, Protocol, Stop, StopReason, Subject, Turn
from foveate.questions.schema import Question
from foveate.regions import Box, Point, box_area

__all__ = ["Episode", "Group", "StopReason", "Turn", "run_episodes"]


@dataclass(frozen=True, slots=True)
class Episode:
    """One question's way from the first look to the answer.

    Attributes:
        turns: in order, with what the model was shown and the ids that it sampled.
        answer: a letter for multiple choice, text otherwise; None when there is none.
        stop: why it ended.
    """

    question: Question
    turns: tuple[Turn, ...]
    answer: str | None
    stop: StopReason

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Every valid box of its locating turns, in original pixels."""
        return tuple(box for turn in self.turns for box in turn.boxes)

    @property
    def points(self) -> tuple[Point, ...]:
        """Every valid point that it pointed at, in original pixels."""
        return tuple(point for turn in self.turns for point in turn.points)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Width and height of the original, in pixels; None when the model was shown no view."""
        views = self.turns[0].context.views if self.turns else ()
        return views[0].original_size if views else None

    @property
    def box_area(self) -> float | None:
        """Mean area of its valid boxes as a share of the image; None without one."""
        size = self.image_size
        return box_area(self.boxes, size) if size else None


class Group(NamedTuple):
    """The n episodes of one question, which are compared with one another."""

    question: Question
    episodes: tuple[Episode, ...]


@dataclass(slots=True)
class _Running:
    subject: Subject
    seed: int
    turns: list[Turn] = field(default_factory=list)
    stop: Stop | None = None


def run_episodes(
    questions: Iterable[Question],
    protocol: Protocol,
    generator: Generator,
    *,
    n: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    at_once: int = 64,
    answered_by: Callable[[Question], Completion] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Group]:
    """Runs n episodes of each question, turn by turn over all of them, so that the generator gets full batches.

    Episodes of a question that are shown the same context share one request. Each picture is opened once.

    Args:
        seed: with the question's id, the number of the episode and of the turn it decides every random number. The
            episodes of a question that comes again go on counting, so that they are others.
        at_once: questions whose originals are held in memory at the same time.
        answered_by: writes the final turns in the generator's place (a reference answer).
        on_progress: called with the number of questions finished since the last call.

    Raises:
        ImageError: a picture cannot be used; the message names the question.
        UnshownPicturesError: a question has several pictures, and the protocol shows one.
        ValueError: n or at_once is under 1.
    """
    if n < 1 or at_once < 1:
        raise ValueError(f"needs n >= 1 and at_once >= 1, not {n} and {at_once}")
    sampling = sampling or Sampling()
    groups: list[Group] = []
    asked: Counter[str] = Counter()
    remaining = iter(questions)
    while chunk := tuple(islice(remaining, at_once)):
        groups += _run_chunk(chunk, protocol, generator, n, sampling, seed, asked, answered_by)
        if on_progress:
            on_progress(len(chunk))
    return groups


def _run_chunk(
    questions: Sequence[Question],
    protocol: Protocol,
    generator: Generator,
    n: int,
    sampling: Sampling,
    seed: int,
    asked: Counter[str],
    answered_by: Callable[[Question], Completion] | None,
) -> list[Group]:
    running: list[_Running] = []
    for question in questions:
        protocol.refuse_unshown(question)
    for question in questions:
        try:
            image, *others = (open_image(picture) for picture in (question.image, *question.others))
        except ImageError as error:
            raise ImageError(f"question {question.id}: {error}") from error
        subject = Subject(question, image, generator.family, tuple(others))
        first = asked[question.id] * n
        running += [_Running(subject, _derived(seed, question.id, first + number)) for number in range(n)]
        asked[question.id] += 1
    while active := [episode for episode in running if episode.stop is None]:
        shared: dict[Hashable, tuple[Context, list[_Running]]] = {}
        for episode in active:
            step = protocol.next(episode.subject, episode.turns)
            if isinstance(step, Stop):
                episode.stop = step
                continue
            if step.final and answered_by:
                written = answered_by(episode.subject.question)
                episode.turns.append(protocol.read(episode.subject, episode.turns, step.context, written))
                continue
            key = (id(episode.subject), step.context.key)
            shared.setdefault(key, (step.context, []))[1].append(episode)
        requests = [
            Request(context, tuple(_derived(e.seed, "turn", len(e.turns)) for e in sharing))
            for context, sharing in shared.values()
        ]
        replies = generator.generate(requests, sampling) if requests else []
        for (context, sharing), completions in zip(shared.values(), replies, strict=True):
            for episode, completion in zip(sharing, completions, strict=True):
                if completion.finish_reason is FinishReason.FAILED:
                    episode.turns.append(Turn(context, completion))
                    episode.stop = Stop(StopReason.FAILED)
                else:
                    episode.turns.append(protocol.read(episode.subject, episode.turns, context, completion))
    finished = iter(running)
    return [
        Group(question, tuple(_finished(question, episode) for episode in islice(finished, n)))
        for question in questions
    ]


def _finished(question: Question, episode: _Running) -> Episode:
    assert episode.stop is not None
    return Episode(question, tuple(episode.turns), episode.stop.answer, episode.stop.reason)


def _derived(seed: int, *parts: object) -> int:
    """A 63-bit seed that depends on all parts and on nothing else (not on the process or the platform)."""
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
