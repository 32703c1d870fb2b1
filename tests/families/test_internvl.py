"""Views as InternVL's tiles: those of the checkpoint's own processor, and no more than a view has pixels for."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tests.families.conftest import tokenizer_of
from tests.models import noise_view, published_processor, random_vlm

from foveate.context import Context
from foveate.families import ContextError, UnsupportedModelError
from foveate.families.internvl import InternVL
from foveate.images import PixelBudget, View, crop_view, fit_size, full_view
from foveate.regions import Box

SMALL = random_vlm(kind="internvl")
PUBLISHED = random_vlm(kind="internvl", processor=published_processor("internvl"))
"""Tiles of 448 pixels, up to twelve."""

SIDES = st.integers(1, 9000)


def blank(size):
    return View(Image.new("RGB", size), Box(0, 0, *size), size)


def tiles_of(vlm, view):
    """Without the thumbnail."""
    per_tile = vlm.family.feature_count(blank((28, 28)))
    count = vlm.family.feature_count(view) // per_tile
    return count if count == 1 else count - 1


def test_what_the_family_says_of_itself():
    family = PUBLISHED.family
    assert family.multiple == 28
    assert family.budget == PixelBudget(448 * 448, 12 * 448 * 448)
    assert family.feature_count(blank((448, 448))) == 256


@given(SIDES, SIDES, st.integers(1, 12))
@example(9000, 1, 12)
@example(1, 9000, 5)
@example(7680, 4320, 12)
def test_tiles_stay_within_the_budget_of_a_view(width, height, most):
    family = PUBLISHED.family
    budget = family.budget.at_most(most * 448 * 448)
    view = blank(fit_size((width, height), budget, 28))
    assert 1 <= tiles_of(PUBLISHED, view) <= most


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_grid_is_the_one_closest_to_the_aspect_ratio(columns, rows):
    """Of all grids with no more tiles than the pixels fill, none is closer."""
    view = blank((columns * 28, rows * 28))
    tiles, ratio = tiles_of(PUBLISHED, view), columns / rows
    most = min(max(round(columns * rows / 256), 1), 12)
    distance = {
        (across, down): abs(ratio - across / down)
        for across in range(1, most + 1)
        for down in range(1, most // across + 1)
    }
    assert any(across * down == tiles and d == min(distance.values()) for (across, down), d in distance.items())


@pytest.mark.parametrize("size", [(1792, 1344), (1344, 1792), (5376, 448), (2128, 1120), (1540, 1540)])
def test_a_view_of_twelve_tiles_is_what_the_processor_makes_of_it(size):
    """At the full budget there is no difference at all from the checkpoint's own processing."""
    family = PUBLISHED.family
    assert round(size[0] * size[1] / 448**2) == 12
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    view = full_view(image, family.budget, family.multiple)
    expected = family.image_processor(images=[image], crop_to_patches=True, return_tensors="pt")
    assert torch.equal(family.pixels(view)["pixel_values"], expected["pixel_values"])
    assert family.feature_count(view) == 256 * int(expected["num_patches"][0])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 3))
def test_features_are_counted_as_they_are_made(columns, rows, seed):
    family, view = SMALL.family, noise_view(columns, rows, seed)
    made = family.pixels(view)
    assert family.features_in(made) == family.feature_count(view) == 4 * len(made["pixel_values"])
    with torch.no_grad():
        features = SMALL.model.model.get_image_features(**made).pooler_output
    assert features.shape[:2].numel() == family.feature_count(view)
    assert family.placeholders(view) == "<img>" + "<IMG_CONTEXT>" * family.feature_count(view) + "</img>"


def test_a_small_crop_is_one_tile_without_a_thumbnail():
    image = Image.new("RGB", (4000, 3000))
    crop = crop_view(image, Box(10, 10, 70, 50), PUBLISHED.family.budget, 28)
    assert PUBLISHED.family.feature_count(crop) == 256


def test_tiles_go_row_by_row_and_the_thumbnail_comes_last():
    image = Image.new("RGB", (112, 168))  # two tiles across, three down
    for number in range(6):
        image.paste((40 * number,) * 3, (56 * (number % 2), 56 * (number // 2), 56 * (number % 2) + 56, 168))
    made = SMALL.family.pixels(View(image, Box(0, 0, 112, 168), (112, 168)))["pixel_values"]
    brightness = made.mean(dim=(1, 2, 3))
    assert len(made) == 7
    assert (brightness[:6].diff() > 0).all()
    assert made[:6].std(dim=(2, 3)).max() < 1e-3 < made[6].std()


def test_several_images_are_tiles_one_after_the_other():
    views = [noise_view(*grid, seed) for seed, grid in enumerate([(4, 4), (2, 2), (6, 2)])]
    family = SMALL.family
    encoded = family.encode(Context.user(views[0], "red", views[1], views[2]))
    alone = [family.pixels(view)["pixel_values"] for view in views]
    assert torch.equal(encoded.images["pixel_values"], torch.cat(alone))
    assert torch.equal(encoded.positions_AL, torch.arange(len(encoded.token_ids))[None])


def test_the_published_tokens_have_the_published_ids():
    """As in OpenGVLab's checkpoints, whose tokenizer is Qwen2.5's with these tokens after it."""
    ids = tokenizer_of("internvl").get_vocab()
    assert [ids[token] for token in ("<img>", "</img>", "<IMG_CONTEXT>")] == [151_665, 151_666, 151_667]


def test_parts_of_different_models_are_refused():
    vlm = random_vlm(kind="internvl")
    config, tokenizer, processor = vlm.family.config, vlm.family.tokenizer, vlm.family.image_processor
    with pytest.raises(UnsupportedModelError, match="448 x 448 pixels; the model expects 56 x 56"):
        InternVL(config, tokenizer, published_processor("internvl"))
    config.image_token_id -= 1
    with pytest.raises(UnsupportedModelError, match="not of one checkpoint"):
        InternVL(config, tokenizer, processor)
    config.image_token_id += 1
    with pytest.raises(ContextError, match="3 placeholders"):
        vlm.family.positions([config.image_token_id] * 3, [])
