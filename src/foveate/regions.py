"""Rectangles and points in images, the frames they are written in, and how well one rectangle covers another.

A `Box` or a `Point` says nothing about which image its pixels belong to: names do (`box_original`, `box_view`), and
`to_original` / `from_original` (for points `point_to_original` / `point_from_original`) cross between the frame a
model writes in and the original photograph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

Size = tuple[int, int]
"""Width and height of an image, in pixels."""

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 of a box, in pixels of some image."""


class Frame(StrEnum):
    """The coordinates a model family writes boxes and points in."""

    PIXEL = "pixel"
    """Absolute pixels of the image as the model saw it, after resizing (Qwen2.5-VL)."""
    THOUSAND = "thousand"
    """0 to 1000 along each side, whatever the size (Qwen2-VL, Qwen3-VL, InternVL)."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place in continuous pixels of some image; x grows right, y down.

    Raises:
        ValueError: a coordinate is not finite.
    """

    x: float
    y: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(c) for c in self.coordinates):
            raise ValueError(f"point {self.coordinates} has a coordinate that is not a finite number")

    @property
    def coordinates(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.x, self.y)

    def inside(self, size: Size) -> bool:
        """Whether it lies in an image of `size`, edges included."""
        return 0 <= self.x <= size[0] and 0 <= self.y <= size[1]

    def scaled(self, factor_x: float, factor_y: float) -> Point:
        """x multiplied by `factor_x` and y by `factor_y`."""
        return Point(self.x * factor_x, self.y * factor_y)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with corners (x1, y1) and (x2, y2), in continuous pixels of some image; x grows right, y down.

    Its area is a finite positive number: what is divided by it is never undefined.

    Raises:
        ValueError: a coordinate is not finite, or the box has no area (or one that floats cannot hold).
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(c) for c in self.corners):
            raise ValueError(f"box {self.corners} has a coordinate that is not a finite number")
        if not (self.x1 < self.x2 and self.y1 < self.y2):
            raise ValueError(f"box {self.corners} is empty: it needs x1 < x2 and y1 < y2")
        if not 0.0 < self.area < math.inf:
            raise ValueError(f"box {self.corners} is too small or too large: its area is {self.area}")

    @property
    def corners(self) -> Corners:
        """(x1, y1, x2, y2)."""
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def width(self) -> float:
        """Extent along x."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Extent along y."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """Width times height, in square pixels."""
        return self.width * self.height

    @property
    def centre(self) -> Point:
        """The point in its middle."""
        return Point((self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2)

    def intersection(self, other: Box) -> float:
        """Area shared with `other`, in square pixels; 0 when they only touch."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return width * height if width > 0 and height > 0 else 0.0

    def contains(self, other: Box) -> bool:
        """Whether `other` lies inside this box, edges included."""
        return self.x1 <= other.x1 and self.y1 <= other.y1 and self.x2 >= other.x2 and self.y2 >= other.y2

    def clipped(self, size: Size) -> Box | None:
        """The part inside an image of `size`, or None when nothing of it is (a box that only touches has no part)."""
        x1, y1, x2, y2 = max(self.x1, 0.0), max(self.y1, 0.0), min(self.x2, size[0]), min(self.y2, size[1])
        return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 and (x2 - x1) * (y2 - y1) > 0 else None

    def scaled(self, factor_x: float, factor_y: float) -> Box:
        """Every x multiplied by `factor_x` and every y by `factor_y`, both positive."""
        return Box(self.x1 * factor_x, self.y1 * factor_y, self.x2 * factor_x, self.y2 * factor_y)

    def grown_to(self, min_side: float, size: Size) -> Box:
        """Grown around its centre until both sides are `min_side`, moved (not cut) to stay inside an image of `size`.

        A side never exceeds the image: in an image smaller than `min_side` the box spans it. What was inside the
        image stays covered; a box wholly outside is moved to the nearest edge.
        """
        x1, x2 = _grow(self.x1, self.x2, min_side, size[0])
        y1, y2 = _grow(self.y1, self.y2, min_side, size[1])
        return Box(x1, y1, x2, y2)


