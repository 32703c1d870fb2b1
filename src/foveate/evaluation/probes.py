"""Does the model use its crop? The answer turn is asked again with something else in the crop's place.

After LFPC (arXiv 2603.27494, the replacement probes of its diagnosis) and MGPO (arXiv 2507.05920, the share of crops
that alone suffice). A model that uses its crop answers better from the crop of the true region and collapses on noise;
one that answers from the full image, or from the question, hardly moves.

Greedy, so that a question's answers differ by what was shown and by nothing else. What stands in a crop's place is
made in `replacements`; what the answers say together is in `looking`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, cached_property
from itertools import islice
from statistics import fmean
from typing import Any, NamedTuple

from PIL import Image

from foveate.context import Context, Message, Part
from foveate.episodes import Episode, Group
from foveate.evaluation.marking import Mark, Marker
from foveate.evaluation.replacements import ALL, NEED_REGIONS, REPLACEMENTS, ReplacedCrop, Replacement
from foveate.generators.base import Generator, Request, Sampling
from foveate.images import View, cut_view, open_image
from foveate.protocols import prompts
from foveate.protocols.answers import parse_answer
from foveate.protocols.base import Ask, Completion, FamilyTraits, FinishReason, Protocol, Stop, StopReason, Subject
from foveate.questions.schema import Question
from foveate.regions import Box, Size

UNCHANGED = "unchanged"
"""The probe that changes nothing: the answer turn as it was, asked greedily."""
CROP_ALONE, QUESTION_ONLY, FULL_SHOWN = "crop_alone", "question_only", "full_shown"
"""Those that replace no crop: its crops alone where the full image was beside them, no picture at all, and the full
image beside its crops where the answer turn withheld it."""
SETTINGS = (CROP_ALONE, QUESTION_ONLY, FULL_SHOWN)
"""Every probe that replaces no crop but changes what is shown beside it."""


@dataclass(frozen=True, slots=True)
class ProbeSet:
    """Which probes are made.

    Attributes:
        replacements: what stands in a crop's place, by the probe's name.
        settings: which of `SETTINGS`. `UNCHANGED` always is made.
    """

    replacements: Mapping[str, Replacement]
    settings: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every probe that is made."""
        return (UNCHANGED, *self.settings, *self.replacements)


PAPERS, EVERY = ProbeSet(REPLACEMENTS, (CROP_ALONE,)), ProbeSet(ALL, SETTINGS)
"""The probes of the papers, and all that there are."""


class Outcome(StrEnum):
    """What became of the episode that is probed."""

    FROM_CROP = "from_crop"
    """It answered with at least one crop before it."""
    WITHOUT_CROP = "without_crop"
    """It answered, and had no crop."""
    UNANSWERED = "unanswered"
    """It never came to an answer turn."""
    FAILED = "failed"
    """A turn got no reply: that says nothing of the model."""


@dataclass(frozen=True, slots=True)
class Crops:
    """What is needed to cut an answer turn's crops again.

    Attributes:
        picture: a digest of the original's pixels: questions about one picture share it.
        places: of each crop, the part of the original (corners, whole original pixels) and the size it was shown at.
    """

    picture: str
    places: tuple[tuple[tuple[float, float, float, float], Size], ...]

    def cut(self, image: Image.Image) -> tuple[View, ...]:
        """The crops, from the original."""
        return tuple(cut_view(image, Box(*corners), size) for corners, size in self.places)


