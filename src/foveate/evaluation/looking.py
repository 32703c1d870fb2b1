"""What the probes say together: figures with intervals, one number for how much hangs on the crop, and a verdict.

The verdict is read off 95 % intervals, never off the figures alone: where an interval leaves it open, so does the
verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any

from foveate.evaluation.probes import CROP_ALONE, FULL_SHOWN, QUESTION_ONLY, UNCHANGED, Outcome, Probed
from foveate.evaluation.replacements import NEED_REGIONS
from foveate.evaluation.statistics import Interval, bootstrap_interval, mcnemar, paired_interval

TITLES: Mapping[str, str] = {
    UNCHANGED: "its own crop",
    "true_crop": "the true region's crop",
    "small_view": "its crop as in the small view",
    "blacked_out": "its crop, true region black",
    "random_crop": "a random crop of the same size",
    "other_crop": "another question's crop",
    "noise": "noise",
    CROP_ALONE: "its crop and no full image",
    FULL_SHOWN: "its crop and the full image",
    QUESTION_ONLY: "no picture at all",
}
"""In plain words what the answer turn was shown, in the order in which probes are told."""
MARGIN = 0.1
"""A change whose interval lies within this much of zero, in shares of all questions, is none to speak of."""


class Move(StrEnum):
    """What the interval of a change says."""

    RISES = "rises"
    """All of it is above zero, and some of it beyond the margin."""
    FALLS = "falls"
    """All of it is below zero, and some of it beyond the margin."""
    STAYS = "stays"
    """It lies within the margin."""
    OPEN = "open"
    """None of these: there are too few questions to tell."""

    @classmethod
    def of(cls, interval: Interval | None, margin: float = MARGIN) -> Move:
        """That of an interval; `OPEN` where there is none."""
        if interval is None:
            return cls.OPEN
        low, high = interval
        if -margin <= low and high <= margin:
            return cls.STAYS
        if low > 0:
            return cls.RISES
        return cls.FALLS if high < 0 else cls.OPEN


@dataclass(frozen=True, slots=True)
class ProbeFigure:
    """One probe over the questions for which it can be made; without any, all but the first two and the last are None.

    Attributes:
        name: the probe's.
        title: in plain words what was shown.
        accuracy: share of right answers.
        interval: of the accuracy, 95 %, bootstrap over questions.
        change: from what the same questions have unchanged.
        change_interval: of the change, 95 %, see `paired_interval`.
        p: of the change, by McNemar's exact test.
        questions: how many there are.
    """

    name: str
    title: str
    accuracy: float | None
    interval: Interval | None
    change: float | None
    change_interval: Interval | None
    p: float | None
    questions: int

    @property
    def needs_regions(self) -> bool:
        """Whether it can only be made for questions with true regions."""
        return self.name in NEED_REGIONS

    @property
    def move(self) -> Move:
        """What its change's interval says."""
        return Move.of(self.change_interval)

    def to_json(self) -> dict[str, Any]:
        """Everything that a table or a chart of it needs; intervals as pairs."""
        return {
            "name": self.name,
            "title": self.title,
            "accuracy": self.accuracy,
            "interval": self.interval and list(self.interval),
            "change": self.change,
            "change_interval": self.change_interval and list(self.change_interval),
            "p": self.p,
            "questions": self.questions,
            "needs_regions": self.needs_regions,
        }


class Finding(StrEnum):
    """What a verdict may be."""

    FROM_CROPS = "from_crops"
    WRONG_PLACE = "wrong_place"
    ANSWERS_FIRST = "answers_first"
    FROM_QUESTION = "from_question"
    NO_CROPS = "no_crops"
    UNDECIDED = "undecided"


