"""Evaluation: questions asked by a protocol, episodes scored against what only the evaluation knows."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foveate.episodes import Group, StopReason, episode_chunks
from foveate.errors import FoveateError
from foveate.evaluation.curves import grounding_curves
from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.joint import JointTable
from foveate.evaluation.marking import Marker
from foveate.evaluation.probes import probe, probe_figures
from foveate.evaluation.scoring import Scored, Summary, score, summarise
from foveate.evaluation.setup import family_of, fields_of, fingerprint, wording_of
from foveate.generators.base import Generator, Sampling
from foveate.images import ImageError
from foveate.protocols.base import Protocol
from foveate.questions.schema import Question


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
    def seconds(self) -> float:
        """Wall-clock time of generation, without the probes."""
        return sum(scored.seconds for scored in self.scored)

    @property
    def probes(self) -> dict[str, list[float | None]] | None:
        """What `probe` says of each question; None where nothing was probed."""
        if not self.scored[0].probes:
            return None
        return {name: [(scored.probes or {}).get(name) for scored in self.scored] for name in self.scored[0].probes}

    @property
    def stops(self) -> dict[str, int]:
        """How many episodes ended for each reason; all but `answered` count as wrong."""
        return dict(Counter(attempt.stop for scored in self.scored for attempt in scored.attempts))

    @property
    def joint(self) -> JointTable:
        """Answers against places, where there are true regions."""
        attempts = (attempt for scored in self.scored for attempt in scored.attempts)
        return JointTable.of((attempt.right, attempt.grounding.iog30) for attempt in attempts)

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
            **({"probes": probe_figures(self.probes)} if self.probes is not None else {}),
            "stops": self.stops,
            "unparsed": self.stops.get("unparsed", 0),
            "judged": sum(attempt.judged for attempt in attempts),
            "failed": len(self.failed),
            "tokens_per_question": sum(attempt.tokens for attempt in attempts) / asked,
            "visual_tokens_per_question": sum(attempt.visual_tokens for attempt in attempts) / asked,
            **({"prompt_tokens_per_question": sum(prompts) / asked} if prompts else {}),
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
    marker: Marker | None = None,
    folder: EvaluationFolder | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Asks each question `samples` times and scores the episodes. The episodes never see a true region.

    Args:
        sampling: greedy where None.
        seed: of the samples and of the bootstrap.
        at_once: questions whose originals are held in memory at the same time, at most (`episode_chunks`).
        keep: of how many questions, the first ones, the episodes with their pictures are kept; None keeps all.
        probed: whether the answer turn of each question's first episode is asked again under every probe (`probe`)
            while the pictures of its views are at hand: up to five more answers a question.
        marker: says which answers are right; plain matching where None.
        folder: where each question is written down as it is finished; those that it has already are not asked again,
            and have no group.
        on_progress: called with the number of questions finished since the last call.

    Raises:
        EvaluationError: there are no questions, every one failed, or one is not what it was when it was asked.
    """
    sampling = sampling or Sampling(temperature=0.0)
    marker = marker or Marker()
    progress = on_progress or (lambda finished: None)
    rows: dict[int, Scored] = {}
    kept: list[Group] = []
    failed: dict[str, str] = {}
    wording: list[list[str]] = folder.prompts if folder else []
    waiting: dict[int, tuple[int, Question, Question]] = {}

    def unfinished() -> Iterator[Question]:
        """What is still to be asked; each question waits, by what the protocols see of it, for its episodes."""
        for place, question in enumerate(questions):
            if folder and (row := folder.finished.get(question.id)):
                if row.data != fingerprint(question).hex():
                    raise EvaluationError(
                        f"question {question.id} is not what it was when {folder.path} asked it: name another folder"
                    )
                rows[place] = row
                progress(1)
                continue
            stripped = question.without_annotations()
            waiting[id(stripped)] = place, question, stripped
            yield stripped

    def unreadable(stripped: Question, error: ImageError) -> None:
        waiting.pop(id(stripped))
        failed[stripped.id] = str(error)
        progress(1)

    chunks = episode_chunks(
        unfinished(),
        protocol,
        generator,
        n=samples,
        sampling=sampling,
        seed=seed,
        at_once=at_once,
        on_unreadable=unreadable,
    )
    while True:
        started = time.perf_counter()
        if (groups := next(chunks, None)) is None:
            break
        seconds = (time.perf_counter() - started) / len(groups)
        wording = wording or [wording_of(turn) for turn in groups[0].episodes[0].turns]
        answered: dict[int, Group] = {}
        for stripped, episodes in groups:
            place, question, _ = waiting.pop(id(stripped))
            if without := [episode for episode in episodes if episode.stop is StopReason.FAILED]:
                failed[question.id] = without[0].turns[-1].completion.text
            else:
                answered[place] = Group(question, episodes)
        marks = dict(zip(answered, marker.marks(list(answered.values())), strict=True))
        for place in list(answered):
            if undecided := [mark.problem for mark in marks[place] if mark.right is None]:
                failed[answered.pop(place).question.id] = str(undecided[0])
        probes: list[dict[str, float | None] | None] = [None] * len(answered)
        if probed:
            longest = sampling.max_new_tokens
            again = probe(answered.values(), protocol, generator, max_new_tokens=longest, seed=seed, at_once=at_once)
            probes = [{name: values[index] for name, values in again.items()} for index in range(len(answered))]
        for (place, group), own in zip(answered.items(), probes, strict=True):
            data = fingerprint(group.question).hex()
            multiple = generator.family.multiple
            scored = score(group.question, group.episodes, marks[place], multiple=multiple, data=data, seconds=seconds)
            rows[place] = replace(scored, probes=own)
        if folder:
            folder.add([(rows[place], group.episodes) for place, group in answered.items()], wording)
        kept += list(answered.values())[: None if keep is None else max(0, keep - len(kept))]
        progress(len(groups))
    if not rows:
        why = f"all {len(failed)} questions failed; the first: {next(iter(failed.values()))}" if failed else None
        raise EvaluationError(why or "there are no questions to evaluate")
    if folder and (more := len(folder.finished) - len(rows)) > 0:
        raise EvaluationError(f"{folder.path} has the answers to {more} questions more than these: ask them too")
    setup = {
        "protocol": fields_of(protocol),
        "family": family_of(generator),
        "sampling": fields_of(sampling),
        "samples": samples,
        "seed": seed,
        "prompts": wording,
        **marker.setup(),
    }
    return _evaluation([rows[place] for place in sorted(rows)], kept, failed, setup, seed)


def _evaluation(
    scored: Sequence[Scored], kept: Sequence[Group], failed: Mapping[str, str], setup: Mapping[str, Any], seed: int
) -> Evaluation:
    digest = hashlib.sha256()
    categories: dict[str, list[Scored]] = {}
    for one in scored:
        digest.update(bytes.fromhex(one.data))
        categories.setdefault(one.category or "", []).append(one)
    return Evaluation(
        summary=summarise(scored, seed=seed),
        by_category={name: summarise(categories[name], seed=seed) for name in sorted(categories)},
        scored=tuple(scored),
        groups=tuple(kept),
        setup={**setup, "data_sha256": digest.hexdigest()},
        failed=failed,
    )
