"""Evaluation: questions asked by a protocol, episodes scored against what only the evaluation knows."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from foveate.episodes import Answerer, Group, StopReason, episode_chunks
from foveate.errors import FoveateError
from foveate.evaluation.curves import grounding_curves
from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.joint import JointTable
from foveate.evaluation.looking import Looking, looking
from foveate.evaluation.marking import Marker
from foveate.evaluation.probes import Probed, Prober, ProbeSet, probe_figures
from foveate.evaluation.scoring import Scored, Summary, score, summarise
from foveate.evaluation.setup import data_sha256, family_of, fields_of, fingerprint, setup_of, wording_of
from foveate.generators.base import Generator, Sampling
from foveate.images import ImageError, View
from foveate.protocols.base import Protocol
from foveate.questions.schema import Question

logger = logging.getLogger(__name__)


class EvaluationError(FoveateError, ValueError):
    """An evaluation that cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        summary: over all questions that did not fail.
        by_category: over the questions of each category; those without one are under "".
        scored: one per question, in order.
        groups: the kept episodes with their questions as they were given, true regions included.
        setup: everything that can change a score: protocol, budgets, sampling, seed, prompt wording, data.
        failed: the questions that have no answer for no fault of the model, by id, each with the reason: in no figure.
    """

    summary: Summary
    by_category: Mapping[str, Summary]
    scored: tuple[Scored, ...]
    groups: tuple[Group, ...]
    setup: Mapping[str, Any]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def seconds_per_question(self) -> float | None:
        """Wall-clock time of generation, without the probes, of the questions of which it is known."""
        known = [scored.seconds for scored in self.scored if scored.seconds is not None]
        return fmean(known) if known else None

    @property
    def probed(self) -> tuple[Probed, ...]:
        """Each question under every probe; empty where nothing was probed."""
        return tuple(scored.probed for scored in self.scored if scored.probed is not None)

    @property
    def probes_of_all(self) -> dict[str, list[float | None]] | None:
        """Of each question whether it is right under each probe (`Probed.counted`); None where nothing was probed."""
        probed = self.probed
        if len(probed) < len(self.scored):
            return None
        return {name: [one.counted(name) for one in probed] for name in probed[0].right}

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
    def looking(self) -> Looking | None:
        """What the probes say together; None where nothing was probed."""
        return looking(self.probed, seed=self.setup["seed"]) if self.probed else None

    def _looks(self) -> dict[str, Any]:
        """What the probes say; under `probes_of_all` as the papers count, with every question."""
        if (found := self.looking) is None or (probes := self.probes_of_all) is None:
            return {}
        return {**found.to_json(), "probes_of_all": probe_figures(probes)}

    def _by_model(self) -> dict[str, Any]:
        """What each of two models was shown and wrote for a question; empty where there is one."""
        pairs = [attempt.by_model for scored in self.scored for attempt in scored.attempts if attempt.by_model]
        if not pairs:
            return {}
        found = {}
        for part, costs in zip(("locator", "answerer"), zip(*pairs, strict=True), strict=True):
            sums = {
                "tokens": sum(cost.tokens for cost in costs),
                "visual_tokens": sum(cost.visual_tokens for cost in costs),
            }
            if counted := [cost.prompt_tokens for cost in costs if cost.prompt_tokens is not None]:
                sums["prompt_tokens"] = sum(counted)
            found[part] = {f"{name}_per_question": value / len(self.scored) for name, value in sums.items()}
        return {"by_model": found}

    def to_json(self) -> dict[str, Any]:
        """Summary, setup and costs, without the single questions; some keys only where there is something to say."""
        attempts = [attempt for scored in self.scored for attempt in scored.attempts]
        asked = len(self.scored)
        prompts = [attempt.prompt_tokens for attempt in attempts if attempt.prompt_tokens is not None]
        curves = grounding_curves(self.scored)
        return {
            "summary": self.summary.to_json(),
            "by_category": {name: summary.to_json() for name, summary in self.by_category.items()},
            "answers_and_places": self.joint.to_json(),
            **({"curves": curves} if curves else {}),
            **self._looks(),
            "stops": self.stops,
            "unparsed": self.stops.get("unparsed", 0),
            "judged": sum(attempt.judged for attempt in attempts),
            "failed": len(self.failed),
            "tokens_per_question": sum(attempt.tokens for attempt in attempts) / asked,
            "visual_tokens_per_question": sum(attempt.visual_tokens for attempt in attempts) / asked,
            **({"prompt_tokens_per_question": sum(prompts) / asked} if prompts else {}),
            **self._by_model(),
            "seconds_per_question": self.seconds_per_question,
            "setup": dict(self.setup),
        }


def evaluate(
    questions: Iterable[Question],
    protocol: Protocol,
    generator: Generator,
    *,
    answerer: Answerer | None = None,
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    at_once: int = 64,
    keep: int | None = None,
    probes: ProbeSet | None = None,
    marker: Marker | None = None,
    folder: EvaluationFolder | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Asks each question `samples` times and scores the episodes. The episodes never see a true region.

    Args:
        answerer: another model that is asked the answer turns, and those of the probes.
        sampling: greedy where None.
        seed: of the samples and of the bootstrap.
        at_once: questions whose originals are held in memory at the same time, at most (`episode_chunks`).
        keep: of how many questions, the first ones, the episodes with their pictures are kept; None keeps all.
        probes: under which the answer turn of each question's first episode is asked again, while the pictures of its
            views are at hand; none where None.
        marker: says which answers are right; plain matching where None.
        folder: where each question is written down as it is finished; those that it has already are not asked again,
            and have no group.
        on_progress: called with the number of questions finished since the last call.

    Raises:
        EvaluationError: there are no questions, every one failed, or one is not what it was when it was asked.
        SharedContextError: there is an answerer, and the protocol's answer turn is no context of its own.
    """
    if answerer:
        protocol.refuse_two_models()  # before the folder is touched
    answering = answerer or Answerer(protocol, generator)
    sampling = sampling or Sampling(temperature=0.0)
    marker = marker or Marker()
    progress = on_progress or (lambda finished: None)
    prober = None
    if probes:
        longest = sampling.max_new_tokens
        prober = Prober(*answering, probes, marker=marker, max_new_tokens=longest, seed=seed, at_once=at_once)
    if folder:
        folder.open()
        _refuse_other_questions(folder, questions)
        if done := len(folder.finished):
            logger.warning("%d question(s) are finished already in %s, and not asked again", done, folder.path)
    costs = (generator.family.feature_count, answerer.generator.family.feature_count if answerer else None)
    run = _Run(folder, prober, marker, costs, progress)
    chunks = episode_chunks(
        run.unfinished(questions),
        protocol,
        generator,
        answerer=answerer,
        n=samples,
        sampling=sampling,
        seed=seed,
        at_once=at_once,
        on_unreadable=run.unreadable,
    )
    kept: list[Group] = []
    while True:
        started, recalled = time.perf_counter(), (generator.recalled, answering.generator.recalled)
        if (groups := next(chunks, None)) is None:
            break
        # A reply that was recorded takes no time: what such a chunk took says nothing.
        fresh = (generator.recalled, answering.generator.recalled) == recalled
        seconds = time.perf_counter() - started if fresh else None
        answered = run.take(groups, seconds)
        kept += answered[: None if keep is None else max(0, keep - len(kept))]
    setup = {
        "protocol": fields_of(protocol),
        "family": family_of(generator),
        **({"answerer": setup_of(answerer)} if answerer else {}),
        "sampling": fields_of(sampling),
        "samples": samples,
        "seed": seed,
        "prompts": run.wording,
        **marker.setup(),
    }
    return _evaluation(run.in_order(), kept, run.failed, {**setup, "data_sha256": run.data_sha256()}, seed)


