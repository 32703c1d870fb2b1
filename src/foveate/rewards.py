"""Reward terms: pure functions of one episode. A recipe sums weighted terms, each logged by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from foveate.protocols.matching import is_right
from foveate.regions import iog, iou, normalised_l1

if TYPE_CHECKING:
    from foveate.episodes import Episode
    from foveate.questions.schema import Region
    from foveate.regions import Box, Point, Size

SUFFICIENT = 0.9
"""LFPC's tau: the share of the smallest sufficient box that must be covered before IoU counts."""

POINT_REACH = 0.1
"""r of `matched_points`: how far from a true point, as a share of the image's sides, a point is worth nothing."""


def accuracy(episode: Episode) -> float:
    """1 for the right answer, else 0: all that HART rewards. Letters are compared exactly, open answers normalised."""
    question = episode.question
    if question.choices is not None:
        return float(episode.answer == question.answer)
    return float(is_right(episode.answer, question.answer))


def format_valid(episode: Episode) -> float:
    """1 when every turn could be read without a problem, else 0."""
    return float(all(turn.problem is None for turn in episode.turns))


def gated_tool(episode: Episode) -> float:
    """1 when the answer is right and a crop was made, else 0 (LFPC, arXiv 2603.27494, stage I)."""
    return float(bool(accuracy(episode)) and any(turn.boxes for turn in episode.turns))


def conditional_iou(episode: Episode) -> float:
    """LFPC's r_IoU (stage II): the best IoU with any level of the true region, if its smallest level is covered.

    Zero where less than `SUFFICIENT` of the smallest level is. With several true regions their mean; each takes the
    predicted box that fits it best. Needs true boxes.
    """
    return _per_region(episode, lambda box, region, _: conditional_iou_of(box, region))


def l1_closeness(episode: Episode) -> float:
    """LFPC's r_l1 (stage II): 1 minus the normalised L1 distance to the nearest level; several regions as above."""
    return _per_region(episode, lambda box, region, size: 1 - min(normalised_l1(box, true, size) for true in region))


def conditional_iou_of(box: Box, region: Region, least: float = SUFFICIENT) -> float:
    """max_i IoU(box, B_i) if more than `least` of B_1, the smallest level, is covered, else 0."""
    return max(iou(box, true) for true in region) if iog(box, region[0]) > least else 0.0


def point_matching(episode: Episode) -> float:
    """MGPO's extra reward for counting: how well the points fit the true ones (`matched_points`). Needs true points."""
    true, size = episode.question.points, episode.image_size
    if true is None:
        raise ValueError(f"question {episode.question.id!r} has no true points, which this reward term needs")
    return matched_points(episode.points, true, size) if size else 0.0


def matched_points(predicted: Sequence[Point], true: Sequence[Point], size: Size) -> float:
    """The closeness of matched points over the larger number of points, in [0, 1]; 1 where there are none.

    Predicted and true points are matched one to one so that the sum of max(0, 1 - d / r) is greatest (Hungarian
    matching; arXiv 2507.05920, appendix), with d their Euclidean distance where the image is a unit square, and r
    `POINT_REACH`. It is 1 for the true points alone; a point too many or too few lowers it.

    Args:
        predicted: in pixels of the image, as are the true ones.
        true: the true points.
        size: width and height of the image, in pixels.
    """
    if not predicted or not true:
        return float(not predicted and not true)
    from scipy.optimize import linear_sum_assignment  # a quarter of a second that only this term pays

    predicted_P2, true_T2 = (np.array([point.coordinates for point in points]) / size for points in (predicted, true))
    distance_PT = np.linalg.norm(predicted_P2[:, None] - true_T2, axis=-1)
    worth_PT = np.maximum(0.0, 1.0 - distance_PT / POINT_REACH)
    return float(worth_PT[linear_sum_assignment(worth_PT, maximize=True)].sum() / max(worth_PT.shape))


def _per_region(episode: Episode, measure: Callable[[Box, Region, Size], float]) -> float:
    regions, boxes, size = episode.question.regions, episode.boxes, episode.image_size
    if not regions:
        raise ValueError(f"question {episode.question.id!r} has no true box, which this reward term needs")
    if not boxes or size is None:
        return 0.0
    return fmean(max(measure(box, region, size) for box in boxes) for region in regions)


TERMS: Mapping[str, Callable[[Episode], float]] = {
    "accuracy": accuracy,
    "format": format_valid,
    "tool": gated_tool,
    "conditional_iou": conditional_iou,
    "l1": l1_closeness,
    "points": point_matching,
}
"""Every reward term by the name that recipes use."""

NEED_REGIONS = frozenset({"conditional_iou", "l1"})
"""The terms that look at true boxes: a recipe that names one of them is not annotation-free."""

NEED_POINTS = frozenset({"points"})
"""The terms that look at true points: likewise."""


def reward_terms(episode: Episode, names: Iterable[str]) -> dict[str, float]:
    """The value of each named term, unweighted.

    Raises:
        KeyError: a name is not in `TERMS`.
        ValueError: a term needs true boxes and the question has none, or true points and they are not known.
    """
    return {name: TERMS[name](episode) for name in names}


def total_reward(terms: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted sum of the terms."""
    return sum(weights[name] * value for name, value in terms.items())
