"""What crops give and what they cost: the same questions answered directly and with zooming.

After the gain and harm terms of arXiv 2602.01334, which also follows both accuracies over the checkpoints of a run:
what the model learned to see by itself shows in the direct accuracy, what it learned from its crops in the difference.
Most of what a run gains may be of the first kind. Pure functions over right (1), wrong (0) and no reply (None), one
value per question, in the same order everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from foveate.evaluation.statistics import Interval, bootstrap_interval, mcnemar, paired_interval

Answers = Sequence[float | None]
"""Of each question: 1 right, 0 wrong, None where there was no reply."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of questions, or a difference of shares, with its 95 % bootstrap interval over questions."""

    value: float
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """`value`, and `interval` as a pair."""
        return {"value": self.value, "interval": list(self.interval)}


@dataclass(frozen=True, slots=True)
class Gains:
    """The square of a set of questions, each asked directly and with zooming.

    Attributes:
        both: how many were solved in both ways.
        gain: only with the crop.
        harm: only without.
        neither: in no way.
        left_out: how many have no reply in one way or the other, and are in none of the four.
        direct: accuracy without crops; like the next three None where there is no question.
        zoomed: accuracy with.
        gained: share of all questions that is `gain`.
        harmed: share that is `harm`.
        net: `gained` less `harmed`, which is `zoomed` less `direct`.
        p: of the net gain, by McNemar's exact test.
    """

    both: int
    gain: int
    harm: int
    neither: int
    left_out: int
    direct: Share | None
    zoomed: Share | None
    gained: Share | None
    harmed: Share | None
    net: Share | None
    p: float

    @property
    def questions(self) -> int:
        """All four together."""
        return self.both + self.gain + self.harm + self.neither

    def to_json(self) -> dict[str, Any]:
        """Counts, shares with intervals, and the test."""
        shares = ("direct", "zoomed", "gained", "harmed", "net")
        return {
            **{name: getattr(self, name) for name in ("both", "gain", "harm", "neither", "left_out", "questions", "p")},
            **{name: share and share.to_json() for name in shares for share in [getattr(self, name)]},
        }


def gains(direct: Answers, zoomed: Answers, *, seed: int = 0) -> Gains:
    """The square of the same questions answered in both ways.

    Args:
        direct: from the small view alone.
        zoomed: by the model's own protocol.
        seed: of the bootstrap.

    Raises:
        ValueError: not the same number of questions.
    """
    pairs = [(one, other) for one, other in zip(direct, zoomed, strict=True) if one is not None and other is not None]
    count = {(one, other): pairs.count((one, other)) for one in (0.0, 1.0) for other in (0.0, 1.0)}
    gain, harm = count[0.0, 1.0], count[1.0, 0.0]

    def share(values: Sequence[float]) -> Share | None:
        return Share(fmean(values), bootstrap_interval(values, seed=seed)) if values else None

    return Gains(
        both=count[1.0, 1.0],
        gain=gain,
        harm=harm,
        neither=count[0.0, 0.0],
        left_out=len(direct) - len(pairs),
        direct=share([one for one, _ in pairs]),
        zoomed=share([other for _, other in pairs]),
        gained=share([float(other > one) for one, other in pairs]),
        harmed=share([float(other < one) for one, other in pairs]),
        net=_changed([other - one for one, other in pairs], seed),
        p=mcnemar(gain, harm),
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint's answers.

    Attributes:
        name: to show.
        direct: without crops.
        zoomed: with.
    """

    name: str
    direct: Answers
    zoomed: Answers


@dataclass(frozen=True, slots=True)
class Learned:
    """How a checkpoint differs from the first one, over the questions that both answered in both ways.

    The change of the accuracy with zooming is exactly the sum of the first two.

    Attributes:
        to_see: change of the direct accuracy: what the model sees by itself.
        from_crops: change of the net gain: what it gets from crops on top.
        in_all: change of the accuracy with zooming.
        questions: how many there are; without any the three are None.
    """

    to_see: Share | None
    from_crops: Share | None
    in_all: Share | None
    questions: int

    def to_json(self) -> dict[str, Any]:
        """Shares with intervals, and `questions`."""
        shares = ("to_see", "from_crops", "in_all")
        return {
            **{name: share and share.to_json() for name in shares for share in [getattr(self, name)]},
            "questions": self.questions,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of an account: a checkpoint's square, and what it learned since the first."""

    name: str
    gains: Gains
    learned: Learned

    def to_json(self) -> dict[str, Any]:
        """Name, square and what was learned."""
        return {"name": self.name, "gains": self.gains.to_json(), "learned": self.learned.to_json()}


def account(checkpoints: Sequence[Checkpoint], *, seed: int = 0) -> tuple[Progress, ...]:
    """The squares of a run's checkpoints, oldest first, and what each learned since the first.

    Args:
        checkpoints: all over the same questions.
        seed: of the bootstrap.

    Raises:
        ValueError: not the same number of questions.
    """
    return tuple(
        Progress(one.name, gains(one.direct, one.zoomed, seed=seed), learned(checkpoints[0], one, seed=seed))
        for one in checkpoints
    )


def learned(first: Checkpoint, then: Checkpoint, *, seed: int = 0) -> Learned:
    """How a later checkpoint differs from an earlier one.

    Raises:
        ValueError: not the same number of questions.
    """
    to_see: list[float] = []
    from_crops: list[float] = []
    for direct_0, zoomed_0, direct, zoomed in zip(first.direct, first.zoomed, then.direct, then.zoomed, strict=True):
        if direct_0 is None or zoomed_0 is None or direct is None or zoomed is None:
            continue
        to_see.append(direct - direct_0)
        from_crops.append((zoomed - direct) - (zoomed_0 - direct_0))
    in_all = [seen + cropped for seen, cropped in zip(to_see, from_crops, strict=True)]
    return Learned(_changed(to_see, seed), _changed(from_crops, seed), _changed(in_all, seed), len(to_see))


def _changed(changes: Sequence[float], seed: int) -> Share | None:
    return Share(fmean(changes), paired_interval(changes, seed=seed)) if changes else None
