"""Pictures with a marked rectangle, stored as a camera may store them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from foveate.regions import Box

RED, BLUE = (200, 30, 40), (20, 40, 210)


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def marked(size=(64, 48), box=(8, 4, 40, 20)):
    image = Image.new("RGB", size, BLUE)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=RED)
    return image


def red_box(image):
    """The bounding box of what is more red than blue, in pixels of the image."""
    pixels = np.asarray(image, int)
    rows, columns = np.nonzero(pixels[..., 0] > pixels[..., 2])
    return Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


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