def _grow(low: float, high: float, least: float, limit: float) -> tuple[float, float]:
    if high - low < least:
        middle = (low + high) / 2
        low, high = min(low, middle - least / 2), max(high, middle + least / 2)
    if high - low >= limit:
        return 0.0, float(limit)
    if low < 0:
        return 0.0, high - low
    if high > limit:
        return max(low - (high - limit), 0.0), float(limit)
    return low, high


def iou(first: Box, second: Box) -> float:
    """Intersection over union, in [0, 1]. Both boxes in the same frame."""
    shared = first.intersection(second)
    return shared / (first.area + second.area - shared)


def iog(predicted: Box, true: Box) -> float:
    """Intersection over ground truth: the share of the true box that the predicted one covers, in [0, 1].

    HART calls a region right when this exceeds 0.3 (arXiv 2602.23615, grounding evaluation). A box over the whole
    image scores 1: read it beside the box area.
    """
    return predicted.intersection(true) / true.area


def box_area(boxes: Sequence[Box], image_size: Size) -> float | None:
    """The mean area of the boxes inside the image, as a share of it; None without boxes.

    Args:
        boxes: in pixels of the image.
        image_size: width and height, in pixels.
    """
    if not boxes:
        return None
    inside = (box.clipped(image_size) for box in boxes)
    return fmean(box.area if box else 0.0 for box in inside) / (image_size[0] * image_size[1])


def normalised_l1(first: Box, second: Box, size: Size) -> float:
    """Mean distance of the four corner coordinates, x in widths and y in heights of the image, in [0, 1].

    LFPC's d_L1 (arXiv 2603.27494, stage II); the same whatever the image is scaled to.

    Args:
        first: inside an image of `size`, as is `second`.
        size: width and height of that image, in pixels.
    """
    across = abs(first.x1 - second.x1) + abs(first.x2 - second.x2)
    down = abs(first.y1 - second.y1) + abs(first.y2 - second.y2)
    return (across / size[0] + down / size[1]) / 4


def to_original(box: Box, frame: Frame | str, input_size: Size, original_size: tuple[float, float]) -> Box:
    """A box as the model wrote it, in pixels of the original image.

    What lies inside the input lies inside the original, to the last bit: the far edge maps to the far edge.

    Args:
        box: in `frame`.
        frame: the coordinates of the model's family.
        input_size: width and height of the image as the model saw it (used by the pixel frame only).
        original_size: width and height of the original, upright image.

    Raises:
        ValueError: an unknown frame, or a box so small that rounding leaves nothing of it.
    """
    return _rescaled(box, frame_extent(frame, input_size), original_size)


def from_original(box: Box, frame: Frame | str, input_size: Size, original_size: tuple[float, float]) -> Box:
    """The inverse of `to_original`: a box of the original image in the coordinates a model would write.

    Raises:
        ValueError: as `to_original`.
    """
    return _rescaled(box, original_size, frame_extent(frame, input_size))


def point_to_original(point: Point, frame: Frame | str, input_size: Size, original_size: tuple[float, float]) -> Point:
    """A point as the model wrote it, in pixels of the original image; arguments and exactness as `to_original`.

    Raises:
        ValueError: an unknown frame, or a point so far away that floats cannot hold its image.
    """
    return _rescaled_point(point, frame_extent(frame, input_size), original_size)


def point_from_original(
    point: Point, frame: Frame | str, input_size: Size, original_size: tuple[float, float]
) -> Point:
    """The inverse of `point_to_original`: a point of the original image in the coordinates a model would write.

    Raises:
        ValueError: as `point_to_original`.
    """
    return _rescaled_point(point, original_size, frame_extent(frame, input_size))


def frame_extent(frame: Frame | str, input_size: Size) -> Size:
    """The largest x and y that can be written in a frame."""
    return (1000, 1000) if Frame(frame) is Frame.THOUSAND else input_size


def _rescaled(box: Box, old: tuple[float, float], new: tuple[float, float]) -> Box:
    # Multiplied before divided: multiplying by the rounded ratio would put the far edge beside the image's own.
    return Box(box.x1 * new[0] / old[0], box.y1 * new[1] / old[1], box.x2 * new[0] / old[0], box.y2 * new[1] / old[1])


def _rescaled_point(point: Point, old: tuple[float, float], new: tuple[float, float]) -> Point:
    return Point(point.x * new[0] / old[0], point.y * new[1] / old[1])
