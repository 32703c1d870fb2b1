"""What cards can look like and what can be written on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from foveate.regions import Box

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (214, 40, 40),
    "orange": (245, 135, 20),
    "yellow": (245, 215, 40),
    "green": (45, 150, 60),
    "cyan": (60, 200, 220),
    "blue": (40, 80, 200),
    "purple": (125, 45, 165),
    "pink": (245, 130, 185),
}
"""Told apart on the small view; each card's colour varies a little around these."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An outline in the unit square.

    Attributes:
        outline: corners, x right and y down.
        inner: where writing lies wholly inside the outline.
    """

    outline: tuple[tuple[float, float], ...]
    inner: Box

    @property
    def extent(self) -> Box:
        """The outline's bounding box."""
        xs, ys = zip(*self.outline, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))


def _ellipse(radius_x: float, radius_y: float, corners: int = 48) -> tuple[tuple[float, float], ...]:
    turns = [2 * math.pi * i / corners for i in range(corners)]
    return tuple((0.5 + radius_x * math.cos(t), 0.5 + radius_y * math.sin(t)) for t in turns)


SHAPES: dict[str, Shape] = {
    "square": Shape(((0, 0), (1, 0), (1, 1), (0, 1)), Box(0.08, 0.08, 0.92, 0.92)),
    "circle": Shape(_ellipse(0.5, 0.5), Box(0.17, 0.17, 0.83, 0.83)),
    "oval": Shape(_ellipse(0.5, 0.36), Box(0.17, 0.27, 0.83, 0.73)),
    "diamond": Shape(((0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)), Box(0.27, 0.27, 0.73, 0.73)),
    "triangle": Shape(((0.5, 0), (1, 1), (0, 1)), Box(0.26, 0.54, 0.74, 0.95)),
    "pentagon": Shape(((0.5, 0), (1, 0.38), (0.81, 1), (0.19, 1), (0, 0.38)), Box(0.2, 0.28, 0.8, 0.94)),
    "hexagon": Shape(
        ((0.25, 0.07), (0.75, 0.07), (1, 0.5), (0.75, 0.93), (0.25, 0.93), (0, 0.5)), Box(0.22, 0.13, 0.78, 0.87)
    ),
    "cross": Shape(
        (
            (0.29, 0), (0.71, 0), (0.71, 0.29), (1, 0.29), (1, 0.71), (0.71, 0.71),
            (0.71, 1), (0.29, 1), (0.29, 0.71), (0, 0.71), (0, 0.29), (0.29, 0.29),
        ),
        Box(0.05, 0.32, 0.95, 0.68),
    ),
}  # fmt: skip

WORDS = (
    "ANT", "ASH", "BAG", "BEE", "BOX", "CAP", "CAR", "COW", "CUP", "DOG", "EAR", "EGG", "FAN", "FIG", "FOX", "GEM",
    "HAT", "HEN", "ICE", "INK", "JAM", "JAR", "KEY", "LEG", "LID", "MAP", "NET", "NUT", "OAK", "OWL", "PAN", "PEN",
    "PIE", "RUG", "SKY", "SUN", "TEA", "TOY", "URN", "VAN",
)  # fmt: skip
CODE_LETTERS = "WMKACDEFGHJLNPQRSTUVXYZ"
"""Letters of codes, the widest first; without those that look like digits (B, I, O)."""
