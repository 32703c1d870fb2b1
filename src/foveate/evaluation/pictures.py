"""Drawing boxes and points on pictures, and pictures as data URLs.

Predicted boxes are thick, solid and orange on black; true boxes thin, dashed and blue on white: told apart without
colour vision, and seen on any ground. Predicted points are orange discs. All are in pixels of the picture that is
given.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from foveate.episodes import Episode
from foveate.regions import Box, Point, Size

Edges = tuple[int, int, int, int]
"""left, top, right, bottom in whole pixels; right and bottom are outside."""


@dataclass(frozen=True, slots=True)
class Style:
    """How one kind of box is drawn; widths in units of 1/400 of the picture's longer side."""

    label: str
    colour: str
    casing: str
    ink: str
    width: float
    dashed: bool


_QUALITY = 50
"""Of a thumbnail in WebP: a photo of 192 pixels takes about 4 KB."""
_TINY = 64
"""Longest side of a picture that is kept pixel for pixel: smoothing would invent what the model never saw."""
_FEW_COLOURS = 256
"""A picture with no more is a drawing, worth trying without loss; on photos that would take most of the time."""
_CROP_SIDE, _CROPS_KEPT = 128, 4

PREDICTED = Style("model", colour="#ff7a00", casing="#000000", ink="#000000", width=1.8, dashed=False)
TRUE = Style("true", colour="#0b4fd0", casing="#ffffff", ink="#ffffff", width=1.0, dashed=True)


def resized(image: Image.Image, longest: int) -> Image.Image:
    """The picture with its longer side `longest`: enlarged without smoothing, so that pixels stay pixels."""
    factor = longest / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)


def annotated(
    image: Image.Image,
    *,
    true: Sequence[Box] = (),
    predicted: Sequence[Box] = (),
    points: Sequence[Point] = (),
    max_side: int | None = None,
    enlarge: bool = False,
    labels: bool = True,
) -> Image.Image:
    """A copy of the picture with frames around the boxes and discs on the points; lines and letters grow with it.

    A frame lies around its box, or inside where the picture ends.

    Args:
        image: upright, as from `images.open_image`; it is not changed.
        true: in pixels of `image`.
        predicted: in pixels of `image`.
        points: predicted, in pixels of `image`.
        max_side: a larger picture is scaled down to this.
        enlarge: whether a smaller one is enlarged to it (nearest neighbour).
        labels: whether each frame says what it is.
    """
    fits = max_side is None or max(image.size) == max_side or (max(image.size) < max_side and not enlarge)
    canvas = image.convert("RGB") if fits or max_side is None else resized(image.convert("RGB"), max_side)
    if canvas is image:
        canvas = image.copy()
    factors = canvas.width / image.width, canvas.height / image.height
    pen = ImageDraw.Draw(canvas)
    styled = [(box, PREDICTED) for box in predicted] + [(box, TRUE) for box in true]
    placed = [(_edges(box.scaled(*factors), canvas.size), style) for box, style in styled]
    for edges, style in placed:
        _draw_frame(pen, edges, canvas.size, style)
    for point in points:
        _draw_point(pen, point.scaled(*factors), canvas.size)
    for edges, style in placed if labels else ():
        _draw_label(pen, edges, canvas.size, style)
    return canvas


def data_url(image: Image.Image, format: Literal["PNG", "JPEG"] = "PNG") -> str:
    """The picture as a `data:` URL."""
    stream = io.BytesIO()
    if format == "JPEG":
        image.convert("RGB").save(stream, "JPEG", quality=82, optimize=True)
    else:
        image.save(stream, "PNG", optimize=True)
    return f"data:image/{format.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def thumbnail(image: Image.Image, side: int = 192, *, quality: int = _QUALITY) -> str:
    """The picture as a small WebP `data:` URL, at most `side` pixels along its longer side; never enlarged.

    Pictures that are tiny once they fit are kept without loss, and so are drawings that take no more bytes that way.

    Args:
        image: any mode; it is not changed.
        side: in pixels.
        quality: of WebP, 0 to 100.
    """
    small = image.convert("RGB")
    if max(small.size) > side:
        small = resized(small, side)
    tiny = max(small.size) <= _TINY
    made = [] if tiny else [_webp(small, quality=quality)]
    if tiny or small.getcolors(_FEW_COLOURS):
        made.append(_webp(small, lossless=True))
    return f"data:image/webp;base64,{base64.b64encode(min(made, key=len)).decode('ascii')}"


