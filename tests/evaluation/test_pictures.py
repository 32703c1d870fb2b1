import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.evaluation.folders import photo
from tests.scripted import BriefGenerator

from foveate.episodes import run_episodes
from foveate.evaluation.pictures import PREDICTED, TRUE, annotated, data_url, resized, thumbnail, thumbnails_of
from foveate.generators.base import Sampling
from foveate.images import PixelBudget, crop_view, full_view, open_image
from foveate.protocols import LocateThenAnswer
from foveate.questions.schema import Question
from foveate.regions import Box, Frame, Point

GROUND = (128, 128, 128)
ORANGE, BLUE = (0xFF, 0x7A, 0x00), (0x0B, 0x4F, 0xD0)


def _plain(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GROUND)


def _extent(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The bounding box of a colour: left, top, right, bottom, the last two outside."""
    rows, columns = np.nonzero((np.asarray(image) == colour).all(-1))
    if not len(rows):
        return None
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _hole(image: Image.Image) -> tuple[int, int, int, int]:
    """What the frame leaves untouched inside itself: the box."""
    left, top, right, bottom = _extent(image, ORANGE)
    inner = (np.asarray(image)[top:bottom, left:right] == GROUND).all(-1)
    rows, columns = np.nonzero(inner)
    return left + int(columns.min()), top + int(rows.min()), left + int(columns.max()) + 1, top + int(rows.max()) + 1


@pytest.mark.parametrize("size", [(300, 300), (1000, 400), (400, 1000), (2400, 1800)])
def test_a_frame_lies_around_its_box(size):
    box = Box(0.4 * size[0], 0.5 * size[1], 0.6 * size[0], 0.8 * size[1])
    drawn = annotated(_plain(*size), predicted=[box], labels=False)
    assert drawn.size == size
    assert _hole(drawn) == tuple(round(c) for c in box.corners)


@pytest.mark.parametrize("enlarge", [False, True])
def test_boxes_are_scaled_with_the_picture(enlarge):
    size, side = ((200, 100), 800) if enlarge else ((1600, 800), 400)
    box = Box(0.25 * size[0], 0.25 * size[1], 0.75 * size[0], 0.5 * size[1])
    drawn = annotated(_plain(*size), predicted=[box], max_side=side, enlarge=enlarge, labels=False)
    assert drawn.size == (side, side // 2)
    assert _hole(drawn) == (side // 4, side // 8, 3 * side // 4, side // 4)


def test_a_small_picture_is_not_enlarged_unasked():
    assert annotated(_plain(100, 60), max_side=400).size == (100, 60)
    assert annotated(_plain(100, 60), max_side=400, enlarge=True).size == (400, 240)


@given(st.integers(1, 500), st.integers(1, 500), st.tuples(*[st.floats(-50, 550)] * 4))
def test_any_box_on_any_picture_is_seen_and_changes_no_size(width, height, corners):
    x1, y1, x2, y2 = corners
    box = Box(min(x1, x2), min(y1, y2), max(x1, x2) + 0.1, max(y1, y2) + 0.1)
    drawn = annotated(_plain(width, height), predicted=[box], true=[box])
    assert drawn.size == (width, height)
    assert (np.asarray(drawn) != GROUND).any()


def test_a_box_over_the_whole_picture_is_framed_inside():
    drawn = annotated(_plain(300, 200), predicted=[Box(0, 0, 300, 200)], labels=False)
    left, top, right, bottom = _extent(drawn, ORANGE)
    assert left < 4
    assert top < 4
    assert right > 296
    assert bottom > 196
    assert drawn.getpixel((150, 100)) == GROUND


def test_lines_grow_with_the_picture():
    def thickness(side: int) -> int:
        box = Box(0.25 * side, 0.25 * side, 0.75 * side, 0.75 * side)
        column = np.asarray(annotated(_plain(side, side), predicted=[box], labels=False))[:, side // 2]
        return int((column == ORANGE).all(-1).sum())

    assert thickness(4000) == pytest.approx(10 * thickness(400), rel=0.2)


def test_true_boxes_are_dashed_thinner_and_of_another_colour():
    box = Box(100, 100, 200, 200)
    true = annotated(_plain(800, 800), true=[box], labels=False)
    predicted = annotated(_plain(800, 800), predicted=[box], labels=False)
    assert 0 < (np.asarray(true) == BLUE).all(-1).sum() < (np.asarray(predicted) == ORANGE).all(-1).sum() / 2
    assert TRUE.dashed
    assert not PREDICTED.dashed


@pytest.mark.parametrize("corner", [(0, 0), (0, 180), (280, 0), (280, 180), (100, 90)])
def test_labels_stay_inside_and_off_the_box(corner):
    x, y = corner
    box = Box(x, y, x + 20, y + 20)
    with_label = np.asarray(annotated(_plain(300, 200), predicted=[box]))
    without = np.asarray(annotated(_plain(300, 200), predicted=[box], labels=False))
    rows, columns = np.nonzero((with_label != without).any(-1))
    assert len(rows)
    height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
    assert width > 20  # all of the word, not a part cut off at the edge
    assert height >= 8
    inside = with_label[y + 5 : y + 15, x + 5 : x + 15]
    assert (inside == GROUND).all()


def test_forty_boxes():
    boxes = [Box(7 * i, 5 * i, 7 * i + 20, 5 * i + 30) for i in range(40)]
    assert annotated(_plain(320, 240), predicted=boxes, true=boxes).size == (320, 240)


def test_the_given_picture_is_not_drawn_on():
    image = _plain(100, 100)
    annotated(image, predicted=[Box(10, 10, 90, 90)])
    assert _extent(image, GROUND) == (0, 0, 100, 100)
    assert (np.asarray(image) == GROUND).all()


def _photo(width: int = 800, height: int = 600) -> tuple[Image.Image, Box]:
    """A grey photo with one green patch, and where the patch is."""
    image = _plain(width, height)
    patch = Box(500, 100, 620, 180)
    image.paste((0, 255, 0), tuple(int(c) for c in patch.corners))
    return image, patch


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_land_on_photos_that_their_camera_turned(orientation):
    upright, patch = _photo()
    undo = {
        1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"], 5: ["TRANSPOSE"], 6: ["ROTATE_90"],
        7: ["TRANSVERSE"], 8: ["ROTATE_270"],
    }[orientation]  # fmt: skip
    stored = upright
    for method in undo:
        stored = stored.transpose(Image.Transpose[method])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    stored.save(stream, "PNG", exif=exif)
    opened = open_image(stream.getvalue())
    drawn = annotated(opened, predicted=[patch], labels=False)
    left, top, right, bottom = (int(c) for c in patch.corners)
    assert drawn.size == (800, 600)
    assert (np.asarray(drawn)[top:bottom, left:right] == (0, 255, 0)).all()
    assert _extent(drawn, (0, 255, 0)) == (left, top, right, bottom)
    around = _extent(drawn, ORANGE)
    assert (left - around[0], top - around[1], around[2] - right, around[3] - bottom) == (5,) * 4


@pytest.mark.parametrize("frame", list(Frame))
def test_boxes_written_about_a_view_land_on_it(frame):
    image, patch = _photo()
    view = full_view(image, PixelBudget(28 * 28, 280 * 224), 28)
    written = view.from_original(patch, frame)  # what a model of this frame would write
    on_view = view.from_original(view.to_original(written, frame))
    drawn = annotated(view.image, predicted=[on_view], labels=False)
    left, top, right, bottom = _extent(drawn, ORANGE)
    x1, y1, x2, y2 = (c * view.size[i % 2] / image.size[i % 2] for i, c in enumerate(patch.corners))
    assert left < x1 < x2 < right
    assert top < y1 < y2 < bottom
    assert max(x1 - left, right - x2, y1 - top, bottom - y2) < 6


def test_boxes_land_on_crops():
    image, patch = _photo()
    crop = crop_view(image, Box(420, 40, 700, 264), PixelBudget(28 * 28, 560 * 448), 28)
    drawn = annotated(crop.image, predicted=[crop.from_original(patch)], labels=False)
    left, top, right, bottom = _extent(drawn, ORANGE)
    green = _extent(drawn, (0, 255, 0))
    assert left < green[0] < green[2] < right
    assert top < green[1] < green[3] < bottom


def test_enlarging_keeps_pixels():
    checks = Image.fromarray(np.indices((8, 8)).sum(0).astype(np.uint8) % 2 * 255).convert("RGB")
    assert set(np.unique(np.asarray(resized(checks, 64)))) == {0, 255}


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_data_url_holds_the_picture(format):
    url = data_url(_plain(30, 20), format)
    head, body = url.split(",")
    assert head == f"data:image/{format.lower()};base64"
    decoded = Image.open(io.BytesIO(base64.b64decode(body)))
    assert decoded.size == (30, 20)
    assert decoded.format == format


@pytest.mark.parametrize("place", [(200, 100), (0, 0), (400, 300)])
def test_a_point_is_drawn_where_it_is_and_scaled_with_the_picture(place):
    drawn = np.asarray(annotated(_plain(400, 300), points=[Point(*place)], max_side=800, enlarge=True))
    rows, columns = np.nonzero((drawn == ORANGE).all(-1))
    assert np.hypot(columns - 2 * place[0], rows - 2 * place[1]).max() < 10
    assert len(rows)


def _opened(url: str) -> Image.Image:
    head, body = url.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("seed", range(3))
def test_a_photos_thumbnail_takes_a_few_kilobytes(seed):
    url = thumbnail(photo(seed, (800, 600)))
    assert _opened(url).size == (192, 144)
    assert 1500 < len(url) < 6000
    assert _opened(thumbnail(photo(seed, (300, 900)), 128)).size == (43, 128)
    assert len(thumbnail(photo(seed), quality=20)) < len(thumbnail(photo(seed)))


@pytest.mark.parametrize("size", [(1, 1), (64, 20), (5000, 1), (150, 100)])
def test_a_thumbnail_is_never_enlarged(size):
    assert _opened(thumbnail(_plain(*size))).size == (min(size[0], 192), size[1])


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
def test_a_tiny_picture_keeps_its_very_pixels(mode):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)).convert(mode)
    assert np.array_equal(np.asarray(_opened(thumbnail(noise))), np.asarray(noise.convert("RGB")))


def _episodes(reply: str, count: int = 2):
    stream = io.BytesIO()
    photo(0, (896, 672)).save(stream, "PNG")
    question = Question("1", stream.getvalue(), "What?", "7")
    says = BriefGenerator(lambda context, seed: reply if "locate" in str(context.messages[0].parts[-1]) else "7")
    [group] = run_episodes([question], LocateThenAnswer(), says, n=count, sampling=Sampling(1.0))
    return group.episodes


def test_thumbnails_are_of_the_first_view_and_the_crops_of_the_first_episode():
    episodes = _episodes("[[0, 0, 60, 60]]")
    kept = thumbnails_of(episodes)
    assert set(kept) == {"picture", "crops"}
    first, crop = episodes[0].turns[0].context.views[0], episodes[0].turns[1].context.views[-1]
    assert crop.cropped
    assert kept["picture"] == thumbnail(first.image)
    assert kept["crops"] == [thumbnail(crop.image, 128)]
    assert thumbnails_of(()) == {"picture": None, "crops": []}


def test_without_a_box_there_is_no_crop():
    assert thumbnails_of(_episodes("I do not know", 1))["crops"] == []
