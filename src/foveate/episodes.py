"""Episodes: questions put to a model by a protocol. The same thing in training and evaluation, whoever answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from foveate.context import Context
from foveate.generators.base import Arrival, Generator, Request, Sampling
from foveate.images import ImageError, open_image
from foveate.protocols.base import (
    Ask,
    Completion,
    FamilyTraits,
    FinishReason,
    Protocol,
    Stop,
    StopReason,
    Subject,
    Turn,
)
from foveate.questions.schema import Question
from foveate.regions import Box, Point, box_area

__all__ = ["Answerer", "Episode", "Group", "StopReason", "Turn", "episode_chunks", "run_episodes"]

HELD_PIXELS = 2**28
"""Of originals that are in memory at the same time (0.8 GB): 8K pictures come in chunks of nine."""


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


class Answerer(NamedTuple):
    """Another model than the one that locates, which is asked the answer turns in its own family's terms.

    Attributes:
        protocol: the locating model's, but with the pixel budgets of this one.
        generator: who answers.
    """

    protocol: Protocol
    generator: Generator


class _Part(NamedTuple):
    """What one model is asked about a question: everything in the terms of its family."""

    subject: Subject
    protocol: Protocol
    generator: Generator

    def next(self, turns: Sequence[Turn]) -> Ask | Stop:
        return self.protocol.next(self.subject, turns)

    def read(self, turns: Sequence[Turn], context: Context, completion: Completion) -> Turn:
        return self.protocol.read(self.subject, turns, context, completion)


@dataclass(slots=True)
class _Running:
    """An episode on its way.

    Attributes:
        asked: whose turn it is.
        answering: who is asked from the answer turn on.
        place: among the episodes of its chunk.
        shown: what its next reply continues.
    """

    asked: _Part
    answering: _Part
    seed: int
    place: int
    turns: list[Turn] = field(default_factory=list)
    shown: Context | None = None
    stop: Stop | None = None

    def next_context(self, answered_by: Callable[[Question], Completion] | None) -> Context | None:
        """What is shown next, and to whom; None where the episode has ended."""
        while True:
            step = self.asked.next(self.turns)
            if isinstance(step, Ask) and step.final and self.asked is not self.answering:
                self.asked = self.answering
                step = self.asked.next(self.turns)
            if isinstance(step, Stop):
                self.stop = step
                return None
            self.shown = step.context
            if not (step.final and answered_by):
                return step.context
            self.take(answered_by(self.asked.subject.question))

    def take(self, completion: Completion) -> None:
        """What was said to it."""
        assert self.shown is not None
        if completion.finish_reason is FinishReason.FAILED:
            self.turns.append(Turn(self.shown, completion))
            self.stop = Stop(StopReason.FAILED)
        else:
            self.turns.append(self.asked.read(self.turns, self.shown, completion))


def run_episodes(
    questions: Iterable[Question],
    protocol: Protocol,
    generator: Generator,
    *,
    answerer: Answerer | None = None,
    n: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    at_once: int = 64,
    answered_by: Callable[[Question], Completion] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Group]:
    """Runs n episodes of each question, turn by turn over all of them, so that the generator gets full batches.

    As `episode_chunks`, all chunks together.

    Args:
        on_progress: called with the number of questions finished since the last call.

    Raises:
        ImageError: a picture cannot be used; the message names the question.
        SharedContextError: there is an answerer, and the protocol's answer turn is no context of its own.
        UnshownPicturesError: a question has several pictures, and the protocol shows one.
        ValueError: n or at_once is under 1.
    """
    groups: list[Group] = []
    for chunk in episode_chunks(
        questions,
        protocol,
        generator,
        answerer=answerer,
        n=n,
        sampling=sampling,
        seed=seed,
        at_once=at_once,
        answered_by=answered_by,
    ):
        groups += chunk
        if on_progress:
            on_progress(len(chunk))
    return groups


def episode_chunks(
    questions: Iterable[Question],
    protocol: Protocol,
    generator: Generator,
    *,
    answerer: Answerer | None = None,
    n: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    at_once: int = 64,
    answered_by: Callable[[Question], Completion] | None = None,
    on_unreadable: Callable[[Question, ImageError], None] | None = None,
) -> Iterator[list[Group]]:
    """The episodes of questions, chunk by chunk: what one chunk holds in memory goes before the next is opened.

    Episodes of a question that are shown the same context share one request. Each picture is opened once.

    Args:
        protocol: by which the generator is asked, with the pixel budgets of its family.
        generator: who locates, and answers where there is no other.
        answerer: who is asked the answer turns instead; each turn is shown and read in the terms of its own model.
        seed: with the question's id, the number of the episode and of the turn it decides every random number. The
            episodes of a question that comes again go on counting, so that they are others.
        at_once: questions whose originals are held in memory at the same time; fewer where they are larger than
            `HELD_PIXELS` together.
        answered_by: writes the final turns in the generator's place (a reference answer).
        on_unreadable: told of a question whose picture cannot be used, which then has no group.

    Raises:
        ImageError: a picture cannot be used, and nobody is told; the message names the question.
        SharedContextError: as `run_episodes`.
        ValueError: n or at_once is under 1.
    """
    if n < 1 or at_once < 1:
        raise ValueError(f"needs n >= 1 and at_once >= 1, not {n} and {at_once}")
    if answerer:
        protocol.refuse_two_models()
    sampling = sampling or Sampling()
    asked: Counter[str] = Counter()
    for subjects in _opened(questions, protocol, generator.family, at_once, on_unreadable):
        groups = _run_chunk(subjects, protocol, generator, answerer, n, sampling, seed, asked, answered_by)
        subjects.clear()  # the originals go while the caller looks at the groups
        yield groups


def _opened(
    questions: Iterable[Question],
    protocol: Protocol,
    family: FamilyTraits,
    at_once: int,
    on_unreadable: Callable[[Question, ImageError], None] | None,
) -> Iterator[list[Subject]]:
    """The questions with their pictures, as many at a time as may be held."""
    subjects: list[Subject] = []
    held = 0
    for question in questions:
        protocol.refuse_unshown(question)
        try:
            image, *others = (open_image(picture) for picture in (question.image, *question.others))
        except ImageError as error:
            if on_unreadable is None:
                raise ImageError(f"question {question.id}: {error}") from error
            on_unreadable(question, error)
            continue
        subjects.append(Subject(question, image, family, tuple(others)))
        held += sum(picture.width * picture.height for picture in (image, *others))
        del image, others  # or they would outlive their chunk
        if len(subjects) == at_once or held >= HELD_PIXELS:
            yield subjects
            subjects, held = [], 0
    if subjects:
        yield subjects


def _run_chunk(
    subjects: Sequence[Subject],
    protocol: Protocol,
    generator: Generator,
    answerer: Answerer | None,
    n: int,
    sampling: Sampling,
    seed: int,
    asked: Counter[str],
    answered_by: Callable[[Question], Completion] | None,
) -> list[Group]:
    running: list[_Running] = []
    for subject in subjects:
        locating = answering = _Part(subject, protocol, generator)
        if answerer:
            answering = _Part(subject.told_to(answerer.generator.family), *answerer)
        name = subject.question.id
        first = asked[name] * n
        running += [
            _Running(locating, answering, _derived(seed, name, first + number), len(running) + number)
            for number in range(n)
        ]
        asked[name] += 1
    left = _converse(running, generator, sampling, answered_by)
    if answerer:
        _converse(left, answerer.generator, sampling, answered_by)
    finished = iter(running)
    return [
        Group(subject.question, tuple(_finished(episode) for episode in islice(finished, n))) for subject in subjects
    ]


def _converse(
    episodes: Sequence[_Running],
    generator: Generator,
    sampling: Sampling,
    answered_by: Callable[[Question], Completion] | None,
) -> list[_Running]:
    """Asks one model until each episode has ended or its next turn is another's; returns these."""
    left: list[_Running] = []
    waiting: list[list[_Running]] = []  # by the number of the request
    shown: dict[Hashable, Context] = {}  # equal contexts are one object, which is encoded once

    def ask(active: Iterable[_Running]) -> list[Request]:
        shared: dict[Hashable, list[_Running]] = {}
        for episode in active:
            context = episode.next_context(answered_by)
            if context is None:
                continue
            if episode.asked.generator is not generator:
                left.append(episode)
                continue
            key = (id(episode.asked.subject), context.key)
            episode.shown = shown.setdefault(key, context)
            shared.setdefault(key, []).append(episode)
        waiting.extend(shared.values())
        return [
            Request(shown[key], tuple(_derived(e.seed, "turn", len(e.turns)) for e in sharing))
            for key, sharing in shared.items()
        ]

    def read(arrivals: Sequence[Arrival]) -> list[Request]:
        told = [(waiting[arrival.request][arrival.sample], arrival.completion) for arrival in arrivals]
        for episode, completion in told:
            episode.take(completion)
        return ask(sorted((episode for episode, _ in told if episode.stop is None), key=lambda one: one.place))

    generator.converse(ask(episodes), sampling, read)
    return left


def _finished(episode: _Running) -> Episode:
    assert episode.stop is not None
    return Episode(episode.asked.subject.question, tuple(episode.turns), episode.stop.answer, episode.stop.reason)


def _derived(seed: int, *parts: object) -> int:
    """A 63-bit seed that depends on all parts and on nothing else (not on the process or the platform)."""
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
