"""Reading boxes and points from what a model wrote: which are valid, and where they lie in the original."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from foveate.protocols.base import Problem
from foveate.protocols.notation import Corners, written_boxes, written_points
from foveate.regions import Box, Frame, Point, Size, frame_extent, point_to_original, to_original

MAX_BOXES = 16
"""Boxes beyond this many in one reply are a problem, not an answer."""


class ParsedBoxes(NamedTuple):
    """Boxes in original pixels, and what was wrong with the reply, if anything (the first problem met)."""

    boxes: tuple[Box, ...]
    problem: Problem | None


def parse_boxes(
    text: str, frame: Frame | str, input_size: Size, original_size: Size, *, max_boxes: int = MAX_BOXES
) -> ParsedBoxes:
    """Reads the boxes of a reply and maps them to the original image. Any text is read: nothing is raised over it.

    Understood: JSON and Python (an object or a list, with `bbox_2d` or the like, with named corners, or bare lists of
    four; coordinates as numbers or strings; in code fences or prose, whole or broken), tags
    (`<|box_start|>(x1,y1),(x2,y2)<|box_end|>`, `<box>`), `[x1, y1, x2, y2]` and `(x1, y1), (x2, y2)` in prose, and four
    bare numbers on a line of their own. What names its boxes is preferred to brackets, brackets to bare lines.

    Four numbers are two corners, x first, unless they are named: `x`, `y`, `width` and `height` (or `w`, `h`), or a key
    such as `bbox_xywh`, give a corner and a size. Percents and centres are not read.

    A box is valid when it has four finite coordinates, x1 < x2, y1 < y2, and lies inside the image that the model saw
    (MGPO, arXiv 2507.05920); others are left out and named in `problem`. Fractions of the sides (all within 0 to 1) are
    malformed: they are in no frame.

    Args:
        text: the reply.
        frame: `"pixel"` (of the input as the model saw it) or `"thousand"` (0 to 1000).
        input_size: width and height of the image as the model saw it.
        original_size: width and height of the original, upright image.
        max_boxes: how many boxes count; more are a problem.

    Returns:
        (boxes in original pixels and inside the original, problem or None). A box written twice counts once.

    Raises:
        ValueError: an unknown frame.
    """
    width, height = frame_extent(frame, input_size)
    boxes: list[Box] = []
    problem: Problem | None = None
    for corners in written_boxes(text):
        wrong = _wrong(corners, width, height)
        try:
            box = None if wrong else to_original(Box(*corners), frame, input_size, original_size)
        except ValueError:  # so small that floats lose it
            box, wrong = None, Problem.REVERSED
        if box is not None and _fractions(corners):
            box, wrong = None, Problem.MALFORMED
        problem = problem or wrong
        if box is None or box in boxes:
            continue
        if len(boxes) == max_boxes:
            problem = problem or Problem.TOO_MANY
            break
        boxes.append(box)
    if not boxes and problem is None:
        problem = Problem.NO_BOX
    return ParsedBoxes(tuple(boxes), problem)


def _wrong(corners: Corners, width: int, height: int) -> Problem | None:
    if len(corners) != 4 or not all(math.isfinite(c) for c in corners):
        return Problem.MALFORMED
    x1, y1, x2, y2 = corners
    if x1 >= x2 or y1 >= y2:
        return Problem.REVERSED
    return Problem.OUTSIDE if x1 < 0 or y1 < 0 or x2 > width or y2 > height else None


def _fractions(corners: Corners) -> bool:
    """Whether coordinates are shares of the sides, which no frame is: read as pixels they would be another box."""
    return all(c <= 1 for c in corners) and not all(c.is_integer() for c in corners)


class ParsedPoints(NamedTuple):
    """Points in original pixels, and what was wrong with the reply, if anything (the first problem met)."""

    points: tuple[Point, ...]
    problem: Problem | None


def parse_points(text: str, frame: Frame | str, input_size: Size, original_size: Size) -> ParsedPoints:
    """Reads the points of a reply and maps them to the original image. Any text is read: nothing is raised over it.

    Understood, whole or broken: JSON and Python (`point_2d`, `point` or any other key, lists of pairs, objects with `x`
    and `y`; coordinates as numbers or strings) and `[x, y]` or `(x, y)` in prose.

    A point is valid when it has two finite coordinates and lies in the image that the model saw, edges included; others
    are left out and named in `problem`. That there is none is no problem here. A point written twice counts twice.

    Args:
        text: the reply.
        frame: `"pixel"` (of the input as the model saw it) or `"thousand"` (0 to 1000).
        input_size: width and height of the image as the model saw it.
        original_size: width and height of the original, upright image.

    Raises:
        ValueError: an unknown frame.
    """
    return valid_points(written_points(text), frame, input_size, original_size)


def valid_points(written: Iterable[Corners], frame: Frame | str, input_size: Size, original_size: Size) -> ParsedPoints:
    """As `parse_points`, for coordinates that are read already."""
    extent = frame_extent(frame, input_size)
    points: list[Point] = []
    problem: Problem | None = None
    for coordinates in written:
        if len(coordinates) != 2 or not all(math.isfinite(c) for c in coordinates):
            problem = problem or Problem.MALFORMED
        elif not (point := Point(*coordinates)).inside(extent):
            problem = problem or Problem.OUTSIDE
        else:
            points.append(point_to_original(point, frame, input_size, original_size))
    return ParsedPoints(tuple(points), problem)