def _refuse_other_questions(folder: EvaluationFolder, questions: Iterable[Question]) -> None:
    """Before anything is asked: a folder must not come to hold the answers to two data sets."""
    if not isinstance(questions, Sequence) or not folder.finished:
        return
    if more := len(folder.finished.keys() - {question.id for question in questions}):
        raise EvaluationError(
            f"{folder.path} has answers to {more} question(s) that are not among these, of other data or of a higher "
            "limit: name another folder, or raise the limit"
        )


class _Run:
    """The questions on their way: the place of each, what it was with its regions, and what became of it."""

    def __init__(
        self,
        folder: EvaluationFolder | None,
        prober: Prober | None,
        marker: Marker,
        costs: tuple[Callable[[View], int], Callable[[View], int] | None],
        progress: Callable[[int], None],
    ) -> None:
        self._folder, self._prober, self._marker = folder, prober, marker
        (self._tokens_of, self._answering), self._progress = costs, progress
        self._rows: dict[int, Scored] = {}
        self._data: dict[int, str] = {}
        self._asked: dict[int, tuple[int, Question, Question]] = {}
        self._passed: deque[tuple[int, Question, Scored]] = deque()
        self.failed: dict[str, str] = {}
        self.wording = folder.prompts if folder else []

    def unfinished(self, questions: Iterable[Question]) -> Iterator[Question]:
        """What is still to be asked, without its annotations. What is finished already goes by."""
        for place, question in enumerate(questions):
            if self._folder and (row := self._folder.finished.get(question.id)):
                if row.data != fingerprint(question).hex():
                    where = self._folder.path
                    raise EvaluationError(
                        f"question {question.id} is not what it was when {where} asked it: name another folder"
                    )
                self._rows[place], self._data[place] = row, row.data
                self._passed.append((place, question, row))
                self._progress(1)
                continue
            stripped = question.without_annotations()
            self._asked[id(stripped)] = place, question, stripped
            yield stripped

    def unreadable(self, stripped: Question, error: ImageError) -> None:
        """A question whose picture cannot be used."""
        place, question, _ = self._asked.pop(id(stripped))
        with suppress(OSError):  # a file that is gone has no bytes to tell it by
            self._data[place] = fingerprint(question).hex()
        self.failed[stripped.id] = str(error)
        self._progress(1)

    def take(self, groups: Sequence[Group], seconds: float | None) -> list[Group]:
        """Scores, probes and writes down a chunk; returns the groups of those that did not fail, with their regions."""
        answered: dict[int, Group] = {}
        for stripped, episodes in groups:
            place, question, _ = self._asked.pop(id(stripped))
            self._data[place] = fingerprint(question).hex()
            if without := [episode for episode in episodes if episode.stop is StopReason.FAILED]:
                self.failed[question.id] = without[0].turns[-1].completion.text
            else:
                answered[place] = Group(question, episodes)
        marks = dict(zip(answered, self._marker.marks(list(answered.values())), strict=True))
        for place, own in marks.items():
            if undecided := [mark.problem for mark in own if mark.right is None]:
                self.failed[answered.pop(place).question.id] = str(undecided[0])
        probed = self._probed(answered)
        for place, one in probed.items():
            if one.problem:
                self.failed[answered.pop(place).question.id] = one.problem
        for place, group in answered.items():
            scored = score(
                group.question,
                group.episodes,
                marks[place],
                tokens_of=self._tokens_of,
                answering=self._answering,
                data=self._data[place],
                seconds=None if seconds is None else seconds / len(groups),
            )
            self._rows[place] = replace(scored, probed=probed.get(place))
        if answered and not self.wording:
            first = next(iter(answered.values()))
            self.wording = [wording_of(turn) for turn in first.episodes[0].turns]
        if self._folder:
            done = [(self._rows[place], group.episodes) for place, group in answered.items()]
            self._folder.add(done, self.wording)
        self._progress(len(groups))
        return list(answered.values())

    def _probed(self, answered: Mapping[int, Group]) -> dict[int, Probed]:
        """The probes of a chunk, with what was finished before recalled in its place: probes show earlier crops."""
        if self._prober is None:
            return {}
        probed: dict[int, Probed] = {}
        together: dict[int, Group] = {}

        def ask(prober: Prober) -> None:
            probed.update(zip(together, prober.probe(together.values()), strict=True))
            together.clear()

        for place, group in answered.items():
            while self._passed and self._passed[0][0] < place:
                ask(self._prober)
                _, question, row = self._passed.popleft()
                if row.probed:
                    self._prober.recall(question, row.probed)
            together[place] = group
        ask(self._prober)
        return probed

    def data_sha256(self) -> str:
        """Of all that was asked, whatever became of it: runs on the same data have the same."""
        return data_sha256(bytes.fromhex(self._data[place]) for place in sorted(self._data))

    def in_order(self) -> list[Scored]:
        """Every question that did not fail, in the order of the questions.

        Raises:
            EvaluationError: there is none.
        """
        if not self._rows and not self.failed:
            raise EvaluationError("there are no questions to evaluate: look at the data and the limit")
        if not self._rows:
            if self._folder:
                self._folder.list_failed(self.failed)
            first = next(iter(self.failed.values()))
            raise EvaluationError(f"of {len(self.failed)} question(s) every one failed; the first: {first}")
        return [self._rows[place] for place in sorted(self._rows)]


def _evaluation(
    scored: Sequence[Scored], kept: Sequence[Group], failed: Mapping[str, str], setup: Mapping[str, Any], seed: int
) -> Evaluation:
    categories: dict[str, list[Scored]] = {}
    for one in scored:
        categories.setdefault(one.category or "", []).append(one)
    return Evaluation(
        summary=summarise(scored, seed=seed),
        by_category={name: summarise(categories[name], seed=seed) for name in sorted(categories)},
        scored=tuple(scored),
        groups=tuple(kept),
        setup=setup,
        failed=failed,
    )
