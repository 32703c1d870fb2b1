"""Whether an episode looked where it should: predicted boxes against true regions, all in original pixels.

Read IoG beside the box area: a box over the whole image has IoG 1 with everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from foveate.questions.schema import Question, Region
from foveate.regions import Box, iog, iou

if TYPE_CHECKING:
    from foveate.episodes import Episode, Group

IOG_THRESHOLD = 0.3
"""A region counts as found when some box covers more than this share of it (arXiv 2602.23615)."""


@dataclass(frozen=True, slots=True)
class Grounding:
    """How well one episode looked. None where a figure is undefined, never NaN.

    Attributes:
        iog30: share of true regions found; 0 without a valid box. None when the question has no true region, or the
            protocol never asked for boxes, or left it to the model (a crop tool) and the model did not call: with such
            a protocol, means are over the episodes that called.
        mean_iou: mean over true regions of the best IoU; 0 without a valid box, None as for `iog30`.
        box_area: mean area of the predicted boxes as a share of the image; None without a valid box.
        boxes: how many valid boxes there were; None when none were asked for.
        valid_boxes: whether the locating turns gave at least one valid box; None when there were none.
    """

    iog30: float | None
    mean_iou: float | None
    box_area: float | None
    boxes: int | None
    valid_boxes: bool | None


def region_iogs(boxes: Sequence[Box], regions: Sequence[Region]) -> list[float]:
    """Of each true region the best IoG over predicted boxes; 0 without boxes.

    A region is measured at its smallest level: that is what has to be seen.

    Raises:
        ValueError: no regions.
    """
    _needs(regions)
    return [max((iog(box, region[0]) for box in boxes), default=0.0) for region in regions]


def region_ious(boxes: Sequence[Box], regions: Sequence[Region]) -> list[float]:
    """Of each true region the best IoU over predicted boxes and nested levels; 0 without boxes.

    Raises:
        ValueError: no regions.
    """
    _needs(regions)
    return [max((iou(box, level) for box in boxes for level in region), default=0.0) for region in regions]


def iog_hit(boxes: Sequence[Box], regions: Sequence[Region], threshold: float = IOG_THRESHOLD) -> float:
    """The share of true regions of which some predicted box covers more than `threshold`; 0 without boxes.

    Raises:
        ValueError: no regions.
    """
    return fmean(value > threshold for value in region_iogs(boxes, regions))


def best_iog(boxes: Sequence[Box], regions: Sequence[Region]) -> float:
    """The mean of `region_iogs`."""
    return fmean(region_iogs(boxes, regions))


def best_iou(boxes: Sequence[Box], regions: Sequence[Region]) -> float:
    """The mean of `region_ious`."""
    return fmean(region_ious(boxes, regions))


def valid_boxes(episode: Episode) -> bool | None:
    """Whether the locating turns gave at least one valid box; None when there was no such turn."""
    located = [turn for turn in episode.turns if turn.located]
    return any(turn.boxes for turn in located) if located else None


def measured(episode: Episode, regions: Sequence[Region]) -> Grounding:
    """How well an episode looked, given its question's true regions."""
    boxes, valid = episode.boxes, valid_boxes(episode)
    known = bool(regions) and valid is not None
    return Grounding(
        iog30=iog_hit(boxes, regions) if known else None,
        mean_iou=best_iou(boxes, regions) if known else None,
        box_area=episode.box_area,
        boxes=None if valid is None else len(boxes),
        valid_boxes=valid,
    )


def grounding_of(groups: Iterable[Group], questions_by_id: Mapping[str, Question]) -> dict[str, float]:
    """`iog30` and `mean_iou` of training rollouts, measured from outside the loop, which never sees a box.

    Args:
        groups: rollouts of questions whose true regions were stripped.
        questions_by_id: the questions as they were, with their true regions.

    Returns:
        The means over episodes; empty when none of the questions has a true region.
    """
    looks = [
        measured(episode, questions_by_id[group.question.id].regions) for group in groups for episode in group.episodes
    ]
    figures = {
        "iog30": [look.iog30 for look in looks if look.iog30 is not None],
        "mean_iou": [look.mean_iou for look in looks if look.mean_iou is not None],
    }
    return {name: fmean(values) for name, values in figures.items() if values}


def _needs(regions: Sequence[Region]) -> None:
    if not regions:
        raise ValueError("there is no true region to measure against: check `question.regions` first")