@dataclass(frozen=True, slots=True)
class Probed:
    """One question under every probe.

    Attributes:
        id: the question's.
        outcome: what became of its episode.
        right: by the probe's name, 1 for a right answer, 0 for a wrong one, None where the probe cannot be made: no
            answer turn, no crop, no true region, no earlier crop of another picture, or no reply.
        guess: the share of right answers that guessing would give: one in the number of choices, 0 without choices.
        full_image: whether the answer turn showed the full image too.
        regions: whether the question has true regions.
        crops: those of its answer turn; None where it had none.
        problem: why a probe that could be made has no value: no reply, or no verdict of a judge. The first one.
    """

    id: str
    outcome: Outcome
    right: Mapping[str, float | None]
    guess: float
    full_image: bool
    regions: bool
    crops: Crops | None = None
    problem: str | None = None

    def counted(self, name: str) -> float | None:
        """The value where every question counts, whatever became of it, as `probe` gives it."""
        if self.outcome is Outcome.FAILED or (name in NEED_REGIONS and not self.regions):
            return None
        if self.outcome is Outcome.UNANSWERED:
            return 0.0
        if self.outcome is Outcome.WITHOUT_CROP and name != UNCHANGED:
            return 0.0 if name == CROP_ALONE else self.right[UNCHANGED]
        if name == CROP_ALONE and not self.full_image:
            return self.right[UNCHANGED]
        return self.right[name]


class Prober:
    """Asks the answer turns of one evaluation again, chunk by chunk in the order of its questions.

    It carries from question to question what `other_crop` shows: the crops of the nearest earlier question about
    another picture. So values do not depend on how the questions are divided; where an evaluation goes on after an
    interruption, `recall` is called first, in order, for each question that is done.

    Args:
        protocol: that leads to the episodes, with the pixel budgets of who answers.
        generator: who answered, and answers again; another may have located.
        probes: that are made.
        marker: says which answers are right, as it does of the evaluation's own; plain matching where None.
        max_new_tokens: of an answer.
        seed: of what replacements draw; with the probe's name and the question's id it decides every random number.
        at_once: questions whose originals are held in memory at the same time.
    """

    def __init__(
        self,
        protocol: Protocol,
        generator: Generator,
        probes: ProbeSet = EVERY,
        *,
        marker: Marker | None = None,
        max_new_tokens: int = 256,
        seed: int = 0,
        at_once: int = 64,
    ) -> None:
        self._protocol, self._generator = protocol, generator
        self._probes, self._marker = probes, marker or Marker()
        self._sampling, self._seed, self._at_once = Sampling(0.0, max_new_tokens), seed, at_once
        self._earlier: list[_Earlier] = []
        """The newest crops of two pictures, newest first: whatever the next picture is, one of them is of another."""

    def probe(self, groups: Iterable[Group]) -> list[Probed]:
        """The first episode of each question under every probe.

        Args:
            groups: as `run_episodes` gives them, but with true regions, and with the pictures of their views.
        """
        probed: list[Probed] = []
        remaining = iter(groups)
        while chunk := list(islice(remaining, self._at_once)):
            turns = [self._turn(group) for group in chunk]
            # Each context once: a replacement may be the crop itself.
            asked = list(dict.fromkeys(context for turn in turns for context in turn.contexts.values()))
            requests = [Request(context, (self._seed,)) for context in asked]
            replies = self._generator.generate(requests, self._sampling) if requests else []
            said = {context: completion for context, [completion] in zip(asked, replies, strict=True)}
            probed += self._marked(turns, said)
        return probed

    def _marked(self, turns: Sequence[_AnswerTurn], said: Mapping[Context, Completion]) -> list[Probed]:
        """What the replies say, of a whole chunk: a judge is asked about all of them at once."""
        answered = [turn.answered(said) for turn in turns]
        pairs = zip(turns, answered, strict=True)
        marks = self._marker.marks([Group(turn.question, tuple(own.values())) for turn, own in pairs])
        return [
            turn.probed(self._probes.names, said, dict(zip(own, marked, strict=True)))
            for turn, own, marked in zip(turns, answered, marks, strict=True)
        ]

    def recall(self, question: Question, probed: Probed) -> None:
        """Goes past a question that was probed before, as if it had been probed here; opens its picture if need be."""
        if crops := probed.crops:
            self._remember(_Earlier(crops.picture, cache(lambda: crops.cut(open_image(question.image)))))

    def _remember(self, newest: _Earlier) -> None:
        self._earlier = [newest, *(one for one in self._earlier if one.picture != newest.picture)][:2]

    def _turn(self, group: Group) -> _AnswerTurn:
        turn = _AnswerTurn(group, self._protocol, self._generator.family)
        if turn.outcome not in (Outcome.FROM_CROP, Outcome.WITHOUT_CROP):
            return turn
        turn.set_up(self._probes.settings)
        if turn.cuts:
            picture, views = turn.cuts.picture, turn.crops
            others = next((one.views() for one in self._earlier if one.picture != picture), ())
            self._remember(_Earlier(picture, lambda: views))
            turn.replace_crops(self._probes.replacements, self._seed, others)
        return turn


