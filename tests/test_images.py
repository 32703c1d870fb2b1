"""Opening hostile files, and views whose map back to the original is exact."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from foveate.images import ImageError, PixelBudget, crop_view, fit_size, full_view, open_image
from foveate.regions import Box, from_original, iog

RED, BLUE = (200, 30, 40), (20, 40, 210)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def near(pixel, colour, tolerance=12):
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


def marked(size=(64, 48), box=(8, 4, 40, 20)):
    image = Image.new("RGB", size, BLUE)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=RED)
    return image


def png(width, height, colour_type=0, depth=8, data=b""):
    """A PNG of any claimed size with any data."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


# --- what is opened -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_opened_from_bytes_path_and_function(kind, tmp_path):
    image = marked()
    content = encoded(image, kind)
    path = tmp_path / "picture"
    path.write_bytes(content)
    for source in (content, path, str(path), lambda: Image.open(path)):
        opened = open_image(source)
        assert opened.mode == "RGB"
        assert opened.size == (64, 48)
        assert near(opened.getpixel((20, 10)), RED, 40)
        assert near(opened.getpixel((60, 40)), BLUE, 40)
    path.unlink()
    opened.getpixel((0, 0))  # fully decoded: the file is not needed any more


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_open_files_are_not_left_behind(tmp_path):
    path = tmp_path / "picture.gif"
    marked().save(path, save_all=True, append_images=[marked(box=(0, 0, 9, 9))])
    before = len(os.listdir("/proc/self/fd"))
    images = [open_image(path) for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(images) == 5


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "RGBX"]
)
@pytest.mark.parametrize("size", [(1, 1), (7, 3)])
def test_every_mode_becomes_rgb(mode, size):
    image = Image.new(mode, size)
    opened = open_image(lambda: image)
    assert opened.mode == "RGB"
    assert opened.size == size


def test_sixteen_bit_grey_is_scaled_not_cut():
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.round(ramp / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        grey = np.asarray(open_image(encoded(Image.fromarray(ramp), kind)))
        assert (grey == expected[..., None]).all()
    swapped = Image.frombytes("I;16B", (256, 256), ramp.astype(">u2").tobytes())
    assert (np.asarray(open_image(lambda: swapped)) == expected[..., None]).all()


def test_sixteen_bit_colour_is_scaled():
    pixels = np.array([[[65535, 32896, 0]]], dtype=">u2")
    assert open_image(png(1, 1, 2, 16, b"\0" + pixels.tobytes())).getpixel((0, 0)) == (255, 128, 0)


def test_wide_greys():
    assert open_image(lambda: Image.fromarray(np.array([[0, 65535, 99999]], np.int32))).getpixel((2, 0)) == (255,) * 3
    for peak in (1.0, 255.0, 65535.0):
        ramp = np.array([[0, peak / 2, peak]], np.float32)
        assert np.asarray(open_image(lambda ramp=ramp: Image.fromarray(ramp)))[0, :, 0].tolist() == [0, 128, 255]


def test_grey_that_is_no_number_is_black_and_warns_of_nothing():
    image = Image.fromarray(np.array([[np.nan, -1.0, 1.0, np.inf]], np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.asarray(open_image(lambda: image))[0, :2].max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind):
    """Adobe's JPEGs hold it inverted, TIFFs do not."""
    content = encoded(Image.new("RGB", (16, 16), RED).convert("CMYK"), kind)
    assert near(open_image(content).getpixel((8, 8)), RED)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(mode):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 1), (0, 0, 0, 255))
    opened = open_image(lambda: clear.convert(mode))
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 1)) == (0, 0, 0)


def test_a_transparent_palette_entry_is_white_and_others_keep_their_colour():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 255, 0, *RED, *BLUE])
    image.putpixel((0, 0), 0)
    for transparency in (0, b"\x00\xff\xff"):
        opened = open_image(encoded(image, "PNG", transparency=transparency))
        assert opened.getpixel((0, 0)) == (255, 255, 255)
        assert opened.getpixel((2, 2)) == RED
    assert open_image(encoded(image, "GIF", transparency=0)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "key"), [("RGB", RED), ("L", 7), ("1", 0)])
def test_a_transparent_colour_is_white(mode, key):
    image = Image.new(mode, (2, 2), key)
    assert open_image(encoded(image, "PNG", transparency=key)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_shown(kind):
    frames = [Image.new("RGB", (20, 10), colour) for colour in (RED, BLUE)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(open_image(content).getpixel((5, 5)), RED, 30)


def test_a_multi_picture_jpeg_is_opened():
    content = encoded(
        Image.new("RGB", (32, 16), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 16), BLUE)]
    )
    assert Image.open(io.BytesIO(content)).format == "MPO"
    assert near(open_image(content).getpixel((5, 5)), RED)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1)])
@pytest.mark.parametrize("kind", FORMATS)
def test_thin_pictures(kind, size):
    assert open_image(encoded(Image.new("RGB", size), kind)).size == size


# --- orientation ----------------------------------------------------------------------------------------------------

TURNS = {  # stored (x, y) of an upright point (u, v), by orientation; w, h of the upright picture
    1: lambda u, v, w, h: (u, v),
    2: lambda u, v, w, h: (w - 1 - u, v),
    3: lambda u, v, w, h: (w - 1 - u, h - 1 - v),
    4: lambda u, v, w, h: (u, h - 1 - v),
    5: lambda u, v, w, h: (v, u),
    6: lambda u, v, w, h: (v, w - 1 - u),
    7: lambda u, v, w, h: (h - 1 - v, w - 1 - u),
    8: lambda u, v, w, h: (h - 1 - v, u),
}


