"""What stands in a crop's place: of the stated size, holding what it is said to hold and nothing else."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.evaluation.policies import ask
from tests.scripted import Traits, picture

from foveate.evaluation.replacements import (
    ALL,
    NEED_REGIONS,
    ReplacedCrop,
    blacked_out,
    noise,
    other_crop,
    random_crop,
    small_view,
    true_crop,
)
from foveate.images import PixelBudget, View, crop_view, full_view, view_through
from foveate.regions import Box

SIZE = (300, 200)
TRAITS = Traits()
sides = st.tuples(st.integers(0, 290), st.integers(0, 190), st.integers(1, 300), st.integers(1, 200))
parts = sides.map(lambda side: Box(side[0], side[1], side[0] + side[2], side[1] + side[3]).clipped(SIZE))


def speckled(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(1, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def pixels(view: View) -> np.ndarray:
    return np.asarray(view.image)


def case(
    image: Image.Image,
    box: Box,
    region: Box,
    *,
    seed: int = 0,
    small: View | None = None,
    others: tuple[View, ...] = (),
) -> ReplacedCrop:
    crop = crop_view(image, box, TRAITS.budget, TRAITS.multiple)
    drawn = random.Random(seed)
    return ReplacedCrop(ask(regions=((region,),)), image, crop, TRAITS.multiple, drawn, small=small, others=others)


def full(image: Image.Image, pixels: int = 56 * 56) -> View:
    return full_view(image, PixelBudget(28 * 28, pixels), 28)


@settings(max_examples=60, deadline=None)
@given(parts, parts, st.integers(0, 5))
def test_sizes(box: Box, region: Box, seed: int) -> None:
    image = picture(SIZE, (10, 10, 20, 20))
    other = crop_view(speckled(), Box(3, 4, 90, 60), TRAITS.budget, 28)
    replaced = case(image, box, region, seed=seed, small=full(image), others=(other,))
    crop = replaced.crop
    made = {name: replacement(replaced) for name, replacement in ALL.items()}
    for name, view in made.items():
        assert view is not None
        assert view.cropped, name
        if name != "true_crop":
            assert view.size == crop.size, name
            assert (view.source.width, view.source.height) == (crop.source.width, crop.source.height), name
    assert made["random_crop"].source.clipped(image.size) == made["random_crop"].source
    cut = made["true_crop"]
    assert cut.size[0] * cut.size[1] <= crop.size[0] * crop.size[1]
    assert not any(side % TRAITS.multiple for side in cut.size)


@settings(max_examples=60, deadline=None)
@given(parts, parts)
def test_nothing_of_a_blacked_out_region_is_left(box: Box, region: Box) -> None:
    """Two originals that differ in the true region alone give the same picture."""
    image, other = speckled(), speckled()
    left, top, right, bottom = (int(c) for c in region.corners)
    other.paste((9, 250, 3), (left, top, right, bottom))
    assert (
        blacked_out(case(image, box, region)).image.tobytes() == blacked_out(case(other, box, region)).image.tobytes()
    )


@settings(max_examples=60, deadline=None)
@given(parts, st.floats(0, 280), st.floats(0, 180), st.floats(0.5, 300), st.floats(0.5, 200))
def test_exactly_the_region_is_black(box: Box, x: float, y: float, width: float, height: float) -> None:
    """At the crop's own size nothing is resized: black is where the region is, edges outwards, and nowhere else."""
    region = Box(x, y, x + width, y + height)
    image = speckled()  # no black in it
    crop = View(image.crop(tuple(map(int, box.corners))), box, SIZE, cropped=True)
    replaced = ReplacedCrop(ask(regions=((region,),)), image, crop, 28, random.Random(0))
    expected = np.asarray(image).copy()
    expected[math.floor(y) : math.ceil(y + height), math.floor(x) : math.ceil(x + width)] = 0
    left, top, right, bottom = map(int, box.corners)
    assert np.array_equal(pixels(blacked_out(replaced)), expected[top:bottom, left:right])


def test_a_region_is_black_where_the_view_maps_it_to() -> None:
    """Enlarged: black inside, untouched outside, but for the breadth of the resizing filter at the edge."""
    image = picture(SIZE, (0, 0, *SIZE))  # red all over
    region = Box(60, 50, 90, 80)
    crop = crop_view(image, Box(40, 30, 110, 100), PixelBudget(210 * 210, 210 * 210), 28)
    replaced = ReplacedCrop(ask(regions=((region,),)), image, crop, 28, random.Random(0))
    shown = blacked_out(replaced)
    enlarged = shown.size[0] / shown.source.width
    assert enlarged > 2
    mapped = shown.from_original(region)
    black = pixels(shown).max(-1) < 40
    columns, rows = np.flatnonzero(black.any(0)), np.flatnonzero(black.any(1))
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert found == pytest.approx(mapped.corners, abs=enlarged)
    assert np.array_equal(pixels(shown)[0], pixels(replaced.crop)[0])