class _Earlier(NamedTuple):
    picture: str
    views: Callable[[], tuple[View, ...]]


def probe(
    groups: Iterable[Group],
    protocol: Protocol,
    generator: Generator,
    replacements: Mapping[str, Replacement] = REPLACEMENTS,
    *,
    max_new_tokens: int = 256,
    seed: int = 0,
    at_once: int = 64,
) -> dict[str, list[float | None]]:
    """Whether the first episode of each question answers right under each probe: 1, 0, or None where it cannot be made.

    Every question counts: episodes that never came to an answer are wrong under every probe, and those that answered
    without a crop have nothing to replace, so that they answer as before. Those without a reply are None. `Prober` is
    the form that keeps these apart.

    Args:
        groups: as `evaluate` keeps them, with true regions and with the pictures of their views.
        protocol: that led to them.
        generator: who answered, and answers again.
        replacements: by name; `UNCHANGED` and `CROP_ALONE` are always made.
        max_new_tokens: of an answer.
        seed: of what replacements draw.
        at_once: questions whose originals are held in memory at the same time.
    """
    probes = ProbeSet(replacements, (CROP_ALONE,))
    prober = Prober(protocol, generator, probes, max_new_tokens=max_new_tokens, seed=seed, at_once=at_once)
    probed = prober.probe(groups)
    return {name: [one.counted(name) for one in probed] for name in probes.names}


def probe_figures(right: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, Any]]:
    """What `probe` found, by the probe's name, each over the questions for which it can be made.

    `accuracy` under the probe; its `change` from what the same questions have unchanged; how many `questions` these
    are. The first two are None where there is none.
    """
    figures: dict[str, dict[str, Any]] = {}
    for name, values in right.items():
        pairs = [
            (value, before)
            for value, before in zip(values, right[UNCHANGED], strict=True)
            if value is not None and before is not None
        ]
        figures[name] = {
            "accuracy": fmean(value for value, _ in pairs) if pairs else None,
            "change": fmean(value - before for value, before in pairs) if pairs else None,
            "questions": len(pairs),
        }
    return figures


