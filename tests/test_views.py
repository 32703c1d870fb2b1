"""Views: shown under a budget, with a map back to the original that is exact."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.pictures import RED, TURNS, marked, red_box, with_orientation
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from foveate.images import PixelBudget, crop_view, fit_size, full_view, open_image
from foveate.regions import Box, Frame, Point, from_original, iog

SIDES = st.integers(1, 9000)
BUDGETS = st.tuples(st.integers(1, 3_000_000), st.integers(0, 10_000_000)).map(lambda b: PixelBudget(b[0], b[0] + b[1]))
QWEN = PixelBudget(56 * 56, 28 * 28 * 1280)


@given(st.tuples(SIDES, SIDES), BUDGETS, st.sampled_from([14, 28, 32]))
@example((1, 20_000), QWEN, 28)
@example((20_000, 1), QWEN, 28)
@example((1, 1), QWEN, 28)
@example((7680, 4320), QWEN, 28)
@example((10, 1000), PixelBudget(3136, 13_000), 28)
@example((100, 100), PixelBudget(1568, 1568), 28)
@example((1, 1), PixelBudget(1, 1), 28)
def test_shown_sizes_are_multiples_within_the_budget(size, budget, multiple):
    shown = fit_size(size, budget, multiple)
    assert all(side >= multiple and side % multiple == 0 for side in shown)
    assert shown[0] * shown[1] <= max(budget.max_pixels, multiple**2)
    try:
        height, width = smart_resize(size[1], size[0], multiple, budget.min_pixels, budget.max_pixels)
    except ValueError:  # an aspect ratio over 200
        return
    if width * height <= budget.max_pixels:
        assert shown == (width, height)


@given(st.tuples(SIDES, SIDES))
def test_shown_sizes_are_qwens_under_its_usual_budget(size):
    if max(size) <= 200 * min(size):
        height, width = smart_resize(size[1], size[0], 28, QWEN.min_pixels, QWEN.max_pixels)
        assert fit_size(size, QWEN, 28) == (width, height)


@pytest.mark.parametrize(("least", "most"), [(0, 1), (-1, 5), (2, 1)])
def test_a_budget_is_in_order(least, most):
    with pytest.raises(ValueError, match="pixel budget"):
        PixelBudget(least, most)


@given(BUDGETS, st.integers(1, 10_000_000))
def test_a_lowered_budget_is_never_over_the_bound_nor_over_itself(budget, bound):
    lowered = budget.at_most(bound)
    assert lowered.max_pixels == min(budget.max_pixels, bound)
    assert lowered.min_pixels == min(budget.min_pixels, bound)


@st.composite
def pictures(draw):
    """A picture of odd size with one red rectangle of at least a twentieth of each side, and where that is."""
    size = draw(st.tuples(st.integers(60, 700), st.integers(60, 700)))
    edges = []
    for side in size:
        low = draw(st.integers(0, side - side // 20 - 1))
        edges.append((low, draw(st.integers(low + side // 20 + 1, side))))
    box = (edges[0][0], edges[1][0], edges[0][1], edges[1][1])
    return marked(size, box), Box(*box)


@settings(max_examples=60)
@given(pictures(), st.sampled_from([4, 9, 25, 60]), st.sampled_from(["pixel", "thousand"]))
def test_a_box_found_in_the_view_covers_the_marked_pixels_of_the_original(picture, tokens, frame):
    image, true = picture
    view = full_view(image, PixelBudget(784, 784 * tokens), 28)
    assert view.source == Box(0, 0, *image.size)
    try:
        seen = red_box(view.image)
    except ValueError:  # too thin to be seen at this size
        return
    found = view.to_original(from_original(seen, frame, view.size, view.size), frame)
    pixel = image.width / view.size[0], image.height / view.size[1]  # of the view, in original pixels
    for got, want, slack in zip(found.corners, true.corners, pixel * 2, strict=True):
        assert abs(got - want) <= slack + 1
    around = Box(found.x1 - pixel[0] - 1, found.y1 - pixel[1] - 1, found.x2 + pixel[0] + 1, found.y2 + pixel[1] + 1)
    crop = crop_view(image, around, PixelBudget(784, 10**7), 28)
    assert crop.source.contains(true)
    part = image.crop(tuple(int(edge) for edge in crop.source.corners))
    assert np.count_nonzero(np.asarray(part)[..., 0] == RED[0]) == true.area
    again = crop.to_original(red_box(crop.image))
    slack = (crop.source.width / crop.size[0] + 1, crop.source.height / crop.size[1] + 1)
    for got, want, most in zip(again.corners, true.corners, slack * 2, strict=True):
        assert abs(got - want) <= most


@given(pictures(), st.data(), st.sampled_from(["pixel", "thousand"]))
@settings(max_examples=60)
def test_maps_of_crops_go_there_and_back_and_stay_inside(picture, data, frame):
    image, true = picture
    view = crop_view(image, true, PixelBudget(784, 784 * 9), 28)
    assert Box(0, 0, *image.size).contains(view.source)
    assert view.source.contains(true)
    assert all(float(edge).is_integer() for edge in view.source.corners)
    back = view.to_original(view.from_original(true, frame), frame)
    assert back.corners == pytest.approx(true.corners, abs=1e-6)
    extent = (1000, 1000) if frame == "thousand" else view.size
    x = sorted(data.draw(st.lists(st.floats(0, extent[0]), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.floats(0, extent[1]), min_size=2, max_size=2)))
    if x[1] - x[0] > 1e-3 and y[1] - y[0] > 1e-3:
        assert view.source.contains(view.to_original(Box(x[0], y[0], x[1], y[1]), frame))
    assert view.to_original(Box(0, 0, *extent), frame) == view.source


@given(st.tuples(st.integers(1, 200), st.integers(1, 200)), st.data())
@settings(max_examples=100)
def test_crops_are_the_pixels_of_the_original_and_at_least_a_patch(size, data):
    rng = np.random.default_rng(size)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    corner = st.floats(-50, 250)
    x1, y1 = data.draw(corner), data.draw(corner)
    box = Box(x1, y1, x1 + data.draw(st.floats(0.01, 300)), y1 + data.draw(st.floats(0.01, 300)))
    budget = PixelBudget(1, 10**8)
    inside = box.clipped(size)
    if inside is None:
        with pytest.raises(ValueError, match="outside"):
            crop_view(image, box, budget, 28)
        return
    view = crop_view(image, box, budget, 28)
    assert view.source.width >= min(28, size[0])
    assert view.source.height >= min(28, size[1])
    assert iog(view.source, inside) == 1.0
    part = image.crop(tuple(int(edge) for edge in view.source.corners))
    expected = part.resize(view.size, Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(view.image), np.asarray(expected))


def test_a_view_at_the_images_own_size_is_not_resampled():
    image = marked((280, 140))
    assert full_view(image, QWEN, 28).image is image
    crop = crop_view(image, Box(28, 0, 84, 56), QWEN, 28)
    assert np.array_equal(np.asarray(crop.image), np.asarray(image.crop((28, 0, 84, 56))))


def test_views_are_told_apart_by_what_they_show():
    image = marked((280, 140))
    one = crop_view(image, Box(28, 0, 84, 56), QWEN, 28)
    assert one.key == crop_view(image, Box(28.2, 0.4, 83.7, 55.1), QWEN, 28).key
    assert one.key != crop_view(image, Box(28, 0, 84, 57), QWEN, 28).key
    assert one.key != crop_view(image, Box(28, 0, 84, 56), PixelBudget(28**2 * 9, 28**2 * 9), 28).key
    assert one != crop_view(image, Box(28, 0, 84, 56), QWEN, 28)  # a view is itself only: caches are keyed by it


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("frame", ["pixel", "thousand"])
def test_boxes_land_on_the_marked_pixels_whatever_the_orientation(orientation, frame):
    """Seen on the small view, read in the family's coordinates, cropped from the original: all red."""
    true = (40, 12, 104, 60)
    image = open_image(with_orientation(marked((150, 90), true), orientation, "PNG"))
    view = full_view(image, PixelBudget(28 * 28, 28 * 28 * 6), 28)
    assert view.size != image.size
    seen = red_box(view.image)
    written = from_original(seen, frame, view.size, view.size)
    found = view.to_original(written, frame)
    assert iog(found, Box(*true)) > 0.9
    inner = Box(found.x1 + 6, found.y1 + 6, found.x2 - 6, found.y2 - 6)
    crop = crop_view(image, inner, PixelBudget(28 * 28, 10**6), 28)
    assert (np.abs(np.asarray(crop.image, int) - RED) < 4).all()


@pytest.mark.parametrize("frame", Frame)
def test_points_map_as_corners_do_in_the_whole_and_in_a_crop(frame):
    image = Image.new("RGB", (1120, 840))
    for view in (full_view(image, PixelBudget(1, 100_000), 28), crop_view(image, Box(100, 60, 500, 300), QWEN, 28)):
        inner = Box(view.source.x1 + 3, view.source.y1 + 4, view.source.x2, view.source.y2)
        written = view.from_original(inner, frame)
        corners = Point(written.x1, written.y1), Point(written.x2, written.y2)
        assert view.point_from_original(Point(inner.x1, inner.y1), frame) == corners[0]
        original = view.to_original(written, frame)
        mapped = [view.point_to_original(corner, frame).coordinates for corner in corners]
        assert mapped == [original.corners[:2], original.corners[2:]]
