"""What is shown in a crop's place: noise, other crops, and the same crop with something taken from it.

Two are LFPC's (arXiv 2603.27494, the diagnosis: noise and the true region's crop); the others are the controls that
tell apart why a crop helps: its place (`random_crop`), its being this question's (`other_crop`), the region in it
(`blacked_out`), its resolution (`small_view`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from foveate.images import PixelBudget, View, crop_view, cut_view, view_through
from foveate.questions.schema import Question
from foveate.regions import Box


@dataclass(frozen=True, slots=True)
class ReplacedCrop:
    """What a replacement is made from.

    Attributes:
        question: with its true regions.
        image: the original.
        crop: to be replaced.
        multiple: the family's merged patch, in pixels.
        rng: for what is drawn; the crops of an answer turn share it.
        number: which of the answer turn's crops this is, from 0.
        small: the full image as the first turn showed it; None where it is not known.
        others: the crops of another question, about another picture; empty where there is none.
    """

    question: Question
    image: Image.Image
    crop: View
    multiple: int
    rng: random.Random
    number: int = 0
    small: View | None = None
    others: Sequence[View] = ()

    def cut(self, box: Box) -> View:
        """Another crop of the original (`box` in its pixels), under the pixels of the one that it replaces."""
        width, height = self.crop.size
        return crop_view(self.image, box, PixelBudget(width * height, width * height), self.multiple)


Replacement = Callable[[ReplacedCrop], View | None]
"""Makes the view that stands in a crop's place; None where it cannot be made."""


def noise(replaced: ReplacedCrop) -> View:
    """Random pixels in the size of the crop."""
    width, height = replaced.crop.size
    pixels_HWC = np.random.default_rng(replaced.rng.getrandbits(63)).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    return replace(replaced.crop, image=Image.fromarray(pixels_HWC))


def true_crop(replaced: ReplacedCrop) -> View:
    """The crop of a true region, at its widest level; several crops get one region each, in turn. Needs regions."""
    regions = replaced.question.regions
    return replaced.cut(regions[replaced.number % len(regions)][-1])


def random_crop(replaced: ReplacedCrop) -> View:
    """A crop of the same width and height at a random place, shown at the same size."""
    source, (width, height) = replaced.crop.source, replaced.crop.original_size
    x = replaced.rng.randint(0, int(width - source.width))
    y = replaced.rng.randint(0, int(height - source.height))
    return cut_view(replaced.image, Box(x, y, x + source.width, y + source.height), replaced.crop.size)


def other_crop(replaced: ReplacedCrop) -> View | None:
    """Another question's crop, which shows another picture, in the size of the crop that it replaces.

    A sharp picture of the usual kind without anything that this question asks about. Its sides are stretched where its
    shape was another. Several crops get the other question's in turn. None where there is no other.
    """
    if not replaced.others:
        return None
    other = replaced.others[replaced.number % len(replaced.others)]
    whole = Box(0, 0, *other.size)
    return replace(replaced.crop, image=cut_view(other.image, whole, replaced.crop.size).image)


def blacked_out(replaced: ReplacedCrop) -> View:
    """The crop with every true region black, each at its smallest level. Needs regions.

    Painted on the original, edges moved outwards to whole pixels, before anything is resized: nothing of the region is
    left. A crop without any part of a true region stays as it was.
    """
    source, size = replaced.crop.source, replaced.crop.size
    own_size = (int(source.width), int(source.height))
    painted = cut_view(replaced.image, source, own_size).image
    for smallest, *_ in replaced.question.regions:
        left, top = math.floor(smallest.x1 - source.x1), math.floor(smallest.y1 - source.y1)
        right, bottom = math.ceil(smallest.x2 - source.x1), math.ceil(smallest.y2 - source.y1)
        ImageDraw.Draw(painted).rectangle((left, top, right - 1, bottom - 1), fill=(0, 0, 0))
    return replace(replaced.crop, image=cut_view(painted, Box(0, 0, *own_size), size).image)


def small_view(replaced: ReplacedCrop) -> View | None:
    """The same part of the original in the size of the crop, but cut from what the small view shows.

    It holds nothing that the first turn did not show, only larger: what is lost by it is what the original's resolution
    is worth. None where the small view is not known.
    """
    if replaced.small is None:
        return None
    return view_through(replaced.small, replaced.crop.source, replaced.crop.size)


REPLACEMENTS: Mapping[str, Replacement] = {"noise": noise, "true_crop": true_crop, "random_crop": random_crop}
"""Those that `probe` makes where none are named; what is drawn for them must stay, for studies were made with them."""
ALL: Mapping[str, Replacement] = {
    **REPLACEMENTS,
    "other_crop": other_crop,
    "blacked_out": blacked_out,
    "small_view": small_view,
}
"""Every replacement by name."""
NEED_REGIONS = frozenset({"true_crop", "blacked_out"})
"""Those that can only be made for questions with true regions."""
