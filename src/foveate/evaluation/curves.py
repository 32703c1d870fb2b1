"""How much of the truth is found as the threshold rises: what one fixed threshold hides (HART, arXiv 2602.23615)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from foveate.evaluation.grounding import region_iogs, region_ious
from foveate.evaluation.scoring import Scored
from foveate.questions.schema import Region
from foveate.regions import Box

THRESHOLDS = tuple(step / 20 for step in range(20))
"""0 to 0.95."""

Curve = list[tuple[float, float]]
"""(threshold, share of true regions over it), each question counting once."""


def grounding_curves(scored: Iterable[Scored]) -> dict[str, Curve]:
    """The shares of true regions whose best IoG (`iog`) and best IoU (`iou`) are over each threshold.

    As `Grounding.iog30`, which is the point at 0.3 of the first: means over a question's regions, then its attempts,
    then the questions. Empty where there are no true regions or no boxes were asked for.
    """
    scored = list(scored)
    measures: dict[str, Callable[[Sequence[Box], Sequence[Region]], list[float]]] = {
        "iog": region_iogs,
        "iou": region_ious,
    }
    curves = {}
    for name, measure in measures.items():
        questions = [found for one in scored if (found := _found(one, measure))]
        if questions:
            curves[name] = [(t, fmean(fmean(_over(t, found)) for found in questions)) for t in THRESHOLDS]
    return curves


def _found(scored: Scored, measure: Callable[[Sequence[Box], Sequence[Region]], list[float]]) -> list[list[float]]:
    """Of each attempt that was to point, what it found of each true region."""
    regions = [tuple(Box(*corners) for corners in levels) for levels in scored.regions]
    pointed = [attempt for attempt in scored.attempts if attempt.grounding.iog30 is not None]
    return [measure([Box(*corners) for corners in attempt.boxes], regions) for attempt in pointed]


def _over(threshold: float, found: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(value > threshold for value in values) for values in found]
