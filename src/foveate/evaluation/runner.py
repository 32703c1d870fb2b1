"""Evaluation: questions asked by a protocol, episodes scored against what only the evaluation knows."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean
from typing import Any

from foveate.episodes import Episode, Group, run_episodes
from foveate.evaluation.grounding import Grounding, measured
from foveate.evaluation.joint import JointTable
from foveate.evaluation.probes import probe, probe_figures
from foveate.evaluation.setup import family_of, fields_of, fingerprint, wording_of
from foveate.evaluation.statistics import Interval, bootstrap_interval
from foveate.generators.base import Generator, Sampling
from foveate.protocols.base import Protocol
from foveate.questions.schema import Question
from foveate.rewards import accuracy

FIGURES = ("accuracy", "iog30", "mean_iou", "box_area", "valid_boxes")
"""The figures of a summary, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One scored episode, without its pictures."""

    right: bool
    answer: str | None
    stop: str
    grounding: Grounding
    boxes: tuple[tuple[float, float, float, float], ...]
    texts: tuple[str, ...]
    problems: tuple[str, ...]
    tokens: int

    def figure(self, name: str) -> float | None:
        """A figure of `FIGURES`; None where it is undefined."""
        value = self.right if name == "accuracy" else getattr(self.grounding, name)
        return None if value is None else float(value)


@dataclass(frozen=True, slots=True)
class Scored:
    """One question's scored attempts; `regions` is how many true ones it has."""

    id: str
    category: str | None
    expected: str
    attempts: tuple[Attempt, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    regions: int = 0

    def figure(self, name: str) -> float | None:
        """The mean of a figure over the attempts for which it is defined; None when there are none."""
        values = [value for attempt in self.attempts if (value := attempt.figure(name)) is not None]
        return fmean(values) if values else None


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a set of questions: each the mean over the questions for which it is defined.

    Attributes:
        accuracy: share of right answers.
        iog30: share of true regions of which a box covers more than 0.3; None without true regions or boxes asked for.
        mean_iou: best IoU with the true regions; None as above.
        box_area: of the valid boxes, as a share of the image; None when there was no valid box.
        valid_boxes: share of episodes with at least one valid box; None when none were asked for.
        questions: how many there were.
        intervals: 95 % bootstrap interval over questions of each figure that is not None.
    """

    accuracy: float
    iog30: float | None
    mean_iou: float | None
    box_area: float | None
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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        summary: over all questions.
        by_category: over the questions of each category; those without one are under "".
        scored: one per question, in order.
        groups: the kept episodes with their questions as they were given, true regions included.
        setup: everything that can change a score: protocol, budgets, sampling, seed, prompt wording, data.
        seconds: wall-clock time of generation, without the probes.
        probes: what `probe` says of each question; None where nothing was probed.
    """

    summary: Summary
    by_category: Mapping[str, Summary]
    scored: tuple[Scored, ...]
    groups: tuple[Group, ...]
    setup: Mapping[str, Any]
    seconds: float
    probes: Mapping[str, Sequence[float | None]] | None = None

    @property
    def stops(self) -> dict[str, int]:
        """How many episodes ended for each reason; all but `answered` count as wrong."""
        return dict(Counter(attempt.stop for scored in self.scored for attempt in scored.attempts))

    @property
    def joint(self) -> JointTable:
        """Answers against places, where there are true regions."""
        attempts = (attempt for scored in self.scored for attempt in scored.attempts)
        return JointTable.of((attempt.right, attempt.grounding.iog30) for attempt in attempts)

    @property
    def tokens(self) -> int:
        """Sampled tokens of all episodes."""
        return sum(attempt.tokens for scored in self.scored for attempt in scored.attempts)

    def to_json(self) -> dict[str, Any]:
        """Summary, setup and costs, without the single questions; `probes` only where there were any."""
        asked = len(self.scored)
        return {
            "summary": self.summary.to_json(),
            "by_category": {name: summary.to_json() for name, summary in self.by_category.items()},
            "answers_and_places": self.joint.to_json(),
            **({"probes": probe_figures(self.probes)} if self.probes is not None else {}),
            "stops": self.stops,
            "unparsed": self.stops.get("unparsed", 0),
            "tokens_per_question": self.tokens / asked,
            "seconds_per_question": self.seconds / asked,
            "setup": dict(self.setup),
        }


def evaluate(
    questions: Iterable[Question],
    protocol: Protocol,
    generator: Generator,
    *,
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    at_once: int = 64,
    keep: int | None = None,
    probed: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Asks each question `samples` times and scores the episodes. The episodes never see a true region.

    Args:
        sampling: greedy where None.
        seed: of the samples and of the bootstrap.
        at_once: questions whose originals are held in memory at the same time.
        keep: of how many questions, the first ones, the episodes with their pictures are kept; None keeps all.
        probed: whether the answer turn of each question's first episode is asked again under every probe (`probe`)
            while the pictures of its views are at hand: up to five more answers a question.
        on_progress: called with the number of questions finished since the last call.

    Raises:
        ValueError: there are no questions.
        ImageError: a picture cannot be used.
    """
    sampling = sampling or Sampling(temperature=0.0)
    scored: list[Scored] = []
    kept: list[Group] = []
    probes: dict[str, list[float | None]] = {}
    data = hashlib.sha256()
    wording: list[list[str]] = []
    seconds = 0.0
    remaining = iter(questions)
    while chunk := list(islice(remaining, at_once)):
        started = time.perf_counter()
        groups = run_episodes(
            [question.without_annotations() for question in chunk],
            protocol,
            generator,
            n=samples,
            sampling=sampling,
            seed=seed,
            at_once=at_once,
        )
        seconds += time.perf_counter() - started
        wording = wording or [wording_of(turn) for turn in groups[0].episodes[0].turns]
        whole = [Group(question, group.episodes) for question, group in zip(chunk, groups, strict=True)]
        if probed:
            longest = sampling.max_new_tokens
            again = probe(whole, protocol, generator, max_new_tokens=longest, seed=seed, at_once=at_once)
            for name, values in again.items():
                probes.setdefault(name, []).extend(values)
        for group in whole:
            scored.append(score(group.question, group.episodes))
            data.update(fingerprint(group.question))
            if keep is None or len(kept) < keep:
                kept.append(group)
        if on_progress:
            on_progress(len(chunk))
    if not scored:
        raise ValueError("there are no questions to evaluate")
    setup = {
        "protocol": fields_of(protocol),
        "family": family_of(generator),
        "sampling": fields_of(sampling),
        "samples": samples,
        "seed": seed,
        "prompts": wording,
        "data_sha256": data.hexdigest(),
    }
    categories = sorted({one.category or "" for one in scored})
    return Evaluation(
        summary=summarise(scored, seed=seed),
        by_category={
            name: summarise([one for one in scored if (one.category or "") == name], seed=seed) for name in categories
        },
        scored=tuple(scored),
        groups=tuple(kept),
        setup=setup,
        seconds=seconds,
        probes=probes if probed else None,
    )


def score(question: Question, episodes: Sequence[Episode]) -> Scored:
    """The episodes of one question, scored against its answer and its true regions."""
    attempts = tuple(
        Attempt(
            right=bool(accuracy(episode)),
            answer=episode.answer,
            stop=episode.stop.value,
            grounding=measured(episode, question.regions),
            boxes=tuple(box.corners for box in episode.boxes),
            texts=tuple(turn.completion.text for turn in episode.turns),
            problems=tuple(turn.problem.value for turn in episode.turns if turn.problem),
            tokens=sum(turn.completion.tokens for turn in episode.turns),
        )
        for episode in episodes
    )
    return Scored(question.id, question.category, question.answer, attempts, question.tags, len(question.regions))


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
        accuracy=means["accuracy"] or 0.0,
        iog30=means["iog30"],
        mean_iou=means["mean_iou"],
        box_area=means["box_area"],
        valid_boxes=means["valid_boxes"],
        questions=len(scored),
        intervals={name: bootstrap_interval(values, seed=seed) for name, values in columns.items() if values},
    )
