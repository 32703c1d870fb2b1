"""Reading boxes from what a model wrote: which of them are valid, and where they lie in the original."""

from __future__ import annotations

import math
from typing import NamedTuple

from foveate.protocols.base import Problem
from foveate.protocols.notation import Corners, written_boxes
from foveate.regions import Box, Frame, Size, to_original

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

    A box is valid when it has four finite coordinates, x1 < x2, y1 < y2, and lies inside the image that the model saw
    (MGPO, arXiv 2507.05920); others are left out and named in `problem`.

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
    width, height = (1000, 1000) if Frame(frame) is Frame.THOUSAND else input_size
    boxes: list[Box] = []
    problem: Problem | None = None
    for corners in written_boxes(text):
        wrong = _wrong(corners, width, height)
        try:
            box = None if wrong else to_original(Box(*corners), frame, input_size, original_size)
        except ValueError:  # so small that floats lose it
            box, wrong = None, Problem.REVERSED
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


def _checked(corners: tuple[float, ...], width: int, height: int) -> tuple[Box | None, Problem | None]:
    if len(corners) != 4 or not all(math.isfinite(c) for c in corners):
        return None, Problem.MALFORMED
    x1, y1, x2, y2 = corners
    if x1 >= x2 or y1 >= y2:
        return None, Problem.REVERSED
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        return None, Problem.OUTSIDE
    return Box(x1, y1, x2, y2), None
