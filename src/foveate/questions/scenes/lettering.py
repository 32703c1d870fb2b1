"""Writing drawn with the font that comes inside Pillow, measured by its ink."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from foveate.questions.scenes.palette import Colour
from foveate.regions import Size


def write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, height_px: int, fill: Colour | int) -> None:
    """Writes `text` with the top left corner of its line at `at`; a zero is `height_px` pixels high."""
    pen.text(at, text, font=_font(height_px), fill=fill, stroke_width=_stroke(height_px), stroke_fill=fill)


def _stroke(height_px: int) -> int:
    """Pixels by which the thin built-in font is thickened on either side."""
    return round(0.045 * height_px)


@lru_cache(maxsize=64)
def _font(height_px: int) -> ImageFont.FreeTypeFont:
    """The font in which a thickened zero is `height_px` pixels high.

    Raises:
        RuntimeError: this Pillow was built without FreeType.
    """
    font = ImageFont.load_default((height_px - 2 * _stroke(height_px)) / 0.74)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("scenes need a Pillow with FreeType: pip install --force-reinstall pillow")
    return font


@lru_cache(maxsize=4096)
def ink_box(text: str, height_px: int) -> tuple[int, int, int, int]:
    """The inked part of `text` drawn at (0, 0): x1, y1, x2, y2 in pixels."""
    left, _, right, bottom = _font(height_px).getbbox(text)
    margin = 4 + 2 * _stroke(height_px)
    canvas = Image.new("L", (int(right - left) + 2 * margin, int(bottom) + 2 * margin))
    write(ImageDraw.Draw(canvas), (margin, margin), text, height_px, 255)
    ink = canvas.point(lambda value: 255 * (value > 64)).getbbox()
    if ink is None:
        raise ValueError(f"{text!r} leaves no ink at {height_px} px")
    return ink[0] - margin, ink[1] - margin, ink[2] - margin, ink[3] - margin


def ink_size(text: str, height_px: int) -> Size:
    """Width and height of the ink of `text`, in pixels."""
    x1, y1, x2, y2 = ink_box(text, height_px)
    return x2 - x1, y2 - y1
