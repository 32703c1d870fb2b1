"""LFPC's stage I data (arXiv 2603.27494): at how few pixels of the full image does a model's answer change?

The model to be trained answers each question from the original and then, level by level, from fewer pixels of it. The
first level at which the answer differs is the question's `view_pixels`: there the full image no longer tells what the
original told, and a crop, which is cut from the original, does.

Answers go to `answers.jsonl` as they come, so that a selection that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from PIL import Image

from foveate.episodes import Episode, run_episodes
from foveate.errors import FoveateError
from foveate.generators.base import Generator, Sampling
from foveate.images import ImageError, PixelBudget, fit_size, open_image
from foveate.jsonl import append_rows, read_rows, replace_rows
from foveate.protocols import Direct
from foveate.protocols.base import FamilyTraits
from foveate.protocols.matching import is_right
from foveate.questions.schema import Question
from foveate.questions.writing import write_questions
from foveate.regions import Size

Unchanged = Literal["drop", "keep"]
"""What becomes of questions whose answer no level changes: left out, or kept at the lowest level.

The paper does not say. Left out by default: on them the small view hides nothing that the answer needs, so a reward for
cropping would pay for crops that are not looked at.
"""
_FEWEST_TOKENS = 4
"""Visual tokens of the lowest level by default."""


class SelectionError(FoveateError, ValueError):
    """A selection that cannot be made; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model answered to a question at one level, and what it cost: a row of `answers.jsonl`.

    Attributes:
        question: its id.
        words: a digest of id, text and choices: a question that was rewritten is asked again.
        pixels: the level.
        image_size: width and height of the original, in pixels.
        tokens: generated.
        seconds: its share of the time that its batch took, opening pictures included.
    """

    question: str
    words: str
    pixels: int
    answer: str | None
    image_size: Size
    visual_tokens: int
    tokens: int
    seconds: float


class Verdict(NamedTuple):
    """What is known of a question: the level to ask next, or the level chosen, or neither (no level changes it)."""

    ask: int | None = None
    chosen: int | None = None


@dataclass(frozen=True, slots=True)
class Ladder:
    """The levels of a selection.

    Attributes:
        original: pixel budget of the view that stands for the original.
        levels: pixel budgets below it, falling.
        multiple: side of a visual token, in pixels.

    Raises:
        SelectionError: there is no level, or one is not between 1 and the original.
    """

    original: PixelBudget
    levels: tuple[int, ...]
    multiple: int

    def __post_init__(self) -> None:
        if not self.levels:
            raise SelectionError(f"there is no level below the original's {self.original.max_pixels} pixels: raise it")
        for level in self.levels:
            if not 1 <= level < self.original.max_pixels:
                raise SelectionError(
                    f"level {level} is not between 1 and the {self.original.max_pixels} pixels that stand for the "
                    "original: lower the level, or raise the original"
                )
        object.__setattr__(self, "levels", tuple(sorted(set(self.levels), reverse=True)))

    @property
    def rungs(self) -> tuple[int, ...]:
        """The original and the levels, in pixels, falling."""
        return (self.original.max_pixels, *self.levels)

    def verdict(self, question: Question, answers: Mapping[int, Answer]) -> Verdict:
        """What the answers so far, by pixels, say. A level that shows the image as the one above does is not asked."""
        top = self.rungs[0]
        if top not in answers:
            return Verdict(ask=top)
        first = answers[top]
        above = self._shown(first.image_size, top)
        for pixels in self.levels:
            shown = self._shown(first.image_size, pixels)
            if shown == above:
                continue
            if pixels not in answers:
                return Verdict(ask=pixels)
            if not _same(first.answer, answers[pixels].answer, question):
                return Verdict(chosen=pixels)
            above = shown
        return Verdict()

    def _shown(self, size: Size, pixels: int) -> Size:
        return fit_size(size, self.original.at_most(pixels), self.multiple)


def halving(original: int, multiple: int) -> tuple[int, ...]:
    """Pixel budgets from half of `original` downwards, each half of the one before, to four visual tokens or more."""
    levels = []
    while (original := original // 2) >= _FEWEST_TOKENS * multiple**2:
        levels.append(original)
    return tuple(levels)


@dataclass(frozen=True, slots=True)
class Selection:
    """A finished selection.

    Attributes:
        path: the written `questions.jsonl`.
        summary: what `summary.json` says: settings, levels with the number of questions asked and chosen, questions
            whose answer never changed, cost.
    """

    path: Path
    summary: Mapping[str, Any]


def select_resolutions(
    questions: Sequence[Question],
    generator: Generator,
    directory: Path,
    *,
    levels: Iterable[int] | None = None,
    original_pixels: int | None = None,
    unchanged: Unchanged = "drop",
    model: str = "",
    max_new_tokens: int = 256,
    resume: bool = False,
    at_once: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> Selection:
    """Asks every question from the original and from ever fewer pixels until its answer changes; writes a data set.

    Greedy, without any true box. A question that is decided leaves the batch and another takes its place, so that
    batches stay full and no picture is opened twice. `directory` gets `answers.jsonl` (a row per question and level),
    `questions.jsonl` with `view_pixels`, `images/` and `summary.json`.

    Args:
        questions: in an order that the output keeps.
        directory: created; must not hold another selection unless resumed.
        levels: pixel budgets; by default `halving`.
        original_pixels: of the view that stands for the original; by default the family's own budget.
        unchanged: what becomes of questions whose answer never changes.
        model: its name: a selection goes on with the model that it was begun with.
        at_once: questions asked at the same time, whose originals are in memory; the most that a crash loses.
        on_progress: called with the number of questions decided since the last call.

    Raises:
        SelectionError: a setting cannot be used, `directory` holds something else, or no question is left.
        ImageError: a picture cannot be used; the message names the question.
    """
    if unchanged not in get_args(Unchanged):
        raise SelectionError(f"unchanged is {unchanged!r}: choose one of {', '.join(get_args(Unchanged))}")
    if at_once < 1:
        raise SelectionError(f"at_once is {at_once}: at least one question has to be asked at a time")
    if not questions:
        raise SelectionError("there are no questions to select resolutions for")
    family = generator.family
    original = original_pixels or family.budget.max_pixels
    budget = PixelBudget(min(family.budget.min_pixels, original), original)
    ladder = Ladder(budget, tuple(levels or halving(original, family.multiple)), family.multiple)
    sampling = Sampling(temperature=0.0, max_new_tokens=max_new_tokens)
    progress = _Progress.opened(directory, {"model": model, "max_new_tokens": max_new_tokens}, resume)

    undecided = [question for question in questions if progress.verdict(question, ladder).ask is not None]
    if on_progress:
        on_progress(len(questions) - len(undecided))
    waiting = iter(undecided)
    pool: list[Question] = []
    while True:
        began = time.perf_counter()
        pool += map(_opened, islice(waiting, at_once - len(pool)))
        if not pool:
            return _written(questions, ladder, progress, unchanged)
        asked = [replace(question, view_pixels=progress.verdict(question, ladder).ask) for question in pool]
        groups = run_episodes(asked, Direct(ladder.original), generator, sampling=sampling, at_once=at_once)
        seconds = (time.perf_counter() - began) / len(asked)
        progress.add([_answer(episode, family, seconds) for group in groups for episode in group.episodes])
        pool = [question for question in pool if progress.verdict(question, ladder).ask is not None]
        if on_progress:
            on_progress(len(asked) - len(pool))


def _opened(question: Question) -> Question:
    """The question with its pictures in memory, and without true boxes or points."""
    try:
        image, *others = (open_image(picture) for picture in (question.image, *question.others))
    except ImageError as error:
        raise ImageError(f"question {question.id}: {error}") from error
    held = tuple(partial(_as_drawn, other) for other in others)
    return replace(question.without_annotations(), image=partial(_as_drawn, image), others=held)


def _as_drawn(image: Image.Image) -> Image.Image:
    return image


def _answer(episode: Episode, family: FamilyTraits, seconds: float) -> Answer:
    question, [turn] = episode.question, episode.turns
    views = turn.context.views
    assert question.view_pixels is not None
    return Answer(
        question=question.id,
        words=_words(question),
        pixels=question.view_pixels,
        answer=episode.answer,
        image_size=views[0].original_size,
        visual_tokens=sum(map(family.feature_count, views)),
        tokens=turn.completion.tokens,
        seconds=seconds,
    )


def _same(first: str | None, second: str | None, question: Question) -> bool:
    """Whether two answers are the same: letters exactly, texts as when they are scored, and none is as none."""
    if first is None or second is None or question.choices is not None:
        return first == second
    return is_right(first, second)


def _words(question: Question) -> str:
    choices = dict(question.choices) if question.choices is not None else None
    return blake2b(json.dumps([question.id, question.text, choices]).encode(), digest_size=8).hexdigest()


class _Progress:
    """The answers so far, in memory and in `answers.jsonl`."""

    def __init__(self, directory: Path, settings: Mapping[str, Any], answers: list[Answer]) -> None:
        self.directory, self.settings, self.answers = directory, settings, answers
        self._by_question: dict[str, dict[int, Answer]] = {}
        self._file(answers)

    @classmethod
    def opened(cls, directory: Path, settings: Mapping[str, Any], resume: bool) -> _Progress:
        note, path = directory / "selection.json", directory / "answers.jsonl"
        if note.exists():
            began = json.loads(note.read_text(encoding="utf-8"))
            if not resume:
                raise SelectionError(f"{directory} holds a selection already: resume it, or choose another folder")
            for name, value in settings.items():
                if began.get(name) != value:
                    raise SelectionError(
                        f"{directory} was begun with {name} {began.get(name)!r}, not {value!r}: resume it with what it "
                        "was begun with, or choose another folder"
                    )
        elif (directory / "questions.jsonl").exists():
            raise SelectionError(f"{directory} holds other questions: choose another folder")
        directory.mkdir(parents=True, exist_ok=True)
        rows = read_rows(path)
        replace_rows(path, rows)  # without the last row if a crash cut it off
        replace_rows(note, [settings])
        return cls(directory, settings, [Answer(**{**row, "image_size": tuple(row["image_size"])}) for row in rows])

    def verdict(self, question: Question, ladder: Ladder) -> Verdict:
        return ladder.verdict(question, self.of(question))

    def of(self, question: Question) -> Mapping[int, Answer]:
        return self._by_question.get(_words(question), {})

    def add(self, answers: list[Answer]) -> None:
        append_rows(self.directory / "answers.jsonl", map(asdict, answers))
        self.answers += answers
        self._file(answers)

    def _file(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._by_question.setdefault(answer.words, {})[answer.pixels] = answer


def _written(questions: Sequence[Question], ladder: Ladder, progress: _Progress, unchanged: Unchanged) -> Selection:
    """The data set and the summary of a selection of which every question is decided."""
    chosen = [progress.verdict(question, ladder).chosen for question in questions]
    never = [question for question, pixels in zip(questions, chosen, strict=True) if pixels is None]
    fallback = ladder.levels[-1] if unchanged == "keep" else None
    kept = [
        replace(question, view_pixels=pixels or fallback)
        for question, pixels in zip(questions, chosen, strict=True)
        if pixels or fallback
    ]
    answers = progress.answers
    right = [_same(progress.of(question)[ladder.rungs[0]].answer, question.answer, question) for question in never]
    summary = {
        **progress.settings,
        "questions": len(questions),
        "kept": len(kept),
        "unchanged": {"questions": len(never), "right": sum(right), "handling": unchanged},
        "levels": [
            {
                "pixels": pixels,
                "visual_tokens": pixels // ladder.multiple**2,
                "asked": sum(pixels in progress.of(question) for question in questions),
                "chosen": chosen.count(pixels),
            }
            for pixels in ladder.rungs
        ],
        "cost": {
            "answers": len(answers),
            "share_of_all_levels": len(answers) / (len(questions) * len(ladder.rungs)),
            "visual_tokens": sum(answer.visual_tokens for answer in answers),
            "generated_tokens": sum(answer.tokens for answer in answers),
            "seconds": sum(answer.seconds for answer in answers),
        },
    }
    (progress.directory / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if not kept:
        raise SelectionError(
            f"no level changed the answer of any of the {len(questions)} questions, so none is left. Ask from more "
            "pixels or from lower levels, or keep them at the lowest level (unchanged=keep): what is answered already "
            "is not asked again"
        )
    path = write_questions(kept, progress.directory)
    return Selection(path, summary)