_SAID = {
    Finding.FROM_CROPS: "answers from its crops",
    Finding.WRONG_PLACE: "uses crops, but looks in the wrong place",
    Finding.ANSWERS_FIRST: "answers first, crops later",
    Finding.FROM_QUESTION: "answers from the question alone",
    Finding.NO_CROPS: "makes no crops",
    Finding.UNDECIDED: "undecided",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the intervals allow to be said.

    Attributes:
        finding: one of the few.
        because: the intervals that it rests on, in a sentence.
    """

    finding: Finding
    because: str

    @property
    def title(self) -> str:
        """The finding in plain words."""
        return _SAID[self.finding]


@dataclass(frozen=True, slots=True)
class Looking:
    """What the probes of a set of questions say.

    Attributes:
        figures: by the probe's name, in the order of `TITLES`, over the questions that were answered from a crop; where
            none was, over those that were answered.
        dependence: look dependence: the accuracy that is lost when each crop is noise, as a share of all questions
            answered from a crop. 0: the crops might as well not be there. At most the accuracy itself. None without
            crops.
        dependence_interval: 95 %.
        verdict: see `judged`.
        outcomes: how many questions came to what.
    """

    figures: Mapping[str, ProbeFigure]
    dependence: float | None
    dependence_interval: Interval | None
    verdict: Verdict
    outcomes: Mapping[Outcome, int]

    def to_json(self) -> dict[str, Any]:
        """As JSON writes it: `probes` by name, in order, `look_dependence` with its verdict, `outcomes`."""
        return {
            "probes": {name: figure.to_json() for name, figure in self.figures.items()},
            "look_dependence": {
                "value": self.dependence,
                "interval": self.dependence_interval and list(self.dependence_interval),
                "verdict": {
                    "finding": self.verdict.finding.value,
                    "title": self.verdict.title,
                    "because": self.verdict.because,
                },
            },
            "outcomes": {outcome.value: count for outcome, count in self.outcomes.items()},
        }


def looking(probed: Iterable[Probed], *, seed: int = 0) -> Looking:
    """The figures, the look dependence and the verdict of questions that were probed.

    Args:
        seed: of the bootstrap.
    """
    every = list(probed)
    counts = Counter(one.outcome for one in every)
    base = [one for one in every if one.outcome is Outcome.FROM_CROP]
    base = base or [one for one in every if one.outcome is Outcome.WITHOUT_CROP]
    names = {name for one in base for name in one.right}
    figures = {
        name: _figure(name, base, seed)
        for name in [*(known for known in TITLES if known in names), *sorted(names - TITLES.keys())]
    }
    lost = figures.get("noise")
    interval = lost.change_interval if lost else None
    return Looking(
        figures=figures,
        dependence=0.0 - lost.change if lost and lost.change is not None else None,
        dependence_interval=(0.0 - interval[1], 0.0 - interval[0]) if interval else None,
        verdict=judged(base, figures, seed=seed),
        outcomes={outcome: counts[outcome] for outcome in Outcome if counts[outcome]},
    )


def judged(base: Sequence[Probed], figures: Mapping[str, ProbeFigure], *, seed: int = 0) -> Verdict:
    """The verdict over questions that were answered from crops, by these rules, the first that holds:

    1. No question was answered from a crop: `NO_CROPS`.
    2. There is enough to lose, and without any picture right answers stay: `FROM_QUESTION`.
    3. They fall with noise in the crops' place, and do not stay with another question's crop (which would say that it
       is the noise that disturbs): `FROM_CROPS`; but `WRONG_PLACE` where rule 4 holds too.
    4. With the true region's crop they rise by more than the margin, all of the interval above it: `WRONG_PLACE`.
    5. There is enough to lose, they stay with noise, and the full image was beside each crop: `ANSWERS_FIRST`.
    6. `UNDECIDED`, and why.

    "Rise", "fall" and "stay" are those of `Move`. There is enough to lose where right answers are more than guessing
    gives by over twice the margin, all of the interval above it: then what stays is most of what there was.
    """
    if not any(one.outcome is Outcome.FROM_CROP for one in base):
        return Verdict(Finding.NO_CROPS, "no question was answered from a crop")
    beyond = [value - one.guess for one in base if (value := one.right[UNCHANGED]) is not None]
    enough = bool(beyond) and paired_interval(beyond, seed=seed)[0] > 2 * MARGIN
    none = ProbeFigure("", "", None, None, None, None, None, 0)
    noise, other, true, blind = (
        figures.get(name, none) for name in ("noise", "other_crop", "true_crop", QUESTION_ONLY)
    )
    misplaced = true.change_interval is not None and true.change_interval[0] > MARGIN
    if enough and blind.move is Move.STAYS:
        return Verdict(Finding.FROM_QUESTION, f"without any picture right answers stay: {_change(blind)}")
    if noise.move is Move.FALLS and other.move is not Move.STAYS:
        because = f"with noise in its crops' place right answers fall: {_change(noise)}"
        if true.change is not None:
            because += f"; with the true region's crop: {_change(true)}"
        return Verdict(Finding.WRONG_PLACE if misplaced else Finding.FROM_CROPS, because)
    if misplaced:
        return Verdict(Finding.WRONG_PLACE, f"with the true region's crop right answers rise: {_change(true)}")
    if noise.move is Move.STAYS and enough and all(one.full_image for one in base):
        because = f"with noise in its crops' place, the full image beside it, right answers stay: {_change(noise)}"
        return Verdict(Finding.ANSWERS_FIRST, because)
    return Verdict(Finding.UNDECIDED, _undecided(noise, other, enough=enough))


def _undecided(noise: ProbeFigure, other: ProbeFigure, *, enough: bool) -> str:
    if noise.change is None:
        return "no answer was had with noise in the crops' place"
    if noise.move is Move.FALLS:
        return f"noise disturbs it ({_change(noise)}), another question's crop does not ({_change(other)})"
    if not enough:
        return f"right answers are not clearly more than guessing gives, so that little can be lost: {_change(noise)}"
    if noise.move is Move.STAYS:
        return f"noise changes nothing ({_change(noise)}), though the full image was not beside every crop"
    return f"too few questions to tell what noise changes: {_change(noise)}"


def _change(figure: ProbeFigure) -> str:
    assert figure.change is not None
    assert figure.change_interval is not None
    low, high = figure.change_interval
    asked = "1 question" if figure.questions == 1 else f"{figure.questions} questions"
    return f"{figure.change:+.3f} (95 % interval {low:+.3f} to {high:+.3f}, {asked})"


def _figure(name: str, base: Sequence[Probed], seed: int) -> ProbeFigure:
    pairs = [
        (value, before)
        for one in base
        if (value := one.right.get(name)) is not None and (before := one.right[UNCHANGED]) is not None
    ]
    title = TITLES.get(name, name)
    if not pairs:
        return ProbeFigure(name, title, None, None, None, None, None, 0)
    values, changes = [value for value, _ in pairs], [value - before for value, before in pairs]
    return ProbeFigure(
        name=name,
        title=title,
        accuracy=fmean(values),
        interval=bootstrap_interval(values, seed=seed),
        change=fmean(changes),
        change_interval=(0.0, 0.0) if name == UNCHANGED else paired_interval(changes, seed=seed),
        p=mcnemar(changes.count(1.0), changes.count(-1.0)),
        questions=len(pairs),
    )
