"""A paper's claims as comparisons, and what the cells say about them. A verdict is computed, never typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from foveate.study.analysis import Difference, difference, difference_in_differences, holm
from foveate.study.results import Cell, UndefinedError, named


class Verdict(StrEnum):
    """What the cells say."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    OPPOSITE = "opposite"
    NOT_SHOWN = "not shown"
    """The interval includes 0."""
    UNDECIDED = "undecided"
    """Of a comparison that should show no difference: the interval reaches beyond the margin."""
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Comparison:
    """One difference that a claim says something about.

    Attributes:
        label: what is compared, in a few words.
        figure: see `figures.quotient`.
        a: a method (`hart`, or `hart@view` where it was trained from several bases), or two for the lead of the first
            over the second.
        b: what a is compared with: as many as a.
        expected: sign of a less b: 1, -1, or 0 for no difference worth speaking of.
        figure_b: b's figure where it is not a's.
        margin: how large a difference is not worth speaking of, where `expected` is 0.
    """

    label: str
    figure: str
    a: str | tuple[str, str]
    b: str | tuple[str, str]
    expected: Literal[1, -1, 0]
    figure_b: str | None = None
    margin: float = 0.05

    def __post_init__(self) -> None:
        if isinstance(self.a, str) != isinstance(self.b, str):
            raise ValueError(f"{self.label}: a and b must both be methods, or both be pairs")


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper, and the comparisons that must all come out for it to hold."""

    letter: str
    text: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Outcome:
    """What the cells say about a comparison.

    Attributes:
        difference: None where it was not run.
        holm: its p corrected for all comparisons judged together that expect a difference; None for the others, which
            hold where p is large.
        reason: why it was not run.
    """

    comparison: Comparison
    difference: Difference | None
    verdict: Verdict
    holm: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Judgement:
    """What the cells say about a claim."""

    claim: Claim
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        """That of all comparisons where they agree; otherwise in part, where some hold, or else the worst.

        In part says nothing about the rest, which may be opposite: read it beside the outcomes.
        """
        found = {outcome.verdict for outcome in self.outcomes}
        if found == {Verdict.HOLDS}:
            return Verdict.HOLDS
        if Verdict.HOLDS in found:
            return Verdict.IN_PART
        worst = (Verdict.OPPOSITE, Verdict.UNDECIDED, Verdict.NOT_SHOWN, Verdict.NOT_RUN)
        return next((verdict for verdict in worst if verdict in found), Verdict.NOT_RUN)


def judge(claims: Sequence[Claim], cells: Sequence[Cell]) -> list[Judgement]:
    """What the cells say about claims; p values are corrected over all comparisons that expect a difference.

    Raises:
        StudyError: a method is named that was trained from several bases, or two answered different questions.
    """
    outcomes = [_outcome(comparison, cells) for claim in claims for comparison in claim.comparisons]
    corrected = holm(
        [outcome.difference.p if outcome.difference and outcome.comparison.expected else None for outcome in outcomes]
    )
    judged = iter(
        Outcome(outcome.comparison, outcome.difference, outcome.verdict, p, outcome.reason)
        for outcome, p in zip(outcomes, corrected, strict=True)
    )
    return [Judgement(claim, tuple(next(judged) for _ in claim.comparisons)) for claim in claims]


def verdict(comparison: Comparison, found: Difference) -> Verdict:
    """What a difference says about a comparison, by its 95 % interval."""
    if comparison.expected == 0:
        if -comparison.margin <= found.low and found.high <= comparison.margin:
            return Verdict.HOLDS
        beyond = found.low > comparison.margin or found.high < -comparison.margin
        return Verdict.OPPOSITE if beyond else Verdict.UNDECIDED
    if found.low <= 0 <= found.high:
        return Verdict.NOT_SHOWN
    return Verdict.HOLDS if (found.value > 0) == (comparison.expected > 0) else Verdict.OPPOSITE


def _outcome(comparison: Comparison, cells: Sequence[Cell]) -> Outcome:
    try:
        found = _difference(comparison, cells)
    except UndefinedError as error:
        return Outcome(comparison, None, Verdict.NOT_RUN, reason=str(error))
    return Outcome(comparison, found, verdict(comparison, found))


def _difference(comparison: Comparison, cells: Sequence[Cell]) -> Difference:
    def of(method: str) -> list[Cell]:
        if not (found := named(cells, method)):
            raise UndefinedError(f"there are no cells of {method}")
        return found

    a, b, figure, figure_b = comparison.a, comparison.b, comparison.figure, comparison.figure_b
    if isinstance(a, str) or isinstance(b, str):
        return difference(of(str(a)), of(str(b)), figure, figure_b)
    return difference_in_differences((of(a[0]), of(a[1])), (of(b[0]), of(b[1])), figure, figure_b)