def stored(upright, orientation):
    """The array as a camera stores it, pixel by pixel from EXIF's definition (not by Pillow's own transposition)."""
    width, height = upright.size
    image = Image.new("RGB", (width, height) if orientation < 5 else (height, width))
    for v in range(height):
        for u in range(width):
            image.putpixel(TURNS[orientation](u, v, width, height), upright.getpixel((u, v)))
    return image


def with_orientation(upright, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored(upright, orientation), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_are_upright(orientation, kind):
    upright = marked((48, 32), (8, 0, 24, 8))
    opened = open_image(with_orientation(upright, orientation, kind))
    assert opened.size == (48, 32)
    difference = np.abs(np.asarray(opened, int) - np.asarray(upright, int)).mean()
    assert difference < (6 if kind == "JPEG" else 1e-9)


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


def test_a_broken_exif_block_does_not_hide_the_picture():
    for exif in (
        b"Exif\0\0garbage",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x09\0",
    ):
        assert open_image(encoded(marked(), "JPEG", exif=exif)).size == (64, 48)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_orientations_that_do_not_exist_are_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert open_image(encoded(marked(), "JPEG", exif=exif)).size == (64, 48)


def test_a_function_that_opens_a_photo_gets_it_upright_too():
    content = with_orientation(marked((48, 32), (8, 0, 24, 8)), 6, "PNG")
    assert open_image(lambda: Image.open(io.BytesIO(content))).size == (48, 32)


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(source, *words, **options):
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def test_what_is_not_a_picture_is_named_with_the_reason(tmp_path):
    refused(tmp_path / "missing.png", "missing.png", "no such file")
    refused(tmp_path, str(tmp_path), "folder")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "empty.png", "empty")
    (tmp_path / "text.png").write_text("I am a letter, not a picture\n" * 20)
    refused(tmp_path / "text.png", "text.png", "not a picture")
    (tmp_path / "page.jpg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    refused(tmp_path / "page.jpg", "page.jpg", "not a picture")
    refused(b"", "0 bytes", "empty")
    refused(b"\0" * 100, "100 bytes", "not a picture")
    refused("nul\0byte.png", "nul")
    refused("x" * 5000, "cannot be opened")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "pipe.png", "not a regular file")


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_files_are_refused_wherever_they_end(kind, tmp_path):
    rng = np.random.default_rng(0)
    content = encoded(Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    for length in sorted({1, 2, 10, 20, 30, 60, *np.linspace(1, len(content) * 0.9, 15).astype(int).tolist()}):
        path.write_bytes(content[:length])
        refused(path, path.name)
        refused(content[:length], f"{length} bytes")


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_damaged_files_are_opened_or_refused_but_nothing_else(kind):
    """Thousands of flipped bytes: Pillow's parsers raise a dozen kinds of errors over them."""
    rng = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(Image.fromarray(rng.integers(0, 256, (12, 9, 3), np.uint8)), kind, exif=exif)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        for place in rng.integers(0, min(64, len(content)), rng.integers(0, 3)):
            damaged[place] = rng.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = open_image(bytes(damaged), max_pixels=10**7)
            except ImageError:
                continue
        assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("width", "height"), [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (30_000, 10_001)]
)
def test_a_header_that_claims_too_many_pixels_is_refused_before_anything_is_decoded(width, height):
    refused(png(width, height, 2), f"{width} x {height}", "300,000,000", "over the limit")


def test_a_header_without_pixels_is_refused():
    for width, height in ((0, 0), (0, 5), (5, 0)):
        assert "bytes" in refused(png(width, height))
    refused(lambda: Image.new("RGB", (0, 5)), "no pixels")


def test_data_beyond_the_claimed_size_is_not_decoded():
    """A few kilobytes that unpack to fifty megabytes: only the rows of the header are made."""
    assert open_image(png(10, 10, 0, 8, b"\0" * 50_000_000)).size == (10, 10)


def test_a_picture_under_the_limit_is_opened_without_a_word_whatever_pillow_thinks(monkeypatch):
    """Pillow warns from 89 Mpx and raises from 179, our own limit is 300; here with its limit lowered."""
    image = marked((300, 200))
    contents = {kind: encoded(image, kind) for kind in FORMATS}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # warns here
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for content in contents.values():
            assert open_image(content).size == (300, 200)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)  # raises here
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("JPEG", "PNG", "BMP", "GIF", "PPM"):
            opened = open_image(contents[kind])
            assert crop_view(opened, Box(0, 0, 290, 190), PixelBudget(784, 10**6), 28).source == Box(0, 0, 290, 190)
        for kind in ("WEBP", "TIFF"):
            refused(contents[kind], "exceeds limit")
    assert Image.MAX_IMAGE_PIXELS == 1_000


def test_the_limit_can_be_set():
    content = encoded(marked((300, 200)))
    assert open_image(content, max_pixels=60_000).size == (300, 200)
    refused(content, "300 x 200", "59,999", max_pixels=59_999)
    refused(lambda: marked((300, 200)), "59,999", max_pixels=59_999)


def test_what_a_function_returns_is_checked_and_what_it_raises_is_passed_on():
    refused(lambda: None, "NoneType")

    def fails():
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        open_image(fails)

    def closed():
        with Image.open(io.BytesIO(encoded(marked()))) as image:
            return image

    refused(closed, "closed")


# --- views ----------------------------------------------------------------------------------------------------------

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


def red_box(image):
    """The bounding box of what is more red than blue, in pixels of the image."""
    pixels = np.asarray(image, int)
    rows, columns = np.nonzero(pixels[..., 0] > pixels[..., 2])
    return Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


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
