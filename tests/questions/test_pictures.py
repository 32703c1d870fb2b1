"""The header of a picture tells the size that decoding it gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from foveate.images import ImageError, header_size, open_image
from foveate.questions.pictures import decode_base64


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_header_size_is_the_decoded_size(tmp_path, suffix, orientation):
    path = tmp_path / f"picture.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert header_size(path) == header_size(path.read_bytes()) == open_image(path).size
    assert header_size(path) == ((20, 30) if orientation in (5, 6, 7, 8) else (30, 20))


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "ppm", "tif"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_header_size_without_exif(tmp_path, suffix, mode):
    path = tmp_path / f"picture.{suffix}"
    Image.new(mode, (30, 20)).save(path)
    assert header_size(path) == open_image(path).size == (30, 20)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_orientation_told_by_xmp(tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    xmp += b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    options = {"xmp": xmp}
    if suffix == "png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    Image.new("RGB", (30, 20)).save(path, **options)
    assert header_size(path) == open_image(path).size


def test_header_is_enough(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    assert header_size(path) == (400, 300)


@given(
    st.binary(max_size=100) | st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"P6\n-1 2"])
)
def test_what_is_no_picture_is_an_image_error(content):
    with pytest.raises(ImageError):
        header_size(content)


def test_plain_paths_are_not_taken_for_base64():
    for text in ["a.jpg", "images/a", "x" * 200, "x" * 300 + ".jpg", ""]:
        assert decode_base64(text) is None