def test_a_crop_without_the_region_stays() -> None:
    replaced = case(speckled(), Box(0, 0, 100, 100), Box(200, 100, 250, 150))
    assert blacked_out(replaced).image.tobytes() == replaced.crop.image.tobytes()


def test_every_region_is_black_at_its_smallest_level() -> None:
    image = picture(SIZE, (0, 0, *SIZE))
    question = ask(regions=((Box(10, 10, 20, 20), Box(0, 0, 60, 60)), (Box(80, 80, 90, 95),)))
    crop = View(image, Box(0, 0, *SIZE), SIZE, cropped=True)
    shown = blacked_out(ReplacedCrop(question, image, crop, 28, random.Random(0)))
    assert (pixels(shown).max(-1) == 0).sum() == 10 * 10 + 10 * 15


@settings(max_examples=40, deadline=None)
@given(parts)
def test_a_crop_of_the_small_view_holds_no_more_than_the_small_view(box: Box) -> None:
    """Two originals with the same small view; one of them is full of detail that it does not show."""
    small = full(speckled(1))
    plain, detailed = (case(image, box, box, small=small) for image in (picture(SIZE), speckled(2)))
    assert plain.crop.image.tobytes() != detailed.crop.image.tobytes()
    assert small_view(plain).image.tobytes() == small_view(detailed).image.tobytes()


def test_a_crop_of_the_small_view_lies_where_the_crop_lies() -> None:
    image = picture((1120, 840), (280, 140, 420, 280))
    small = full_view(image, PixelBudget(28 * 28, 168 * 140), 28)
    replaced = case(image, Box(270, 130, 430, 290), Box(280, 140, 420, 280), small=small)
    sharp, blurred = (pixels(view).astype(int) for view in (replaced.crop, small_view(replaced)))
    assert small_view(replaced).source == replaced.crop.source
    assert abs(sharp - blurred)[20:-20, 20:-20].max() < 60  # red in the middle of both
    assert abs(sharp - blurred).mean() > 0


def test_a_part_that_a_view_does_not_show() -> None:
    crop = crop_view(speckled(), Box(0, 0, 100, 100), TRAITS.budget, 28)
    with pytest.raises(ValueError, match="lies outside the part"):
        view_through(crop, Box(200, 100, 250, 150), (28, 28))


def test_another_questions_crops_come_in_turn() -> None:
    red, blue = (View(Image.new("RGB", (56, 84), colour), Box(0, 0, 9, 9), (99, 99), cropped=True) for colour in "rb"
                 for colour in [{"r": (255, 0, 0), "b": (0, 0, 255)}[colour]])  # fmt: skip
    replaced = case(speckled(), Box(0, 0, 60, 60), Box(0, 0, 9, 9), others=(red, blue))
    shown = [
        other_crop(
            ReplacedCrop(replaced.question, replaced.image, replaced.crop, 28, replaced.rng, n, others=(red, blue))
        )
        for n in range(3)
    ]
    assert [view.image.getpixel((5, 5)) for view in shown] == [(255, 0, 0), (0, 0, 255), (255, 0, 0)]


def test_what_cannot_be_made_is_none() -> None:
    replaced = case(speckled(), Box(0, 0, 60, 60), Box(0, 0, 9, 9))
    assert small_view(replaced) is None
    assert other_crop(replaced) is None


def test_noise_and_places_come_from_the_given_numbers() -> None:
    for replacement in (noise, random_crop):
        shown = [
            replacement(case(speckled(), Box(0, 0, 60, 60), Box(0, 0, 9, 9), seed=seed)).image.tobytes()
            for seed in (0, 0, 1)
        ]
        assert shown[0] == shown[1] != shown[2]


def test_a_region_that_is_the_crop_is_its_own_true_crop() -> None:
    image, box = speckled(), Box(20, 20, 104, 104)
    replaced = case(image, box, box)
    assert true_crop(replaced).source == replaced.crop.source


def test_those_that_need_regions_are_known() -> None:
    assert ALL.keys() > NEED_REGIONS
