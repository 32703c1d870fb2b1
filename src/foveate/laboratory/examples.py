"""Scenes as training examples for the base: views, crops, and where every card lies in them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, Dataset

from foveate.images import PixelBudget, View, crop_view, full_view
from foveate.laboratory.architecture import BUDGET, GRID, MERGED
from foveate.questions.scenes import Card, SceneConfig, layout
from foveate.questions.scenes.drawing import draw
from foveate.regions import Box, Size, iog

SIZES = (512, 512, 512, 1024)
"""Sides of the originals in turn, in pixels: small ones are drawn and resized faster, and teach the same."""
CROPS = 2
"""Crops per scene."""
_VISIBLE = 0.8
"""Share of the writing that a picture must hold for its card to count as legible."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A view as the model gets it, and what is on it.

    Attributes:
        pixels_HWC: RGB, 8 bits.
        boxes: each card's box in pixels of this view; None where the view shows nothing of the card.
        ink: each card's writing in pixels of this view; None where it cannot be read here.
    """

    pixels_HWC: np.ndarray
    boxes: tuple[Box | None, ...]
    ink: tuple[Box | None, ...]

    @property
    def size(self) -> Size:
        """Width and height, in pixels."""
        return self.pixels_HWC.shape[1], self.pixels_HWC.shape[0]


@dataclass(frozen=True, slots=True)
class Example:
    """One scene: its cards, its small view, and some crops."""

    cards: tuple[Card, ...]
    view: Seen
    crops: tuple[Seen, ...]
    boxes: tuple[Box, ...]
    """Where each crop was cut, in pixels of the view, as the model would write it."""


def written_box(box: Box, size: Size) -> tuple[int, int, int, int]:
    """A box in view pixels as the model writes it: on the grid of `GRID` pixels, outwards (within a pixel)."""
    low = [max(0, math.floor((c + 1) / GRID) * GRID) for c in (box.x1, box.y1)]
    high = [
        min(side // GRID * GRID, math.ceil((c - 1) / GRID) * GRID)
        for c, side in zip((box.x2, box.y2), size, strict=True)
    ]
    x1, y1 = (min(a, side - GRID) for a, side in zip(low, size, strict=True))
    x2, y2 = (max(b, a + GRID) for a, b in zip((x1, y1), high, strict=True))
    return x1, y1, x2, y2


def located(box: Box, rng: random.Random, size: Size) -> Box:
    """A box such as a model may write around a card: mostly tight, now and then shifted or too large."""
    kind = rng.random()
    if kind < 0.45:
        grown, shift = 1.0, 0.0
    elif kind < 0.65:
        grown, shift = 1.0, 4.0
    elif kind < 0.9:
        grown, shift = rng.uniform(1.2, 1.7), 4.0
    else:
        grown, shift = rng.uniform(1.7, 2.5), 8.0
    cx, cy = (box.x1 + box.x2) / 2 + rng.uniform(-shift, shift), (box.y1 + box.y2) / 2 + rng.uniform(-shift, shift)
    half_w, half_h = box.width * grown / 2, box.height * grown / 2
    wanted = Box(cx - half_w, cy - half_h, cx + half_w, cy + half_h).clipped(size)
    return Box(*written_box(wanted or box, size))


@dataclass(frozen=True, slots=True)
class Optics:
    """Which scenes are shown, and in how many pixels.

    Attributes:
        scenes: in turn.
        views: budgets of the small view, drawn at random for each scene.
        crops: budget of a crop.
        legible_px: height from which writing counts as legible, in pixels of a view or crop.
    """

    scenes: tuple[SceneConfig, ...]
    views: tuple[PixelBudget, ...] = (BUDGET,)
    crops: PixelBudget = BUDGET
    legible_px: float = 5


SHIPPED = Optics(tuple(SceneConfig(size=size) for size in SIZES))
"""What the shipped base was made with."""


class Examples(Dataset[Example]):
    """Example `index` of the endless set `seed`."""

    def __init__(self, seed: int, length: int, optics: Optics = SHIPPED) -> None:
        self.seed = seed
        self.length = length
        self.optics = optics

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        config = self.optics.scenes[index % len(self.optics.scenes)]
        plan = layout(config, self.seed, index)
        image = draw(config, plan)
        rng = random.Random(f"example/{self.seed}/{index}")
        budget = self.optics.views[0] if len(self.optics.views) == 1 else rng.choice(self.optics.views)
        view = full_view(image, budget, MERGED)
        crops, boxes = [], []
        for card in rng.sample(plan.cards, min(CROPS, len(plan.cards))):
            boxes.append(located(view.from_original(card.box), rng, view.size))
            crops.append(crop_view(image, view.to_original(boxes[-1]), self.optics.crops, MERGED))
        least = self.optics.legible_px
        shown = tuple(seen(crop, plan.cards, least) for crop in crops)
        return Example(plan.cards, seen(view, plan.cards, least), shown, tuple(boxes))


def seen(view: View, cards: Sequence[Card], legible_px: float) -> Seen:
    """A view and where the cards are on it; writing counts as legible where enough of it is seen large enough."""
    boxes = [view.from_original(card.box).clipped(view.size) for card in cards]
    ink = [view.from_original(card.writing_box) for card in cards]
    covered = [iog(view.source, card.writing_box) >= _VISIBLE for card in cards]
    legible = [i if read and i.height >= legible_px else None for i, read in zip(ink, covered, strict=True)]
    return Seen(np.asarray(view.image), tuple(boxes), tuple(legible))


def batches(seed: int, steps: int, scenes: int, optics: Optics = SHIPPED) -> Iterator[list[Example]]:
    """`steps` lists of `scenes` fresh examples, made in one background process, in an order fixed by the seed."""
    if not scenes:
        yield from ([] for _ in range(steps))
        return
    loader = DataLoader(
        Examples(seed, steps * scenes, optics),
        batch_size=scenes,
        collate_fn=list,
        num_workers=1,
        prefetch_factor=8,
    )
    yield from loader
