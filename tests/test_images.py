"""Opening pictures of every kind, hostile ones above all."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.pictures import BLUE, RED, TURNS, encoded, marked, with_orientation

from foveate.images import ImageError, PixelBudget, crop_view, open_image
from foveate.regions import Box

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]


def near(pixel, colour, tolerance=12):
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


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


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pictures_are_upright(orientation, kind):
    upright = marked((48, 32), (8, 0, 24, 8))
    opened = open_image(with_orientation(upright, orientation, kind))
    assert opened.size == (48, 32)
    difference = np.abs(np.asarray(opened, int) - np.asarray(upright, int)).mean()
    assert difference < (6 if kind == "JPEG" else 1e-9)


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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_picture_that_was_turned_is_not_turned_again(kind):
    opened = open_image(with_orientation(marked((48, 32), (8, 0, 24, 8)), 6, kind))
    again = open_image(lambda: opened)
    assert again.size == (48, 32)
    assert np.array_equal(again, opened)
    assert open_image(encoded(opened)).size == (48, 32)


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
