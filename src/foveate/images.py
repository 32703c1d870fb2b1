"""Pictures: opened safely, shown to a model under a pixel budget, cropped from the original.

A `View` is what a model sees: some part of the original (`source`, original pixels), resized to multiples of the
model's patch within its pixel budget, with the map back. The full image and a crop are both views; nothing else in
the project resizes or crops.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageFile

from foveate.errors import FoveateError
from foveate.regions import (
    Box,
    Frame,
    Point,
    Size,
    from_original,
    point_from_original,
    point_to_original,
    to_original,
)

ImageSource = str | os.PathLike[str] | bytes | Callable[[], Image.Image]
"""A path, encoded bytes, or a function that draws the picture when it is needed."""

MAX_PIXELS = 300_000_000
"""Larger pictures are refused: 300 Mpx are 1.2 GB in memory (an 8K photograph has 33 Mpx, the largest phones' 200).

Pillow's own two limits, a warning from 89 Mpx and an error from 179, do not apply, except where its decoders insist:
WebP and TIFF files over 179 Mpx are refused.
"""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a stored array upright, by EXIF orientation."""


class ImageError(FoveateError, ValueError):
    """A picture that cannot be used; the message names the file and the reason."""


def open_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a picture as it is meant to be seen: EXIF orientation applied, first frame, RGB, 8 bits.

    Transparency is laid on white. 16-bit grey is scaled, not cut. The result is fully decoded and holds no file.

    Raises:
        ImageError: missing, truncated, of an unknown format, without pixels, or over `max_pixels` (told by the header,
            before anything is decoded). What the function raises that draws a picture is passed on as it is.
    """
    if callable(source):
        image = source()
        name = getattr(source, "__qualname__", type(source).__name__)
        if not isinstance(image, Image.Image):
            raise ImageError(f"{name} returned {type(image).__name__}, not a PIL image")
        return _decoded(image, f"the picture drawn by {name}", max_pixels)
    if isinstance(source, bytes):
        return _decoded(read_header(io.BytesIO(source), name := _named(source)), name, max_pixels)
    try:
        with _opened(source) as stream:
            return _decoded(read_header(stream, name := _named(source)), name, max_pixels)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{_named(source)}: cannot be opened ({error})") from None


def header_size(source: str | os.PathLike[str] | bytes) -> Size:
    """Width and height of a picture as `open_image` would return it (upright), from its header alone.

    Raises:
        ImageError: missing, of an unknown format, without pixels, or over `MAX_PIXELS`.
    """
    name = _named(source)
    with io.BytesIO(source) if isinstance(source, bytes) else _opened(source) as stream:
        image = read_header(stream, name)
        _check_size(image, name, MAX_PIXELS)
        turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)  # TIFF's size is upright already
    return (image.height, image.width) if turned else image.size


def _named(source: str | os.PathLike[str] | bytes) -> str:
    return f"{len(source)} bytes of image data" if isinstance(source, bytes) else os.fspath(source)


def _opened(path: str | os.PathLike[str]) -> IO[bytes]:
    """A regular file: opening a pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise ImageError(f"{_named(path)}: no such file") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ImageError(f"{_named(path)}: is {kind}, not a picture")
    return open(path, "rb")


def read_header(stream: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Identifies a picture, as `PIL.Image.open` does but without its limits on pixels; decodes nothing.

    Pillow's limits are module globals, which a library must not change under its user, and they print a warning for
    pictures that are allowed here.

    Args:
        stream: of the whole file; it must stay open until the picture is decoded.
        name: what to call the file in the error.

    Raises:
        ImageError: it is not a picture, or its header is broken.
    """
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(f"{name}: is empty")
    Image.preinit()
    reasons = []
    for kind in _FORMATS:
        if kind not in Image.OPEN:
            Image.init()
        if kind not in Image.OPEN:  # a Pillow that was built without it
            continue
        factory, accepts = Image.OPEN[kind]
        if accepts is not None and accepts(prefix) is not True:
            continue
        stream.seek(0)
        try:
            return factory(stream, "")
        except Exception as error:
            # Whatever a hostile header makes a parser raise: struct.error, KeyError, zlib.error, MemoryError ...
            reasons.append(f"broken {kind} header ({str(error) or type(error).__name__})")
    unknown = "not a picture in one of the formats " + ", ".join(_FORMATS)
    raise ImageError(f"{name}: {reasons[0] if reasons else unknown}")


def _decoded(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """Upright, RGB, in memory."""
    _check_size(image, name, max_pixels)
    try:
        _load(image)
        turn = _UPRIGHT.get(_orientation(image))
        image = image if turn is None else image.transpose(turn)
        image = _to_rgb(image)
        if turn is not None:
            image.info = {}  # its EXIF data still tell of the turn: opened again, it would be turned again
    except Exception as error:  # as in read_header: the border to files of unknown origin
        reason = str(error) or type(error).__name__
        raise ImageError(f"{name}: cannot be decoded ({reason}); the file may be truncated or broken") from None
    _check_size(image, name, max_pixels)  # a GIF's frame may be larger than its screen
    return image


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageError(f"{name}: {width} x {height} pixels are over the limit of {max_pixels:,}: scale the file down")


def _load(image: Image.Image) -> None:
    warned_from = Image.MAX_IMAGE_PIXELS
    if warned_from is None or image.width * image.height <= warned_from:
        image.load()
        return
    with warnings.catch_warnings():  # TIFF's decoder checks again
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image.load()


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where it cannot be read: viewers show such pictures as they are stored."""
    try:
        # Not the subclass's method: that of PNG decodes the whole picture.
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error):
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        levels = ((np.arange(65536) + 128) // 257).astype(np.uint8)
        image = Image.fromarray(levels[np.asarray(image).astype(np.uint16, copy=False)])
    elif image.mode in ("I", "F"):
        # 32-bit integers hold 16-bit grey; floats hold 0 to 1, 0 to 255 or 0 to 65535, told by their largest value.
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0)
        largest = float(values.max())
        peak = next((p for p in (1.0, 255.0) if image.mode == "F" and largest <= p), 65535.0)
        image = Image.fromarray((np.clip(values / peak, 0, 1) * 255 + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        image = ground
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """How many pixels an image may have when a model sees it.

    Raises:
        ValueError: not 0 < min_pixels <= max_pixels.
    """

    min_pixels: int
    max_pixels: int

    def __post_init__(self) -> None:
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(f"a pixel budget needs 0 < min_pixels <= max_pixels, not {self}")

    def at_most(self, pixels: int) -> PixelBudget:
        """The same budget, but never over `pixels`."""
        return PixelBudget(min(self.min_pixels, pixels), min(self.max_pixels, pixels))


def fit_size(size: Size, budget: PixelBudget, multiple: int) -> Size:
    """The size at which an image of `size` is shown: both sides multiples of `multiple`, the area within the budget.

    Equals Qwen's smart_resize wherever that is defined and keeps to `max_pixels`. Where it refuses (aspect ratios over
    200) the long side is cut, so that a 1 x 20000 picture is shown rather than raised over. `max_pixels` prevails over
    `min_pixels` where no multiple lies between; below one patch it still gives one patch.
    """
    width, height = size
    shown_w, shown_h = (round(side / multiple) * multiple for side in size)
    if shown_w * shown_h < budget.min_pixels:  # also where a side rounds to nothing
        stretch = math.sqrt(budget.min_pixels / (width * height))
        shown_w, shown_h = (math.ceil(side * stretch / multiple) * multiple for side in size)
    if shown_w * shown_h > budget.max_pixels:
        shrink = math.sqrt(width * height / budget.max_pixels)
        shown_w, shown_h = (max(multiple, math.floor(side / shrink / multiple) * multiple) for side in size)
    if shown_w * shown_h > budget.max_pixels:  # only extreme aspect ratios: one side is a single patch
        longest = max(multiple, budget.max_pixels // multiple // multiple * multiple)
        shown_w, shown_h = min(shown_w, longest), min(shown_h, longest)
    return shown_w, shown_h


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class View:
    """What a model sees of an original image.

    Attributes:
        image: RGB, already at the size the model gets.
        source: the part of the original that it shows, in whole original pixels.
        original_size: width and height of the original.
        cropped: whether it was asked for as a crop, which may hold the whole original too.
        picture: which of its question's pictures the original is: 0 is the first, and the only one of most questions.
    """

    image: Image.Image
    source: Box
    original_size: Size
    cropped: bool = False
    picture: int = 0

    @property
    def size(self) -> Size:
        """Width and height as the model sees it."""
        return self.image.size

    @property
    def key(self) -> tuple[Box, Size, int]:
        """Equal for views of one question's pictures that show the same thing."""
        return (self.source, self.size, self.picture)

    def to_original(self, box: Box, frame: Frame | str = Frame.PIXEL) -> Box:
        """A box written about this view, in original pixels; inside `source` when it is inside the view.

        Raises:
            ValueError: an unknown frame, or a box so small that rounding leaves nothing of it.
        """
        part = to_original(box, frame, self.size, (self.source.width, self.source.height))
        left, top = self.source.x1, self.source.y1
        return Box(part.x1 + left, part.y1 + top, part.x2 + left, part.y2 + top)

    def from_original(self, box: Box, frame: Frame | str = Frame.PIXEL) -> Box:
        """A box of the original in the coordinates a model would write about this view; not clipped to the view.

        Raises:
            ValueError: as `to_original`.
        """
        left, top = self.source.x1, self.source.y1
        part = Box(box.x1 - left, box.y1 - top, box.x2 - left, box.y2 - top)
        return from_original(part, frame, self.size, (self.source.width, self.source.height))

    def point_to_original(self, point: Point, frame: Frame | str = Frame.PIXEL) -> Point:
        """A point written about this view, in original pixels; inside `source` when it is inside the view.

        Raises:
            ValueError: an unknown frame, or a point so far away that floats cannot hold its image.
        """
        part = point_to_original(point, frame, self.size, (self.source.width, self.source.height))
        return Point(part.x + self.source.x1, part.y + self.source.y1)

    def point_from_original(self, point: Point, frame: Frame | str = Frame.PIXEL) -> Point:
        """A point of the original in the coordinates a model would write about this view, which it may lie outside.

        Raises:
            ValueError: as `point_to_original`.
        """
        part = Point(point.x - self.source.x1, point.y - self.source.y1)
        return point_from_original(part, frame, self.size, (self.source.width, self.source.height))


def full_view(image: Image.Image, budget: PixelBudget, multiple: int, picture: int = 0) -> View:
    """The whole image under the budget (bicubic, as the families' own processors resize).

    Args:
        picture: as in `View`.
    """
    size = fit_size(image.size, budget, multiple)
    shown = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
    return View(shown, Box(0, 0, *image.size), image.size, picture=picture)


def crop_view(image: Image.Image, box: Box, budget: PixelBudget, multiple: int) -> View:
    """A crop, taken from the original pixels, under the budget.

    Args:
        image: the original.
        box: in original pixels; cut to the image, then its edges moved outwards to whole pixels, then grown to at
            least `multiple` pixels a side where the image has them, so that no crop is less than one patch.
        budget: of the crop. A smaller crop is enlarged to `min_pixels`.
        multiple: the family's merged patch, in pixels.

    Raises:
        ValueError: nothing of the box is inside the image.
    """
    inside = box.clipped(image.size)
    if inside is None:
        raise ValueError(f"box {box.corners} lies outside the image of {image.size[0]} x {image.size[1]} pixels")
    whole = Box(math.floor(inside.x1), math.floor(inside.y1), math.ceil(inside.x2), math.ceil(inside.y2))
    source = whole.grown_to(multiple, image.size)
    source = Box(math.floor(source.x1), math.floor(source.y1), math.ceil(source.x2), math.ceil(source.y2))
    return cut_view(image, source, fit_size((int(source.width), int(source.height)), budget, multiple))


def cut_view(image: Image.Image, source: Box, size: Size) -> View:
    """A crop of exactly these original pixels, which are whole and inside the image, shown at a given size."""
    crop = _cut(image, source)
    shown = crop if size == crop.size else crop.resize(size, Image.Resampling.BICUBIC)
    return View(shown, source, image.size, cropped=True)


def view_through(view: View, source: Box, size: Size) -> View:
    """A crop of these original pixels as sharp as a view shows them, not as the original is.

    Args:
        view: what it is cut from; the original is not looked at.
        source: in original pixels, inside the view's own source. Its edges may fall within the view's pixels.
        size: at which it is shown.

    Raises:
        ValueError: nothing of `source` is inside the view.
    """
    part = view.from_original(source).clipped(view.size)
    if part is None:
        raise ValueError(f"box {source.corners} lies outside the part {view.source.corners} that the view shows")
    shown = view.image.resize(size, Image.Resampling.BICUBIC, box=part.corners)
    return View(shown, source, view.original_size, cropped=True)


def _cut(image: Image.Image, source: Box) -> Image.Image:
    """As `image.crop`, which from 89 Mpx on warns of a decompression bomb, and raises from 179 Mpx."""
    crop = Image.new(image.mode, (int(source.width), int(source.height)))
    crop.paste(image, (-int(source.x1), -int(source.y1)))
    return crop