def thumbnails_of(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What a report shows of a question: thumbnails of what its first episode saw.

    Returns:
        `picture`: the first view of the first turn, a data URL, or None where it was shown none; `crops`: data URLs of
        the first crops, each once, in order.
    """
    turns = episodes[0].turns if episodes else ()
    first = turns[0].context.views if turns else ()
    crops = [view for view in dict.fromkeys(v for turn in turns for v in turn.context.views) if view.cropped]
    return {
        "picture": thumbnail(first[0].image) if first else None,
        "crops": [thumbnail(view.image, _CROP_SIDE) for view in crops[:_CROPS_KEPT]],
    }


def _webp(image: Image.Image, **settings: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "WEBP", method=4, **settings)
    return stream.getvalue()


def _unit(size: Size) -> float:
    return max(size) / 400


def _casing(size: Size) -> int:
    return max(1, round(0.5 * _unit(size)))


def _thickness(size: Size, style: Style) -> int:
    return max(1, round(style.width * _unit(size)))


def _edges(box: Box, size: Size) -> Edges:
    """The box in whole pixels, at least one inside the picture."""
    left, top = (min(max(round(c), 0), side - 1) for c, side in zip((box.x1, box.y1), size, strict=True))
    right, bottom = (min(round(c), side) for c, side in zip((box.x2, box.y2), size, strict=True))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _draw_frame(pen: ImageDraw.ImageDraw, edges: Edges, size: Size, style: Style) -> None:
    width = _thickness(size, style)
    casing = _casing(size)
    outer = _grown(edges, width + 2 * casing, size)
    for bar in _bars(outer, width + 2 * casing):
        _fill(pen, bar, style.casing)
    for bar in _bars(_shrunk(outer, casing), width):
        for piece in _dashes(bar, 4 * width) if style.dashed else [bar]:
            _fill(pen, piece, style.colour)


def _draw_point(pen: ImageDraw.ImageDraw, point: Point, size: Size) -> None:
    radius = max(2.0, 3 * _unit(size))
    pen.circle(point.coordinates, radius + _casing(size), fill=PREDICTED.casing)
    pen.circle(point.coordinates, radius, fill=PREDICTED.colour)


def _grown(edges: Edges, by: int, size: Size) -> Edges:
    left, top, right, bottom = edges
    return max(left - by, 0), max(top - by, 0), min(right + by, size[0]), min(bottom + by, size[1])


def _shrunk(edges: Edges, by: int) -> Edges:
    left, top, right, bottom = edges
    return left + by, top + by, right - by, bottom - by


def _bars(outer: Edges, width: int) -> list[Edges]:
    """The four sides of a frame, from `outer` inwards."""
    left, top, right, bottom = outer
    return [
        (left, top, right, top + width),
        (left, bottom - width, right, bottom),
        (left, top, left + width, bottom),
        (right - width, top, right, bottom),
    ]


def _dashes(bar: Edges, length: int) -> Iterator[Edges]:
    left, top, right, bottom = bar
    across = right - left > bottom - top
    start, end = (left, right) if across else (top, bottom)
    for begin in range(start, end, 2 * length):
        stop = min(begin + length, end)
        yield (begin, top, stop, bottom) if across else (left, begin, right, stop)


def _fill(pen: ImageDraw.ImageDraw, edges: Edges, colour: str) -> None:
    left, top, right, bottom = edges
    if right > left and bottom > top:
        pen.rectangle((left, top, right - 1, bottom - 1), fill=colour)


def _draw_label(pen: ImageDraw.ImageDraw, edges: Edges, size: Size, style: Style) -> None:
    """The style's name above the box, below where there is no room, and always inside the picture."""
    unit = _unit(size)
    letters = max(9, round(10 * unit))
    font = ImageFont.load_default(letters)
    x1, y1, x2, y2 = pen.textbbox((0, 0), style.label, font=font)
    pad = max(1, round(1.5 * unit))
    width, height = round(x2 - x1) + 2 * pad, round(y2 - y1) + 2 * pad
    if width > size[0] or height > size[1]:
        return
    margin = _thickness(size, style) + 2 * _casing(size)
    left, top, _, bottom = edges
    above, below = top - margin - height, bottom + margin
    y = next(y for y in (above, below, size[1] - height) if 0 <= y <= size[1] - height)
    x = min(max(left - margin, 0), size[0] - width)
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=style.colour)
    pen.text((x + pad - x1, y + pad - y1), style.label, font=font, fill=style.ink)
