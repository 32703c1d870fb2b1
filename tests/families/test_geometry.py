"""What a configuration alone says of pixels is what the checkpoint's own processor makes of them."""

from __future__ import annotations

import pytest
from PIL import Image
from tests.models import KINDS, random_vlm

from foveate.families.geometry import Tiles
from foveate.images import PixelBudget, full_view


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 6, 24])
def test_plain_pictures_are_made_as_real_ones(kind, tokens):
    family = random_vlm(kind=kind).family
    geometry = family.geometry
    grid = geometry.grid(tokens * geometry.multiple**2)
    # Of a row of several tiles, the last is the thumbnail.
    rows, columns = (1, max(1, grid[1] - 1)) if isinstance(geometry, Tiles) else grid
    side = geometry.side if isinstance(geometry, Tiles) else geometry.multiple
    picture = Image.new("RGB", (columns * side, rows * side), "red")
    view = full_view(picture, PixelBudget(1, picture.width * picture.height), geometry.multiple)
    assert view.size == picture.size
    real, plain = family.pixels(view), geometry.plain([grid])
    assert {name: tensor.shape for name, tensor in plain.items()} == {name: real[name].shape for name in real}
    assert geometry.visual_tokens(grid) == family.feature_count(view) == family.features_in(real)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_as_many_axes_of_positions_as_the_model(kind):
    family = random_vlm(kind=kind).family
    assert len(family.positions([1, 2, 3], [])) == family.geometry.axes
