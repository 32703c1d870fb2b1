"""Geometry: what holds for every box."""

import math

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from foveate.regions import (
    Box,
    Frame,
    Point,
    from_original,
    iog,
    iou,
    point_from_original,
    point_to_original,
    to_original,
)

SIDES = st.integers(1, 20_000)
SIZES = st.tuples(SIDES, SIDES)
FRAMES = st.sampled_from([*Frame, "pixel", "thousand"])


@st.composite
def boxes(draw, limit=1e5, least=1e-3):
    """Boxes of at least `least` pixels a side, anywhere within the limit on both sides of zero."""
    coordinate = st.floats(-limit, limit)
    x1, x2 = sorted((draw(coordinate), draw(coordinate)))
    y1, y2 = sorted((draw(coordinate), draw(coordinate)))
    return Box(x1, y1, max(x2, x1 + least), max(y2, y1 + least))


@st.composite
def boxes_in(draw, size, least=1e-3):
    """Boxes inside an image of `size`, edges included."""
    edges = []
    for side in size:
        low = draw(st.floats(0, side - least))
        edges.append((low, draw(st.floats(low + least, side)) if low + least < side else float(side)))
    return Box(edges[0][0], edges[1][0], edges[0][1], edges[1][1])


sized_boxes = SIZES.flatmap(lambda size: st.tuples(st.just(size), boxes_in(size)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_a_box_is_finite(bad, place):
    corners = [0.0, 0.0, 1.0, 1.0]
    corners[place] = bad
    with pytest.raises(ValueError, match="finite"):
        Box(*corners)


@pytest.mark.parametrize("corners", [(1, 0, 1, 1), (0, 1, 1, 1), (2, 0, 1, 1), (0, 2, 1, 1), (0, 0, -1, -1)])
def test_a_box_is_not_empty_or_reversed(corners):
    with pytest.raises(ValueError, match="empty"):
        Box(*corners)


@pytest.mark.parametrize("corners", [(0, 0, 1e-200, 1e-200), (-1e200, -1e200, 1e200, 1e200), (-1.7e308, 0, 1.7e308, 1)])
def test_a_box_has_an_area_that_can_be_divided_by(corners):
    with pytest.raises(ValueError, match="area"):
        Box(*corners)


@given(boxes(), boxes())
@example(Box(0, 0, 1, 1), Box(1, 0, 2, 1))
@example(Box(0, 0, 1, 1), Box(0, 0, 1, 1 - 2**-53))
def test_iou_is_symmetric_and_bounded(first, second):
    value = iou(first, second)
    assert value == iou(second, first)
    assert 0.0 <= value <= 1.0
    assert (value > 0) == (first.intersection(second) > 0)


@given(boxes(), boxes())
def test_iog_is_bounded_and_at_least_iou(predicted, true):
    assert 0.0 <= iog(predicted, true) <= 1.0
    assert iog(predicted, true) >= iou(predicted, true) * (1 - 1e-12)


@given(boxes())
def test_a_box_covers_itself(box):
    assert iou(box, box) == 1.0
    assert iog(box, box) == 1.0
    assert box.contains(box)


@given(boxes(), boxes())
def test_iog_is_one_where_the_true_box_is_contained(first, second):
    outer = Box(*map(min, first.corners[:2], second.corners[:2]), *map(max, first.corners[2:], second.corners[2:]))
    assert outer.contains(first)
    assert iog(outer, first) == 1.0


@given(boxes(), boxes(limit=1e4), st.floats(0.01, 100))
def test_overlaps_do_not_depend_on_the_unit(first, second, factor):
    pair = first.scaled(factor, factor), second.scaled(factor, factor)
    assert iou(*pair) == pytest.approx(iou(first, second), abs=1e-6)
    assert iog(*pair) == pytest.approx(iog(first, second), abs=1e-6)


def test_known_overlaps():
    assert iou(Box(0, 0, 2, 2), Box(1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iog(Box(0, 0, 2, 2), Box(1, 1, 3, 3)) == pytest.approx(1 / 4)
    assert iog(Box(0, 0, 9, 9), Box(1, 1, 3, 3)) == 1.0
    assert iou(Box(0, 0, 2, 2), Box(2, 0, 4, 2)) == 0.0


@given(boxes(limit=3e4), SIZES)
def test_clipping_gives_what_is_inside(box, size):
    whole = Box(0, 0, *size)
    part = box.clipped(size)
    if part is None:
        assert box.intersection(whole) == 0.0
    else:
        assert whole.contains(part)
        assert box.contains(part)
        assert part.area == pytest.approx(box.intersection(whole))
        assert part.clipped(size) == part


@given(boxes(limit=3e4), st.floats(0.5, 5000), SIZES)
def test_grown_boxes_reach_the_side_and_stay_inside(box, side, size):
    grown = box.grown_to(side, size)
    assert Box(0, 0, *size).contains(grown)
    assert grown.width >= min(side, size[0]) - 1e-6
    assert grown.height >= min(side, size[1]) - 1e-6
    if (inside := box.clipped(size)) is not None:
        assert iog(grown, inside) == pytest.approx(1.0)
    assert grown.grown_to(side * (1 - 1e-9), size) == grown


@given(sized_boxes, st.floats(1e-3, 100))
def test_large_boxes_are_not_grown(sized, side):
    size, box = sized
    assume(box.width >= side and box.height >= side)
    assert box.grown_to(side, size) == box


def test_growing_moves_at_the_edge_and_spans_a_small_image():
    assert Box(0, 50, 4, 54).grown_to(28, (100, 100)) == Box(0, 38, 28, 66)
    assert Box(98, 98, 99, 99).grown_to(28, (100, 100)) == Box(72, 72, 100, 100)
    assert Box(2, 2, 3, 3).grown_to(28, (20, 100)) == Box(0, 0, 20, 28)
    assert Box(-50, -50, -40, -40).grown_to(28, (100, 100)) == Box(0, 0, 28, 28)


@given(sized_boxes, SIZES, FRAMES)
@example(((3, 3), Box(0, 0, 3, 3)), (4032, 4031), "pixel")
def test_to_original_and_back(sized, shown, frame):
    original, box = sized
    written = from_original(box, frame, shown, original)
    back = to_original(written, frame, shown, original)
    assert back.corners == pytest.approx(box.corners, rel=1e-9, abs=1e-9)


@given(SIZES.flatmap(lambda size: st.tuples(st.just(size), boxes_in(size, least=1e-2))), SIZES)
@example(((3, 7), Box(1, 1, 3, 7)), (4033, 3025))
def test_what_is_inside_the_input_is_inside_the_original(sized, original):
    """To the last bit: nothing has to be clipped afterwards."""
    shown, box = sized
    assert Box(0, 0, *original).contains(to_original(box, "pixel", shown, original))
    whole = to_original(Box(0, 0, *shown), "pixel", shown, original)
    assert whole.corners == (0, 0, *original)


@given(SIZES, SIZES)
def test_the_thousand_frame_ignores_the_input_size(shown, original):
    assert to_original(Box(0, 0, 1000, 1000), "thousand", shown, original).corners == (0, 0, *original)
    assert from_original(Box(0, 0, *original), "thousand", shown, original).corners == (0, 0, 1000, 1000)


def test_a_photo_of_4032_shown_at_3584():
    """The box of 12 % error: coordinates of the resized input applied to the original."""
    assert to_original(Box(896, 672, 1792, 1344), "pixel", (3584, 2688), (4032, 3024)) == Box(1008, 756, 2016, 1512)


def test_an_unknown_frame_is_refused():
    with pytest.raises(ValueError, match="percent"):
        to_original(Box(0, 0, 1, 1), "percent", (1, 1), (1, 1))


# --- points -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_point_is_finite(bad):
    for x, y in ((bad, 0.0), (0.0, bad)):
        with pytest.raises(ValueError, match="finite"):
            Point(x, y)


@given(SIZES, SIZES, FRAMES, st.tuples(st.floats(0, 1), st.floats(0, 1)))
@example((1, 1), (1, 1), "pixel", (1.0, 0.0))
def test_a_point_inside_the_view_is_inside_the_original_and_comes_back(shown, original, frame, share):
    width, height = (1000, 1000) if frame == "thousand" else shown
    point = Point(share[0] * width, share[1] * height)
    there = point_to_original(point, frame, shown, original)
    assert there.inside(original)
    back = point_from_original(there, frame, shown, original)
    assert back.coordinates == pytest.approx(point.coordinates, abs=1e-9 * max(width, height))


@given(sized_boxes, SIZES, FRAMES)
def test_the_corners_of_a_box_and_points_map_alike(sized, shown, frame):
    size, box = sized
    assume(box.width > 1 and box.height > 1)
    written = from_original(box, frame, shown, size)
    corner = point_from_original(Point(box.x1, box.y2), frame, shown, size)
    assert corner.coordinates == (written.x1, written.y2)


def test_a_point_in_an_image_may_lie_on_its_edges():
    assert Point(0, 0).inside((1, 1))
    assert Point(1, 1).inside((1, 1))
    assert not any(Point(*outside).inside((1, 1)) for outside in ((-0.1, 0), (0, 1.1)))


@given(boxes())
def test_the_centre_of_a_box_is_inside_it_and_scales_with_it(box):
    centre = box.centre
    assert box.x1 <= centre.x <= box.x2
    assert box.y1 <= centre.y <= box.y2
    assert centre.scaled(2, 0.5) == box.scaled(2, 0.5).centre