class _AnswerTurn:
    """A question's answer turn, and what is shown under each probe."""

    def __init__(self, group: Group, protocol: Protocol, family: FamilyTraits) -> None:
        self.question, [self.episode, *_] = group
        self.protocol, self.family = protocol, family
        self.contexts: dict[str, Context] = {}
        """By the probe's name; none where the episode came to no answer."""
        self.crops: tuple[View, ...] = ()
        self.cuts: Crops | None = None
        if self.episode.stop in (StopReason.ANSWERED, StopReason.UNPARSED):
            views = dict.fromkeys(self.episode.turns[-1].context.views)
            self.crops = tuple(view for view in views if view.cropped)
            self.outcome = Outcome.FROM_CROP if self.crops else Outcome.WITHOUT_CROP
        else:
            self.outcome = Outcome.FAILED if self.episode.stop is StopReason.FAILED else Outcome.UNANSWERED

    @property
    def full_image(self) -> bool:
        """Whether the answer turn showed the full image, and not its crops alone."""
        return any(not view.cropped and not view.picture for view in self.episode.turns[-1].context.views)

    @property
    def others(self) -> tuple[View, ...]:
        """The question's further pictures, as the answer turn showed them."""
        return tuple(view for view in dict.fromkeys(self.episode.turns[-1].context.views) if view.picture)

    def set_up(self, settings: Sequence[str]) -> None:
        """The contexts in which no crop is replaced. From here on the original is in memory."""
        question, family, crops = self.question, self.family, self.crops
        self.subject = Subject(question.without_annotations(), open_image(question.image), family)
        self.contexts[UNCHANGED] = self.episode.turns[-1].context
        if crops:
            self.cuts = Crops(_digest(self.subject.image), tuple((crop.source.corners, crop.size) for crop in crops))
        if QUESTION_ONLY in settings:
            self.contexts[QUESTION_ONLY] = Context.user(prompts.answer_unseen(question, family.box_style))
        if CROP_ALONE in settings and crops and self.full_image:
            alone = prompts.answer(question, family.box_style, crops=len(crops), withheld=True)
            self.contexts[CROP_ALONE] = Context.user(*crops, *self.others, alone)
        if FULL_SHOWN in settings and crops and not self.full_image:
            beside = prompts.answer(question, family.box_style, crops=len(crops))
            self.contexts[FULL_SHOWN] = Context.user(self._small, *crops, *self.others, beside)

    def replace_crops(self, replacements: Mapping[str, Replacement], seed: int, others: Sequence[View]) -> None:
        """The contexts in which something else stands in the place of each crop."""
        question, multiple = self.question, self.family.multiple
        for name, replacement in replacements.items():
            if name in NEED_REGIONS and not question.regions:
                continue
            rng = random.Random(f"{name}/{seed}/{question.id}")
            made: dict[View, View] = {}
            for number, crop in enumerate(self.crops):
                case = ReplacedCrop(
                    question, self.subject.image, crop, multiple, rng, number, small=self._small, others=others
                )
                if (other := replacement(case)) is not None:
                    made[crop] = other
            if len(made) == len(self.crops):
                self.contexts[name] = _replaced(self.contexts[UNCHANGED], made)

    @cached_property
    def _small(self) -> View:
        """The full image, as the first turn of every protocol shows it: here to the model that answers."""
        first = self.protocol.next(self.subject, ())
        assert isinstance(first, Ask)
        shown, before = first.context.views[0], self.episode.turns[0].context.views[0]
        return before if before.key == shown.key else shown  # other pixels only where another model located

    def answered(self, said: Mapping[Context, Completion]) -> dict[str, Episode]:
        """By the probe's name, the episode as it would have ended; without those that got no reply."""
        return {
            name: replace(self.episode, answer=self._answer(name, context, said[context]))
            for name, context in self.contexts.items()
            if said[context].finish_reason is not FinishReason.FAILED
        }

    def _answer(self, name: str, context: Context, completion: Completion) -> str | None:
        """The answer in a reply; a call for another crop is none."""
        if name in SETTINGS:
            return parse_answer(completion.text, self.question.choices)
        before = self.episode.turns[:-1]
        turn = self.protocol.read(self.subject, before, context, completion)
        stop = self.protocol.next(self.subject, (*before, turn))
        return stop.answer if isinstance(stop, Stop) else None

    def probed(self, names: Sequence[str], said: Mapping[Context, Completion], marks: Mapping[str, Mark]) -> Probed:
        """What the marks of the answers say."""
        question = self.question
        silent = [said[context].text for name, context in self.contexts.items() if name not in marks]
        problems = [*silent, *(mark.problem for mark in marks.values() if mark.right is None)]
        rights = {name: mark.right for name, mark in marks.items() if mark.right is not None}
        return Probed(
            id=question.id,
            outcome=self.outcome,
            right={name: float(rights[name]) if name in rights else None for name in names},
            guess=1 / len(question.choices) if question.choices else 0.0,
            full_image=self.full_image if self.episode.turns else False,
            regions=bool(question.regions),
            crops=self.cuts,
            problem=problems[0] if problems else None,
        )


def _digest(image: Image.Image) -> str:
    """The same for equal pictures, wherever they lie."""
    digest = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def _replaced(context: Context, made: Mapping[View, View]) -> Context:
    """The context with other views in place of some."""

    def other(part: Part) -> Part:
        return made.get(part, part) if isinstance(part, View) else part

    return Context(tuple(Message(message.role, tuple(map(other, message.parts))) for message in context.messages))
