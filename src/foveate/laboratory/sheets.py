"""Sheets of digits: many digits to an image, so that reading is learned in minutes.

A crop of a scene shows one digit; a sheet shows a dozen at the sizes and on the grounds that crops have.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from foveate.laboratory.architecture import VIEW_SIDE
from foveate.laboratory.dense import ink_targets
from foveate.laboratory.examples import Seen
from foveate.questions.scenes.layout import ink_on
from foveate.questions.scenes.lettering import ink_box, write
from foveate.questions.scenes.palette import COLOURS
from foveate.regions import Box

_CELLS = 3
_HEIGHTS = (10, 26)
"""Least and greatest height of a digit, in pixels."""


def sheet(rng: random.Random, heights: tuple[int, int] = _HEIGHTS) -> tuple[Seen, Tensor]:
    """A 112 x 112 picture of nine digits, and the targets of its visual tokens as `dense.targets` gives them."""
    red, green, blue = (min(255, max(0, c + rng.randint(-14, 14))) for c in rng.choice(list(COLOURS.values())))
    image = Image.new("RGB", (VIEW_SIDE, VIEW_SIDE), (red, green, blue))
    pen = ImageDraw.Draw(image)
    digits: list[tuple[int, Box]] = []
    cell = VIEW_SIDE / _CELLS
    for place in range(_CELLS**2):
        row, column = divmod(place, _CELLS)
        text, height = str(rng.randrange(10)), rng.randint(*heights)
        x1, y1, x2, y2 = ink_box(text, height)
        x = round(column * cell + rng.uniform(0, cell - (x2 - x1)))
        y = round(row * cell + rng.uniform(0, cell - (y2 - y1)))
        write(pen, (x - x1, y - y1), text, height, ink_on((red, green, blue)))
        digits.append((int(text), Box(x, y, x + x2 - x1, y + y2 - y1)))
    return Seen(np.asarray(image), (), ()), ink_targets(digits, (VIEW_SIDE, VIEW_SIDE))
